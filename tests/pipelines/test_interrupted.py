"""A run that is stopped in every one of its steps, and goes on each time where it was stopped."""

import signal

import pytest

from tests.models import saved_model  # noqa: F401 - a fixture
from tests.pipelines.releases import Place, make_place

STEPS = 8


@pytest.fixture
def place(tmp_path, saved_model):  # noqa: F811
    made = make_place(tmp_path / "release", saved_model("keras_mlp"))
    yield made
    made.run("down")


def strays(place: Place) -> list[str]:
    """Names of temporary files that a stopped run has left where readers look."""
    return [path.name for path in place.store.rglob("*") if path.is_file() and "tmp" in path.name]


def stop_in_every_step(place: Place, number: signal.Signals, code: int) -> None:
    for step in range(1, STEPS + 1):
        assert place.stop_at(step, number) == code
    done = place.release(code=0)
    assert done.stderr.count(" kept: ") == STEPS - 1
    row = place.status()
    assert row["stable"]["version"] == 1
    assert [server["version"] for server in row["live"]] == [1]
    assert sorted(path.name for path in (place.store / "mlp").iterdir() if path.name.isdigit()) == ["1"]
    assert strays(place) == []
    assert "nothing to do" in place.release().stdout


@pytest.mark.slow
def test_killed_in_every_step_it_ends_as_if_it_had_never_been_stopped(place):
    stop_in_every_step(place, signal.SIGKILL, -signal.SIGKILL)


@pytest.mark.nightly
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_or_terminated_in_every_step_it_says_so_and_goes_on(place, number, code):
    stop_in_every_step(place, number, code)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_training_it_exits_by_the_rule_and_leaves_nothing_half_written(place, number, code):
    (place.folder / "train.py").write_text("import time; print('progress: on it', flush=True); time.sleep(60)")
    assert place.stop_at(1, number) == code
    assert list(place.state.rglob("*.partial")) == []
    assert not (place.store / "mlp" / "1").exists()
