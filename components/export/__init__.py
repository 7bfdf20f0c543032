"""From what lies on disk to a SavedModel with explicit signatures."""
