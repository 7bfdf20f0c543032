"""The frame around each step: what is recorded is not repeated, what may pass is tried again, what is wrong is kept.

1. An outcome that is recorded already is returned, so that starting a step again is harmless.
2. Unavailable and Conflict are tried again here, inside the step, because an engine may hide exit codes (Kubeflow's
   launcher turns each into 1).
3. A rejection is written down, so that whoever starts the step again stops at once.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from components.cluster.protocol import is_running
from components.core import atomic, records
from components.core.errors import Conflict, Rejected, Unavailable
from components.core.process import from_os_error
from components.core.records import AnyRecord, Record, Rejection, Step
from components.store import evidence
from pipelines.steps import BY_NAME
from pipelines.work import WORK, Work

ALREADY = "already-released.txt"
_FIRST_PAUSE_S = 1.0


def perform(step: Step, work: Work) -> AnyRecord:
    """Do a step, or return what is recorded of it already, and write its record to its output.

    Raises:
        Rejected: For good; written down as evidence.
        Unavailable: Still so after all tries.
        Conflict: Still so after all tries.
    """
    record = _recorded(step, work)
    if record is None:
        record = _try(step, work)
        evidence.record(work.store, record)
    atomic.write_text(work.outputs[step.value], record.to_json())
    return record


def _recorded(step: Step, work: Work) -> AnyRecord | None:
    """Return what is recorded of this step, if that settles it.

    Before publishing, a step's bytes live only where it ran, so its record alone settles nothing until the release has
    ended; from publishing on the record is the outcome.
    """
    known = evidence.load(work.store, work.spec.model, work.release)
    for found in known:
        if isinstance(found, Rejection) and found.step == step:
            raise found.as_error()
    ended = evidence.outcome(work.store, work.spec.model, work.release) is not None
    settled = ended or step in {Step.PUBLISH, Step.DEPLOY, Step.CANARY, Step.PROMOTE}
    mine = [found for found in known if not isinstance(found, Rejection) and found.step == step]
    if not mine or not settled:
        return None
    if ended:
        for artifact in BY_NAME[step].outputs[1:]:
            _leave_word(work.outputs[artifact.name], work.release)
        return mine[-1]
    parents = {work.read(type_, parent).digest for parent, type_ in _PARENTS[step].items()}
    return next((found for found in reversed(mine) if found.parent in parents and _is_true_still(found, work)), None)


def _is_true_still(record: AnyRecord, work: Work) -> bool:
    """Servers come and go; every other record stays true for ever. Deploying again is harmless."""
    return not isinstance(record, records.Rollout) or is_running(work.target, record)


_PARENTS: Mapping[Step, Mapping[Step, type[Record]]] = MappingProxyType(
    {
        Step.PUBLISH: {Step.VALIDATE: records.ValidatedModel},
        Step.DEPLOY: {Step.PUBLISH: records.PublishedVersion},
        Step.CANARY: {Step.DEPLOY: records.Rollout},
        Step.PROMOTE: {Step.CANARY: records.Verdict},
    }
)


def _leave_word(directory: Path, release: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / ALREADY).write_text(f"release {release} has ended; its version is in the store\n")


def _try(step: Step, work: Work) -> AnyRecord:
    pause_s, tries = _FIRST_PAUSE_S, BY_NAME[step].retries
    started = work.clock.now()
    while True:
        try:
            return WORK[step](work, started)
        except Rejected as error:
            evidence.record(work.store, Rejection.of(error, step=step, stamp=work.stamp(started)))
            raise
        except OSError as error:
            raise from_os_error(error) from error
        except (Unavailable, Conflict) as error:
            if tries == 0:
                raise
            work.progress(f"{error.what}; trying again in {pause_s:g} s ({tries} left)")
        work.clock.sleep(pause_s)
        pause_s, tries = pause_s * 2, tries - 1
