"""Processes that tests start in order to kill them: ``python -m tests.components.store.children WHAT ...``."""

import sys
from pathlib import Path

from components.core.clock import SystemClock
from components.core.process import silent
from components.publish import publish
from components.store.local import LocalStore
from components.store.open import open_store
from tests.components.store import samples
from tests.components.store.memory import dying

ROOT = Path(__file__).resolve().parents[3]


def command(*arguments: object) -> list[str]:
    """Return the command line of a child; run it in ``ROOT``."""
    return [sys.executable, "-m", "tests.components.store.children", *map(str, arguments)]


def write_for_ever(root: str) -> None:
    store, number = LocalStore(Path(root)), 0
    while True:
        store.create(f"m/{number}", str(number).encode() * 200_000)
        found = store.read("m/current")
        if found is None:
            store.create("m/current", b"0" * 200_000)
        else:
            store.replace("m/current", str(number % 10).encode() * 200_000, found.generation)
        number += 1


def publish_and_die(uri: str, model_dir: str, release: str, at: str, when: str) -> None:
    directory = Path(model_dir)
    publish(
        dying(open_store(uri, base_dir=ROOT), at=int(at), after=when == "after"),
        model=samples.MODEL,
        validated=samples.validated(directory, release),
        model_dir=directory,
        release=release,
        token=release,
        clock=SystemClock(),
        progress=silent,
    )


if __name__ == "__main__":
    {"write": write_for_ever, "publish": publish_and_die}[sys.argv[1]](*sys.argv[2:])
