"""Threads that run batches, and the queues that fill them: one a signature and version, served in turn.

Follows tensorflow, core/kernels/batching_util/shared_batch_scheduler.h: when a batch is due, when a queue is full, and
in which words it says so.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from components.serving.batch_tensors import Arrays, piece_sizes
from components.serving.configs import Batching
from components.serving.status import ServingError, invalid


@dataclass(slots=True, eq=False)
class Task:
    """A request, or a piece of a large one, that waits for its batch.

    Args:
        rows: Its size.
        inputs: Its tensors by alias.
        enqueued_s: When it came, on the monotonic clock.
        answer: Its outputs by alias, once there are any.
    """

    rows: int
    inputs: Arrays
    enqueued_s: float
    answer: "Future[dict[str, Any]]" = field(default_factory=Future)


Process = Callable[[Sequence[Task]], None]
"""Runs a batch and settles the answer of each task. Never raises."""


class BatchThreads:
    """The threads that all queues of a server share.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._changed = threading.Condition()
        self._queues: deque[BatchQueue] = deque()
        self._closed = False
        for number in range(count):
            threading.Thread(target=self._work, name=f"batch_{number}", daemon=True).start()

    def add_queue(self, parameters: Batching, process: Process) -> "BatchQueue":
        """Return a new queue whose batches ``process`` runs."""
        queue = BatchQueue(parameters, process, self._changed)
        with self._changed:
            self._queues.append(queue)
        return queue

    def remove_queue(self, queue: "BatchQueue") -> None:
        """Forget a queue that nobody uses any more and that is empty."""
        with self._changed:
            self._queues.remove(queue)

    def close(self) -> None:
        """End the threads when they have run what is due."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            queue, tasks = taken
            queue.process(tasks)

    def _next(self) -> "tuple[BatchQueue, list[Task]] | None":
        with self._changed:
            while not self._closed:
                for _ in range(len(self._queues)):
                    queue = self._queues[0]
                    self._queues.rotate(-1)
                    if tasks := queue.take(time.monotonic()):
                        return queue, tasks
                due = [when for queue in self._queues if (when := queue.due_s()) is not None]
                self._changed.wait(max(0.0, min(due) - time.monotonic()) if due else None)
            return None


class BatchQueue:
    """Tasks that may share a batch. Made by :meth:`BatchThreads.add_queue`, whose lock guards it."""

    def __init__(self, parameters: Batching, process: Process, changed: threading.Condition) -> None:
        self.process = process
        self._parameters = parameters
        self._changed = changed
        self._batches: deque[list[Task]] = deque([[]])
        """The last one is open; those before it are due."""
        self._opened_s = 0.0

    def put(self, rows: int, inputs: Arrays) -> list[Task]:
        """Queue a request; more than one task only if large ones are split.

        Raises:
            ServingError: INVALID_ARGUMENT if it is too large, UNAVAILABLE if the queue is full.
        """
        with self._changed:
            self._admit(rows)
            tasks = [
                Task(size, {alias: array[start : start + size] for alias, array in inputs.items()}, time.monotonic())
                for start, size in self._pieces(rows)
            ]
            for task in tasks:
                if self._batches[-1] and self._open_rows() + task.rows > self._parameters.largest_executed:
                    self._batches.append([])
                if not self._batches[-1]:
                    self._opened_s = time.monotonic()
                self._batches[-1].append(task)
            self._changed.notify()
        return tasks

    def _pieces(self, rows: int) -> list[tuple[int, int]]:
        slots = self._parameters.largest_executed - self._open_rows()
        if rows <= slots or not self._parameters.enable_large_batch_splitting:
            return [(0, rows)]
        found, start = [], 0
        for size in piece_sizes(rows, slots, self._parameters.largest_executed):
            found.append((start, size))
            start += size
        return found

    def _admit(self, rows: int) -> None:
        limits, count, tail = self._parameters, len(self._batches), self._open_rows()
        if rows > limits.max_batch_size:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {limits.max_batch_size}")
        full = "The batch scheduling queue to which this task was submitted is full; "
        if limits.enable_large_batch_splitting:
            largest = limits.largest_executed
            capacity = (limits.max_enqueued_batches - count) * largest + largest - tail
            if rows > capacity:
                raise ServingError(
                    "UNAVAILABLE",
                    f"{full}task size is {rows} but scheduling capacity is only {capacity} "
                    f"(num_enqueued_batches={count}, max_enqueued_batches={limits.max_enqueued_batches}, "
                    f"open_batch_size={tail}, max_execution_batch_size={largest})",
                )
        elif tail + rows > limits.max_batch_size and count >= limits.max_enqueued_batches:
            raise ServingError(
                "UNAVAILABLE",
                f"{full}currently {count} batches enqueued and max_enqueued_batches is {limits.max_enqueued_batches}",
            )

    def _open_rows(self) -> int:
        return sum(task.rows for task in self._batches[-1])

    def due_s(self) -> float | None:
        """Return when a batch is due, on the monotonic clock; None if nothing waits."""
        if len(self._batches) > 1 or self._open_rows() >= self._parameters.largest_executed:
            return 0.0
        return self._opened_s + self._parameters.batch_timeout_micros / 1e6 if self._batches[-1] else None

    def take(self, now_s: float) -> list[Task]:
        """Return the first batch that is due, or an empty one."""
        due = self.due_s()
        if due is None or due > now_s:
            return []
        if len(self._batches) == 1:
            self._batches.append([])
        return self._batches.popleft()
