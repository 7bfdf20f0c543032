"""The candidate's answers against those of the exported source, through ``signature_def`` in a session. Child only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from components.core.errors import Rejected
from components.core.spec import Tolerance
from components.core.validation import Parity, ParityRow
from components.savedmodel.load import Arrays, Servable
from components.validate.difference import Difference, difference

BATCH_SIZES = (1, 2, 32)
SEED = 20_240_229


@dataclass(frozen=True, slots=True)
class Case:
    """One request and what the candidate answered."""

    signature: str
    origin: str
    inputs: Arrays
    answer: Mapping[str, Any]


@dataclass(slots=True)
class _Row:
    cases: int = 0
    values: int = 0
    worst: Difference | None = None
    where: str = ""


def compare(cases: list[Case], reference: Servable, tolerance: Tolerance) -> Parity:
    """Ask the reference the same requests and compare.

    Raises:
        Rejected: PARITY: an output is further away than the tolerance allows, or there is nothing to compare.
    """
    rows: dict[tuple[str, str], _Row] = {}
    random: dict[str, str] = {}
    for case in cases:
        answer = _ask(reference, case)
        for output, difference_found in _differences(case, answer, tolerance):
            if not difference_found.passed and _is_random(reference, case, output, answer[output]):
                random[f"{case.signature}: {output}"] = "the source's own answers change from run to run"
                continue
            _note(rows.setdefault((case.signature, output), _Row()), difference_found, case)
    failed = {key: row for key, row in rows.items() if row.worst is not None and not row.worst.passed}
    if failed or not rows:
        raise _refused(failed, tolerance, random)
    return Parity(
        rows=tuple(_finish(key, row) for key, row in sorted(rows.items())),
        batch_sizes=BATCH_SIZES,
        absolute=tolerance.absolute,
        relative=tolerance.relative,
        why=tolerance.why,
        skipped=tuple(f"{where}: {why}" for where, why in sorted(random.items())),
    )


def _ask(reference: Servable, case: Case) -> Mapping[str, Any]:
    try:
        return reference.run(case.signature, case.inputs, sorted(case.answer))
    except tf.errors.OpError as error:
        raise Rejected(
            f"the exported source does not answer what the candidate answers ({case.signature}, {case.origin})",
            expected="an answer to compare with",
            got=f"{type(error).__name__}: {error.message}"[:1000],
            reason="PARITY",
        ) from error


def _differences(case: Case, answer: Mapping[str, Any], tolerance: Tolerance) -> Iterator[tuple[str, Difference]]:
    for output in sorted(case.answer):
        yield output, difference(np.asarray(case.answer[output]), np.asarray(answer[output]), tolerance)


def _is_random(reference: Servable, case: Case, output: str, answer: Any) -> bool:  # noqa: ANN401 - an array
    """Whether the reference answers the same request differently: then no candidate could agree with it."""
    again = reference.run(case.signature, case.inputs, [output])[output]
    exact = Tolerance(absolute=0.0, relative=0.0, why="the same model twice")
    return not difference(np.asarray(again), np.asarray(answer), exact).passed


def _note(row: _Row, found: Difference, case: Case) -> None:
    row.cases += 1
    row.values += found.values
    if row.worst is None or (found.passed, -found.max_abs) < (row.worst.passed, -row.worst.max_abs):
        row.worst, row.where = found, case.origin


def _finish(key: tuple[str, str], row: _Row) -> ParityRow:
    worst = row.worst or Difference(0, 0.0, 0.0, 0.0, "")
    return ParityRow(
        signature=key[0],
        output=key[1],
        cases=row.cases,
        values=row.values,
        max_abs=worst.max_abs,
        max_rel=worst.max_rel,
        allowed=worst.allowed,
        passed=worst.passed,
    )


def _refused(failed: Mapping[tuple[str, str], _Row], tolerance: Tolerance, random: Mapping[str, str]) -> Rejected:
    told = [f"{key[0]}: {key[1]}: {row.worst.detail} ({row.where})" for key, row in failed.items() if row.worst]
    return Rejected(
        "the model's answers are not those of its source",
        expected=f"differences of at most {tolerance.absolute:g} + {tolerance.relative:g} · max|reference|",
        got="; ".join(told) or f"nothing that could be compared ({'; '.join(random) or 'no request is answered'})",
        fix="find the optimization pass that changes them; widen validate.tolerance only with a reason",
        reason="PARITY",
    )
