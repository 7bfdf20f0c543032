"""Put together what a command needs: the store of a spec, the target, the clock."""

from pathlib import Path

from components.cluster.local import LocalTarget
from components.core import atomic
from components.core.clock import SystemClock
from components.core.specfile import LoadedSpec
from components.store.open import open_store
from components.store.protocol import ObjectStore
from pipelines.cli import Session

TARGETS = ("local",)


def store_of(loaded: LoadedSpec) -> ObjectStore:
    """Return the store a spec names."""
    return open_store(loaded.spec.store.uri, base_dir=loaded.base_dir)


def local_target(session: Session) -> LocalTarget:
    """Return the target ``local`` of this state directory."""
    return LocalTarget(session.state.resolve(), SystemClock(), session.environment)


def remember_store(session: Session, uri: str) -> None:
    """Note a store that was used, so that ``status`` and ``report`` find it without being told."""
    known = known_stores(session)
    if uri not in known:
        atomic.write_text(session.state / "stores", "".join(f"{line}\n" for line in [*known, uri]))


def known_stores(session: Session) -> list[str]:
    """Return the URIs of the stores that were used, in the order of first use."""
    try:
        return [line for line in (session.state / "stores").read_text().splitlines() if line]
    except FileNotFoundError:
        return []


def open_known(session: Session, uri: str) -> list[ObjectStore]:
    """Return the store of ``uri``, or every known one if it is empty."""
    wanted = [uri] if uri else known_stores(session)
    return [open_store(each, base_dir=Path.cwd()) for each in wanted]
