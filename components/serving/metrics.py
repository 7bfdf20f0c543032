"""Counters and histograms under TensorFlow Serving's names, as text for Prometheus.

Sources: tensorflow/serving, servables/tensorflow/util.cc (names and buckets) and util/prometheus_exporter.cc (format).
"""

import bisect
import threading
from collections.abc import Iterable

_BOUNDS = tuple(10 * 1.8**step for step in range(33))
"""Upper bounds in microseconds: ``Buckets::Exponential(10, 1.8, 33)``, about 20 minutes; one more has none."""

_QUEUE_BOUNDS = tuple(100 * 1.2**step for step in range(52))
"""``Buckets::Exponential(100, 1.2, 52)``, about a second (batching/batching_session.cc)."""

Labels = tuple[str, ...]


class _Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect.bisect_right(self.bounds, value)] += 1
        self.sum += value


class Metrics:
    """What the server counts. Safe to use from several threads."""

    _REQUESTS = (":tensorflow:serving:request_count", ("model_name", "status"))
    _LATENCY = (":tensorflow:serving:request_latency", ("model_name", "API", "entrypoint"))
    _RUNTIME = (":tensorflow:serving:runtime_latency", ("model_name", "API", "runtime"))
    _WARMUP = (":tensorflow:serving:model_warmup_latency", ("model_path", "status"))
    _QUEUE = (":tensorflow:serving:batching_session:queuing_latency", ("thread_pool_name",))
    _BATCHES = ":tensorflow:serving:batching_session:wrapped_run_count"
    _TIMES = (_LATENCY, _RUNTIME, _WARMUP, _QUEUE)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[Labels, int] = {}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {name: {} for name, _ in self._TIMES}
        self._batches = 0

    def count_request(self, model: str, status: str) -> None:
        """Count a request by its gRPC status name."""
        with self._lock:
            self._counters[model, status] = self._counters.get((model, status), 0) + 1

    def time_request(self, model: str, api: str, entrypoint: str, microseconds: float) -> None:
        """Note how long a request took that succeeded; ``api`` is ``Predict`` over GRPC and ``predict`` over REST."""
        self._add(self._LATENCY[0], (model, api, entrypoint), microseconds)

    def time_runtime(self, model: str, api: str, microseconds: float) -> None:
        """Note how long TensorFlow itself took."""
        self._add(self._RUNTIME[0], (model, api, "TF1"), microseconds)

    def time_warmup(self, path: str, status: str, microseconds: float) -> None:
        """Note how long a version's warm-up took."""
        self._add(self._WARMUP[0], (path, status), microseconds)

    def time_queue(self, microseconds: float) -> None:
        """Note how long a request waited for its batch; the real server, too, leaves the pool's name empty."""
        self._add(self._QUEUE[0], ("",), microseconds, _QUEUE_BOUNDS)

    def count_wrapped_run(self) -> None:
        """Count a batch that is run."""
        with self._lock:
            self._batches += 1

    def _add(self, name: str, labels: Labels, value: float, bounds: tuple[float, ...] = _BOUNDS) -> None:
        with self._lock:
            known = self._histograms[name]
            if labels not in known:
                known[labels] = _Histogram(bounds)
            known[labels].add(value)

    def page(self) -> str:
        """Return everything in Prometheus' text format."""
        with self._lock:
            lines = [f"# TYPE {self._REQUESTS[0]} counter"]
            for labels, count in sorted(self._counters.items()):
                lines.append(f"{self._REQUESTS[0]}{{{_labels(self._REQUESTS[1], labels)}}} {count}")
            if self._batches:
                lines += [f"# TYPE {self._BATCHES} counter", f"{self._BATCHES}{{}} {self._batches}"]
            for name, keys in self._TIMES:
                if self._histograms[name]:
                    lines.append(f"# TYPE {name} histogram")
                for labels, histogram in sorted(self._histograms[name].items()):
                    lines += _histogram(name, _labels(keys, labels), histogram)
        return "\n".join(lines) + "\n"


def _histogram(name: str, labels: str, histogram: _Histogram) -> Iterable[str]:
    total = 0
    bounds = [*(f"{bound:.6g}" for bound in histogram.bounds), "+Inf"]
    for bound, count in zip(bounds, histogram.counts, strict=True):
        total += count
        yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
    yield f"{name}_sum{{{labels}}} {histogram.sum:.6g}"
    yield f"{name}_count{{{labels}}} {total}"


def _labels(keys: Labels, values: Labels) -> str:
    escaped = (value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in values)
    return ",".join(f'{key}="{value}"' for key, value in zip(keys, escaped, strict=True))
