"""SavedModel in, SavedModel out: graph passes that keep every signature and answer."""
