"""Publish: give validated bytes a version number, for ever.

The order of writes makes every crash and every race end well:

1. ``.digests/HEX`` proposes a number for these bytes. It is moved on, by compare-and-swap, only after that number was
   claimed for other bytes.
2. ``.claims/N`` (created once, kept for ever) binds N to one digest. A digest claims only the number it proposes, and
   leaves it only when it can never have it any more: so equal bytes have one number, and a number one digest.
3. The files go to ``N/``, ``saved_model.pb`` last: a server that polls never sees a model before its variables.
4. ``.versions/N.json`` commits. Readers know no other sign of a version.

Every write settles by content, so whoever publishes the same bytes, be it the same release again or another one at the
same moment, goes on where the other stopped.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from components.core import digest
from components.core.clock import Clock
from components.core.digest import Digest, FileManifest
from components.core.errors import Conflict, Rejected
from components.core.process import Progress, from_os_error
from components.core.records import ValidatedModel
from components.store import layout, versions
from components.store.parallel import each
from components.store.protocol import ObjectStore, check_key
from components.store.versions import VersionManifest
from manifests.spec import Frozen

MOST_RACES = 1000
"""Numbers lost to other publishers after which one gives up, to be retried."""

_GRAPH = "saved_model.pb"
_Kind = TypeVar("_Kind", bound=Frozen)


class Claim(Frozen):
    """Binds a number to bytes. Without a digest it sets a number aside whose directory somebody else has filled."""

    token: str
    digest: Digest | None

    def to_json(self) -> bytes:
        """Return the claim as canonical JSON: equal claims are equal bytes."""
        return digest.canonical_json(self.model_dump(mode="json"))


class Proposal(Frozen):
    """The number that a digest has or is trying to get."""

    version: int

    def to_json(self) -> bytes:
        """Return the proposal as canonical JSON."""
        return digest.canonical_json(self.model_dump(mode="json"))


def publish(
    store: ObjectStore,
    *,
    model: str,
    validated: ValidatedModel,
    model_dir: Path,
    release: str,
    token: str,
    clock: Clock,
    progress: Progress,
) -> tuple[int, bool]:
    """Publish a validated model and return its version number, and whether another release had published these bytes.

    Args:
        store: Where to.
        model: Model name; the record must be about it.
        validated: The record of the gates these bytes passed.
        model_dir: The SavedModel's directory; its digest is checked again.
        release: Release id, for the manifest.
        token: Names the publisher in its claim; the release id, so that a repeated run knows its own.
        clock: For the stamp.
        progress: Is told what is going on.

    Raises:
        Rejected: The directory is not what the record describes or changes meanwhile, a file's name cannot be a key, or
            somebody else writes into the version's directory.
        Conflict: Other publishers were faster, again and again.
        Unavailable: The store is down or full.
    """
    if validated.stamp.model != model:
        raise Rejected(
            f"this record is about {validated.stamp.model}",
            expected=model,
            got=validated.stamp.model,
            reason="OTHER_MODEL",
        )
    before = _states(model_dir)
    content = digest.require(model_dir, validated.content.digest, what="the validated model")
    for path in content.files:
        check_key(path)
    version = _number(store, model, content.digest, token)
    done = versions.find(store, model, version)
    if done is None:
        progress(f"publishing {model} {version}: {len(content.files)} files, {content.size} bytes")
        _upload(store, model, version, model_dir, content)
        _require_unchanged(model_dir, before)
    _require_exactly(store, model, version, content)
    if done is None:
        done = _commit(store, content, model=model, version=version, release=release, clock=clock)
    if done.digest != content.digest:
        raise Conflict(
            f"{model} {version} was committed with other bytes",
            expected=content.digest,
            got=done.digest,
            reason="EXISTS",
        )
    reused = done.release != release
    progress(f"{model} {version} is {'what was published before' if reused else 'published'}")
    return version, reused


def _number(store: ObjectStore, model: str, wanted: Digest, token: str) -> int:
    """Return the number that is claimed for these bytes, claiming one if need be."""
    key = layout.number(model, wanted)
    for _ in range(MOST_RACES):
        stored = store.read(key)
        if stored is None:
            with contextlib.suppress(Conflict):  # equal bytes are being published right now: read what they propose
                store.create(key, Proposal(version=_first_free(store, model)).to_json())
            continue
        proposed = _parse(Proposal, stored.data, f"{store.uri}/{key}").version
        if _claim(store, model, proposed, wanted, token):
            return proposed
        with contextlib.suppress(Conflict):  # as above
            store.replace(key, Proposal(version=_first_free(store, model)).to_json(), stored.generation)
    raise Conflict(f"{MOST_RACES} numbers of {model} went to other publishers", reason="RACE_LOST")


def _claim(store: ObjectStore, model: str, version: int, wanted: Digest, token: str) -> bool:
    """Whether ``version`` is now claimed for these bytes, by this publisher or another one of the same bytes."""
    key = layout.claim(model, version)
    existing = store.read(key)
    if existing is None:
        foreign = next(store.list(layout.files(model, version)), None) is not None
        mine = Claim(token=token, digest=None if foreign else wanted)
        try:
            store.create(key, mine.to_json())
        except Conflict:
            existing = store.read(key)
        else:
            return not foreign
    return existing is not None and _parse(Claim, existing.data, f"{store.uri}/{key}").digest == wanted


def _first_free(store: ObjectStore, model: str) -> int:
    """Return the lowest number without a claim.

    Claims have no gaps, for each is the first free number of its time and none is ever removed; so doubling and halving
    finds the end in a number of reads that grows with its logarithm.
    """

    def taken(version: int) -> bool:
        return store.read(layout.claim(model, version)) is not None

    low, high = 0, 1
    while taken(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if taken(middle) else (low, middle)
    return high


def _parse(kind: type[_Kind], data: bytes, where: str) -> _Kind:
    try:
        return kind.model_validate_json(data)
    except ValueError as error:
        raise Rejected(
            f"{where} was not written by Slipway", got=str(error).splitlines()[0], reason="BAD_CLAIM"
        ) from error


def _upload(store: ObjectStore, model: str, version: int, model_dir: Path, content: FileManifest) -> None:
    prefix = layout.files(model, version)

    def put(path: str) -> None:
        _put(store, prefix + path, model_dir / path)

    each(put, sorted(set(content.files) - {_GRAPH}))
    if _GRAPH in content.files:
        put(_GRAPH)


def _put(store: ObjectStore, key: str, path: Path) -> None:
    """Write one file of a claimed version; other bytes there are a damaged upload, for the claim says which belong."""
    try:
        store.create(key, path)
    except Conflict:
        found = next((row for row in store.list(key) if row.key == key), None)
        if found is None:
            raise
        store.replace(key, path, found.generation)


def _commit(
    store: ObjectStore, content: FileManifest, *, model: str, version: int, release: str, clock: Clock
) -> VersionManifest:
    mine = VersionManifest.of(content, model=model, version=version, release=release, created_at=clock.now())
    try:
        store.create(layout.manifest(model, version), mine.to_json())
    except Conflict:
        return versions.manifest(store, model, version)
    return mine


def _require_exactly(store: ObjectStore, model: str, version: int, content: FileManifest) -> None:
    prefix = layout.files(model, version)
    there = {row.key.removeprefix(prefix): row.size for row in store.list(prefix)}
    wanted = {path: file.size for path, file in content.files.items()}
    if there != wanted:
        other = sorted(set(there.items()) ^ set(wanted.items()))
        raise Rejected(
            f"{store.uri}/{prefix} does not hold what was uploaded",
            expected=f"{len(wanted)} files",
            got="other: " + ", ".join(path for path, _ in other[:5]),
            fix="find out who else writes there, and remove what is not of this version",
            reason="FOREIGN_OBJECTS",
        )


def _states(model_dir: Path) -> Mapping[Path, tuple[int, int, int, int]]:
    """What changes when somebody touches a file: inode, size, times of content and of the inode."""
    try:
        return {path: _state(path.lstat()) for path in model_dir.rglob("*")}
    except OSError as error:
        raise from_os_error(error) from error


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _require_unchanged(model_dir: Path, before: Mapping[Path, tuple[int, int, int, int]]) -> None:
    after = _states(model_dir)
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    if changed:
        raise Rejected(
            f"{model_dir} changed while it was published",
            expected="the bytes that were validated",
            got=", ".join(str(path.relative_to(model_dir)) for path in changed[:5]),
            fix="keep other programs away from it, then run the release again",
            reason="CHANGED_MEANWHILE",
        )
