"""Which model goes on: a pure decision from what was done, proven and measured."""

from collections.abc import Sequence
from typing import Literal

from components.core.optimization import OutputParity, PassReport, Timing

SLOWER = 1.02
"""The original is kept when even the lower 95 % bound of the latency ratio is above this."""

Choice = tuple[Literal["optimized", "original"], str]


def choose(passes: Sequence[PassReport], parity: Sequence[OutputParity], timings: Sequence[Timing]) -> Choice:
    """Return which model goes on, and why.

    Args:
        passes: What was done.
        parity: What was compared; an output without a single comparison is no evidence.
        timings: What was measured; none if nothing could be.
    """
    fired = [entry.name for entry in passes if entry.fired and not entry.undone]
    if not fired:
        return "original", "no pass changed anything that could stay"
    if doubt := doubt_about(parity):
        return "original", doubt
    if not timings:
        return "original", "the latency could not be measured"
    slowest = max(timings, key=lambda timing: timing.low)
    if slowest.low > SLOWER:
        return "original", (
            f"batch size {slowest.batch_size} is slower: {slowest.ratio:.3f} times the original's latency "
            f"(95 % interval {slowest.low:.3f} to {slowest.high:.3f}, limit {SLOWER})"
        )
    ratios = sorted(timing.ratio for timing in timings)
    return "optimized", (
        f"{len(set(fired))} passes fired; answers agree; latency {ratios[0]:.3f} to {ratios[-1]:.3f} times the "
        f"original's over {len(ratios)} batch sizes and warm-up orders, none with a lower 95 % bound above {SLOWER}"
    )


def doubt_about(parity: Sequence[OutputParity]) -> str:
    """Return why these comparisons do not show equal answers; empty if they do."""
    if not parity:
        return "there is no output to compare"
    if unproven := [entry for entry in parity if not entry.requests]:
        return f"the original answered no request for {_name(unproven[0])}: equal answers could not be shown"
    if wrong := [entry for entry in parity if not entry.within]:
        return f"{_name(wrong[0])} differs from the original's by more than the tolerance"
    return ""


def _name(entry: OutputParity) -> str:
    return f"output {entry.output} of {entry.signature}"
