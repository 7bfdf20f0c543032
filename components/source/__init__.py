"""Where a model comes from: a training command, a fetch, or a version of another store."""
