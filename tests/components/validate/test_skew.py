"""The graph's versions against the server's, by the published table."""

from itertools import pairwise

import pytest

from components.core.errors import Rejected
from components.validate.skew import FIRST_WITH_OPS, GRAPH_DEF_VERSIONS, check, ops_since, server_versions


def skew(
    producer: int,
    serving: str | None,
    *,
    min_consumer: int = 0,
    bad: tuple[int, ...] = (),
    waiver: str = "",
    ops: tuple[str, ...] = ("MatMul",),
):
    return check(
        producer=producer,
        min_consumer=min_consumer,
        bad_consumers=bad,
        producer_release="2.21.0",
        serving_version=serving,
        waiver=waiver,
        ops=ops,
    )


def test_the_table_rises_with_the_releases_of_tensorflow_2():
    numbers = [number for release, number in sorted(GRAPH_DEF_VERSIONS.items()) if release >= (2, 0)]

    assert all(low <= high for low, high in pairwise(numbers))


@pytest.mark.slow
def test_the_table_knows_the_tensorflow_that_is_installed():
    import tensorflow as tf

    major, minor = (int(part) for part in tf.__version__.split(".")[:2])
    assert GRAPH_DEF_VERSIONS[major, minor] == tf.version.GRAPH_DEF_VERSION


@pytest.mark.parametrize(
    ("release", "versions"),
    [
        ("2.19", (2129, 2129)),
        ("2.19.1", (2129, 2129)),
        ("2.20.0", (2288, 2288)),
        ("2.99", (2474, None)),
        ("1.15", (134, 134)),
        ("1.14", (None, None)),
    ],
)
def test_a_release_that_the_table_lacks_lies_between_its_neighbours(release, versions):
    assert server_versions(release) == versions


def test_a_newer_graph_is_refused_with_both_versions():
    with pytest.raises(Rejected) as caught:
        skew(2474, "2.19")
    error = caught.value
    assert error.reason == "SKEW_PRODUCER"
    assert "TensorFlow 2.19 (GraphDef version 2129)" in error.expected
    assert "TensorFlow 2.21.0 (GraphDef version 2474)" in error.got


def test_three_weeks_ahead_is_within_tensorflows_promise_and_noted_and_a_day_more_is_not():
    found = skew(2129 + 21, "2.19")
    assert (found.consumer_at_least, found.consumer_at_most) == (2129, 2129)
    assert found.notes

    with pytest.raises(Rejected):
        skew(2129 + 22, "2.19")


def test_a_waiver_lets_a_newer_graph_on_and_is_recorded_only_if_needed():
    reason = "tried by hand in the image"

    assert skew(2474, "2.19", waiver=reason).waiver == reason
    assert skew(2129, "2.19", waiver=reason).waiver == ""


def test_no_waiver_helps_where_the_server_itself_would_refuse():
    for refused in ({"min_consumer": 2130}, {"bad": (2129,)}):
        with pytest.raises(Rejected) as caught:
            skew(100, "2.19", waiver="tried by hand in the image", **refused)
        assert caught.value.reason == "SKEW_MIN_CONSUMER"


def test_an_older_graph_passes_without_a_note():
    assert skew(1087, "2.19", min_consumer=12).notes == ()


def test_what_cannot_be_known_is_noted():
    assert "does not say" in skew(2474, None).notes[0]
    assert "ops not compared" in skew(1000, "2.12").notes[0]
    assert "not certain" in skew(9999, "2.99").notes[0]


def test_an_op_that_came_after_the_servers_release_is_refused_by_name_and_no_waiver_helps():
    with pytest.raises(Rejected) as caught:
        skew(100, "2.13", ops=("MatMul", "Conv"), waiver="tried by hand in the image")
    assert caught.value.reason == "SKEW_OP"
    assert caught.value.got == "Conv (since 2.14)"
    assert skew(100, "2.14", ops=("MatMul", "Conv")).notes == ()


def test_an_op_of_somebody_elses_is_not_this_checks_matter():
    assert skew(100, "2.19", ops=("MyOwnOp",)).notes == ()


@pytest.mark.slow
def test_the_table_of_ops_names_ops_of_the_tensorflow_that_is_installed():
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    listed = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    installed = {op.name for op in listed.op}
    assert {op for op in ops_since() if op not in installed} == set()
    assert min(ops_since().values()) > FIRST_WITH_OPS
