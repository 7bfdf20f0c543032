"""The candidate loaded and asked as TensorFlow Serving would. Imports tensorflow: only for the child process."""

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.core.errors import Rejected
from components.core.spec import Limits
from components.core.validation import Probe
from components.savedmodel import warmup
from components.savedmodel.load import Arrays, Servable, load
from components.savedmodel.replay import answerable, has_batch_dimension, replay_warmup
from components.savedmodel.tensors import from_proto
from components.validate.golden import edge_cases, read_golden
from components.validate.parity import Case

BATCH_SIZES = (1, 2, 32)
SEED = 20_240_229


def probe(
    root: Path, tags: frozenset[str], limits: Limits, *, batch_sizes: Sequence[int] = BATCH_SIZES
) -> tuple[Servable, Probe, list[Case]]:
    """Load a candidate, replay its warm-up requests and ask every signature.

    Args:
        root: Its directory.
        tags: Tag set of the meta graph.
        limits: How long loading may take.
        batch_sizes: Rows of the generated requests.

    Returns:
        The loaded candidate, what was measured, and its answers.

    Raises:
        Rejected: LOAD_FAILED, CORRUPT_VARIABLES, NAN_WEIGHTS, WARMUP_FAILS, SIGNATURE_FAILS or LOAD_SLOW.
    """
    _require_sound_variables(root)
    start = time.perf_counter()
    servable = load(root, tags)
    loaded = time.perf_counter()
    _first_answer(servable)
    answered = time.perf_counter()
    _require_fast(answered - start, limits)
    replayed = replay_warmup(servable, root)
    cases = _given(servable, root)
    cases += [case for key in servable.contract.signatures for case in _ask(servable, key, batch_sizes)]
    found = Probe(
        load_s=loaded - start,
        first_answer_s=answered - loaded,
        peak_memory_bytes=_peak_memory_bytes(),
        answered=tuple(servable.contract.signatures),
        warmup_records=replayed,
    )
    return servable, found, cases


def _first_answer(servable: Servable) -> None:
    """Answer one request of one row; a signature that refuses it is judged later, with all others."""
    for key in sorted(servable.contract.signatures)[:1]:
        answerable(servable, key, batch_size=1, seed=SEED)


def _given(servable: Servable, root: Path) -> list[Case]:
    """The predict requests of the warm-up file: golden requests that somebody chose."""
    cases = []
    for number, log in enumerate(warmup.read_logs(root), start=1):
        if log.WhichOneof("log_type") == "predict_log":
            request = log.predict_log.request
            key = request.model_spec.signature_name or "serving_default"
            inputs = {alias: from_proto(tensor) for alias, tensor in request.inputs.items()}
            cases.append(Case(key, f"warm-up request {number}", inputs, servable.run(key, inputs)))
    return cases


def ask_golden(servable: Servable, golden: Path) -> list[Case]:
    """Return the answers to the requests that somebody chose; each must have one.

    Raises:
        Rejected: GOLDEN.
    """
    cases = []
    for key, origin, inputs in read_golden(golden, servable.contract, servable.defaults):
        try:
            cases.append(Case(key, origin, inputs, servable.run(key, inputs)))
        except tf.errors.OpError as error:
            raise Rejected(
                f"the candidate does not answer a golden request ({key}, {origin})",
                expected="an answer",
                got=f"{type(error).__name__}: {error.message}"[:1000],
                fix="repair the model, or the file that validate.golden names",
                reason="GOLDEN",
            ) from error
    return cases


def ask_edges(servable: Servable) -> list[Case]:
    """Return the answers to edge cases; what a model refuses among them it may refuse, if its source does so too."""
    cases = []
    for key, signature in servable.contract.signatures.items():
        for origin, inputs in edge_cases(signature, seed=SEED):
            answer: Arrays | None
            try:
                answer = servable.run(key, inputs)
            except tf.errors.OpError:
                answer = None
            cases.append(Case(key, origin, inputs, answer, edge=True))
    return cases


def _ask(servable: Servable, key: str, batch_sizes: Sequence[int]) -> list[Case]:
    cases, refusals = [], []
    sizes = batch_sizes if has_batch_dimension(servable.contract.signatures[key]) else (1,)
    for size in sizes:
        inputs, answer = answerable(servable, key, batch_size=size, seed=SEED)
        if inputs is None or isinstance(answer, str):
            refusals.append(f"{size} rows: {answer}")
        else:
            cases.append(Case(key, f"generated, {size} rows", inputs, answer))
    if refusals:
        raise Rejected(
            f"signature {key} does not answer",
            expected=f"answers to requests of {', '.join(map(str, sizes))} rows",
            got="; ".join(refusals),
            fix="repair the model; a model that needs values of a certain kind should check them in its graph",
            reason="SIGNATURE_FAILS",
        )
    return cases


def _require_sound_variables(root: Path) -> None:
    """Read every float variable; the reader checks each one's checksum."""
    prefix = root / "variables" / "variables"
    if not prefix.with_suffix(".index").is_file():
        return
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        for name, dtype in reader.get_variable_to_dtype_map().items():
            value = reader.get_tensor(name)
            if dtype.is_floating and (bad := int(np.count_nonzero(np.isnan(value)))):
                raise Rejected(
                    f"variable {name} holds NaN",
                    expected="numbers",
                    got=f"{bad} of {value.size} values are NaN",
                    fix="train the model again; look at its loss",
                    reason="NAN_WEIGHTS",
                )
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise Rejected(
            "the variables cannot be read",
            expected="a whole checkpoint in variables/",
            got=f"{type(error).__name__}: {error}"[:1000],
            fix="export or copy the model again",
            reason="CORRUPT_VARIABLES",
        ) from error


def _require_fast(taken_s: float, limits: Limits) -> None:
    if taken_s > limits.load_s:
        raise Rejected(
            "the model takes too long until its first answer",
            expected=f"at most {limits.load_s:g} s (validate.limits.load_s)",
            got=f"{taken_s:.1f} s",
            reason="LOAD_SLOW",
        )


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
