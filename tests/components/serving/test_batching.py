"""Requests of several clients run as one: when, how they are put together, and what each hears."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.signature import PREDICT_METHOD, Signature, TensorSpec
from components.serving.batch_scheduler import BatchThreads
from components.serving.batch_tensors import merge, padded_size, piece_sizes, rows_of, split
from components.serving.batching import Batched, Batcher
from components.serving.configs import PER_MODEL_BATCHING_FILE, Batching
from components.serving.metrics import Metrics
from components.serving.status import ServingError
from tests.embedded import until

LONG_US = 60_000_000
SIGNATURES = {
    "double": Signature(
        {"x": TensorSpec("float32", None, "x:0")}, {"y": TensorSpec("float32", None, "y:0")}, PREDICT_METHOD
    ),
    "total": Signature(
        {"x": TensorSpec("float32", None, "x:0")}, {"y": TensorSpec("float32", (), "t:0")}, PREDICT_METHOD
    ),
    "nothing": Signature({}, {"y": TensorSpec("float32", None, "z:0")}, PREDICT_METHOD),
}


class Doubler:
    """Doubles what it gets, remembers the batches, waits for a gate, fails where a value says so."""

    def __init__(self) -> None:
        self.defaults: dict[str, dict[str, Any]] = {}
        self.batches: list[np.ndarray] = []
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def run(self, signature: str, inputs, outputs=None) -> dict[str, Any]:  # noqa: ARG002 - part of a Runnable
        x = inputs["x"]
        self.batches.append(x)
        assert self.gate.wait(20)
        if x.dtype.kind == "f" and (x < 0).any():
            raise ServingError("INVALID_ARGUMENT", "negative")
        return {"y": np.float32(x.sum()) if signature == "total" else x + x}

    def close(self) -> None:
        self.closed = True

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


@pytest.fixture
def inner() -> Iterator[Doubler]:
    made = Doubler()
    yield made
    made.gate.set()


@pytest.fixture
def batched(inner: Doubler) -> Iterator[Any]:
    """Return a function of batching parameters that puts batching around ``inner``."""
    threads: list[BatchThreads] = []

    def make(**parameters) -> Batched:
        limits = Batching(**{"num_batch_threads": 1, **parameters})
        threads.append(BatchThreads(limits.threads))
        return Batched(inner, SIGNATURES, limits, threads[-1], Metrics())

    yield make
    for made in threads:
        made.close()


def x(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.float32(values)}


def together(model: Batched, *requests: dict[str, np.ndarray]) -> list[Any]:
    """Return each request's y, or its error; all are asked at once."""

    def ask(request: dict[str, np.ndarray]):
        try:
            return model.run("double", request)["y"].tolist()
        except ServingError as error:
            return error

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(ask, requests))


def test_requests_that_fill_a_batch_run_as_one_and_each_gets_its_own_rows(batched, inner: Doubler):
    began = time.monotonic()
    model = batched(max_batch_size=4, batch_timeout_micros=LONG_US)
    assert together(model, x(1), x(2, 3), x(4)) == [[2.0], [4.0, 6.0], [8.0]]
    assert inner.sizes == [4]
    assert time.monotonic() - began < 10


def test_a_batch_that_does_not_fill_runs_when_its_time_is_over(batched, inner: Doubler):
    model = batched(max_batch_size=100, batch_timeout_micros=200_000)
    began = time.monotonic()
    assert together(model, x(1), x(2)) == [[2.0], [4.0]]
    assert 0.15 < time.monotonic() - began < 10
    assert inner.sizes == [2]


def test_a_batch_is_filled_up_to_an_allowed_size_and_the_filling_is_not_answered(batched, inner: Doubler):
    model = batched(max_batch_size=8, allowed_batch_sizes=(2, 4, 8))
    assert model.run("double", x(1, 2, 3))["y"].tolist() == [2.0, 4.0, 6.0]
    assert inner.batches[0].tolist() == [1.0, 2.0, 3.0, 1.0]


def test_a_full_queue_is_unavailable_in_the_real_servers_words(batched, inner: Doubler):
    inner.gate.clear()
    model = batched(max_batch_size=1, max_enqueued_batches=1)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(model.run, "double", x(1))
        until(lambda: len(inner.batches) == 1, within_s=10)
        waiting = pool.submit(model.run, "double", x(2))
        queue = next(iter(model._queues.values()))
        until(lambda: queue._open_rows() == 1, within_s=10)
        with pytest.raises(ServingError) as caught:
            model.run("double", x(3))
        inner.gate.set()
        assert running.result(10)["y"].tolist() == [2.0]
        assert waiting.result(10)["y"].tolist() == [4.0]
    assert caught.value.code == "UNAVAILABLE"
    assert caught.value.message == (
        "The batch scheduling queue to which this task was submitted is full; currently 1 batches enqueued and "
        "max_enqueued_batches is 1"
    )


def test_a_request_larger_than_a_batch_is_refused_alone(batched):
    with pytest.raises(ServingError, match="Task size 3 is larger than maximum input batch size 2"):
        batched(max_batch_size=2).run("double", x(1, 2, 3))


def test_a_large_request_is_split_and_put_together_again(batched, inner: Doubler):
    model = batched(max_batch_size=10, max_execution_batch_size=4, enable_large_batch_splitting=True)
    values = list(range(10))
    assert model.run("double", x(*values))["y"].tolist() == [2.0 * value for value in values]
    assert inner.sizes == [4, 4, 2]


def test_a_split_request_counts_rows_when_the_queue_is_full(batched, inner: Doubler):
    model = batched(
        max_batch_size=9, max_execution_batch_size=4, enable_large_batch_splitting=True, max_enqueued_batches=2
    )
    with pytest.raises(ServingError) as caught:
        model.run("double", x(*range(9)))
    assert caught.value.code == "UNAVAILABLE"
    assert "task size is 9 but scheduling capacity is only 8 (num_enqueued_batches=1, " in caught.value.message


def test_other_shapes_in_a_batch_fail_all_of_it_unless_they_are_padded(batched, inner: Doubler):
    wide, narrow = {"x": np.float32([[1, 2, 3]])}, {"x": np.float32([[4], [5]])}
    strict = batched(max_batch_size=3, batch_timeout_micros=LONG_US)
    for error in together(strict, wide, narrow):
        assert error.code == "FAILED_PRECONDITION"
        assert error.message.startswith("Tensors with name 'x:0' from different tasks have different shapes")
    padded = batched(max_batch_size=3, batch_timeout_micros=LONG_US, pad_variable_length_inputs=True)
    assert together(padded, wide, narrow) == [[[2.0, 4.0, 6.0]], [[8.0, 8.0, 8.0], [10.0, 8.0, 8.0]]]


def test_an_op_that_fails_fails_its_batch_and_the_next_one_answers(batched):
    model = batched(max_batch_size=2, batch_timeout_micros=LONG_US)
    assert [error.message for error in together(model, x(1), x(-1))] == ["negative", "negative"]
    assert together(model, x(1), x(2)) == [[2.0], [4.0]]


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        ({"x": np.float32(1)}, "Batching Run() input tensors must have at least one dimension"),
        (
            {"x": np.float32([1]), "z": np.float32([1, 2])},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
    ],
)
def test_what_cannot_be_batched_is_refused_before_it_joins_a_batch(inputs, text: str):
    with pytest.raises(ServingError) as caught:
        rows_of(inputs)
    assert (caught.value.code, caught.value.message) == ("INVALID_ARGUMENT", text)


def test_an_output_without_rows_cannot_be_batched(batched):
    with pytest.raises(ServingError, match="Batched output tensor has 0 dimensions"):
        batched().run("total", x(1, 2))
    with pytest.raises(ServingError, match="does not equal the sum"):
        split({"y": np.float32([1])}, [1, 1], 2)


def test_a_default_is_a_tensor_of_the_request(batched, inner: Doubler):
    inner.defaults = {"double": {"x": np.float32([7])}}
    assert batched().run("double", {})["y"].tolist() == [14.0]


def test_texts_are_padded_as_numbers_are():
    merged = merge(
        [{"s": np.array([[b"a", b"b"]], object)}, {"s": np.array([[b"c"]], object)}], {"s": "s:0"}, (), pad=True
    )
    assert merged["s"].tolist() == [[b"a", b"b"], [b"c", b"c"]]


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([np.ones((1,) * 7)], "INVALID_ARGUMENT"),
        ([np.ones((1, 0)), np.ones((1, 2))], "INVALID_ARGUMENT"),
        ([np.ones((1, 1)), np.ones((1, 2, 2))], "INTERNAL"),
    ],
    ids=["too many dimensions", "nothing to pad with", "other ranks"],
)
def test_what_cannot_be_padded_is_told(parts, code: str):
    with pytest.raises(ServingError) as caught:
        merge([{"x": part} for part in parts], {"x": "x:0"}, (), pad=True)
    assert caught.value.code == code


@given(st.integers(1, 200), st.integers(0, 20), st.integers(1, 20))
def test_the_pieces_of_a_request_are_all_of_it_and_none_is_too_large(rows: int, slots: int, largest: int):
    sizes = piece_sizes(rows, min(slots, largest), largest)
    assert sum(sizes) == rows
    assert all(0 < size <= largest for size in sizes)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.sets(st.integers(1, 40)))
def test_what_was_merged_is_split_into_the_same_rows(sizes: list[int], allowed: set[int]):
    requests = [{"x": np.arange(size) + 100 * index} for index, size in enumerate(sizes)]
    merged = merge(requests, {"x": "x:0"}, sorted(allowed), pad=False)
    assert len(merged["x"]) == padded_size(sum(sizes), sorted(allowed))
    for request, answer in zip(requests, split(merged, sizes, len(merged["x"])), strict=True):
        assert answer["x"].tolist() == request["x"].tolist()


def test_queues_are_served_in_turn_and_go_with_their_model(inner: Doubler):
    threads = BatchThreads(1)
    models = [Batched(inner, SIGNATURES, Batching(), threads, Metrics()) for _ in range(2)]
    for model in models * 2:
        assert model.run("double", x(1))["y"].tolist() == [2.0]
    assert len(threads._queues) == 2
    models[0].close()
    assert inner.closed
    assert len(threads._queues) == 1
    assert models[1].run("double", x(3))["y"].tolist() == [6.0]
    threads.close()


def test_a_version_may_bring_its_own_parameters_or_none(inner: Doubler, tmp_path: Path):
    batcher = Batcher(Batching(num_batch_threads=1), Metrics(), per_model=True)
    assert batcher.around(inner, SIGNATURES, tmp_path) is inner
    (tmp_path / PER_MODEL_BATCHING_FILE).write_text("max_batch_size { value: 2 }")
    own = batcher.around(inner, SIGNATURES, tmp_path)
    with pytest.raises(ServingError, match="maximum input batch size 2"):
        own.run("double", x(1, 2, 3))
    batcher.threads.close()


def test_waiting_and_batches_are_measured(inner: Doubler):
    metrics, threads = Metrics(), BatchThreads(1)
    Batched(inner, SIGNATURES, Batching(), threads, metrics).run("double", x(1))
    threads.close()
    page = metrics.page()
    assert ":tensorflow:serving:batching_session:wrapped_run_count{} 1" in page
    assert ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name=""} 1' in page
