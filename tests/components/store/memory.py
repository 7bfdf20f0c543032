"""A store in memory, which passes the same suite as the real ones, and ways to make it (or any other) misbehave."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from components.core.errors import Bug, Conflict, SlipwayError, Unavailable
from components.store.protocol import (
    Generation,
    ObjectInfo,
    ObjectStore,
    Stored,
    check_key,
    check_prefix,
    no_object,
)

T = TypeVar("T")


class MemoryStore:
    """Objects in a dictionary."""

    uri = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self._writes = 0
        self._lock = threading.Lock()

    def read(self, key: str) -> Stored | None:
        return self.objects.get(check_key(key))

    def download(self, key: str, path: Path) -> None:
        found = self.read(key)
        if found is None:
            raise no_object(self.uri, key)
        try:
            with path.open("xb") as stream:
                stream.write(found.data)
        except OSError as error:
            raise Unavailable(str(error)) from error

    def create(self, key: str, data: bytes | Path) -> Generation:
        return self._write(key, data, Generation(0), "EXISTS")

    def replace(self, key: str, data: bytes | Path, generation: Generation) -> Generation:
        return self._write(key, data, generation, "CHANGED")

    def delete(self, key: str, generation: Generation) -> None:
        with self._lock:
            found = self.objects.get(check_key(key))
            if found is not None and found.generation != generation:
                raise Conflict(key, reason="CHANGED")
            self.objects.pop(key, None)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        for key in sorted(self.objects):
            if key.startswith(prefix):
                found = self.objects[key]
                yield ObjectInfo(key, len(found.data), found.generation, datetime.now(UTC))

    def folders(self, prefix: str) -> Iterator[str]:
        check_prefix(prefix)
        below = [key[len(prefix) :] for key in self.objects if key.startswith(prefix)]
        yield from sorted({key.split("/", 1)[0] for key in below if "/" in key})

    def _write(self, key: str, data: bytes | Path, generation: Generation, reason: str) -> Generation:
        content = data.read_bytes() if isinstance(data, Path) else data
        with self._lock:
            found = self.objects.get(check_key(key))
            if (found.generation if found else 0) != generation:
                if found is None or found.data != content:
                    raise Conflict(key, reason=reason)
                return found.generation
            self._writes += 1
            self.objects[key] = Stored(content, Generation(self._writes))
            return Generation(self._writes)


class Around:
    """A store that does something around every write of another one."""

    def __init__(self, store: ObjectStore, around: Callable[[Callable[[], T]], T], *, reads: bool = False) -> None:
        self._store = store
        self._around = around
        self._reads = reads

    @property
    def uri(self) -> str:
        return self._store.uri

    def read(self, key: str) -> Stored | None:
        return self._around(lambda: self._store.read(key)) if self._reads else self._store.read(key)

    def download(self, key: str, path: Path) -> None:
        self._store.download(key, path)

    def create(self, key: str, data: bytes | Path) -> Generation:
        return self._around(lambda: self._store.create(key, data))

    def replace(self, key: str, data: bytes | Path, generation: Generation) -> Generation:
        return self._around(lambda: self._store.replace(key, data, generation))

    def delete(self, key: str, generation: Generation) -> None:
        self._around(lambda: self._store.delete(key, generation))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._around(lambda: iter([*self._store.list(prefix)])) if self._reads else self._store.list(prefix)

    def folders(self, prefix: str) -> Iterator[str]:
        return self._store.folders(prefix)


def dying(store: ObjectStore, *, at: int, after: bool) -> ObjectStore:
    """Return the store in a process that is killed at its ``at``-th write (from 0), before or after it took effect."""
    lock, seen = threading.Lock(), iter(range(10**6))

    def around(write: Callable[[], T]) -> T:
        with lock:
            if next(seen) < at:
                return write()
            if after:
                write()
            os.kill(os.getpid(), signal.SIGKILL)
            raise Bug("killed processes do not come here")

    return Around(store, around)


class Turns:
    """Lets several actors work on one store, one operation at a time, in an order that is decided from outside."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._waiting: set[int] = set()
        self._granted: dict[int, str] = {}
        self._working: set[int] = set()
        self.results: dict[int, object] = {}

    def start(self, actor: int, work: Callable[[ObjectStore], object]) -> None:
        """Run ``work`` again and again until it succeeds; its store obeys the turns."""
        self._working.add(actor)
        mine = Around(self._store, lambda operation: self._wait(actor, operation), reads=True)

        def run() -> None:
            result: object = None
            try:
                while result is None:
                    try:
                        result = work(mine)
                    except Unavailable:
                        continue
            except SlipwayError as error:
                result = error
            with self._changed:
                self.results[actor] = result
                self._working.discard(actor)
                self._changed.notify_all()

        threading.Thread(target=run, daemon=True).start()

    def _wait(self, actor: int, operation: Callable[[], T]) -> T:
        with self._changed:
            self._waiting.add(actor)
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: actor in self._granted, timeout=20):
                raise Bug(f"actor {actor} never got its turn")
            fate = self._granted.pop(actor)
        if fate == "fails before":
            raise Unavailable("no answer, nothing done")
        found = operation()
        if fate == "answer lost":
            raise Unavailable("no answer, but done")
        return found

    def give(self, choice: int, fate: str) -> bool:
        """Let one of the waiting actors do one operation; False if nobody works any more."""
        with self._changed:
            ready = self._changed.wait_for(lambda: self._waiting == self._working, timeout=20)
            assert ready, "an actor neither works nor waits"
            if not self._working:
                return False
            actor = sorted(self._working)[choice % len(self._working)]
            self._waiting.discard(actor)
            self._granted[actor] = fate
            self._changed.notify_all()
            return True
