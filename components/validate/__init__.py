"""Validate: the gates a model passes before it is published."""

from components.validate.step import validate

__all__ = ["validate"]
