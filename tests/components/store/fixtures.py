"""The two stores, and a server for one of them."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.store.gcs import GcsSettings
from components.store.open import open_store
from components.store.protocol import ObjectStore
from tests.components.store.memory import MemoryStore
from tests.gcs_server import GcsServer, serving

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ImportWarning)  # grpcio-status, which nobody here needs
    import google.api_core.exceptions  # noqa: F401

BUCKET_URI = "gs://models/team/a"
QUICK = GcsSettings(
    connect_timeout_s=1.0,
    read_timeout_s=0.25,
    first_delay_s=0.005,
    longest_delay_s=0.02,
    deadline_s=3.0,
    chunk_bytes=1024 * 1024,
    page_size=3,
)
"""Patience for a server in this process; small pages and chunks, so that small tests cross their borders."""

Opener = Callable[[], ObjectStore]


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    with serving("models") as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        yield server


@pytest.fixture(params=["local", "gcs", "memory"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens one and the same store again and again, as several processes would."""
    if request.param == "local":
        return lambda: open_store("store", base_dir=tmp_path)
    if request.param == "memory":
        memory = MemoryStore()
        return lambda: memory
    request.getfixturevalue("gcs")
    return connect


@pytest.fixture
def store(opener: Opener) -> ObjectStore:
    return opener()


@pytest.fixture
def bucket(gcs: GcsServer) -> ObjectStore:
    return connect()


def connect() -> ObjectStore:
    """Return a store in the running server's bucket, with a client of its own."""
    return open_store(BUCKET_URI, base_dir=Path(), settings=QUICK)
