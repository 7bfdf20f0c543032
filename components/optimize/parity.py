"""Compares an optimized model's answers with its original's, on every signature of every tag set. Imports tensorflow.

Requests are generated for several batch sizes, and the model's own warm-up requests are added. Both models see the
same requests in the same order, so that a signature that counts is compared like any other. A request that the
original itself refuses proves nothing and is left out; what the optimized model refuses alone is a difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from components.core.errors import Rejected
from components.core.optimization import OutputParity
from components.core.signature import Contract, Signature, compare
from components.core.spec import Tolerance
from components.savedmodel.generate_inputs import generate
from components.savedmodel.inspect import read, warmup_records
from components.savedmodel.load import Arrays, Servable, load
from components.savedmodel.messages import message
from components.savedmodel.rewrite import Value

_BATCHES = (1, 2, 5)
_SEEDS = (1, 2)
_WARMUP_REQUESTS = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """One request and the original's answer to it."""

    tags: frozenset[str]
    signature: str
    request: Arrays
    answer: Mapping[str, Value]


@dataclass
class Evidence:
    """What the original promises and answers; collected once, compared with any number of candidates."""

    contracts: Mapping[frozenset[str], Contract]
    asked: list[Asked] = field(default_factory=list)


def collect(original: Path, batch_sizes: tuple[int, ...]) -> Evidence:
    """Ask the original everything.

    Args:
        original: Directory of the SavedModel.
        batch_sizes: Rows of requests that will matter later, beside the usual ones.

    Raises:
        Rejected: LOAD_FAILED.
    """
    evidence = Evidence(read(original).contracts)
    recorded = _warmup(original)
    for tags, contract in evidence.contracts.items():
        model = load(original, tags)
        for key, signature in contract.signatures.items():
            generated = [
                generate(signature, batch_size=rows, seed=seed)
                for rows in sorted({*_BATCHES, *batch_sizes})
                for seed in _SEEDS
            ]
            for request in (*recorded.get(key, ()), *generated):
                answer = _ask(model, key, request)
                if answer is not None:
                    evidence.asked.append(Asked(tags, key, request, answer))
        model.close()
    return evidence


def _warmup(original: Path) -> dict[str, list[Arrays]]:
    found: dict[str, list[Arrays]] = {}
    for record in warmup_records(original):
        log = message("tensorflow.serving.PredictionLog").FromString(record)
        if log.HasField("predict_log"):
            asked = log.predict_log.request
            requests = found.setdefault(asked.model_spec.signature_name or "serving_default", [])
            if len(requests) < _WARMUP_REQUESTS:
                requests.append({alias: _array(asked.inputs[alias].SerializeToString()) for alias in asked.inputs})
    return found


def _array(serialized: bytes) -> Value:
    return np.asarray(tf.make_ndarray(tensor_pb2.TensorProto.FromString(serialized)))


def _ask(model: Servable, key: str, request: Arrays) -> Mapping[str, Value] | None:
    try:
        return model.run(key, request)
    except (tf.errors.OpError, Rejected):
        return None


def differences(evidence: Evidence, candidate: Path, tolerance: Tolerance) -> tuple[OutputParity, ...]:
    """Return how near a candidate's answers are.

    Raises:
        Rejected: LOAD_FAILED, or CONTRACT_CHANGED: signatures or tag sets are not the original's.
    """
    found = read(candidate).contracts
    if found.keys() != evidence.contracts.keys():
        raise Rejected(
            "tag sets changed", expected=str(set(evidence.contracts)), got=str(set(found)), reason="CONTRACT_CHANGED"
        )
    entries: list[OutputParity] = []
    for tags, contract in evidence.contracts.items():
        changes = compare(contract, found[tags]).changes
        if changes:
            first = changes[0]
            raise Rejected(f"{first.where} changed", expected=first.old, got=first.new, reason="CONTRACT_CHANGED")
        model = load(candidate, tags)
        asked = [entry for entry in evidence.asked if entry.tags == tags]
        for key, signature in contract.signatures.items():
            entries.extend(
                _signature(model, key, signature, [entry for entry in asked if entry.signature == key], tolerance)
            )
        model.close()
    return tuple(entries)


def _signature(
    model: Servable, key: str, signature: Signature, asked: list[Asked], tolerance: Tolerance
) -> list[OutputParity]:
    answers = [(entry.answer, _ask(model, key, entry.request)) for entry in asked]
    return [
        output_parity(
            key,
            alias,
            spec.dtype,
            [(then[alias], None if now is None else now[alias]) for then, now in answers],
            tolerance,
        )
        for alias, spec in signature.outputs.items()
    ]


def output_parity(
    signature: str, output: str, dtype: str, pairs: list[tuple[Value, Value | None]], tolerance: Tolerance
) -> OutputParity:
    """Return how near the second values of ``pairs`` are to the first.

    Floats may differ by ``absolute + relative · max|original|`` a request, NaN and infinities must be at the same
    places; everything else must be equal.
    """
    worst_absolute = worst_relative = 0.0
    within, comparable = True, True
    for then, now in pairs:
        if now is None or now.shape != then.shape or now.dtype != then.dtype or not _same_places(then, now):
            within = comparable = False
        elif then.dtype.kind in "fc" or then.dtype.name == "bfloat16":
            absolute, scale = _distance(then, now)
            worst_absolute = max(worst_absolute, absolute)
            worst_relative = max(worst_relative, absolute / scale if scale else 0.0)
            within = within and absolute <= tolerance.absolute + tolerance.relative * scale
        elif not np.array_equal(then, now):
            within = comparable = False
    return OutputParity(
        signature=signature,
        output=output,
        dtype=dtype,
        requests=len(pairs),
        max_absolute=worst_absolute if comparable else None,
        max_relative=worst_relative if comparable else None,
        within=within,
    )


def _same_places(then: Value, now: Value) -> bool:
    if then.dtype.kind not in "fc":
        return True
    finite = np.isfinite(then)
    return bool(
        np.array_equal(finite, np.isfinite(now)) and np.array_equal(then[~finite], now[~finite], equal_nan=True)
    )


def _distance(then: Value, now: Value) -> tuple[float, float]:
    wide = np.complex128 if then.dtype.kind == "c" else np.float64
    old, new = then.astype(wide), now.astype(wide)
    finite = np.isfinite(old) & np.isfinite(new)
    if not finite.any():
        return 0.0, 0.0
    return float(np.abs(old[finite] - new[finite]).max()), float(np.abs(old[finite]).max())
