"""Requests that a loaded model is known to answer. Imports tensorflow: only for child processes."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from components.core.errors import Rejected
from components.core.signature import Signature
from components.savedmodel import warmup
from components.savedmodel.generate_inputs import generate
from components.savedmodel.load import Arrays, Servable
from components.savedmodel.tensors import from_proto


def answerable(
    servable: Servable, key: str, *, batch_size: int, seed: int
) -> tuple[Arrays, dict[str, Any]] | tuple[None, str]:
    """Return a generated request that the signature answers, with its answer; or None and why there is none.

    Where a model refuses arbitrary text, empty strings are tried: each is a valid, empty ``tf.train.Example``, and what
    TF1 estimators export parses those.
    """
    inputs = generate(servable.contract.signatures[key], batch_size=batch_size, seed=seed)
    tries: list[Arrays] = [inputs]
    if any(array.dtype == np.object_ for array in inputs.values()):
        tries.append({alias: _emptied(array) for alias, array in inputs.items()})
    why = ""
    for attempt in tries:
        try:
            return attempt, servable.run(key, attempt)
        except tf.errors.OpError as error:
            why = why or f"{type(error).__name__}: {(error.message or '')[:500]}"
    return None, why


def _emptied(array: Any) -> Any:  # noqa: ANN401 - an array of any dtype
    return np.full(array.shape, b"", np.object_) if array.dtype == np.object_ else array


def has_batch_dimension(signature: Signature) -> bool:
    """Return whether requests of different numbers of rows can be made for a signature."""
    return any(spec.shape is None or spec.shape[:1] == (None,) for spec in signature.inputs.values())


def replay_warmup(servable: Servable, version_dir: Path) -> int:
    """Run every predict request of a version's warm-up file, as a server does at load; return how many there are.

    Raises:
        Rejected: WARMUP_FAILS: one of them fails, which would fail every load of the version; or the file is damaged.
    """
    count = 0
    for count, log in enumerate(warmup.read_logs(version_dir), start=1):
        kind = log.WhichOneof("log_type")
        if kind in {"classify_log", "regress_log", "multi_inference_log"}:
            continue  # a server of the pinned release answers these; the session alone cannot
        request = log.predict_log.request
        try:
            inputs = {alias: from_proto(tensor) for alias, tensor in request.inputs.items()}
            servable.run(request.model_spec.signature_name or "serving_default", inputs)
        except (tf.errors.OpError, Rejected) as error:
            raise Rejected(
                f"{version_dir / warmup.FILE}: warm-up request {count} fails",
                expected="requests that the model answers: a server that cannot replay one never loads the version",
                got=str(error)[:1000],
                fix="remove the file, or write it again for these signatures",
                reason="WARMUP_FAILS",
            ) from error
    return count
