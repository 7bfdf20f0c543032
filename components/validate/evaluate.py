"""Labelled data run through a signature. Imports tensorflow: only for child processes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.core import digest
from components.core.errors import Rejected
from components.core.spec import Evaluate
from components.core.validation import Evaluation, MetricResult
from components.savedmodel.load import Servable
from components.validate.metrics import Labels, Scores, judge, measure


def evaluate(servable: Servable, spec: Evaluate, data: Path) -> Evaluation:
    """Run labelled data through a signature and judge the metrics.

    Args:
        servable: The candidate.
        spec: What to measure, and the limits.
        data: The ``.npz`` file.

    Raises:
        Rejected: EVALUATION_DATA (the file does not fit the signature) or EVALUATION (a metric misses its limit).
    """
    signature = servable.contract.signatures.get(spec.signature)
    if signature is None or spec.output not in signature.outputs:
        raise Rejected(
            f"the model has no output {spec.output} of a signature {spec.signature}",
            expected="the signature and output that validate.evaluate names",
            got=", ".join(f"{key}: {', '.join(found.outputs)}" for key, found in servable.contract.signatures.items()),
            reason="SIGNATURE_MISSING",
        )
    inputs, labels = read(data, spec, sorted(signature.inputs))
    scores = np.concatenate([_scores(servable, spec, batch) for batch in _batches(inputs, spec.batch_size)])
    results = tuple(
        judge(name, measure(name, scores, labels), len(labels), limit) for name, limit in sorted(spec.metrics.items())
    )
    if failed := [result for result in results if not result.passed]:
        raise Rejected(
            "the model does not answer well enough",
            expected="; ".join(f"{r.metric} {_limit_text(r)}" for r in failed),
            got="; ".join(f"{r.metric} {r.value:.6g} over {r.n} examples" for r in failed),
            fix="train a better model; the limits stand in validate.evaluate.metrics",
            reason="EVALUATION",
        )
    return Evaluation(
        signature=spec.signature, output=spec.output, data_digest=digest.of_file(data).digest, metrics=results
    )


def read(data: Path, spec: Evaluate, aliases: Sequence[str]) -> tuple[dict[str, npt.NDArray[np.generic]], Labels]:
    """Return the inputs by alias, and the labels.

    Raises:
        Rejected: EVALUATION_DATA.
    """
    try:
        with np.load(data, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise _bad_data(data, "a .npz file without pickles", f"{type(error).__name__}: {error}") from error
    missing = sorted({*aliases, spec.labels} - arrays.keys())
    if missing:
        raise _bad_data(data, f"arrays {', '.join(sorted({*aliases, spec.labels}))}", f"no {', '.join(missing)}")
    labels = arrays[spec.labels]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not labels.size:
        raise _bad_data(data, f"{spec.labels}: class indices, one an example", f"{labels.dtype}{list(labels.shape)}")
    inputs = {alias: _as_fed(arrays[alias]) for alias in aliases}
    for alias, array in inputs.items():
        if array.shape[:1] != labels.shape:
            raise _bad_data(data, f"{labels.size} rows of {alias}, one a label", f"{list(array.shape)}")
    return inputs, labels.astype(np.int64)


def _as_fed(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Text as the object arrays of bytes that TensorFlow takes."""
    if array.dtype.kind == "U":
        return np.char.encode(array.astype(np.str_), "utf-8").astype(np.object_)
    return array.astype(np.object_) if array.dtype.kind == "S" else array


def _batches(inputs: dict[str, npt.NDArray[np.generic]], size: int) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    rows = min(len(array) for array in inputs.values())
    for start in range(0, rows, size):
        yield {alias: array[start : start + size] for alias, array in inputs.items()}


def _scores(servable: Servable, spec: Evaluate, batch: dict[str, npt.NDArray[np.generic]]) -> Scores:
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
    rows = len(next(iter(batch.values())))
    if answer.ndim != 2 or answer.shape[0] != rows or not np.issubdtype(answer.dtype, np.number):
        raise Rejected(
            f"output {spec.output} cannot be evaluated",
            expected=f"scores of shape [{rows}, classes]",
            got=f"{answer.dtype}{list(answer.shape)}",
            reason="EVALUATION_DATA",
        )
    return answer.astype(np.float64)


def _limit_text(result: MetricResult) -> str:
    sides = (("at least", result.minimum), ("at most", result.maximum))
    return " and ".join(f"{word} {limit:g}" for word, limit in sides if limit is not None)


def _bad_data(data: Path, expected: str, got: str) -> Rejected:
    return Rejected(
        f"{data.name} is no labelled data for this model",
        expected=expected,
        got=got,
        fix="see validate.evaluate in docs/spec.md",
        reason="EVALUATION_DATA",
    )
