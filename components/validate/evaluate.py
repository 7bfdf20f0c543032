"""Labelled data run through a signature. Imports tensorflow: only for child processes."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.core import digest
from components.core.errors import Rejected
from components.core.signature import Signature
from components.core.spec import Evaluate, Metric, MetricLimit
from components.core.validation import Evaluation
from components.savedmodel.load import Servable
from components.validate.labelled_data import read
from components.validate.metrics import Array
from components.validate.slices import Answered, as_text, judge, judge_slices


def evaluate(
    servable: Servable,
    spec: Evaluate,
    data: Path,
    *,
    served: Evaluation | None = None,
    served_version: int | None = None,
) -> Evaluation:
    """Run labelled data through a signature and judge the metrics; whether limits are kept, the result says.

    Args:
        servable: The candidate.
        spec: What to measure, and the limits.
        data: The labelled file.
        served: What the record of the version being served says; None if it says nothing, or nothing is served.
        served_version: That version; None for a first release.

    Raises:
        Rejected: SIGNATURE_MISSING, EVALUATION_DATA (the file does not fit the signature), EVALUATION_SERVED (there is
            no record to compare with) or EVALUATION (answers that are not finite).
    """
    signature = servable.contract.signatures.get(spec.signature)
    if signature is None or spec.output not in signature.outputs:
        raise Rejected(
            f"the model has no output {spec.output} of a signature {spec.signature}",
            expected="the signature and output that validate.evaluate names",
            got=", ".join(f"{key}: {', '.join(found.outputs)}" for key, found in servable.contract.signatures.items()),
            reason="SIGNATURE_MISSING",
        )
    data_digest = digest.of_file(data).digest
    compared, notes = comparable(spec, data_digest, served, served_version)
    answered = _answered(servable, spec, signature, data)
    return Evaluation(
        signature=spec.signature,
        output=spec.output,
        data_digest=data_digest,
        metrics=judge(answered, spec, compared),
        slices=judge_slices(answered, spec, compared),
        served_version=served_version if compared is not None else None,
        notes=notes,
    )


def require_kept(evaluation: Evaluation) -> Evaluation:
    """Return an evaluation whose limits are all kept.

    Raises:
        Rejected: EVALUATION, with every limit that is not.
    """
    if failed := evaluation.failed:
        raise Rejected(
            "the model does not answer well enough",
            expected="every limit of validate.evaluate",
            got="; ".join(failed),
            fix="train a better model; the limits stand in validate.evaluate",
            reason="EVALUATION",
        )
    return evaluation


def comparable(
    spec: Evaluate, data_digest: str, served: Evaluation | None, served_version: int | None
) -> tuple[Evaluation | None, tuple[str, ...]]:
    """Return what relative limits are compared with, or None and why they do not apply.

    Raises:
        Rejected: EVALUATION_SERVED: something is served, but its record does not say how it did on this data.
    """
    wanted = _relative(spec.metrics)
    if not wanted and not any(_relative(part.metrics) for part in spec.slices):
        return None, ()
    if served_version is None:
        return None, ("max_regression: a first release has nothing to be compared with",)
    expected = f"an evaluation of signature {spec.signature}, output {spec.output}, on data {data_digest}"
    if served is None:
        raise _nothing_to_compare(served_version, expected, "no evaluation in its record")
    got = f"signature {served.signature}, output {served.output}, on data {served.data_digest}"
    if (served.signature, served.output, served.data_digest) != (spec.signature, spec.output, data_digest):
        raise _nothing_to_compare(served_version, expected, got)
    known = {(result.metric, result.k) for result in served.metrics}
    if missing := sorted(name for name in wanted if (name, wanted[name]) not in known):
        raise _nothing_to_compare(served_version, f"{expected}, with {', '.join(missing)}", f"{got}, without")
    return served, ()


def _relative(metrics: Mapping[Metric, MetricLimit]) -> dict[str, int | None]:
    """Metrics that are compared with the served version's, each with its k."""
    return {
        name: limit.k if name == "top_k" else None
        for name, limit in metrics.items()
        if limit.max_regression is not None
    }


def _nothing_to_compare(version: int, expected: str, got: str) -> Rejected:
    return Rejected(
        f"max_regression cannot be judged: version {version} was not measured alike",
        expected=expected,
        got=got,
        fix="leave max_regression out for one release, which then is what later ones are compared with",
        reason="EVALUATION_SERVED",
    )


def _answered(servable: Servable, spec: Evaluate, signature: Signature, data: Path) -> Answered:
    needed = sorted(signature.inputs.keys() - servable.defaults.get(spec.signature, {}).keys())
    columns = tuple(dict.fromkeys(part.by for part in spec.slices))
    found = read(data, signature, inputs=needed, labels=spec.labels, columns=columns)
    batches = _batches(found.inputs, len(found.labels), spec.batch_size)
    outputs = np.concatenate([_ask(servable, spec, batch, rows) for batch, rows in batches])
    return Answered(outputs, found.labels, {name: as_text(column) for name, column in found.columns.items()})


def _batches(inputs: Mapping[str, Array], rows: int, size: int) -> Iterator[tuple[dict[str, Array], int]]:
    for start in range(0, rows, size):
        yield {alias: array[start : start + size] for alias, array in inputs.items()}, min(size, rows - start)


def _ask(servable: Servable, spec: Evaluate, batch: dict[str, Array], rows: int) -> Array:
    try:
        answer = np.asarray(servable.run(spec.signature, batch, [spec.output])[spec.output])
    except tf.errors.OpError as error:
        raise Rejected(
            "the model does not take the labelled data",
            expected=f"what signature {spec.signature} takes",
            got=f"{type(error).__name__}: {error.message}"[:1000],
            fix="give each array the dtype and shape of its input",
            reason="EVALUATION_DATA",
        ) from error
    number = answer.dtype.kind in "biuf" or answer.dtype.name == "bfloat16"
    if answer.ndim == 0 or answer.shape[0] != rows or not number:
        raise Rejected(
            f"output {spec.output} cannot be evaluated",
            expected=f"numbers of shape [{rows}, ...], one entry an example",
            got=f"{answer.dtype}{list(answer.shape)}",
            reason="EVALUATION_DATA",
        )
    return answer
