"""The models that these tests export."""

from tests.models import saved_model

__all__ = ["saved_model"]
