"""The canary step: find the requests, connect to both servers, replay, judge."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.canary import replay
from components.canary.requests import open_requests
from components.core.clock import Clock
from components.core.errors import Rejected, Unavailable
from components.core.process import Progress, silent
from components.core.records import Endpoint
from components.core.signature import Contract, Signature
from components.core.spec import Canary
from components.core.verdict import Judgement
from components.serving.client import CallFailed, GrpcClient, RestClient

_METADATA_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that takes part: which version it serves, and where."""

    version: int
    endpoint: Endpoint


def run_canary(
    candidate: Contender,
    stable: Contender | None,
    *,
    model: str,
    spec: Canary,
    base_dir: Path,
    version_dir: Path,
    clock: Clock,
    progress: Progress = silent,
) -> Judgement:
    """Ask candidate and stable the same questions until the evidence suffices or the limits are reached.

    Args:
        candidate: The version that wants to be promoted.
        stable: The version that serves users; none for a first release.
        model: Model name.
        spec: Requests, budgets and limits.
        base_dir: Folder that the spec's request file is relative to.
        version_dir: The candidate's SavedModel, for its warm-up requests.
        clock: Time.
        progress: Is told how far it has got.

    Raises:
        Rejected: The signature to be asked is not there, or the requests do not fit it.
        Unavailable: A server does not tell what it serves.
    """
    with ExitStack() as open_clients:
        target = open_clients.enter_context(_target(model, candidate, spec))
        other = open_clients.enter_context(_target(model, stable, spec)) if stable else None
        if target.signature is None:
            raise Rejected(f"{model} version {candidate.version} does not serve {spec.traffic.signature}")
        requests = open_requests(spec.traffic, target.signature, spec_dir=base_dir, version_dir=version_dir)
        progress(f"asking {requests.origin}, {spec.traffic.rate_per_s:g} requests a second to each server")
        return replay.run(
            target, other, requests, spec.traffic, spec.budgets, spec.limits, clock, lambda seen: _tell(seen, progress)
        )


@contextmanager
def _target(model: str, contender: Contender, spec: Canary) -> Iterator[replay.Target]:
    address = contender.endpoint
    client = GrpcClient(address.grpc) if spec.traffic.protocol == "grpc" else RestClient(address.rest)
    try:
        contract = _contract(client, model, contender.version)
        signature = _signature(contract, model, contender.version, spec.traffic.signature)
        yield replay.Target(client, model, contender.version, signature)
    finally:
        client.close()


def _contract(client: GrpcClient | RestClient, model: str, version: int) -> Contract:
    try:
        return client.metadata(model, version=version, timeout_s=_METADATA_TIMEOUT_S)
    except CallFailed as error:
        raise Unavailable(
            f"{model} version {version} does not tell its signatures",
            got=f"{error.code}: {error.message}",
            fix="look at the server's log; `slipway status --live` says where it runs",
            reason="NO_METADATA",
        ) from error


def _signature(contract: Contract, model: str, version: int, key: str) -> Signature:
    found = contract.signatures.get(key)
    if found is None:
        raise Rejected(
            f"canary.traffic.signature: {model} version {version} has no signature {key}",
            expected=f"one of {', '.join(sorted(contract.signatures))}",
            got=key,
            reason="SIGNATURE_MISSING",
        )
    return found


def _tell(seen: replay.Progress, progress: Progress) -> None:
    waiting = ", ".join(seen.waiting_for) or "nothing"
    progress(f"{seen.requests} requests in {seen.elapsed_s:.0f} s; waiting for {waiting}")
