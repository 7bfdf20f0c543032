"""What was measured, as columns, and how two answers are compared.

One row is one request to one server. Rows of the same ``request`` number carried the same inputs to both servers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec, accepts
from components.savedmodel.tensors import Array

Outputs = Mapping[str, Array]
Compare = Literal["top1", "relative-error"]

MAX_FAULT_TEXTS = 32
"""Different faults that are told apart; a server that invents a new one each time adds no more."""


class Arm(IntEnum):
    """Which server a request went to."""

    CANDIDATE = 0
    STABLE = 1


@dataclass(frozen=True, slots=True)
class Measurements:
    """Requests and their outcomes, columns of equal length, ascending in ``time_s`` within each arm.

    Args:
        request: int64; number of the request, at most one row an arm.
        arm: int8; :class:`Arm`.
        time_s: float64; seconds from the start at which the request was due.
        latency_s: float64; seconds from that moment to the answer or failure, so that waiting in the client counts.
        lag_s: float64; seconds by which it left late.
        code: int32; index into ``codes``; 0 means it was answered.
        fault: int32; index into ``faults``; 0 means the answer keeps the contract, or there was none to look at.
        disagreement: float64 in [0, 1], on rows of the candidate; NaN where two answers could not be compared.
        codes: Status names, ``OK`` first.
        faults: Breaches of the contract in words, the empty one first.
    """

    request: npt.NDArray[np.int64]
    arm: npt.NDArray[np.int8]
    time_s: npt.NDArray[np.float64]
    latency_s: npt.NDArray[np.float64]
    lag_s: npt.NDArray[np.float64]
    code: npt.NDArray[np.int32]
    fault: npt.NDArray[np.int32]
    disagreement: npt.NDArray[np.float64]
    codes: tuple[str, ...] = ("OK",)
    faults: tuple[str, ...] = ("",)

    def __len__(self) -> int:
        return len(self.request)

    def rows(self, arm: Arm) -> npt.NDArray[np.int64]:
        """Return the row numbers of one server's requests, in order of time."""
        return np.flatnonzero(self.arm == arm)

    def pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the row numbers of candidate and stable for each request that both were asked, in order of time."""
        ours, theirs = self.rows(Arm.CANDIDATE), self.rows(Arm.STABLE)
        if np.array_equal(self.request[ours], self.request[theirs]):
            return ours, theirs
        _, left, right = np.intersect1d(self.request[ours], self.request[theirs], return_indices=True)
        order = np.argsort(left, kind="stable")
        return ours[left[order]], theirs[right[order]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one server made of one request: a status name, and what is known of the answer."""

    latency_s: float
    lag_s: float
    code: str = "OK"
    fault: str = ""


@dataclass(slots=True)
class Recorder:
    """Collects outcomes into columns; not safe for several threads at once."""

    _rows: list[tuple[int, int, float, float, float, int, int, float]] = field(default_factory=list)
    _codes: dict[str, int] = field(default_factory=lambda: {"OK": 0})
    _faults: dict[str, int] = field(default_factory=lambda: {"": 0})

    def add(self, request: int, arm: Arm, time_s: float, outcome: Outcome, disagreement: float = float("nan")) -> None:
        """Append one row; requests come in the order in which they were due."""
        code = self._codes.setdefault(outcome.code, len(self._codes))
        known = outcome.fault in self._faults or len(self._faults) < MAX_FAULT_TEXTS
        fault = self._faults.setdefault(outcome.fault, len(self._faults)) if known else MAX_FAULT_TEXTS - 1
        self._rows.append((request, arm, time_s, outcome.latency_s, outcome.lag_s, code, fault, disagreement))

    def measurements(self) -> Measurements:
        """Return all rows so far as columns."""
        table = np.array(self._rows, np.float64).reshape(-1, 8)
        return Measurements(
            request=table[:, 0].astype(np.int64),
            arm=table[:, 1].astype(np.int8),
            time_s=table[:, 2],
            latency_s=table[:, 3],
            lag_s=table[:, 4],
            code=table[:, 5].astype(np.int32),
            fault=table[:, 6].astype(np.int32),
            disagreement=table[:, 7],
            codes=tuple(self._codes),
            faults=tuple(self._faults),
        )


def disagreement(candidate: Outputs, stable: Outputs, output: str, compare: Compare) -> float:
    """Return how much two answers to one request differ, in [0, 1]: the mean over the rows of the request.

    ``top1`` counts the rows (all axes but the last) whose largest score stands elsewhere; outputs of whole numbers,
    booleans and strings count the values that differ. ``relative-error`` is, a row, the largest absolute difference
    over the largest magnitude of stable, at most 1; it also serves floats with one score a row. Not-a-number in the
    same place is agreement; shapes that differ disagree altogether.

    Args:
        candidate: The candidate's outputs by alias.
        stable: Stable's.
        output: Alias to compare; empty for the first in alphabetical order of what both have.
        compare: The comparison.

    Raises:
        Rejected: OUTPUT_UNKNOWN: stable's answer has no such output.
    """
    alias = output or min(candidate.keys() & stable.keys(), default="")
    if alias not in stable:
        raise Rejected(
            f"canary.budgets.output: the served model has no output {alias!r}",
            expected=f"one of {', '.join(sorted(stable))}",
            got=alias,
            reason="OUTPUT_UNKNOWN",
        )
    if alias not in candidate or candidate[alias].shape != stable[alias].shape:
        return 1.0
    ours, theirs = candidate[alias], stable[alias]
    if theirs.size == 0:
        return 0.0
    if not (_is_float(ours) and _is_float(theirs)):
        return float(np.mean(ours != theirs))
    if compare == "top1" and theirs.ndim > 0 and theirs.shape[-1] > 1:
        return float(np.mean(_largest(ours) != _largest(theirs)))
    return _relative_error(ours, theirs)


def _is_float(array: Array) -> bool:
    # bfloat16 is no NumPy type: its kind is V, and it turns into float64 like the others.
    return array.dtype.kind in "fc" or array.dtype.name == "bfloat16"


def _largest(scores: Array) -> npt.NDArray[np.int64]:
    if np.iscomplexobj(scores):
        scores = np.abs(scores)
    found: npt.NDArray[np.int64] = np.argmax(scores.astype(np.float64), axis=-1)
    return found


def _relative_error(ours: Array, theirs: Array) -> float:
    kind = np.complex128 if np.iscomplexobj(theirs) or np.iscomplexobj(ours) else np.float64
    shape = (theirs.shape[0], -1) if theirs.ndim > 0 else (1, 1)
    a, b = ours.astype(kind).reshape(shape), theirs.astype(kind).reshape(shape)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(same, 0.0, np.abs(a - b)).max(axis=1)
        scale = np.where(np.isfinite(b), np.abs(b), 0.0).max(axis=1)
        relative = np.divide(difference, scale, out=np.ones(len(scale)), where=scale > 0)
    relative = np.where(difference == 0, 0.0, np.where(np.isfinite(relative), relative, 1.0))
    return float(np.minimum(relative, 1.0).mean())


def find_fault(candidate: Outputs, stable: Outputs | None, signature: Signature | None, *, first: bool) -> str:
    """Return in words how a candidate's answer breaks the contract, or nothing.

    The answer must have the outputs of its signature and of stable's answer; their dtypes; shapes that the signature
    allows, of stable's rank and stable's number of rows (exactly stable's shape if there is no signature). A value that
    is not finite is a fault where stable's is finite, or in a first release anywhere.

    Args:
        candidate: The candidate's outputs by alias.
        stable: Stable's answer to the same request; none if it gave none.
        signature: The candidate's own signature, as exported; none if unknown.
        first: Whether there is no stable version.
    """
    for alias, spec in sorted((signature.outputs if signature else {}).items()):
        if alias not in candidate:
            return f"output {alias} of the signature is missing from the answer"
        if fault := _against_signature(alias, candidate[alias], spec):
            return fault
    for alias, theirs in sorted((stable or {}).items()):
        if alias not in candidate:
            return f"output {alias} of the stable version is missing from the answer"
        if fault := _against_stable(alias, candidate[alias], theirs, exactly=signature is None):
            return fault
    for alias, ours in sorted(candidate.items()):
        reference = stable.get(alias) if stable is not None else None
        if (first or reference is not None) and _not_finite(ours, reference):
            return f"output {alias} is not finite" + ("" if first else " where the stable version's is")
    return ""


def _against_signature(alias: str, ours: Array, spec: TensorSpec) -> str:
    if _dtype(ours) != spec.dtype:
        return f"output {alias} is {_dtype(ours)}, the signature says {spec.dtype}"
    if not accepts(spec.shape, ours.shape):
        return f"output {alias} has rank {ours.ndim} or sizes that the signature's {spec} does not allow"
    return ""


def _against_stable(alias: str, ours: Array, theirs: Array, *, exactly: bool) -> str:
    if _dtype(ours) != _dtype(theirs):
        return f"output {alias} is {_dtype(ours)}, the stable version answers {_dtype(theirs)}"
    if ours.ndim != theirs.ndim:
        return f"output {alias} has rank {ours.ndim}, the stable version's has {theirs.ndim}"
    if ours.shape[:1] != theirs.shape[:1]:
        return f"output {alias} has another number of rows than the stable version's"
    if exactly and ours.shape != theirs.shape:
        return f"output {alias} has another shape than the stable version's"
    return ""


def _dtype(array: Array) -> str:
    return "string" if array.dtype.kind in "SUO" else array.dtype.name


def _not_finite(ours: Array, reference: Array | None) -> bool:
    if not _is_float(ours):
        return False
    kind = np.complex128 if np.iscomplexobj(ours) else np.float64
    bad = ~np.isfinite(ours.astype(kind))
    if reference is not None and reference.shape == ours.shape and _is_float(reference):
        bad &= np.isfinite(reference.astype(kind))
    return bool(bad.any())
