"""Run a release on this machine: the steps in order, each once, and from where it stopped if it was stopped.

A step is finished exactly if its record lies in the workspace; the record is written last, so a kill at any moment
leaves either a finished step or one to do again. The workspace is a cache: what has happened is in the store.

Layout of the state directory::

    releases/ID/STEP/record.json, model/    what a step made
    releases/MODEL.lock                     one run a model at a time
    nonces/KEY                              what makes the latest release of the same wishes differ from the first
    stores                                  URIs of the stores that were used, for `status` and `report`
    serving/MODEL/…                         see components/cluster/local.py
"""

import contextlib
import fcntl
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from components.cluster.protocol import Target, is_running
from components.core import atomic, digest, records
from components.core.clock import Clock
from components.core.errors import Conflict, Rejected, SlipwayError
from components.core.process import Progress
from components.core.records import AnyRecord, Outcome, Release, Step
from components.core.release import Identity, canonical, identify
from components.core.specfile import LoadedSpec
from components.store import evidence
from components.store.protocol import ObjectStore
from pipelines.finish import finish
from pipelines.perform import perform
from pipelines.steps import STEPS, ArtifactKind, StepDef
from pipelines.work import Work

_DEPLOYED = {Step.DEPLOY, Step.CANARY, Step.PROMOTE}


class Reporter(Protocol):
    """Is told how a run goes."""

    def start(self, release: str, model: str) -> None:
        """A release begins, or goes on."""
        ...

    def begin(self, step: StepDef, number: int) -> None:
        """A step begins; the first has number 1."""
        ...

    def note(self, text: str) -> None:
        """Something happens within a step."""
        ...

    def done(self, step: StepDef, record: AnyRecord, *, kept: bool) -> None:
        """A step is finished; ``kept``: it was so before this run."""
        ...


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended; ``noop``: nothing had changed since the release ended, so nothing was done."""

    release: Release
    noop: bool


@dataclass(frozen=True, slots=True)
class LocalRunner:
    """Runs releases with what it is given.

    Attributes:
        state: State directory.
        store: Where versions and evidence are kept.
        target: Where servers run.
        clock: Time.
        environment: Environment of child processes.
        reporter: Is told how it goes.
    """

    state: Path
    store: ObjectStore
    target: Target
    clock: Clock
    environment: Mapping[str, str]
    reporter: Reporter

    def run(self, loaded: LoadedSpec, *, new: bool = False) -> Ended:
        """Release a model.

        Args:
            loaded: The spec.
            new: Make it anew even if nothing changed.

        Raises:
            SlipwayError: It stopped before anything was deployed and can be run again, or another run is at it.
        """
        identity = identify(loaded.spec, loaded.base_dir)
        with self._locked(loaded.spec.model):
            release = self._release(loaded, identity, new=new)
            ended = evidence.outcome(self.store, loaded.spec.model, release)
            if ended is not None:
                return Ended(ended, noop=True)
            self.target.preflight(loaded.spec.model, loaded.spec.serving, self.store.uri)
            evidence.put_spec(self.store, loaded.spec.model, release, canonical(loaded.spec))
            return Ended(self._steps(loaded, identity, release), noop=False)

    def preview(self, loaded: LoadedSpec) -> list[tuple[StepDef, bool, str]]:
        """Return for each step whether it would run, and why or why not. Changes nothing."""
        identity = identify(loaded.spec, loaded.base_dir)
        release = identity.release_id(self._kept_nonce(identity))
        ended = evidence.outcome(self.store, loaded.spec.model, release)
        if ended is not None and identity.repeatable:
            why = f"release {release} has ended ({ended.outcome}) and nothing has changed; --new releases anew"
            return [(step, False, why) for step in STEPS]
        rows: list[tuple[StepDef, bool, str]] = []
        going_on = ended is None
        for step in STEPS:
            going_on = going_on and self._kept(self._work(loaded, None, release), step) is not None
            rows.append((step, not going_on, f"finished in release {release}" if going_on else step.does))
        return rows

    def _steps(self, loaded: LoadedSpec, identity: Identity, release: str) -> Release:
        work = self._work(loaded, identity, release)
        self.reporter.start(release, loaded.spec.model)
        deployed, fresh = False, False
        try:
            for number, step in enumerate(STEPS, start=1):
                record = None if fresh else self._kept(work, step)
                kept = record is not None
                if record is None:
                    fresh = True
                    deployed = deployed or step.step in _DEPLOYED
                    self.reporter.begin(step, number)
                    shutil.rmtree(self._folder(release, step), ignore_errors=True)
                    record = perform(step.step, work)
                deployed = deployed or step.step in _DEPLOYED
                self.reporter.done(step, record, kept=kept)
        except SlipwayError as error:
            made = finish(work, spec_digest=identity.spec_digest, because=error.what)
            if made.outcome in {Outcome.RUNNING, Outcome.REJECTED}:
                raise
            self.reporter.note(str(error))
            return made
        return finish(work, spec_digest=identity.spec_digest)

    def _kept(self, work: Work, step: StepDef) -> AnyRecord | None:
        """Return a finished step's record, if it and the bytes it speaks of are still what they were."""
        try:
            text = work.outputs[step.name].read_bytes()
        except OSError:
            return None
        try:
            record = records.parse(text, where=str(work.outputs[step.name]))
            for artifact in step.outputs:
                if artifact.kind is ArtifactKind.MODEL:
                    content = getattr(record, "content", None)
                    digest.require(
                        work.outputs[artifact.name], content.digest if content else digest.Digest(""), what=""
                    )
        except Rejected:
            return None
        if isinstance(record, records.Rejection):
            return None
        if isinstance(record, records.Rollout) and not is_running(self.target, record):
            return None
        return record

    def _work(self, loaded: LoadedSpec, identity: Identity | None, release: str) -> Work:
        paths = {
            artifact.name: self._folder(release, step)
            / ("record.json" if artifact.kind is ArtifactKind.RECORD else "model")
            for step in STEPS
            for artifact in step.outputs
        }
        return Work(
            spec=loaded.spec,
            release=release,
            identity=identity,
            base_dir=loaded.base_dir,
            store=self.store,
            target=self.target,
            clock=self.clock,
            environment=self.environment,
            progress=self._note,
            inputs=paths,
            outputs=paths,
        )

    @property
    def _note(self) -> Progress:
        return self.reporter.note

    def _folder(self, release: str, step: StepDef) -> Path:
        return self.state / "releases" / release / step.name

    def _key(self, identity: Identity) -> Path:
        return self.state / "nonces" / identity.release_id()

    def _kept_nonce(self, identity: Identity) -> str:
        try:
            return self._key(identity).read_text()
        except FileNotFoundError:
            return ""

    def _release(self, loaded: LoadedSpec, identity: Identity, *, new: bool) -> str:
        """Return the release to make or to go on with: the latest one of these wishes, or a new one.

        New it is where that is asked for, or where nothing says that the source is the same as last time, once the
        latest has ended; one that was stopped is gone on with first.
        """
        latest = identity.release_id(self._kept_nonce(identity))
        begun = evidence.spec(self.store, loaded.spec.model, latest) is not None
        ended = evidence.outcome(self.store, loaded.spec.model, latest) is not None
        if (ended or not begun) and (new or not identity.repeatable):
            nonce = uuid.uuid4().hex
            atomic.write_text(self._key(identity), nonce)
            return identity.release_id(nonce)
        return latest

    @contextlib.contextmanager
    def _locked(self, model: str) -> Iterator[None]:
        path = self.state / "releases" / f"{model}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    f"another run is releasing {model} now",
                    expected="one release of a model at a time",
                    fix="wait for it to end, then run the same command again",
                    reason="LOCKED",
                ) from error
            yield
