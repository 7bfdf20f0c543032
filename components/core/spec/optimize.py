"""The section ``optimize``: which graph passes run, and how close their result must stay."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from manifests.spec import Frozen

Reason = Annotated[str, StringConstraints(min_length=8)]


class Tolerance(Frozen):
    """How far an output may be from the original's: |a − b| ≤ absolute + relative · max|b|, and why that is right."""

    absolute: float = Field(ge=0, description="In the output's own unit.")
    relative: float = Field(ge=0, description="As a fraction of the output's largest magnitude.")
    why: Reason = Field(description="Why this much is harmless; written into the record.")


EXACT_TOLERANCE = Tolerance(absolute=1e-6, relative=2e-4, why="reordered float32 arithmetic of folded constants")


class Measure(Frozen):
    """How original and optimized model are timed against each other."""

    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 32), min_length=1, description="Rows a request. Default [1, 32]."
    )
    pairs: int = Field(60, ge=10, le=10_000, description="Interleaved pairs a batch size. Default 60.")


class Optimize(Frozen):
    """Which graph passes run, and how close their result must stay."""

    profile: Literal["exact", "none"] = Field(
        "exact", description="`exact`: float32, same answers. `none`: the export is served as it is. Default `exact`."
    )
    passes: tuple[str, ...] = Field((), description="Passes by name, instead of the profile's. Default: the profile's.")
    tolerance: Tolerance = Field(EXACT_TOLERANCE, description="Largest difference from the original's answers.")
    required: bool = Field(
        default=False,
        description="Whether a release without any pass that fired is rejected. Default false: the original goes on.",
    )
    measure: Measure = Field(Measure(), description="How the gain is measured.")
    timeout_s: int = Field(900, ge=1, description="Seconds the step may take. Default 900.")
