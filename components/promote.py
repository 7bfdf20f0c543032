"""Carry out a verdict: send users to the candidate, or take it down. There is no third way out of a canary."""

from components.cluster.protocol import Target
from components.core.clock import Clock
from components.core.process import Progress, silent
from components.core.records import Endpoint, Rollout
from components.deploy import STABLE, revision
from components.store import versions
from components.store.protocol import ObjectStore
from manifests.spec import ServingSpec


def promote(
    rollout: Rollout,
    *,
    serving: ServingSpec,
    store: ObjectStore,
    target: Target,
    clock: Clock,
    progress: Progress = silent,
) -> Endpoint:
    """Make the candidate stable and return the address users know.

    The alias moves first, by compare-and-swap: of two releases that race, the loser stops here before any traffic has
    moved. If this process dies between the two, the next run finds the alias and moves the traffic after it.

    Raises:
        Conflict: Another release became stable since this one was deployed.
    """
    model = rollout.stamp.model
    versions.set_alias(
        store,
        model,
        STABLE,
        rollout.version,
        expected=rollout.stable_version,
        release=rollout.stamp.release,
        clock=clock,
    )
    progress(f"sending users to version {rollout.version}")
    endpoint = target.promote(revision(model, rollout.version, rollout.content, serving=serving, store=store))
    for other in target.running(model):
        if other.version != rollout.version:
            progress(f"version {other.version} finishes its last requests")
            target.remove(model, other.version)
    return endpoint


def roll_back(rollout: Rollout, *, target: Target, progress: Progress = silent) -> None:
    """Take the candidate down. Stable was never touched, so users notice nothing.

    A candidate that is stable already (the same bytes, released again) stays.
    """
    model = rollout.stamp.model
    stable = target.stable(model)
    if stable is not None and (stable.version, stable.digest) == (rollout.version, rollout.content):
        progress(f"version {rollout.version} is what users are served already: it stays")
        return
    progress(f"removing version {rollout.version}")
    target.remove(model, rollout.version)
