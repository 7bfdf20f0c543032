"""Times an optimized model against its original, interleaved, in sessions as a server runs them. Imports tensorflow.

Each batch size is timed in sessions warmed with the smallest and in sessions warmed with the largest one, because
oneDNN packs constant weights for the first batch size that a session sees. Ratios are paired, so that whatever else
the machine does meets both; the interval of their median is a bootstrap (Efron 1979, percentile method) with a fixed
seed.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.core.optimization import Timing
from components.core.process import Progress
from components.core.signature import DEFAULT_SIGNATURE
from components.core.spec import Measure
from components.savedmodel.generate_inputs import generate
from components.savedmodel.load import Arrays, Servable, load

_SAMPLE_S = 1e-3  # a timing repeats the request until it takes about this long, well above the clock's resolution
_WARM_UP = 5
_RESAMPLES = 1000
_SEED = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """The timings of one pair of models, and the ratio of load to first answer (none if nothing was measured)."""

    timings: tuple[Timing, ...]
    ready_ratio: float | None


def measure(original: Path, optimized: Path, tags: frozenset[str], spec: Measure, progress: Progress) -> Measured:
    """Time both models on every batch size and warm-up order.

    Args:
        original: Directory of the original.
        optimized: Directory of the optimized model.
        tags: Tag set of the meta graph.
        spec: Batch sizes and pairs.
        progress: Is told each warm-up order.
    """
    timings: list[Timing] = []
    ready: list[float] = []
    for turn, first in enumerate(dict.fromkeys((min(spec.batch_sizes), max(spec.batch_sizes)))):
        progress(f"timing, sessions warmed with batch size {first}")
        paths = (original, optimized) if turn % 2 == 0 else (optimized, original)
        loaded = [_until_ready(path, tags, first) for path in paths]
        (before, before_s), (after, after_s) = loaded if turn % 2 == 0 else reversed(loaded)
        if before_s is not None and after_s is not None:
            ready.append(after_s / before_s)
            found = (_compare(before, after, rows, first, spec.pairs) for rows in sorted(set(spec.batch_sizes)))
            timings.extend(timing for timing in found if timing is not None)
        before.close()
        after.close()
    return Measured(tuple(timings), round(float(np.median(ready)), 4) if ready else None)


def signature_of(model: Servable) -> str:
    """Return the signature that is timed: the default one, else the first."""
    keys = model.contract.signatures
    return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in keys else next(iter(keys))


def _request(model: Servable, rows: int) -> Arrays:
    return generate(model.contract.signatures[signature_of(model)], batch_size=rows, seed=_SEED)


def _until_ready(path: Path, tags: frozenset[str], rows: int) -> tuple[Servable, float | None]:
    """Load a model and let it answer once; return it, and the seconds that took, none if it refuses the request."""
    started = time.perf_counter()
    model = load(path, tags)
    try:
        model.run(signature_of(model), _request(model, rows))
    except tf.errors.OpError:
        return model, None
    return model, time.perf_counter() - started


def _compare(before: Servable, after: Servable, rows: int, first: int, pairs: int) -> Timing | None:
    key, request = signature_of(before), _request(before, rows)
    try:
        for _ in range(_WARM_UP):
            started = time.perf_counter()
            before.run(key, request)
            once = time.perf_counter() - started
            after.run(key, request)
    except tf.errors.OpError:
        return None
    repeats = max(1, round(_SAMPLE_S / once))
    calls = [lambda: before.run(key, request), lambda: after.run(key, request)]
    seconds = np.array([_pair(calls, repeats, swapped=turn % 2 == 1) for turn in range(pairs)])
    ratios = seconds[:, 1] / seconds[:, 0]
    low, high = interval(ratios)
    return Timing(
        signature=key,
        batch_size=rows,
        warmed_with=first,
        pairs=pairs,
        original_ms=round(float(np.median(seconds[:, 0])) * 1e3, 4),
        optimized_ms=round(float(np.median(seconds[:, 1])) * 1e3, 4),
        ratio=round(float(np.median(ratios)), 4),
        low=round(low, 4),
        high=round(high, 4),
    )


def _pair(calls: Sequence[Callable[[], object]], repeats: int, *, swapped: bool) -> list[float]:
    """Return the seconds a request of both calls, timed one after the other, the second first where ``swapped``."""
    taken = [0.0, 0.0]
    for index in (1, 0) if swapped else (0, 1):
        started = time.perf_counter()
        for _ in range(repeats):
            calls[index]()
        taken[index] = (time.perf_counter() - started) / repeats
    return taken


def interval(ratios: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median of paired ratios."""
    random = np.random.default_rng(_SEED)
    medians = np.median(random.choice(ratios, (_RESAMPLES, len(ratios))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


def hardware() -> str:
    """Return the processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{name}, {cores} cores, no GPU used; not necessarily the serving hardware"
