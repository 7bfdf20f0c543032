"""Versions come and go: a real folder, a loader that is told what to do."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.serving.configs import ModelConfig, Policy
from components.serving.lifecycle import Models, Timing
from components.serving.status import ServingError
from tests.embedded import until


class Model:
    def __init__(self, name: str, version: int) -> None:
        self.name, self.version, self.closed = name, version, False

    def close(self) -> None:
        self.closed = True


class Loader:
    """Loads whatever holds a file ``model``; waits where a gate is set."""

    def __init__(self) -> None:
        self.tries: list[int] = []
        self.made: dict[int, Model] = {}
        self.gates: dict[int, threading.Event] = {}

    def __call__(self, name: str, version: int, path: Path) -> Model:
        self.tries.append(version)
        if version in self.gates:
            assert self.gates[version].wait(10)
        if not (path / "model").exists():
            raise ServingError("NOT_FOUND", f"nothing at {path}")
        self.made[version] = Model(name, version)
        return self.made[version]


QUICK = Timing(poll_s=0.02, retries=0, retry_s=600)  # without a retry nobody waits for one


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def models(loader: Loader) -> Iterator[Models]:
    made = Models(loader, QUICK)
    yield made
    made.close()


def publish(base: Path, *versions: int) -> Path:
    for version in versions:
        (base / str(version)).mkdir(parents=True)
        (base / str(version) / "model").touch()
    return base


def config(base: Path, name: str = "m", policy: Policy = Policy(), **labels: int) -> ModelConfig:  # noqa: B008
    return ModelConfig(name, base, policy, labels)


def states(models: Models) -> dict[int, str]:
    return {status.version: status.state for status in models.statuses("m")}


def served(models: Models, **choice: object) -> int:
    with models.use("m", **choice) as (_, number):
        return number


def test_the_latest_version_is_served_when_configure_returns(models: Models, tmp_path: Path):
    models.configure([config(publish(tmp_path, 1, 2))])
    assert served(models) == 2
    assert states(models) == {2: "AVAILABLE"}


def test_a_new_version_takes_over_and_the_old_is_closed(models: Models, loader: Loader, tmp_path: Path):
    models.configure([config(publish(tmp_path, 1))])
    publish(tmp_path, 2)
    until(lambda: states(models) == {2: "AVAILABLE", 1: "END"}, within_s=5)
    assert loader.made[1].closed
    assert served(models) == 2


def test_a_version_that_does_not_load_leaves_the_old_one_serving(models: Models, tmp_path: Path):
    models.configure([config(publish(tmp_path, 1))])
    (tmp_path / "2").mkdir()
    until(lambda: states(models).get(2) == "END", within_s=5)
    assert states(models)[1] == "AVAILABLE"
    status = models.statuses("m", 2)[0]
    assert (status.code, status.message) == ("NOT_FOUND", f"nothing at {tmp_path / '2'}")
    assert served(models) == 1


def test_a_failed_version_is_not_tried_again_while_it_stays(models: Models, loader: Loader, tmp_path: Path):
    models.configure([config(publish(tmp_path, 1))])
    (tmp_path / "2").mkdir()
    until(lambda: states(models).get(2) == "END", within_s=5)
    (tmp_path / "2" / "model").touch()
    time.sleep(0.2)
    assert loader.tries == [1, 2]
    (tmp_path / "2").rename(tmp_path / "gone")
    time.sleep(0.2)
    (tmp_path / "gone").rename(tmp_path / "2")
    until(lambda: states(models).get(2) == "AVAILABLE", within_s=5)


def test_a_load_is_retried_as_often_as_asked(loader: Loader, tmp_path: Path):
    models = Models(loader, Timing(poll_s=0.02, retries=2, retry_s=0.01))
    (tmp_path / "1").mkdir()
    with pytest.raises(ServingError) as caught:
        models.configure([config(tmp_path)])
    models.close()
    assert loader.tries == [1, 1, 1]
    assert caught.value.code == "UNKNOWN"
    assert caught.value.message.startswith(
        "1 model(s) did not become available: {{{name: m version: 1} due to error: NOT_"
    )


def test_a_removed_version_stops_being_retried(loader: Loader, tmp_path: Path):
    models = Models(loader, Timing(poll_s=0.02, retries=5, retry_s=600))
    models.configure([config(publish(tmp_path, 1))])
    (tmp_path / "2").mkdir()
    until(lambda: 2 in loader.tries, within_s=5)
    (tmp_path / "2").rmdir()
    until(lambda: states(models)[2] == "END", within_s=5)
    models.close()


def test_a_request_holds_its_version_until_it_ends(models: Models, loader: Loader, tmp_path: Path):
    models.configure([config(publish(tmp_path, 1))])
    with models.use("m") as (model, _):
        publish(tmp_path, 2)
        until(lambda: states(models) == {2: "AVAILABLE", 1: "UNLOADING"}, within_s=5)
        assert not model.closed
        assert served(models) == 2
    until(lambda: states(models)[1] == "END", within_s=5)
    assert loader.made[1].closed


def test_a_base_path_that_is_gone_stops_discovery_for_every_model_and_unloads_nothing(models: Models, tmp_path: Path):
    first, second = publish(tmp_path / "a", 1), publish(tmp_path / "b", 1)
    models.configure([config(first), config(second, "n")])
    second.rename(tmp_path / "c")
    publish(first, 2)
    time.sleep(0.2)
    assert states(models) == {1: "AVAILABLE"}
    (tmp_path / "c").rename(second)
    until(lambda: states(models).get(2) == "AVAILABLE", within_s=5)


def test_an_empty_base_path_unloads_all(models: Models, tmp_path: Path):
    models.configure([config(publish(tmp_path / "a", 1))])
    (tmp_path / "a" / "1").rename(tmp_path / "b")
    until(lambda: states(models) == {1: "END"}, within_s=5)
    with pytest.raises(ServingError, match=r"Servable not found for request: Latest\(m\)"):
        served(models)


def test_a_model_left_out_of_a_reload_is_unloaded(models: Models, tmp_path: Path):
    first, second = publish(tmp_path / "a", 1), publish(tmp_path / "b", 1)
    models.configure([config(first), config(second, "n")])
    models.configure([config(second, "n")])
    until(lambda: states(models) == {1: "END"}, within_s=5)


def test_a_label_needs_an_available_version_and_then_chooses_it(models: Models, tmp_path: Path):
    both = Policy("specific", versions=(1, 2))
    base = publish(tmp_path, 1, 2)
    with pytest.raises(ServingError) as caught:
        models.configure([config(base, policy=both, stable=1)])
    assert caught.value.code == "FAILED_PRECONDITION"
    assert caught.value.message == (
        "Request to assign label to version 1 of model m, which is not currently available for inference"
    )
    models.configure([])
    models.configure([config(base, policy=both)])
    until(lambda: states(models) == {1: "AVAILABLE", 2: "AVAILABLE"}, within_s=5)
    models.configure([config(base, policy=both, stable=1, canary=2)])
    assert (served(models, label="stable"), served(models, label="canary")) == (1, 2)
    with pytest.raises(ServingError, match="Unrecognized servable version label: beta"):
        served(models, label="beta")


def test_only_an_unused_label_may_be_early_where_that_is_allowed(loader: Loader, tmp_path: Path):
    models = Models(loader, QUICK, labels_before_versions=True)
    base = publish(tmp_path, 1)
    models.configure([config(base, stable=1)])
    assert served(models, label="stable") == 1
    with pytest.raises(ServingError, match="which is not currently available"):
        models.configure([config(base, stable=7)])
    models.close()


def test_without_polling_a_reload_still_looks_once(loader: Loader, tmp_path: Path):
    models = Models(loader, Timing(poll_s=0, retries=0))
    models.configure([config(publish(tmp_path / "a", 1))])
    publish(tmp_path / "a", 2)
    time.sleep(0.1)
    assert states(models) == {1: "AVAILABLE"}
    models.configure([config(tmp_path / "a"), config(publish(tmp_path / "b", 1), "n")])
    until(lambda: states(models).get(2) == "AVAILABLE", within_s=5)
    models.close()


def test_closing_ends_a_start_that_waits(loader: Loader, tmp_path: Path):
    models = Models(loader, QUICK)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(models.configure, [config(tmp_path)])
        time.sleep(0.1)
        models.close()
        assert isinstance(waiting.exception(5), ServingError)


def test_no_request_is_lost_or_answered_by_a_closed_model_while_versions_come_and_go(
    models: Models, loader: Loader, tmp_path: Path
):
    models.configure([config(publish(tmp_path, 1))])
    stop = threading.Event()
    counts: list[int] = []

    def ask() -> None:
        count = 0
        while not stop.is_set():
            with models.use("m") as (model, number):
                assert not model.closed
                assert model.version == number
                count += 1
        counts.append(count)

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(ask) for _ in range(4)]
        for version in range(2, 8):
            publish(tmp_path, version)
            until(lambda wanted=version: states(models).get(wanted) == "AVAILABLE", within_s=5)
        stop.set()
        for worker in workers:
            worker.result(5)
    assert sum(counts) > 100
    until(lambda: sum(state == "END" for state in states(models).values()) == 6, within_s=5)
    assert [version for version, model in loader.made.items() if not model.closed] == [7]
