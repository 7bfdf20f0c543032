"""How far one answer is from another. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.core.spec import Tolerance

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest difference between two arrays.

    Args:
        values: Values compared.
        max_abs: Largest absolute difference; infinite where they cannot be compared at all.
        max_rel: The same as a fraction of max|reference|; 0 if that is 0.
        allowed: What the tolerance allows: absolute + relative · max|reference|; 0 for exact dtypes.
        detail: What is wrong in words; empty if it is within the tolerance.
    """

    values: int
    max_abs: float
    max_rel: float
    allowed: float
    detail: str

    @property
    def passed(self) -> bool:
        """Whether the candidate's answer is within the tolerance."""
        return not self.detail


def difference(candidate: Array, reference: Array, tolerance: Tolerance) -> Difference:
    """Compare a candidate's answer with the reference's.

    Floats may differ by absolute + relative · max|reference| over finite values; NaN and each infinity must stand in
    the same places; integers, booleans and strings must be equal.
    """
    if candidate.dtype != reference.dtype or candidate.shape != reference.shape:
        return _incomparable(
            f"{candidate.dtype}{list(candidate.shape)} instead of {reference.dtype}{list(reference.shape)}",
            reference.size,
        )
    if not (np.issubdtype(reference.dtype, np.inexact) or reference.dtype.name == "bfloat16"):
        unequal = int(np.count_nonzero(np.asarray(candidate != reference)))
        return Difference(
            reference.size,
            float(unequal > 0),
            0.0,
            0.0,
            f"{unequal} of {reference.size} values differ" if unequal else "",
        )
    wide = np.complex128 if np.iscomplexobj(reference) else np.float64
    ours, theirs = candidate.astype(wide), reference.astype(wide)
    finite = np.isfinite(theirs)
    special = int(np.count_nonzero((finite != np.isfinite(ours)) | _other_special(ours, theirs)))
    if special:
        return _incomparable(
            f"{special} of {reference.size} values are NaN or infinite in one answer only", reference.size
        )
    distance = float(np.max(np.abs(ours[finite] - theirs[finite]), initial=0.0))
    scale = float(np.max(np.abs(theirs[finite]), initial=0.0))
    allowed = tolerance.absolute + tolerance.relative * scale
    detail = f"{distance:.3g} apart, {allowed:.3g} allowed" if distance > allowed else ""
    return Difference(reference.size, distance, distance / scale if scale else 0.0, allowed, detail)


def _other_special(ours: npt.NDArray[np.generic], theirs: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Where both are not finite, but not the same: NaN against infinity, or infinities of two signs."""
    nan = np.isnan(ours) != np.isnan(theirs)
    infinite = np.isinf(ours) & np.isinf(theirs) & (ours != theirs)
    return np.asarray(nan | infinite)


def _incomparable(detail: str, size: int) -> Difference:
    return Difference(size, float("inf"), float("inf"), 0.0, detail)
