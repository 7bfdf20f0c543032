"""Send the same requests to candidate and stable at a declared rate, and stop as soon as the judge can tell.

The loop is open: request k is due at k/rate whatever became of the others, and its latency counts from that moment. A
server that stalls is therefore charged for every request that had to wait ("coordinated omission" is the mistake of
not doing so). Each server has lanes of its own, so that a slow candidate delays no request to stable; what left later
than it was due is reported as lag.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from components.canary.judge import judge
from components.canary.measure import Arm, Measurements, Outcome, Outputs, Recorder, disagreement, find_fault
from components.canary.requests import RequestSource
from components.core.clock import Clock
from components.core.errors import SlipwayError
from components.core.signature import Signature
from components.core.spec import Budgets, CanaryLimits, Traffic
from components.core.verdict import Decision, Judgement, Phase
from components.savedmodel.tensors import Array
from components.serving.calls import CallFailed, Prepared

JUDGE_EVERY_REQUESTS = 50
JUDGE_EVERY_S = 0.25
JUDGE_GROWTH = 1.05
"""A judgement is due after 50 more requests, a quarter of a second and 5 % more requests, whatever comes last: judging
costs as much as there are requests, and must not disturb what is measured."""

DRAIN_GRACE_S = 1.0
"""Seconds beyond the request timeout that the last answers may take."""

_STEP_S = 0.05


class Client(Protocol):
    """What a replay asks of a client of ``components.serving.client``."""

    def prepare(
        self, model: str, inputs: Mapping[str, Array], *, signature: str = ..., version: int | None = None
    ) -> Prepared:
        """Encode a request."""
        ...

    def send(self, prepared: Prepared, *, timeout_s: float = ...) -> bytes:
        """Send it and return the raw answer, or raise CallFailed."""
        ...

    def decode(self, prepared: Prepared, answer: bytes) -> dict[str, Array]:
        """Decode the answer."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """A server under test.

    Args:
        client: Speaks to it.
        model: Model name.
        version: Version to ask for; none for whatever it serves.
        signature: What the version promises about the signature asked; none if unknown.
    """

    client: Client
    model: str
    version: int | None
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a canary has got.

    Args:
        requests: Judged requests to the candidate.
        max_requests: After how many it ends.
        elapsed_s: Seconds since the first request.
        waiting_for: Guardrails that are not decided.
    """

    requests: int
    max_requests: int
    elapsed_s: float
    waiting_for: tuple[str, ...]


@dataclass(slots=True)
class _Exchange:
    """One request and what each server made of it; complete when nothing is missing any more."""

    number: int
    due_s: float
    missing: int
    outcomes: dict[Arm, Outcome] = field(default_factory=dict)
    answers: dict[Arm, Outputs] = field(default_factory=dict)
    disagreement: float = float("nan")
    complete: bool = False


def run(
    candidate: Target,
    stable: Target | None,
    requests: RequestSource,
    traffic: Traffic,
    budgets: Budgets,
    limits: CanaryLimits,
    clock: Clock,
    progress: Callable[[Progress], None],
) -> Judgement:
    """Replay requests until the judge decides, or the limits are reached.

    Args:
        candidate: The version that wants to be promoted.
        stable: The version that serves users; none for a first release.
        requests: What is sent.
        traffic: Rate, requests in flight for each server, timeout and seed.
        budgets: The guardrails.
        limits: Sample sizes, duration and error rates.
        clock: Time; must be the real one where the servers are real.
        progress: Called after every judgement.

    Returns:
        PROMOTE, ROLLBACK or INCONCLUSIVE; never CONTINUE.

    Raises:
        Rejected: A request cannot be encoded, or ``budgets.output`` is no output of stable.
    """
    targets = {Arm.CANDIDATE: candidate} | ({Arm.STABLE: stable} if stable is not None else {})
    replay = _Replay(targets, requests, traffic, budgets, limits, clock)
    try:
        judgement = replay.until_decided(progress)
    finally:
        replay.close()
    sample = judgement.sample.model_copy(
        update={
            "warm_up_requests": limits.warm_up_requests,
            "origin": requests.origin,
            "origin_kind": requests.kind,
            "seed": traffic.seed,
            "rate_declared_per_s": traffic.rate_per_s,
        }
    )
    return judgement.model_copy(update={"sample": sample, "stable_version": None if stable is None else stable.version})


def arm_orders(arms: Sequence[Arm], seed: int) -> Iterator[tuple[Arm, ...]]:
    """Yield for each request the order in which the servers are asked, by chance and the same for the same seed.

    Whoever is asked first finds the machine idle; that must be no advantage of either.
    """
    # Another stream than the one that draws the requests.
    random = np.random.default_rng([seed, 1])
    while True:
        yield tuple(arms[index] for index in random.permutation(len(arms)))


class _Replay:
    """The state of one run: the main thread schedules and records, lanes send, one thread judges."""

    def __init__(
        self,
        targets: Mapping[Arm, Target],
        requests: RequestSource,
        traffic: Traffic,
        budgets: Budgets,
        limits: CanaryLimits,
        clock: Clock,
    ) -> None:
        self._targets = targets
        self._traffic = traffic
        self._budgets = budgets
        self._limits = limits
        self._clock = clock
        self._stream = requests.stream(traffic.seed)
        self._orders = arm_orders(sorted(targets), traffic.seed)
        self._lanes = {arm: ThreadPoolExecutor(traffic.max_in_flight, f"canary-{arm.name.lower()}") for arm in targets}
        self._bench = ThreadPoolExecutor(1, "canary-judge")
        self._lock = threading.Lock()
        self._open: deque[_Exchange] = deque()
        self._recorder = Recorder()
        self._recorded = 0
        self._broken: Exception | None = None
        self._judging: Future[Judgement] | None = None
        self._judged_requests = 0
        self._judged_at_s = 0.0
        self._start_s = clock.monotonic_s()

    def until_decided(self, progress: Callable[[Progress], None]) -> Judgement:
        total = self._limits.warm_up_requests + self._limits.max_requests
        for number in range(total):
            due_s = self._start_s + number / self._traffic.rate_per_s
            if max(due_s, self._clock.monotonic_s()) - self._start_s > self._limits.max_duration_s:
                break
            self._dispatch(number, due_s)
            if (judgement := self._decided(progress)) is not None:
                return judgement
        return self._drain(progress)

    def close(self) -> None:
        """Drop what has not left, and wait for what is in flight, within its timeout: callers close clients next."""
        for lane in (*self._lanes.values(), self._bench):
            lane.shutdown(wait=False, cancel_futures=True)
        for lane in (*self._lanes.values(), self._bench):
            lane.shutdown(wait=True)

    def _dispatch(self, number: int, due_s: float) -> None:
        inputs = next(self._stream)
        # Encoding happens before the request is due, so that it is not measured.
        prepared = {arm: self._prepare(target, inputs) for arm, target in self._targets.items()}
        self._clock.sleep(due_s - self._clock.monotonic_s())
        exchange = _Exchange(number, due_s, len(prepared))
        self._open.append(exchange)
        for arm in next(self._orders):
            self._lanes[arm].submit(self._exchange, exchange, arm, prepared[arm])

    def _prepare(self, target: Target, inputs: Mapping[str, Array]) -> Prepared | CallFailed:
        try:
            return target.client.prepare(
                target.model, inputs, signature=self._traffic.signature, version=target.version
            )
        except CallFailed as failure:
            return failure

    def _exchange(self, exchange: _Exchange, arm: Arm, prepared: Prepared | CallFailed) -> None:
        """Send one request in a lane; whichever arm is last compares the answers."""
        try:
            outcome, answer = self._ask(exchange, arm, prepared)
            with self._lock:
                exchange.outcomes[arm] = outcome
                if answer is not None:
                    exchange.answers[arm] = answer
                exchange.missing -= 1
                last = exchange.missing == 0
            if last:
                self._compare(exchange)
                exchange.complete = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the main thread raises it
            self._broken = error

    def _ask(self, exchange: _Exchange, arm: Arm, prepared: Prepared | CallFailed) -> tuple[Outcome, Outputs | None]:
        client = self._targets[arm].client
        lag_s = max(0.0, self._clock.monotonic_s() - exchange.due_s)
        try:
            if isinstance(prepared, CallFailed):
                raise prepared
            answer = client.send(prepared, timeout_s=self._traffic.request_timeout_s)
            latency_s = self._clock.monotonic_s() - exchange.due_s
            return Outcome(latency_s, lag_s), client.decode(prepared, answer)
        except CallFailed as failure:
            code = failure.code
        except SlipwayError:
            code = "UNREADABLE_ANSWER"
        return Outcome(self._clock.monotonic_s() - exchange.due_s, lag_s, code), None

    def _compare(self, exchange: _Exchange) -> None:
        ours, theirs = exchange.answers.get(Arm.CANDIDATE), exchange.answers.get(Arm.STABLE)
        if ours is not None:
            fault = find_fault(
                ours, theirs, self._targets[Arm.CANDIDATE].signature, first=Arm.STABLE not in self._targets
            )
            seen = exchange.outcomes[Arm.CANDIDATE]
            exchange.outcomes[Arm.CANDIDATE] = Outcome(seen.latency_s, seen.lag_s, seen.code, fault)
            if theirs is not None:
                exchange.disagreement = disagreement(ours, theirs, self._budgets.output, self._budgets.compare)
        exchange.answers.clear()

    def _collect(self) -> None:
        """Record what is complete, in order and without gaps: taking what came first would prefer fast answers."""
        if self._broken is not None:
            raise self._broken
        warm_up = self._limits.warm_up_requests
        first_s = self._start_s + warm_up / self._traffic.rate_per_s
        while self._open and self._open[0].complete:
            exchange = self._open.popleft()
            if exchange.number < warm_up:
                continue
            self._recorded += 1
            for arm, outcome in sorted(exchange.outcomes.items()):
                difference = exchange.disagreement if arm is Arm.CANDIDATE else float("nan")
                self._recorder.add(exchange.number - warm_up, arm, exchange.due_s - first_s, outcome, difference)

    def _decided(self, progress: Callable[[Progress], None]) -> Judgement | None:
        """Return a final judgement if there is one; start the next where it is due."""
        self._collect()
        if self._judging is not None:
            if not self._judging.done():
                return None
            judgement, self._judging = self._judging.result(), None
            self._report(judgement, progress)
            if judgement.decision in (Decision.PROMOTE, Decision.ROLLBACK):
                return judgement
        now_s = self._clock.monotonic_s()
        enough = max(self._judged_requests + JUDGE_EVERY_REQUESTS, self._judged_requests * JUDGE_GROWTH)
        if self._recorded >= enough and now_s - self._judged_at_s >= JUDGE_EVERY_S:
            self._judged_requests, self._judged_at_s = self._recorded, now_s
            self._judging = self._bench.submit(self._judge, self._recorder.measurements())
        return None

    def _judge(self, measurements: Measurements, *, finished: bool = False) -> Judgement:
        return judge(
            measurements, self._budgets, self._limits, has_stable=Arm.STABLE in self._targets, finished=finished
        )

    def _report(self, judgement: Judgement, progress: Callable[[Progress], None]) -> None:
        waiting = tuple(one.name for one in judgement.guardrails if one.phase is Phase.UNDECIDED)
        elapsed_s = self._clock.monotonic_s() - self._start_s
        requests = judgement.sample.candidate.requests
        progress(Progress(requests, self._limits.max_requests, elapsed_s, waiting))

    def _drain(self, progress: Callable[[Progress], None]) -> Judgement:
        """Wait for the answers that are under way, then judge for the last time."""
        deadline_s = self._clock.monotonic_s() + self._traffic.request_timeout_s + DRAIN_GRACE_S
        self._collect()
        while self._open and self._clock.monotonic_s() < deadline_s:
            self._clock.sleep(_STEP_S)
            self._collect()
        judgement = self._judge(self._recorder.measurements(), finished=True)
        self._report(judgement, progress)
        return judgement
