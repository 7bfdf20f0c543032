"""Replays against real servers of both protocols, with injected slowness, errors and wrong answers."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

import numpy as np
import pytest

from components.canary.measure import Arm
from components.canary.replay import Progress, Target, arm_orders, run
from components.canary.requests import RowPool
from components.core.clock import SystemClock
from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec
from components.core.spec import Budgets, CanaryLimits, Traffic
from components.core.verdict import Decision, Judgement, Phase
from components.savedmodel.tensors import Array
from components.serving.client import GrpcClient
from tests.components.canary.servers import HEALTHY, Behaviour, Refusal, grpc_server, rest_server, scores

pytestmark = pytest.mark.slow

SIGNATURE = Signature({"x": TensorSpec("float32", (None, 2))}, {"scores": TensorSpec("float32", (None, 3))})
POOL = RowPool("100 rows of pool.npz, 1 a request", {"x": np.arange(200, dtype=np.float32).reshape(100, 2)}, 1)
LIMITS = CanaryLimits(max_requests=600, max_duration_s=20, warm_up_requests=10)
TRAFFIC = Traffic(rate_per_s=200, request_timeout_s=1.0, max_in_flight=16)

# The servers of a test share two cores with everything else that runs: latency is judged only where it is the subject.
BUDGETS = Budgets(latency_ratio=None, error_rate=0.02, error_margin=0.02)


@contextmanager
def targets(candidate: Behaviour, stable: Behaviour | None, protocol: str = "grpc") -> Iterator[list[Target]]:
    start = {"grpc": grpc_server, "rest": rest_server}[protocol]
    with ExitStack() as stack:
        made = [Target(stack.enter_context(start(candidate)), "digits", 2, SIGNATURE)]
        if stable is not None:
            made.append(Target(stack.enter_context(start(stable)), "digits", 1, SIGNATURE))
        yield made


def replayed(
    candidate: Behaviour,
    stable: Behaviour | None = HEALTHY,
    *,
    protocol: str = "grpc",
    budgets: Budgets = BUDGETS,
    traffic: Traffic = TRAFFIC,
    limits: CanaryLimits = LIMITS,
) -> Judgement:
    with targets(candidate, stable, protocol) as (ours, *rest):
        theirs = rest[0] if rest else None
        return run(ours, theirs, POOL, traffic, budgets, limits, SystemClock(), lambda _: None)


def refuse_every(n: int) -> Behaviour:
    def answer(number: int, x: Array) -> Array:
        if number % n == 0:
            raise Refusal("injected")
        return scores(x)

    return Behaviour(answer=answer)


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_healthy_candidate_is_promoted_before_the_limit(protocol):
    judgement = replayed(HEALTHY, protocol=protocol)
    assert judgement.decision is Decision.PROMOTE
    assert judgement.stable_version == 1
    assert judgement.sample.candidate.requests < LIMITS.max_requests
    assert judgement.sample.candidate.requests == judgement.sample.stable.requests
    assert judgement.sample.warm_up_requests == 10
    assert judgement.sample.origin == POOL.origin
    assert judgement.sample.origin_kind == "recorded"
    assert judgement.guardrail("churn").estimate == 0


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_candidate_that_refuses_requests_is_rolled_back_early(protocol):
    judgement = replayed(refuse_every(4), protocol=protocol)
    assert judgement.decision is Decision.ROLLBACK
    assert judgement.guardrail("error_rate").phase is Phase.HARMED
    assert judgement.sample.candidate.errors.keys() == {"UNAVAILABLE"}
    assert judgement.sample.stable.errors == {}
    assert judgement.sample.candidate.requests < 300


def test_a_candidate_with_other_answers_is_rolled_back():
    judgement = replayed(Behaviour(answer=lambda _, x: np.roll(scores(x), 1, axis=1)))
    assert judgement.decision is Decision.ROLLBACK
    assert [one.name for one in judgement.guardrails if one.phase is Phase.HARMED] == ["churn"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda _, x: scores(x) * np.float32("nan"), "not finite"),
        (lambda _, x: scores(x)[:, :2], "does not allow"),
        (lambda _, x: scores(x).astype(np.float64), "float64"),
        (lambda _, x: np.concatenate([scores(x), scores(x)]), "rows"),
    ],
)
def test_a_candidate_that_breaks_the_contract_is_rolled_back(answer, words):
    judgement = replayed(Behaviour(answer=answer))
    assert judgement.decision is Decision.ROLLBACK
    assert any(words in reason for reason in judgement.reasons)


def test_one_answer_that_is_not_a_number_in_the_first_release_is_enough():
    once = Behaviour(answer=lambda n, x: scores(x) * np.float32("nan" if n == 60 else 1))
    judgement = replayed(once, stable=None)
    assert judgement.decision is Decision.ROLLBACK
    assert judgement.guardrail("contract").phase is Phase.HARMED


def test_a_slow_candidate_is_rolled_back_and_stable_is_not_blamed():
    budgets = Budgets(error_ratio=None, churn=None, latency_ratio=1.5, latency_slack_ms=5, latency_margin=0.05)
    judgement = replayed(Behaviour(delay_s=lambda _: 0.06), budgets=budgets)
    assert judgement.decision is Decision.ROLLBACK
    assert [one.name for one in judgement.guardrails if one.phase is Phase.HARMED] == ["latency_ratio"]
    assert judgement.sample.stable.median_latency_s < judgement.sample.candidate.median_latency_s


def test_slowness_of_the_first_requests_only_is_warm_up_and_not_judged():
    slow_start = Behaviour(delay_s=lambda n: 2.0 if n < 10 else 0.0)
    budgets = Budgets(
        error_rate=0.02, error_ratio=None, churn=None, latency_ratio=None, latency_ms=1500, latency_margin=0.02
    )
    judgement = replayed(slow_start, budgets=budgets, traffic=TRAFFIC.model_copy(update={"request_timeout_s": 5.0}))
    assert judgement.decision is Decision.PROMOTE


def test_a_candidate_that_hangs_is_rolled_back_by_the_timeout():
    traffic = TRAFFIC.model_copy(update={"request_timeout_s": 0.3})
    judgement = replayed(Behaviour(delay_s=lambda _: 1.0), traffic=traffic)
    assert judgement.decision is Decision.ROLLBACK
    assert judgement.sample.candidate.errors.keys() == {"DEADLINE_EXCEEDED"}


def test_a_candidate_that_is_gone_is_rolled_back():
    client = GrpcClient("127.0.0.1:1")
    with grpc_server(HEALTHY) as stable:
        judgement = run(
            Target(client, "digits", 2),
            Target(stable, "digits", 1),
            POOL,
            TRAFFIC,
            BUDGETS,
            LIMITS,
            SystemClock(),
            lambda _: None,
        )
    client.close()
    assert judgement.decision is Decision.ROLLBACK
    assert judgement.sample.candidate.errors.keys() == {"UNAVAILABLE"}


def test_a_first_release_is_judged_without_stable():
    judgement = replayed(HEALTHY, stable=None)
    assert judgement.decision is Decision.PROMOTE
    assert judgement.stable_version is None
    assert judgement.sample.stable is None
    assert judgement.guardrail("churn").phase is Phase.NOT_APPLICABLE


def test_waiting_in_the_client_counts_as_latency_and_is_reported_as_lag():
    # One lane at 50 ms an answer carries 20 requests a second; 100 are due.
    traffic = Traffic(rate_per_s=100, request_timeout_s=5.0, max_in_flight=1)
    limits = CanaryLimits(min_requests=1, max_requests=60, max_duration_s=20, warm_up_requests=0)
    judgement = replayed(Behaviour(delay_s=lambda _: 0.05), traffic=traffic, limits=limits)
    assert judgement.decision is Decision.INCONCLUSIVE
    assert judgement.sample.candidate.requests == 60
    assert judgement.sample.lag_max_s > 1.5
    assert judgement.sample.candidate.p99_latency_s > 1.5
    assert judgement.sample.stable.p99_latency_s < 0.5
    assert judgement.sample.rate_declared_per_s == 100
    assert judgement.sample.rate_achieved_per_s < 50


def test_the_declared_rate_is_held_where_it_can_be():
    limits = CanaryLimits(max_requests=150, max_duration_s=20, warm_up_requests=0)
    judgement = replayed(HEALTHY, limits=limits)
    assert judgement.sample.rate_achieved_per_s == pytest.approx(200, rel=0.15)


def test_the_end_of_the_time_is_the_end():
    limits = CanaryLimits(max_requests=5000, max_duration_s=0.5, warm_up_requests=0)
    start_s = time.monotonic()
    judgement = replayed(HEALTHY, limits=limits)
    assert judgement.decision is Decision.INCONCLUSIVE
    assert 20 < judgement.sample.candidate.requests <= 105
    assert time.monotonic() - start_s < 10


def test_no_time_for_any_request_is_inconclusive():
    limits = CanaryLimits(min_requests=5, max_requests=5, max_duration_s=20, warm_up_requests=0)
    judgement = replayed(HEALTHY, limits=limits)
    assert judgement.decision is Decision.INCONCLUSIVE
    assert any("not enough to tell" in reason for reason in judgement.reasons)


def test_fewer_requests_than_a_promotion_needs_are_named_as_the_reason():
    limits = CanaryLimits(max_requests=5000, max_duration_s=0.2, warm_up_requests=0)
    judgement = replayed(HEALTHY, limits=limits)
    assert judgement.decision is Decision.INCONCLUSIVE
    assert "promotion needs 100" in judgement.reasons[-1]


def test_both_servers_get_the_same_requests():
    seen: dict[str, list[float]] = {"ours": [], "theirs": []}

    def noting(name: str) -> Behaviour:
        def answer(_: int, x: Array) -> Array:
            seen[name].append(float(x[0, 0]))
            return scores(x)

        return Behaviour(answer=answer)

    limits = CanaryLimits(max_requests=100, max_duration_s=20, warm_up_requests=0)
    replayed(noting("ours"), noting("theirs"), limits=limits)
    assert len(seen["ours"]) == 100
    assert sorted(seen["ours"]) == sorted(seen["theirs"])


def test_neither_server_is_always_first_and_the_seed_decides():
    arms = (Arm.CANDIDATE, Arm.STABLE)
    one, same, other = (list(islice(arm_orders(arms, seed), 200)) for seed in (1, 1, 2))
    assert one == same != other
    assert all(sorted(order) == sorted(arms) for order in one)
    assert 60 <= sum(order[0] is Arm.CANDIDATE for order in one) <= 140


def test_an_unknown_output_to_compare_ends_the_canary_with_its_name():
    with pytest.raises(Rejected, match="scorse"):
        replayed(HEALTHY, budgets=Budgets(output="scorse"))


def test_progress_tells_how_far_it_is_and_what_it_waits_for():
    told: list[Progress] = []
    with targets(HEALTHY, HEALTHY) as (ours, theirs):
        run(ours, theirs, POOL, TRAFFIC, BUDGETS, LIMITS, SystemClock(), told.append)
    assert told[0].waiting_for
    assert told[-1].waiting_for == ()
    assert [one.requests for one in told] == sorted(one.requests for one in told)
