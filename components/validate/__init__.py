"""The gates a model passes before it may be published."""
