"""What a release asks of the place where servers run, in few words: bring up, who is stable, switch, take down."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from components.core.digest import Digest
from components.core.records import Endpoint, Rollout
from manifests.spec import ServingSpec


@dataclass(frozen=True, slots=True)
class Revision:
    """One version to serve, the store it comes from, and how its verified bytes are brought to a directory."""

    store: str
    model: str
    version: int
    digest: Digest
    serving: ServingSpec
    pull: Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Running:
    """A version that answers."""

    version: int
    digest: Digest
    endpoint: Endpoint
    ready_s: float
    """Seconds from start to the first answer; 0 for one that ran already."""


class Target(Protocol):
    """A place where servers run. Every call may be repeated: it brings about a state, it does not count."""

    @property
    def name(self) -> str:
        """``local`` or ``kubernetes``."""
        ...

    def preflight(self, model: str, serving: ServingSpec, store: str) -> None:
        """Check, before anything is done, that the place could serve the model from the store of that URI.

        Raises:
            Unavailable: It could not now, and why.
            Rejected: It serves a model of that name from another store.
        """
        ...

    def deploy(self, revision: Revision) -> Running:
        """Bring a version up beside stable, without any traffic of users, and wait until it answers.

        Raises:
            Rejected: The version does not come up.
            Unavailable: The place cannot run it now.
        """
        ...

    def stable(self, model: str) -> Running | None:
        """Return the version that serves users, if it answers; none if there is none."""
        ...

    def running(self, model: str) -> tuple[Running, ...]:
        """Return every version of a model that runs, in ascending order."""
        ...

    def promote(self, revision: Revision) -> Endpoint:
        """Send users to a version that was deployed; return the address users know. Reloads nothing."""
        ...

    def remove(self, model: str, version: int) -> None:
        """Take a version down after its last answer. One that is not there is fine.

        Raises:
            Conflict: It is the one that serves users.
        """
        ...


def is_running(target: Target, rollout: Rollout) -> bool:
    """Return whether the candidate and the stable of a rollout still answer where the record says."""
    found = {running.version: running.endpoint for running in target.running(rollout.stamp.model)}
    if found.get(rollout.version) != rollout.candidate:
        return False
    return rollout.stable_version is None or found.get(rollout.stable_version) == rollout.stable
