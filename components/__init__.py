"""The steps of a release, their core types, and the edges they act through."""
