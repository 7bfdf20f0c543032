"""Mixed requests, counted, while versions come and go and configurations are replaced: none lost, none mistaken."""

import itertools
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from components.serving.client import GrpcClient
from tests.embedded import Running, models, start, until

ADDENDS = {1: 2.0, 2: 3.0}
WORKERS = 6


def config(base: Path, *, versions: dict[str, list[int]], canary: int) -> str:
    """Return a configuration of both models, each with a stable label for 1 and a canary's for ``canary``."""
    parts = []
    for name, numbers in versions.items():
        specific = " ".join(f"versions: {number}" for number in numbers)
        labels = f'version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: {canary} }}'
        parts.append(
            f'config {{ name: "{name}" base_path: "{base / name}" model_platform: "tensorflow" '
            f"model_version_policy {{ specific {{ {specific} }} }} {labels if name == 'a' else ''} }}"
        )
    return f"model_config_list {{ {' '.join(parts)} }}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    """A server of the models ``a`` and ``b``: odd versions are x/2 + 2, even ones x/2 + 3."""
    folder = tmp_path_factory.mktemp("load")
    for name, number in itertools.product("ab", range(1, 5)):
        shutil.copytree(models() / "half_plus_two" / str(2 - number % 2), folder / name / str(number))
    (folder / "config").write_text(config(folder, versions={"a": [1, 2], "b": [1, 2]}, canary=2))
    running = start(
        folder,
        f"--model_config_file={folder / 'config'}",
        "--allow_version_labels_for_unavailable_models",
        "--file_system_poll_wait_seconds=0",
        "--slipway_drain_seconds=20",
    )
    running.grpc().predict("a", {"x": np.float32([1])})
    yield running, folder
    assert running.stop() == 0


def requests(count: int) -> Iterator[tuple[int, float, str, str, set[float]]]:
    """Yield number, x, protocol, path below /v1/models and the constants that a right answer may hold."""
    kinds = [
        ("a/labels/stable", {2.0}),  # the label never moves
        ("a/labels/canary", {2.0, 3.0}),  # it moves between 2, 3 and 4
        ("a/versions/1", {2.0}),
        ("a", {2.0, 3.0}),
        ("b/versions/1", {2.0}),
        ("b/versions/2", {3.0}),
        ("b", {2.0, 3.0}),
    ]
    for number, (path, constants) in zip(range(count), itertools.cycle(kinds), strict=False):
        # a different x for every request: an answer meant for another one is seen
        yield number, float(number), ("rest", "grpc")[number // len(kinds) % 2], path, constants


def exchange(server: Running, wanted: list[tuple[int, float, str, str, set[float]]]) -> Counter[str]:
    """Send requests one after the other and count what came of each."""
    found: Counter[str] = Counter()
    grpc_client = GrpcClient(server.grpc_address)
    with httpx.Client(base_url=server.rest_url, trust_env=False, timeout=120) as http:
        for _number, x, protocol, path, constants in wanted:
            name, _, choice = path.partition("/")
            if protocol == "grpc" and not choice.startswith("labels"):
                version = int(choice.removeprefix("versions/")) if choice else None
                answer = grpc_client.predict(name, {"x": np.float32([x])}, version=version, timeout_s=120)["y"][0]
            else:
                response = http.post(f"/v1/models/{path}:predict", json={"instances": [x]})
                assert response.status_code == 200, (path, response.text)
                answer = response.json()["predictions"][0]
            constant = float(answer) - x / 2
            found["right" if constant in constants else f"{path}: {constant}"] += 1
    grpc_client.close()
    return found


def states(client: GrpcClient) -> set[tuple[int, str]]:
    """Return version and state of all that the server knows of ``a``; a reload returns before it looks for new ones."""
    return {(status.version, status.state) for status in client.status("a")}


def change_until(server: Running, folder: Path, stop: threading.Event) -> int:
    """Replace the configuration again and again, versions first and labels then; return how often."""
    client, rounds, old = server.grpc(), 0, 2
    while not stop.is_set():
        new = {2: 3, 3: 4, 4: 2}[old]
        both = {"a": sorted({1, old, new}), "b": [1, 2, 3 + rounds % 2]}
        client.reload(config(folder, versions=both, canary=old), timeout_s=120)
        until(lambda wanted=new: (wanted, "AVAILABLE") in states(client), within_s=60)
        client.reload(config(folder, versions=both, canary=new), timeout_s=120)
        client.reload(config(folder, versions={"a": [1, new], "b": [1, 2]}, canary=new), timeout_s=120)
        until(lambda gone=old: (gone, "END") in states(client), within_s=60)
        rounds, old = rounds + 1, new
    client.close()
    return rounds


def run_load(server: Running, folder: Path, count: int) -> int:
    """Send ``count`` requests while everything changes; return how often it did."""
    stop, wanted = threading.Event(), list(requests(count))
    with ThreadPoolExecutor(WORKERS + 1) as pool:
        changes = pool.submit(change_until, server, folder, stop)
        try:
            parts = [pool.submit(exchange, server, wanted[start::WORKERS]) for start in range(WORKERS)]
            found = sum((part.result(280) for part in parts), Counter())
        finally:
            stop.set()
        assert found == {"right": count}
        return changes.result(120)


@pytest.mark.slow
def test_a_thousand_mixed_requests_are_all_answered_by_the_right_version(served):
    assert run_load(*served, 1_000) >= 1


@pytest.mark.nightly
def test_ten_thousand_mixed_requests_are_all_answered_by_the_right_version(served):
    assert run_load(*served, 10_000) >= 3
