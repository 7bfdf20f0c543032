"""The models that these tests read, load and rewrite."""

from tests.models import saved_model

__all__ = ["saved_model"]
