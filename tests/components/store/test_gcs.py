"""Google Cloud Storage when things go wrong: group B of the fault catalogue, one case a fault, operation and count."""

import dataclasses
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.core.errors import Conflict, Rejected, Unavailable
from components.store.gcs import GcsSettings
from components.store.open import open_store
from components.store.protocol import ObjectStore
from tests.components.store.fixtures import BUCKET_URI, QUICK
from tests.gcs_server import GcsServer, serving

HASTY = dataclasses.replace(QUICK, deadline_s=0.3, read_timeout_s=0.1, transfers=3)

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""The client library leaves a streamed answer with an error status open until it is collected."""

BIG = b"shard" * (2 * 1024 * 1024)
"""10 MiB: more than one request."""


@pytest.fixture(scope="module", autouse=True)
def _abandoned_sockets_are_collected_here() -> Iterator[None]:
    yield
    gc.collect()


@dataclasses.dataclass(frozen=True)
class Operation:
    """One use of a store.

    Args:
        prepare: Makes what the operation needs, without faults.
        use: Does it and returns what it found, to be compared.
        method: HTTP method of the requests that do the work.
        path: Found in their paths.
        has: What of theirs can be damaged: a request's body, a response's, both or neither.
    """

    prepare: Callable[[ObjectStore], None]
    use: Callable[[ObjectStore, Path], object]
    expected: object
    method: str
    path: str
    has: str = ""


def _download(store: ObjectStore, folder: Path) -> bytes:
    target = folder / "download"
    target.unlink(missing_ok=True)
    store.download("m/big", target)
    return target.read_bytes()


def _replace(store: ObjectStore, _folder: Path) -> bytes:
    before = store.read("m/alias")
    assert before is not None
    store.replace("m/alias", b"two", before.generation)
    return _read(store, "m/alias")


def _delete(store: ObjectStore, _folder: Path) -> object:
    (row,) = store.list("m/old")
    store.delete("m/old", row.generation)
    return store.read("m/old")


def _put(store: ObjectStore, folder: Path) -> int:
    (folder / "shard").write_bytes(BIG)
    store.create("m/1/shard", folder / "shard")
    (row,) = store.list("m/1/shard")
    return row.size


def _create(store: ObjectStore, key: str, data: bytes) -> bytes:
    store.create(key, data)
    return _read(store, key)


def _read(store: ObjectStore, key: str) -> bytes:
    found = store.read(key)
    assert found is not None
    return found.data


def _nothing(_store: ObjectStore) -> None:
    pass


def _five(store: ObjectStore) -> None:
    for number in range(5):
        store.create(f"m/{number}", b"")


def _prepared(key: str, data: bytes) -> Callable[[ObjectStore], None]:
    def prepare(store: ObjectStore) -> None:
        store.create(key, data)

    return prepare


OPERATIONS = {
    "list": Operation(
        _five,
        lambda store, _: [row.key for row in store.list("m/")],
        [f"m/{n}" for n in range(5)],
        "GET",
        r"/o\?.*prefix=",
    ),
    "claim": Operation(
        _nothing,
        lambda store, _: _create(store, "m/.claims/1", b"token"),
        b"token",
        "POST",
        "ifGenerationMatch=0",
        "request",
    ),
    "put": Operation(_nothing, _put, len(BIG), "PUT", "upload_id=", "request"),
    "commit": Operation(
        _prepared("m/alias", b"one"),
        _replace,
        b"two",
        "POST",
        "ifGenerationMatch=1",
        "request",
    ),
    "get": Operation(
        _prepared("m/alias", b"one"),
        lambda store, _: _read(store, "m/alias"),
        b"one",
        "GET",
        "alt=media",
        "response",
    ),
    "download": Operation(_prepared("m/big", BIG), _download, BIG, "GET", "alt=media", "response"),
    "delete": Operation(_prepared("m/old", b"one"), _delete, None, "DELETE", "m/old"),
}

FAULTS: dict[str, tuple[int | str, bool]] = {
    "429": (429, False),
    "503": (503, False),
    "500": (500, False),
    "stall": ("stall", False),
    "stall-after-commit": ("stall", True),
    "reset-before-commit": ("reset", False),
    "reset-after-commit": ("reset", True),
    "503-after-commit": (503, True),
    "corrupt-request": ("corrupt-request", False),
    "corrupt-response": ("corrupt", False),
    "short-read": ("short", False),
}

CASES = [
    (operation, fault)
    for operation, what in OPERATIONS.items()
    for fault in FAULTS
    if (fault != "corrupt-request" or what.has == "request")
    and (fault != "corrupt-response" or what.has == "response")
    and (fault != "short-read" or operation != "delete")  # an answer without a body
]


def _run(bucket: ObjectStore, gcs: GcsServer, operation: str, fault: str, count: int, folder: Path) -> object:
    what = OPERATIONS[operation]
    what.prepare(bucket)
    action, after = FAULTS[fault]
    made = gcs.fault(action, method=what.method, path=what.path, count=count, after=after)
    try:
        return what.use(bucket, folder)
    finally:
        assert made.fired >= min(count, 2)


@pytest.mark.parametrize("count", [1, 3], ids=["once", "three-in-a-row"])
@pytest.mark.parametrize(("operation", "fault"), CASES)
def test_a_passing_fault_is_not_noticed(bucket, gcs, operation: str, fault: str, count: int, tmp_path: Path):
    assert _run(bucket, gcs, operation, fault, count, tmp_path) == OPERATIONS[operation].expected


@pytest.mark.parametrize(("operation", "fault"), CASES)
def test_a_lasting_fault_is_told_in_time_and_can_be_outlived(gcs, operation: str, fault: str, tmp_path: Path):
    hasty = open_store(BUCKET_URI, base_dir=tmp_path, settings=HASTY)
    with pytest.raises(Unavailable) as caught:
        _run(hasty, gcs, operation, fault, 10**6, tmp_path)
    assert caught.value.reason in ("STORE_DOWN", "CORRUPT_TRANSFER")
    assert BUCKET_URI in caught.value.what
    gcs.faults.clear()
    patient = open_store(BUCKET_URI, base_dir=tmp_path, settings=QUICK)
    if operation == "delete" and not list(patient.list("m/old")):
        return  # it did take effect, and a repeated run finds nothing left to delete
    assert OPERATIONS[operation].use(patient, tmp_path) == OPERATIONS[operation].expected


def test_a_lost_answer_to_a_claim_is_settled_by_its_token(bucket, gcs):
    gcs.fault("reset", method="POST", path="uploadType=multipart", after=True)
    generation = bucket.create("m/.claims/1", b"mine")
    assert bucket.read("m/.claims/1").generation == generation


def test_a_claim_of_somebody_else_is_not_taken_for_a_lost_answer(bucket, gcs):
    def overtake() -> None:
        gcs._commit("models", "team/a/m/.claims/1", b"theirs", {})

    gcs.fault("reset", method="POST", path="uploadType=multipart", hook=overtake)
    with pytest.raises(Conflict):
        bucket.create("m/.claims/1", b"mine")
    assert bucket.read("m/.claims/1").data == b"theirs"


def test_damage_in_the_part_before_an_interruption_is_found(bucket, gcs, tmp_path: Path):
    bucket.create("m/big", BIG)
    gcs.fault("corrupt-short", path="alt=media")
    bucket.download("m/big", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BIG


@pytest.mark.parametrize("data", [b"token", BIG], ids=["one request", "many"])
def test_a_damaged_upload_is_never_committed(bucket, gcs, data: bytes):
    fault = gcs.fault("corrupt-request", method="POST|PUT", path="uploadType=multipart|upload_id=", count=2)
    seen: list[bytes] = []
    gcs.fault(
        "none",
        path="uploadType",
        count=100,
        hook=lambda: seen.extend(one.data for one in gcs.buckets["models"].values()),
    )
    generation = bucket.create("m/a", data)
    assert fault.fired == 2
    assert seen == []
    assert "DELETE" not in [method for method, _ in gcs.log]
    assert gcs.buckets["models"]["team/a/m/a"].data == data
    assert gcs.buckets["models"]["team/a/m/a"].generation == generation


def test_every_write_carries_a_generation(bucket, gcs, tmp_path: Path):
    (tmp_path / "f").write_bytes(BIG)
    bucket.create("m/big", tmp_path / "f")
    bucket.delete("m/a", bucket.replace("m/a", b"2", bucket.create("m/a", b"1")))
    writes = [path for method, path in gcs.log if method in ("POST", "DELETE")]
    assert len(writes) == 4
    assert all("ifGenerationMatch=" in path for path in writes)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_bucket_that_does_not_exist_is_named(gcs, operation: str, tmp_path: Path):
    nowhere = open_store("gs://nowhere", base_dir=tmp_path, settings=QUICK)
    uses: dict[str, Callable[[], object]] = {
        "list": lambda: list(nowhere.list("")),
        "claim": lambda: nowhere.create("m/a", b""),
        "put": lambda: nowhere.create("m/a", b"x" * 9_000_000),
        "commit": lambda: nowhere.replace("m/a", b"", 1),
        "get": lambda: nowhere.read("m/a"),
        "download": lambda: nowhere.download("m/a", tmp_path / "f"),
        "delete": lambda: nowhere.delete("m/a", 1),
    }
    with pytest.raises(Rejected) as caught:
        uses[operation]()
    assert caught.value.reason == "NO_BUCKET"
    assert "gs://nowhere" in caught.value.what


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_permission_names_the_role(bucket, gcs, status: int):
    gcs.fault(status, path="/o", count=10)
    with pytest.raises(Rejected) as caught:
        bucket.create("m/a", b"")
    assert caught.value.reason == "NO_ACCESS"
    assert "roles/storage.objectUser" in caught.value.expected


def test_an_account_without_credentials_is_told_how_to_get_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(Rejected) as caught:
        open_store("gs://models", base_dir=tmp_path)
    assert caught.value.reason == "NO_CREDENTIALS"
    assert "gcloud auth" in caught.value.fix


def test_a_server_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with serving("models") as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    gone = open_store("gs://models", base_dir=tmp_path, settings=HASTY)
    with pytest.raises(Unavailable) as caught:
        gone.read("m/a")
    assert caught.value.reason == "STORE_DOWN"


def test_the_patience_of_a_real_run_is_bounded():
    settings = GcsSettings()
    assert settings.deadline_s <= 300
    assert settings.read_timeout_s < settings.deadline_s
