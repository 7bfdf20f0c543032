import contextlib
import resource
from pathlib import Path

import pytest

from components.core.errors import Unavailable
from components.core.staging import staged


def test_a_directory_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "runs" / "model"
    with staged(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()

    assert [path.name for path in target.parent.iterdir()] == ["model"]
    assert (target / "a").read_text() == "1"


def test_a_failure_leaves_nothing_and_the_former_directory_as_it_was(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "a").write_text("old")
    with contextlib.suppress(KeyboardInterrupt), staged(target) as folder:
        (folder / "a").write_text("new")
        raise KeyboardInterrupt

    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (target / "a").read_text() == "old"


def test_success_replaces_the_former_directory_whole(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_text("")
    with staged(target) as folder:
        (folder / "new").write_text("")

    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial" / "half").write_text("")
    (tmp_path / ".model.replaced").mkdir()
    with staged(tmp_path / "model") as folder:
        assert list(folder.iterdir()) == []

    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_place_that_cannot_be_written_is_unavailable():
    with pytest.raises(Unavailable) as caught, staged(Path("/proc/slipway/model")):
        pass

    assert caught.value.reason == "DISK"


def test_a_file_that_the_disk_has_no_room_for_is_unavailable_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # Python ignores SIGXFSZ, so the write fails with EFBIG
    try:
        with pytest.raises(Unavailable) as caught, staged(tmp_path / "model") as folder:
            (folder / "a").write_bytes(bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert caught.value.reason == "DISK"
    assert list(tmp_path.iterdir()) == []
