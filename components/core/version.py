"""The version of this Slipway, as ``pyproject.toml`` has it."""

VERSION = "0.1.0"
