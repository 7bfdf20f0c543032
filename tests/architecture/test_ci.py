"""CI must not be green for the wrong reason: by skipping, by running nothing, or by losing an exit code in a pipe."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
import pytest

def test_missing():
    pytest.skip("no such program")

@pytest.mark.xfail(strict=True)
def test_expected():
    assert False
"""


def outcome(folder: Path, *, ci: str) -> tuple[int, str]:
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_some.py").write_text(TESTS)
    env = {**os.environ, "CI": ci}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_a_skip_is_a_failure_in_ci_and_says_why(tmp_path: Path):
    code, said = outcome(tmp_path, ci="true")
    assert code == 1
    assert "no such program" in said
    assert "1 failed, 1 xfailed" in said


def test_a_skip_is_a_skip_on_a_desk(tmp_path: Path):
    code, said = outcome(tmp_path, ci="")
    assert code == 0
    assert "1 skipped, 1 xfailed" in said


@pytest.mark.parametrize(
    ("last_words", "code", "accepted"),
    [("3 passed in 0.10s", 0, True), ("1 failed, 2 passed in 0.10s", 1, False), ("no tests ran in 0.01s", 5, False)],
)
def test_ci_ends_with_the_summary_of_pytest_and_an_honest_exit_code(
    tmp_path: Path, last_words: str, code: int, accepted: bool
):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    said = f"@echo '{last_words}'; exit {code}"
    (tmp_path / "Makefile").write_text(f"env check:\n\t@echo $@\ntest:\n\t{said}\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "chromium").touch(mode=0o755)
    # This test may itself run below make, whose variables would make the inner one talk of folders.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    env["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{env['PATH']}"
    done = subprocess.run([tmp_path / ".ci" / "run"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is accepted
    assert done.stdout.splitlines()[-1] == last_words
    assert done.stdout.splitlines()[:2] == ["env", "check"]
