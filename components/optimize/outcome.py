"""What a pass says about its work."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """How often a pass fired, and why it left alone what it left alone (most important first)."""

    fired: int
    skipped: tuple[str, ...] = ()
