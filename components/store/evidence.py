"""The evidence of releases: one object a step, written once, outside of the version's own directory.

A release that is run again elsewhere may have lost an earlier attempt's work and come to other bytes; its records then
stand beside the earlier ones as ``STEP.2.json``, and the digests that records name as their parents tell the attempts
apart.
"""

import re
from collections.abc import Iterator, Sequence

from components.core.errors import Conflict, Rejected
from components.core.records import AnyRecord, Rejection, Release, RolledBack, Step, parse
from components.store import layout
from components.store.parallel import each
from components.store.protocol import ObjectStore

MOST_ATTEMPTS = 100
"""Attempts of one step after which recording another is refused: something is wrong in a loop."""

_ORDER = {step: position for position, step in enumerate(Step)}
_MARKS = (".releases", ".claims")
_NAME = re.compile(r"([a-z]+)(?:\.([1-9]\d*))?\.json")


def put_spec(store: ObjectStore, model: str, release: str, spec: bytes) -> None:
    """Keep the resolved spec of a release. Keeping the same one again changes nothing.

    Raises:
        Conflict: The release has another spec: its id does not fit.
    """
    store.create(layout.release(model, release) + "spec.json", spec)


def spec(store: ObjectStore, model: str, release: str) -> bytes | None:
    """Return the resolved spec of a release as it was kept, or None."""
    stored = store.read(layout.release(model, release) + "spec.json")
    return stored.data if stored else None


def record(store: ObjectStore, evidence: AnyRecord | Rejection) -> str:
    """Write what a step found and return the object's key. The same evidence is written once.

    Raises:
        Rejected: The step has been recorded with other content too often (``TOO_MANY_ATTEMPTS``).
    """
    folder = layout.release(evidence.stamp.model, evidence.stamp.release)
    data = evidence.to_json().encode()
    for attempt in range(1, MOST_ATTEMPTS + 1):
        key = f"{folder}{evidence.step}{f'.{attempt}' if attempt > 1 else ''}.json"
        try:
            store.create(key, data)
        except Conflict:
            continue
        return key
    raise Rejected(
        f"{store.uri}/{folder}: {evidence.step} was recorded {MOST_ATTEMPTS} times, each time otherwise",
        expected="the same release to find the same",
        fix="see why its runs differ, then release under another spec",
        reason="TOO_MANY_ATTEMPTS",
    )


def load(store: ObjectStore, model: str, release: str) -> list[AnyRecord | Rejection]:
    """Return everything a release has recorded, by step and attempt.

    Raises:
        Rejected: An object is no record (``RECORD``), or is about another release (``FOREIGN_RECORD``).
    """
    folder = layout.release(model, release)
    keys = sorted(
        (place, row.key) for row in store.list(folder) if (place := _place(row.key.removeprefix(folder))) is not None
    )
    found = each(lambda key: _read(store, key), [key for _, key in keys])
    for (_, key), evidence in zip(keys, found, strict=True):
        about = (evidence.stamp.model, evidence.stamp.release)
        if about != (model, release):
            raise Rejected(
                f"{store.uri}/{key} is about another release",
                expected=f"{model} {release}",
                got=" ".join(about),
                reason="FOREIGN_RECORD",
            )
    return found


def chain(evidence: Sequence[AnyRecord | Rejection]) -> tuple[AnyRecord | Rejection, ...]:
    """Return the attempt that came furthest: records that name each other as parents, then a rejection if it ended so.

    Among attempts that came equally far the latest recorded wins. A rejection names no parent; it belongs to the chain
    if its step is the one that comes next. A rollback may follow a step that was not the last but one: the steps
    between have no record, and at most a rejection says why.

    Args:
        evidence: As :func:`load` returns it.
    """
    reached: list[tuple[AnyRecord, ...]] = [()]
    for step in Step:
        records = [item for item in evidence if not isinstance(item, Rejection) and item.step == step]
        reached += [
            (*before, item)
            for item in records
            for before in reached
            if item.parent == (before[-1].digest if before else None)
            and (len(before) == _ORDER[step] or isinstance(item, RolledBack))
        ]
    # The list is in the order of attempts, and max() takes the first: so look from the end.
    longest = max(reversed(reached), key=lambda attempt: _ORDER[attempt[-1].step] if attempt else -1)
    whole = longest[:-1] if longest and isinstance(longest[-1], RolledBack) else longest
    ends = [item for item in evidence if isinstance(item, Rejection) and _ORDER[item.step] == len(whole)]
    return (*whole, *ends[-1:], *longest[len(whole) :])


def finish(store: ObjectStore, release: Release) -> None:
    """Write the join of a release's evidence, once. The same join again changes nothing.

    Raises:
        Conflict: The release ended otherwise already (``EXISTS``).
    """
    store.create(layout.release(release.model, release.id) + "release.json", release.to_json().encode())


def outcome(store: ObjectStore, model: str, release: str) -> Release | None:
    """Return the join of a release's evidence, or None if it has not ended.

    Raises:
        Rejected: The object is no such join (``RECORD``).
    """
    key = layout.release(model, release) + "release.json"
    stored = store.read(key)
    if stored is None:
        return None
    try:
        return Release.model_validate_json(stored.data)
    except ValueError as error:
        raise Rejected(
            f"{store.uri}/{key} is not the record of a release", got=str(error).splitlines()[0], reason="RECORD"
        ) from error


def releases(store: ObjectStore, model: str) -> Iterator[str]:
    """Yield the ids of a model's releases, in the order of their names."""
    return store.folders(layout.releases(model))


def models(store: ObjectStore) -> Iterator[str]:
    """Yield the models that have been released or published into a store, in the order of their names."""
    for name in store.folders(""):
        if layout.is_model(name) and any(part in _MARKS for part in store.folders(f"{name}/")):
            yield name


def _place(name: str) -> tuple[int, int] | None:
    """Where an object stands among the evidence, or None if it is none."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in list(Step):
        return None
    return _ORDER[Step(match[1])], int(match[2] or 1)


def _read(store: ObjectStore, key: str) -> AnyRecord | Rejection:
    stored = store.read(key)
    if stored is None:
        raise Conflict(f"{store.uri}/{key} went away while it was being read", reason="CHANGED")
    return parse(stored.data, where=f"{store.uri}/{key}")
