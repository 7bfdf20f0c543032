"""Every test of a store runs against both of them."""

from tests.components.store.fixtures import bucket, gcs, opener, store

__all__ = ["bucket", "gcs", "opener", "store"]
