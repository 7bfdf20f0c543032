"""EDGE: object storage."""
