"""Bring a published version up beside stable. No user reaches it: that is ``promote``'s decision to carry out."""

from dataclasses import dataclass
from pathlib import Path

from components.cluster.protocol import Revision, Running, Target
from components.core.digest import Digest
from components.core.process import Progress, silent
from components.core.records import PublishedVersion
from components.store import versions
from components.store.protocol import ObjectStore
from manifests.spec import ServingSpec

STABLE = "stable"


@dataclass(frozen=True, slots=True)
class Deployed:
    """Candidate and stable, both answering. ``stable`` is none for a first release."""

    candidate: Running
    stable: Running | None


def deploy(
    published: PublishedVersion,
    *,
    serving: ServingSpec,
    store: ObjectStore,
    target: Target,
    progress: Progress = silent,
) -> Deployed:
    """Bring up the candidate, after putting right what an earlier run left half-done.

    The store's ``stable`` alias says which version users should get. Where the target disagrees (a machine that was
    restarted, a promotion that was interrupted) it is brought in line first, and candidates of releases that ended
    without an end are taken down.

    Raises:
        Rejected: The candidate does not come up, or the alias names a version that is not there.
        Unavailable: The target cannot run it now.
    """
    model = published.stamp.model
    stable = reconcile(model, serving=serving, store=store, target=target, progress=progress)
    for stray in target.running(model):
        if stray.version not in {published.version, stable.version if stable else None}:
            progress(f"removing version {stray.version}, left by a release that did not end")
            target.remove(model, stray.version)
    progress(f"starting version {published.version}")
    candidate = target.deploy(
        revision(model, published.version, published.content.digest, serving=serving, store=store)
    )
    return Deployed(candidate, stable)


def reconcile(
    model: str, *, serving: ServingSpec, store: ObjectStore, target: Target, progress: Progress = silent
) -> Running | None:
    """Make the target serve the version that the store's ``stable`` alias names; return it, or none where none is."""
    alias = versions.alias(store, model, STABLE)
    found = target.stable(model)
    if alias is None:
        return None
    manifest = versions.manifest(store, model, alias.version)
    if found is not None and (found.version, found.digest) == (alias.version, manifest.digest):
        return found
    progress(f"stable is version {alias.version} by the store: serving it again")
    target.promote(revision(model, alias.version, manifest.digest, serving=serving, store=store))
    return target.stable(model)


def revision(model: str, version: int, digest: Digest, *, serving: ServingSpec, store: ObjectStore) -> Revision:
    """Return what a target needs in order to serve a version of the store."""

    def pull(directory: Path) -> None:
        versions.pull(store, model, version, directory, digest=digest)

    return Revision(store=store.uri, model=model, version=version, digest=digest, serving=serving, pull=pull)
