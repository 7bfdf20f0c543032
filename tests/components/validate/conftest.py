"""The models that these tests validate."""

from tests.models import saved_model

__all__ = ["saved_model"]
