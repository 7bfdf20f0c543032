"""Our packages have generic names; a user's project may have the same. The installed command must find ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SLIPWAY = Path(sys.executable).with_name("slipway")
ROOT = Path(__file__).resolve().parents[2]
OURS = ("components", "manifests", "pipelines")


@pytest.fixture
def foreign_project(tmp_path: Path) -> Path:
    """Make a project whose packages are called like ours and raise as soon as they are imported."""
    for name in OURS:
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text(f"raise RuntimeError('the foreign {name} was imported')\n")
    return tmp_path


def run(*words: str, cwd: Path, python_path: str | None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if python_path is not None:
        env["PYTHONPATH"] = python_path
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("python_path", [None, ".", "", "absolute"])
def test_the_command_runs_in_a_project_with_packages_of_the_same_names(foreign_project: Path, python_path: str | None):
    path = str(foreign_project) if python_path == "absolute" else python_path
    done = run(str(SLIPWAY), "--help", cwd=foreign_project, python_path=path)
    assert done.returncode == 0, done.stderr
    assert "foreign" not in done.stderr
    assert "slipway" in done.stdout


@pytest.mark.parametrize("module", ["components.core.errors", "manifests.spec"])
def test_a_child_process_of_ours_finds_ours_too(foreign_project: Path, module: str):
    words = (sys.executable, "-P", str(ROOT / "slipway.py"), "--module", module)
    done = run(*words, cwd=foreign_project, python_path=".")
    assert done.returncode == 0, done.stderr


def test_the_foreign_packages_would_really_be_found_first_without_that(foreign_project: Path):
    done = run(sys.executable, "-c", "import components", cwd=foreign_project, python_path=".")
    assert done.returncode != 0
    assert "the foreign components was imported" in done.stderr
