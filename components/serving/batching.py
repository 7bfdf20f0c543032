"""Runs the requests of several clients as one: ``--enable_batching``.

Follows tensorflow/serving, batching/batching_session.cc (``ProcessBatch``) and
servables/tensorflow/bundle_factory_util.cc (which parameters a version gets). As there, what goes wrong with a batch
goes wrong for every request in it; what can be seen in one request alone is refused before it joins one.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from components.core.signature import Signature
from components.savedmodel.tensors import Array
from components.serving.batch_scheduler import BatchQueue, BatchThreads, Task
from components.serving.batch_tensors import Arrays, merge, rows_of, split
from components.serving.configs import PER_MODEL_BATCHING_FILE, Batching, read_batching
from components.serving.metrics import Metrics
from components.serving.predict import Runnable

_Key = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Batcher:
    """Puts batching around loaded versions.

    Args:
        common: Parameters of every version, and with ``per_model`` only the number of threads.
        metrics: Where waiting is noted.
        per_model: Whether a version is batched by the file in its own folder, and not at all without one.
    """

    common: Batching
    metrics: Metrics
    per_model: bool = False
    threads: BatchThreads = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "threads", BatchThreads(self.common.threads))

    def around(self, runnable: Runnable, signatures: Mapping[str, Signature], path: Path) -> Runnable:
        """Return what runs a version's requests.

        Raises:
            ServingError: INVALID_ARGUMENT: the version's own parameters do not fit together.
            Rejected: The version's own file cannot be read.
        """
        parameters = self.common
        if self.per_model:
            if not (path / PER_MODEL_BATCHING_FILE).is_file():
                return runnable
            parameters = read_batching(path / PER_MODEL_BATCHING_FILE)
        return Batched(runnable, signatures, parameters, self.threads, self.metrics)


class Batched:
    """A ``Runnable`` whose requests are run in batches. Safe to run from several threads.

    Args:
        inner: The version's session.
        signatures: Its signatures by key.
        parameters: When and how requests are put together.
        threads: What runs the batches.
        metrics: Where waiting is noted.
    """

    def __init__(
        self,
        inner: Runnable,
        signatures: Mapping[str, Signature],
        parameters: Batching,
        threads: BatchThreads,
        metrics: Metrics,
    ) -> None:
        self._inner = inner
        self._signatures = signatures
        self._parameters = parameters
        self._threads = threads
        self._metrics = metrics
        self._lock = threading.Lock()
        self._queues: dict[_Key, BatchQueue] = {}

    @property
    def defaults(self) -> Mapping[str, Arrays]:
        """Values of inputs that a request may leave out."""
        return self._inner.defaults

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Answer one request by the batch it becomes a part of.

        Raises:
            ServingError: It cannot be batched, the queue is full, or its batch failed.
        """
        known = self._signatures[signature]
        aliases = tuple(sorted(known.outputs if outputs is None else outputs))
        # a default is one more tensor of the request, with rows of its own (predict_util.cc adds it before Run)
        values = {alias: np.asarray(array) for alias, array in {**self.defaults.get(signature, {}), **inputs}.items()}
        tasks = self._queue(signature, aliases).put(rows_of(values), values)
        answers = [task.answer.result() for task in tasks]
        wanted = list(known.outputs) if outputs is None else list(outputs)
        if len(answers) == 1:
            return {alias: answers[0][alias] for alias in wanted}
        return {alias: np.concatenate([answer[alias] for answer in answers]) for alias in wanted}

    def _queue(self, signature: str, aliases: tuple[str, ...]) -> BatchQueue:
        with self._lock:
            key = (signature, aliases)
            if key not in self._queues:
                self._queues[key] = self._threads.add_queue(
                    self._parameters, lambda tasks: self._process(signature, aliases, tasks)
                )
            return self._queues[key]

    def _process(self, signature: str, aliases: tuple[str, ...], tasks: Sequence[Task]) -> None:
        began = time.monotonic()
        for task in tasks:
            self._metrics.time_queue((began - task.enqueued_s) * 1e6)
        try:
            answers = self._run(signature, aliases, tasks)
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it, and the thread must go on
            for task in tasks:
                task.answer.set_exception(error)
            return
        for task, answer in zip(tasks, answers, strict=True):
            task.answer.set_result(answer)

    def _run(self, signature: str, aliases: tuple[str, ...], tasks: Sequence[Task]) -> list[dict[str, Array]]:
        limits = self._parameters
        names = {alias: spec.name for alias, spec in self._signatures[signature].inputs.items()}
        merged = merge(
            [task.inputs for task in tasks],
            names,
            limits.allowed_batch_sizes,
            pad=limits.pad_variable_length_inputs,
        )
        self._metrics.count_wrapped_run()
        outputs = self._inner.run(signature, merged, aliases)
        return split(outputs, [task.rows for task in tasks], rows_of(merged))

    def close(self) -> None:
        """Free the session; nobody waits any more."""
        for queue in self._queues.values():
            self._threads.remove_queue(queue)
        self._inner.close()
