"""What the records of a store say: models, what is stable, and how each release went. Reads; never asks a server."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from components.core.digest import of_bytes
from components.core.errors import Rejected
from components.core.records import AnyRecord, Outcome, PublishedVersion, Rejection, Release
from components.deploy import STABLE
from components.store import evidence, versions
from components.store.protocol import ObjectStore
from components.store.versions import Alias


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """One release: its records, and how it ended or that it has not."""

    store: ObjectStore
    release: Release

    @property
    def started_at(self) -> datetime | None:
        """When its first record was begun (UTC)."""
        return self.release.records[0].stamp.started_at if self.release.records else None

    @property
    def version(self) -> int | None:
        """The version it published."""
        return next((each.version for each in self.release.records if isinstance(each, PublishedVersion)), None)

    @property
    def last(self) -> AnyRecord | Rejection | None:
        """Its last record."""
        return self.release.records[-1] if self.release.records else None


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model of one store, with its releases, latest first."""

    store: ObjectStore
    model: str
    stable: Alias | None
    releases: tuple[ReleaseRow, ...]


def models(store: ObjectStore) -> Iterator[ModelRow]:
    """Yield every model of a store."""
    for model in evidence.models(store):
        rows = sorted(
            (read(store, model, release) for release in evidence.releases(store, model)),
            key=lambda row: (row.started_at is not None, row.started_at),
            reverse=True,
        )
        yield ModelRow(store, model, versions.alias(store, model, STABLE), tuple(rows))


def read(store: ObjectStore, model: str, release: str) -> ReleaseRow:
    """Return a release: as it was joined at its end, or as far as it has got."""
    ended = evidence.outcome(store, model, release)
    if ended is not None:
        return ReleaseRow(store, ended)
    known = evidence.chain(evidence.load(store, model, release))
    digest = of_bytes(evidence.spec(store, model, release) or b"")
    return ReleaseRow(
        store, Release(id=release, model=model, spec_digest=digest, outcome=Outcome.RUNNING, records=tuple(known))
    )


def find(stores: list[ObjectStore], wanted: str) -> ReleaseRow:
    """Return a release by its id, by the beginning of its id, or the ``latest`` of all.

    Raises:
        Rejected: There is none, or more than one.
    """
    known = [
        (store, model, release)
        for store in stores
        for model in evidence.models(store)
        for release in evidence.releases(store, model)
    ]
    if wanted == "latest":
        rows = [read(*each) for each in known]
        rows = [row for row in rows if row.started_at is not None]
        if rows:
            return max(rows, key=lambda row: str(row.started_at))
    found = [each for each in known if each[2].startswith(wanted)]
    if len(found) == 1:
        return read(*found[0])
    raise Rejected(
        f"{len(found) or 'no'} releases match `{wanted}`",
        expected="the id of one release, its beginning, or `latest`",
        got=", ".join(release for _, _, release in (found or known)[:8]) or "no releases at all",
        fix="`slipway status` lists them; --store names another store",
        reason="NO_RELEASE",
    )
