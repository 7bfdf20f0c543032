"""A bucket to fetch from."""

from tests.components.store.fixtures import bucket, gcs

__all__ = ["bucket", "gcs"]
