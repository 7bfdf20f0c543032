"""The exit step: whatever happened, a release ends. A candidate without a verdict is taken down, never promoted."""

from collections.abc import Sequence
from typing import TypeVar

from components.core import records
from components.core.digest import Digest
from components.core.errors import EXIT_OK, EXIT_ROLLED_BACK, Rejected, Unavailable
from components.core.records import AnyRecord, Outcome, Rejection, Release
from components.promote import roll_back
from components.store import evidence
from pipelines.work import Work

EXIT_CODES = {
    Outcome.PROMOTED: EXIT_OK,
    Outcome.ROLLED_BACK: EXIT_ROLLED_BACK,
    Outcome.REJECTED: Rejected.exit_code,
    Outcome.RUNNING: Unavailable.exit_code,
}
"""What a run exits with. A release that has not ended can be run again."""

K = TypeVar("K", bound=records.Record)


def finish(work: Work, *, spec_digest: Digest, because: str = "") -> Release:
    """Bring a release to its end and write ``release.json``.

    Args:
        work: The release; inputs and outputs are not used.
        spec_digest: Digest of the resolved spec.
        because: Why there is no verdict, if something went wrong; part of the rollback's reason.

    Returns:
        The join of all evidence. Its outcome is RUNNING, and nothing is written, if the release got no further than a
        step that can be tried again and nothing of it is deployed.
    """
    known = evidence.load(work.store, work.spec.model, work.release)
    outcome = _outcome(known)
    if outcome is Outcome.RUNNING and (rollout := _last(known, records.Rollout)) is not None:
        known = [*known, _end_without_verdict(work, rollout, known, because)]
        outcome = Outcome.ROLLED_BACK
    chain = evidence.chain(known)
    release = Release(
        id=work.release, model=work.spec.model, spec_digest=spec_digest, outcome=outcome, records=tuple(chain)
    )
    if outcome is not Outcome.RUNNING:
        evidence.finish(work.store, release)
    return release


def _outcome(known: Sequence[AnyRecord | Rejection]) -> Outcome:
    for found in known:
        if isinstance(found, records.Promoted):
            return Outcome.PROMOTED
        if isinstance(found, records.RolledBack):
            return Outcome.ROLLED_BACK
        if isinstance(found, Rejection) and found.step not in {records.Step.CANARY, records.Step.PROMOTE}:
            return Outcome.REJECTED
    return Outcome.RUNNING


def _last(known: Sequence[AnyRecord | Rejection], kind: type[K]) -> K | None:
    return next((found for found in reversed(known) if isinstance(found, kind)), None)


def _end_without_verdict(
    work: Work, rollout: records.Rollout, known: Sequence[AnyRecord | Rejection], because: str
) -> records.RolledBack:
    started = work.clock.now()
    roll_back(rollout, target=work.target, progress=work.progress)
    verdict = _last(known, records.Verdict)
    rejected = next((found.what for found in known if isinstance(found, Rejection)), "")
    reason = because or rejected or "the run ended before it was carried out"
    what = "the verdict could not be carried out" if verdict else "no verdict was reached"
    ended = records.RolledBack(
        stamp=work.stamp(started),
        parent=(verdict or rollout).digest,
        version=rollout.version,
        stable_version=rollout.stable_version,
        reasons=(f"{what}: {reason}",),
    )
    evidence.record(work.store, ended)
    return ended
