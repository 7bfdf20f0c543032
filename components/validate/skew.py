"""The graph's format against the TensorFlow of the server that will load it. Pure.

TensorFlow gives each graph the versions ``producer`` and ``min_consumer``, and each binary one number of its own
(``TF_GRAPH_DEF_VERSION``, raised daily). A binary refuses a graph whose ``min_consumer`` is above its number, and those
that list the number as bad (``CheckVersions``, tensorflow/core/framework/versions.cc). A graph of a newer producer it
tries to load: that works if no op or attribute is newer than the binary, which TensorFlow promises for three weeks
(tensorflow.org/guide/versions, and the message of tensorflow/core/common_runtime/graph_constructor.cc).
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

from components.core.errors import Rejected
from components.core.validation import SkewCheck

GRAPH_DEF_VERSIONS: Mapping[tuple[int, int], int] = MappingProxyType(
    {
        (1, 15): 134,
        (2, 0): 119,
        (2, 1): 175,
        (2, 2): 175,
        (2, 3): 440,
        (2, 4): 561,
        (2, 5): 716,
        (2, 6): 808,
        (2, 7): 898,
        (2, 8): 987,
        (2, 9): 1087,
        (2, 10): 1205,
        (2, 11): 1286,
        (2, 12): 1395,
        (2, 13): 1482,
        (2, 14): 1575,
        (2, 15): 1645,
        (2, 16): 1766,
        (2, 17): 1882,
        (2, 18): 1994,
        (2, 19): 2129,
        (2, 20): 2288,
        (2, 21): 2474,
    }
)
"""``TF_GRAPH_DEF_VERSION`` of each release: ``tf.version.GRAPH_DEF_VERSION`` of the published wheels from 2.13 on, and
of https://www.tensorflow.org/versions/rX.Y/api_docs/python/tf/version before. A patch release keeps the number."""

FIRST_WITH_OPS = (2, 13)
"""The oldest release whose ops are known."""

_OPS_SINCE = Path(__file__).with_name("ops_since.txt")

FORWARD_DAYS = 21
"""Days, and so numbers, by which a producer may be ahead under TensorFlow's promise."""


def check(
    *,
    producer: int,
    min_consumer: int,
    bad_consumers: Sequence[int],
    producer_release: str,
    serving_version: str | None,
    waiver: str,
    ops: Collection[str],
) -> SkewCheck:
    """Judge whether a server understands a graph.

    Args:
        producer: GraphDef version of the TensorFlow that wrote it.
        min_consumer: GraphDef version a reader must have.
        bad_consumers: GraphDef versions that must not read it.
        producer_release: TensorFlow's version in the model's own words; empty if it says none.
        serving_version: TensorFlow release of the serving image, ``X.Y`` or ``X.Y.Z``; None if it is not known.
        waiver: Why a newer producer is right; empty if no reason was given.
        ops: Names of the ops in the graph and its functions.

    Raises:
        Rejected: SKEW_MIN_CONSUMER or SKEW_OP (the server would refuse the graph), or SKEW_PRODUCER (it may hold what
            the server does not know).
    """
    low, high = server_versions(serving_version) if serving_version else (None, None)
    named = f"TensorFlow {producer_release} " if producer_release else ""
    wrote, serves = f"{named}(GraphDef version {producer})", f"TensorFlow {serving_version} ({_range(low, high)})"
    if high is not None and (min_consumer > high or (low == high and high in bad_consumers)):
        raise Rejected(
            "the pinned server would refuse this graph",
            expected=f"a graph that {serves} may read",
            got=f"min_consumer {min_consumer}, bad_consumers {list(bad_consumers)}, written by {wrote}",
            fix="pin a newer serving image, or export with the TensorFlow that serves",
            reason="SKEW_MIN_CONSUMER",
        )
    _require_known_ops(ops, serving_version)
    newer = high is not None and producer > high + FORWARD_DAYS
    if newer and not waiver:
        raise Rejected(
            "the graph is newer than the pinned server",
            expected=f"a graph written by {serves} or older, or at most {FORWARD_DAYS} versions newer",
            got=f"written by {wrote}",
            fix="pin a newer serving image, export with the TensorFlow that serves, or say in "
            "validate.newer_producer_waiver why it loads there all the same",
            reason="SKEW_PRODUCER",
        )
    return SkewCheck(
        serving_version=serving_version,
        producer=producer,
        min_consumer=min_consumer,
        consumer_at_least=low,
        consumer_at_most=high,
        producer_release=producer_release,
        waiver=waiver if newer else "",
        notes=_notes(serving_version, low, high, producer, min_consumer),
    )


def _require_known_ops(ops: Collection[str], serving_version: str | None) -> None:
    release = _release(serving_version) if serving_version else None
    if release is None or release < FIRST_WITH_OPS:
        return
    since = ops_since()
    unknown = sorted(f"{op} (since {_named(since[op])})" for op in ops if op in since and since[op] > release)
    if unknown:
        raise Rejected(
            f"the graph holds ops that TensorFlow {serving_version} does not know",
            expected=f"ops of TensorFlow {serving_version}",
            got=", ".join(unknown),
            fix="pin a newer serving image, or export with the TensorFlow that serves",
            reason="SKEW_OP",
        )


@cache
def ops_since() -> Mapping[str, tuple[int, int]]:
    """Return the ops that came after 2.13, each with the release it came with.

    Compared were the names in ``TF_GetAllOpList`` (tensorflow/c/c_api.h) of the wheels of 2.13.1, 2.14.1, 2.15.1,
    2.16.2, 2.17.1, 2.18.1, 2.19.1, 2.20.0 and 2.21.0.
    """
    rows = [line.split() for line in _OPS_SINCE.read_text().splitlines()]
    return MappingProxyType({op: _release(release) for release, op in rows})


def _release(text: str) -> tuple[int, int]:
    major, minor = (int(part) for part in text.split(".")[:2])
    return major, minor


def _named(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))


def server_versions(release: str) -> tuple[int | None, int | None]:
    """Return the GraphDef version that a release has at least and at most; None where the table does not tell.

    The number only rises from 2.0 on, so a release between two of the table lies between their numbers.
    """
    asked = _release(release)
    if (exact := GRAPH_DEF_VERSIONS.get(asked)) is not None:
        return exact, exact
    before = [number for key, number in GRAPH_DEF_VERSIONS.items() if (2, 0) <= key < asked]
    after = [number for key, number in GRAPH_DEF_VERSIONS.items() if key > asked >= (2, 0)]
    return max(before, default=None), min(after, default=None)


def _notes(
    serving_version: str | None, low: int | None, high: int | None, producer: int, min_consumer: int
) -> tuple[str, ...]:
    if serving_version is None:
        return ("not compared: validate.serving_version does not say which TensorFlow the serving image holds",)
    if _release(serving_version) < FIRST_WITH_OPS:
        return (f"ops not compared: those of TensorFlow {serving_version} are not known here",)
    if low is None or max(producer, min_consumer) > low:
        return (f"not certain: TensorFlow {serving_version} has {_range(low, high)}, the graph {producer}",)
    return ()


def _range(low: int | None, high: int | None) -> str:
    if low is not None and low == high:
        return f"GraphDef version {low}"
    ends = [f"{word} {end}" for word, end in (("at least", low), ("at most", high)) if end is not None]
    return f"a GraphDef version of {' and '.join(ends)}" if ends else "an unknown GraphDef version"
