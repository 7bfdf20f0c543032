"""Time as an argument: whatever waits or stamps takes a Clock, so that tests run hours in milliseconds."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the product asks about time."""

    def now(self) -> datetime:
        """Return the wall-clock time, in UTC, for stamps that people read."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds from an arbitrary start that never go back, for deadlines and durations."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return the monotonic clock in seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread for ``seconds``."""
        time.sleep(max(0.0, seconds))


class ManualClock:
    """A clock that moves only when it is told to, or when somebody sleeps on it."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        """Return the start plus what has elapsed."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic_s(self) -> float:
        """Return the elapsed seconds."""
        return self._elapsed_s

    def sleep(self, seconds: float) -> None:
        """Advance by ``seconds`` without waiting."""
        self._elapsed_s += max(0.0, seconds)
