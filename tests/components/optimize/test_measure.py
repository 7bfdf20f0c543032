"""Timing two models against each other."""

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from components.core.process import silent
from components.core.spec import Measure
from components.optimize.measure import hardware, interval, measure

SERVE = frozenset({"serve"})


@given(arrays(np.float64, st.integers(10, 60), elements=st.floats(0.1, 10)))
def test_the_interval_holds_the_median_and_lies_within_the_data(ratios):
    low, high = interval(ratios)
    assert ratios.min() <= low <= high <= ratios.max()
    assert low <= np.median(ratios) <= high
    assert interval(ratios) == (low, high)


def test_each_batch_size_is_timed_in_sessions_of_both_warm_up_orders(saved_model):
    source = saved_model("keras_mlp")
    measured = measure(source, source, SERVE, Measure(batch_sizes=(8, 1), pairs=10), silent)
    assert [(entry.warmed_with, entry.batch_size) for entry in measured.timings] == [(1, 1), (1, 8), (8, 1), (8, 8)]
    assert all(entry.pairs == 10 and 0 < entry.low <= entry.ratio <= entry.high for entry in measured.timings)
    assert measured.ready_ratio is not None


def test_a_model_that_does_more_takes_longer(tmp_path):
    for name, repeats in (("small", 1), ("big", 40)):
        module = tf.Module()
        module.f = tf.function(
            lambda x, repeats=repeats: {"y": _square(x, repeats)},
            input_signature=[tf.TensorSpec((None, 128, 128), tf.float32, name="x")],
        )
        tf.saved_model.save(module, str(tmp_path / name), signatures={"serving_default": module.f})
    (timing,) = measure(
        tmp_path / "small", tmp_path / "big", SERVE, Measure(batch_sizes=(1,), pairs=10), silent
    ).timings
    assert timing.low > 1.02


def _square(x: tf.Tensor, repeats: int) -> tf.Tensor:
    for _ in range(repeats):
        x = tf.matmul(x, x) / 64.0
    return x


def test_the_hardware_is_named_with_its_cores():
    assert "cores" in hardware()
