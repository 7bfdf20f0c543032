"""The candidate's answers against those of the exported source, through ``signature_def`` in a session. Child only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from components.core import digest
from components.core.errors import Rejected
from components.core.spec import Tolerance, Validate
from components.core.validation import Parity, ParityRow
from components.savedmodel.load import Arrays, Servable
from components.validate.difference import Difference, difference


@dataclass(frozen=True, slots=True)
class Case:
    """One request and what the candidate answered."""

    signature: str
    origin: str
    inputs: Arrays
    answer: Mapping[str, Any] | None
    """None: it was refused, as an edge case may be."""
    edge: bool = False
    """Made for the edges of the domain, where a model may refuse or overflow, if its source does so too."""


@dataclass(slots=True)
class _Row:
    cases: int = 0
    values: int = 0
    worst: Difference | None = None
    where: str = ""


def compare(cases: list[Case], reference: Servable, spec: Validate, *, golden: Path | None = None) -> Parity:
    """Ask the reference the same requests and compare.

    Args:
        cases: Requests and the candidate's answers.
        reference: The exported source.
        spec: Tolerances.
        golden: The file that golden requests are from; None if there is none.

    Raises:
        Rejected: PARITY: an output is further away than its tolerance allows, only one of both answers, or there is
            nothing to compare; TOLERANCE_UNUSED: a tolerance is given for an output that does not exist.
    """
    _require_outputs(cases, spec.tolerances)
    rows: dict[tuple[str, str], _Row] = {}
    random: dict[str, str] = {}
    unanswered: list[str] = []
    for case in cases:
        answer, silence = _ask(reference, case)
        if answer is None or case.answer is None:
            unanswered.append(silence)
            continue
        for output, found in _differences(case, answer, spec):
            if case.edge and not _finite(answer[output]):
                unanswered.append(f"{case.signature}: {output}: {case.origin}: the source's answer is not finite")
                continue
            if not found.passed and _is_random(reference, case, output, answer[output]):
                random[f"{case.signature}: {output}"] = "the source's own answers change from run to run"
                continue
            _note(rows.setdefault((case.signature, output), _Row()), found, case)
    failed = {key: row for key, row in rows.items() if row.worst is not None and not row.worst.passed}
    if failed or not rows:
        raise _refused(failed, spec, random)
    return Parity(
        rows=tuple(_finish(key, row) for key, row in sorted(rows.items())),
        batch_sizes=spec.batch_sizes,
        absolute=spec.tolerance.absolute,
        relative=spec.tolerance.relative,
        why=spec.tolerance.why,
        skipped=tuple(f"{where}: {why}" for where, why in sorted(random.items())),
        tolerances=spec.tolerances,
        golden=digest.of_file(golden).digest if golden is not None else None,
        unanswered=tuple(unanswered),
    )


def _require_outputs(cases: list[Case], tolerances: Mapping[str, Tolerance]) -> None:
    known = {output for case in cases for output in case.answer or ()}
    if unused := sorted(tolerances.keys() - known):
        raise Rejected(
            f"the model has no output {', '.join(unused)}",
            expected=f"one of {', '.join(sorted(known))}",
            got=", ".join(unused),
            fix="correct the output's alias in validate.tolerances",
            reason="TOLERANCE_UNUSED",
        )


def _ask(reference: Servable, case: Case) -> tuple[Mapping[str, Any] | None, str]:
    """Return the reference's answer, or None and who else was silent."""
    where = f"{case.signature}: {case.origin}"
    try:
        answer = reference.run(case.signature, case.inputs, sorted(case.answer) if case.answer is not None else None)
    except tf.errors.OpError as error:
        if case.edge:
            return None, f"{where}: the source refuses it" + (
                "" if case.answer is not None else ", as the candidate does"
            )
        raise Rejected(
            f"the exported source does not answer what the candidate answers ({case.signature}, {case.origin})",
            expected="an answer to compare with",
            got=f"{type(error).__name__}: {error.message}"[:1000],
            reason="PARITY",
        ) from error
    if case.answer is None:
        raise Rejected(
            f"the candidate refuses what its source answers ({where})",
            expected="an answer, as the source gives one",
            got="an error",
            fix="find the optimization pass that breaks it",
            reason="PARITY",
        )
    return answer, ""


def _finite(answer: Any) -> bool:  # noqa: ANN401 - an array
    array = np.asarray(answer)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def _differences(case: Case, answer: Mapping[str, Any], spec: Validate) -> Iterator[tuple[str, Difference]]:
    for output, ours in sorted((case.answer or {}).items()):
        tolerance = spec.tolerances.get(output, spec.tolerance)
        yield output, difference(np.asarray(ours), np.asarray(answer[output]), tolerance)


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


def _refused(failed: Mapping[tuple[str, str], _Row], spec: Validate, random: Mapping[str, str]) -> Rejected:
    used = {output: spec.tolerances.get(output, spec.tolerance) for _, output in failed} or {"": spec.tolerance}
    told = [f"{key[0]}: {key[1]}: {row.worst.detail} ({row.where})" for key, row in failed.items() if row.worst]
    return Rejected(
        "the model's answers are not those of its source",
        expected="; ".join(
            f"{output or 'any output'}: at most {each.absolute:g} + {each.relative:g} · max|reference| apart"
            for output, each in used.items()
        ),
        got="; ".join(told) or f"nothing that could be compared ({'; '.join(random) or 'no request is answered'})",
        fix="find the optimization pass that changes them; widen validate.tolerance only with a reason",
        reason="PARITY",
    )
