"""What optimizing a model did and what it was worth, as the record keeps it. Imports no tensorflow."""

from typing import Literal

from pydantic import Field

from manifests.spec import Frozen


class PassReport(Frozen):
    """One pass over the graph."""

    name: str = Field(description="The pass, with its arguments if it was given any.")
    fired: int = Field(ge=0, description="How often its pattern was rewritten; 0: it changed nothing.")
    nodes_before: int = Field(ge=0, description="Nodes of all meta graphs, function bodies included, before it.")
    nodes_after: int = Field(ge=0, description="The same after it.")
    bytes_before: int = Field(ge=0, description="Bytes of graph, constants and variables before it.")
    bytes_after: int = Field(ge=0, description="The same after it.")
    seconds: float = Field(ge=0, description="Seconds it took.")
    skipped: tuple[str, ...] = Field((), description="Why it changed nothing, left places alone, or was undone.")
    undone: bool = Field(default=False, description="Whether its result was thrown away; `skipped` says why.")


class OutputParity(Frozen):
    """How near one output of the optimized model is to the original's, over all requests that were compared."""

    signature: str = Field(description="Signature key.")
    output: str = Field(description="Output alias.")
    dtype: str = Field(description="TensorFlow dtype; anything but floats must be equal.")
    requests: int = Field(ge=0, description="Requests that both models answered.")
    max_absolute: float | None = Field(
        None, description="Largest |a - b|, in the output's own unit; none: not comparable."
    )
    max_relative: float | None = Field(
        None, description="Largest |a - b| as a fraction of the output's largest magnitude; none: not comparable."
    )
    within: bool = Field(description="Whether every request was within the tolerance.")


class Timing(Frozen):
    """Latency of one batch size: the optimized model's against the original's, in interleaved pairs."""

    signature: str = Field(description="Signature key.")
    batch_size: int = Field(ge=1, description="Rows a request.")
    warmed_with: int = Field(ge=1, description="Rows of the first request that both sessions ever saw.")
    pairs: int = Field(ge=1, description="Pairs of timings.")
    original_ms: float = Field(gt=0, description="Median milliseconds a request, original.")
    optimized_ms: float = Field(gt=0, description="Median milliseconds a request, optimized.")
    ratio: float = Field(gt=0, description="Median of the paired ratio optimized / original; below 1 is faster.")
    low: float = Field(gt=0, description="Lower bound of its 95 % bootstrap interval.")
    high: float = Field(gt=0, description="Upper bound of its 95 % bootstrap interval.")


class OptimizeReport(Frozen):
    """The whole step: what was asked, done, proven, measured and chosen."""

    profile: str = Field(description="The profile, or `passes` where the spec lists them.")
    chosen: Literal["optimized", "original"] = Field(description="Which model goes on.")
    why: str = Field(description="Why that one.")
    passes: tuple[PassReport, ...] = Field((), description="The passes in the order they ran.")
    parity: tuple[OutputParity, ...] = Field((), description="One entry an output of each signature and tag set.")
    timings: tuple[Timing, ...] = Field((), description="One entry a batch size and warm-up order.")
    ready_ratio: float | None = Field(
        None,
        description="Load to first answer, optimized / original, median over fresh sessions. Default: not measured.",
    )
    size_before: int = Field(ge=0, description="Bytes of the original's files.")
    size_after: int = Field(ge=0, description="Bytes of the chosen model's files.")
    nodes_before: int = Field(0, ge=0, description="Nodes of the original, function bodies included.")
    nodes_after: int = Field(0, ge=0, description="Nodes of the chosen model.")
    hardware: str = Field("", description="Processor and cores the timings were taken on.")

    @property
    def fired(self) -> tuple[str, ...]:
        """The passes that changed the chosen model."""
        if self.chosen == "original":
            return ()
        return tuple(entry.name for entry in self.passes if entry.fired and not entry.undone)
