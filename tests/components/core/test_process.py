import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from components.core import process
from components.core.errors import Bug, Rejected, Unavailable
from components.core.process import ENTRY, Crashed, Limits, run_command, run_module

CHILD = """
import os, signal, sys, time
from components.core.errors import Conflict, Rejected, Unavailable
from components.core.process import answer

def handler(request, progress):
    match request["do"]:
        case "echo":
            progress("half way")
            print("chatter")
            return request
        case "reject":
            raise Rejected("no", expected="yes", got="maybe", fix="say yes", reason="NO")
        case "unavailable":
            raise Unavailable("later")
        case "bug":
            raise RuntimeError("oops")
        case "segv":
            print("about to crash", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(60)
        case "spin":
            while True:
                pass
        case "eat":
            return len(bytearray(request["bytes"]))
        case "disk":
            raise OSError(28, "No space left on device", "/some/file")

answer(handler)
"""


@pytest.fixture
def child(tmp_path, monkeypatch) -> str:
    """A module of the test's own, found beside ours through the path."""
    (tmp_path / "answering_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "answering_child"


def test_a_reply_and_progress_reach_the_parent_and_chatter_does_not(child):
    heard: list[str] = []
    assert run_module(child, {"do": "echo"}, limits=Limits(30), progress=heard.append) == {"do": "echo"}
    assert heard == ["half way"]


def test_an_error_arrives_in_its_own_family_with_all_it_says(child):
    with pytest.raises(Rejected) as error:
        run_module(child, {"do": "reject"}, limits=Limits(30))
    assert (error.value.expected, error.value.got, error.value.fix, error.value.reason) == (
        "yes",
        "maybe",
        "say yes",
        "NO",
    )
    with pytest.raises(Unavailable, match="later"):
        run_module(child, {"do": "unavailable"}, limits=Limits(30))
    with pytest.raises(Bug, match="RuntimeError: oops"):
        run_module(child, {"do": "bug"}, limits=Limits(30))


def test_a_full_disk_in_the_child_is_unavailable_and_names_the_file(child):
    with pytest.raises(Unavailable, match="/some/file: No space left on device"):
        run_module(child, {"do": "disk"}, limits=Limits(30))


def test_a_crash_is_told_with_its_signal_and_the_last_lines(child):
    with pytest.raises(Crashed) as crash:
        run_module(child, {"do": "segv"}, limits=Limits(30))
    assert crash.value.how == "SIGSEGV"
    assert "about to crash" in crash.value.log


def test_a_child_that_hangs_is_killed_at_its_deadline(child):
    with pytest.raises(Crashed, match="deadline of 1 s"):
        run_module(child, {"do": "hang"}, limits=Limits(1))


def test_a_child_that_spins_is_killed_by_its_processor_limit(child):
    with pytest.raises(Crashed) as crash:
        run_module(child, {"do": "spin"}, limits=Limits(30, cpu_s=1))
    assert crash.value.how in {"SIGXCPU", "SIGKILL"}


def test_a_child_that_wants_too_much_memory_is_rejected(child):
    limits = Limits(30, memory_bytes=256 * 2**20)
    with pytest.raises(Rejected, match="out of memory"):
        run_module(child, {"do": "eat", "bytes": 2**30}, limits=limits)
    assert run_module(child, {"do": "echo"}, limits=limits) == {"do": "echo"}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def until(condition, deadline_s: float = 10.0) -> bool:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_grandchildren_die_with_the_command(tmp_path):
    script = f"sleep 60 & echo $! > {tmp_path}/pid; exit 0"
    assert run_command(["/bin/sh", "-c", script], limits=Limits(10), log=tmp_path / "log") == 0
    pid = int((tmp_path / "pid").read_text())
    assert until(lambda: not alive(pid))


def test_a_bound_program_dies_with_a_parent_that_is_killed(tmp_path):
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}; exec sleep 60"
    bound = [sys.executable, "-P", str(ENTRY), "--module", "components.core.bound", "/bin/sh", "-c", script]
    code = f"import subprocess; subprocess.Popen({bound!r}, start_new_session=True).wait()"
    parent = subprocess.Popen([sys.executable, "-c", code])
    assert until(lambda: pid_file.exists() and pid_file.read_text().strip())
    pid = int(pid_file.read_text())
    assert alive(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert until(lambda: not alive(pid))


def test_a_program_that_is_not_there_is_rejected(tmp_path):
    with pytest.raises(Rejected, match="cannot start /no/such/program"):
        run_command(["/no/such/program"], limits=Limits(5), log=tmp_path / "log")


def test_the_tail_of_a_log_is_bounded_and_skips_empty_lines(tmp_path):
    log = tmp_path / "log"
    log.write_text("x" * 200_000 + "\n\n" + "\n".join(f"line {n}\n" for n in range(50)))
    assert process.tail(log, 2) == "line 48\nline 49"
    assert process.tail(tmp_path / "missing") == ""


def test_what_a_killed_run_left_in_the_temporary_folder_is_removed_by_the_next_and_what_is_in_use_stays(
    child, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, used = tmp_path / "slipway-child-left", tmp_path / "slipway-child-used"
    for folder in (left, used):
        folder.mkdir()
        (folder / "request.json").write_text("{}")
        os.utime(folder, (1, 1))
    handle = os.open(used, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        run_module(child, {"do": "echo"}, limits=Limits(30))
        assert not left.exists()
        assert used.exists()
    finally:
        os.close(handle)
    assert [path.name for path in tmp_path.glob("slipway-child-*")] == [used.name]
