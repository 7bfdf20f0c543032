"""The Dockerfile without a Docker engine: its rules by reading it, its install steps by doing them in a clean place."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOME_DIGEST = f"python@sha256:{'0' * 64}"


@dataclass(frozen=True)
class Stage:
    """One ``FROM``: its name, what it starts from, and its instructions in order."""

    name: str
    base: str
    steps: tuple[tuple[str, str], ...]

    def all(self, instruction: str) -> list[str]:
        return [argument for word, argument in self.steps if word == instruction]


def instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    logical = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    return [(word.upper(), argument.strip()) for word, argument in (line.split(maxsplit=1) for line in logical)]


def stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    opened: tuple[str, str, list[tuple[str, str]]] | None = None
    for word, argument in [*instructions((ROOT / "Dockerfile").read_text()), ("FROM", "end AS end")]:
        if word == "FROM":
            if opened:
                found[opened[0]] = Stage(opened[0], opened[1], tuple(opened[2]))
            base, _, name = argument.split()
            opened = (name, base, [])
        elif opened:
            opened[2].append((word, argument))
    return found


STAGES = stages()
TARGETS = ("model", "deploy")


def test_every_base_is_given_by_the_builder_or_is_an_earlier_stage():
    first = instructions((ROOT / "Dockerfile").read_text())[0]
    assert first == ("ARG", "PYTHON_IMAGE"), "the base must have no default: it would age into an insecure one"
    earlier: set[str] = set()
    for stage in STAGES.values():
        assert stage.base == "${PYTHON_IMAGE}" or stage.base in earlier, stage
        earlier.add(stage.name)


@pytest.mark.parametrize(
    ("image", "accepted"),
    [
        (SOME_DIGEST, True),
        (f"example.invalid:5000/team/python:3.13-slim@sha256:{'a' * 64}", True),
        ("python:3.13-slim", False),
        ("", False),
        (f"python@sha256:{'0' * 63}", False),
        (f"{SOME_DIGEST}-slim", False),
    ],
)
def test_a_base_without_a_digest_ends_the_build(image: str, accepted: bool):
    guard = STAGES["tools"].all("RUN")[0]
    done = subprocess.run(
        ["sh", "-c", guard],
        env={**os.environ, "PYTHON_IMAGE": image},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is accepted
    assert accepted or "@sha256" in done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_the_command_as_an_unprivileged_user_in_exec_form(target: str):
    stage = STAGES[target]
    assert [re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user) is not None for user in stage.all("USER")] == [True]
    assert [json.loads(words) for words in stage.all("ENTRYPOINT")] == [["slipway"]]
    assert [json.loads(words) for words in stage.all("CMD")] == [["--help"]]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_takes_one_finished_environment_and_installs_nothing(target: str):
    stage = STAGES[target]
    assert stage.base == "runtime"
    assert not stage.all("RUN")
    assert stage.all("COPY") == [f"--from={target}-environment /opt/slipway /opt/slipway"]


def test_the_runtime_loses_the_installers_of_its_base():
    removal = " ".join(STAGES["runtime"].all("RUN"))
    uninstalled = re.search(r"pip uninstall ([^&]*)", removal)
    assert uninstalled
    assert {"pip", "setuptools", "wheel"} <= set(uninstalled[1].split())
    assert "rm -rf" in removal
    assert "ensurepip" in removal, "pip lies there once more, as a wheel"
    assert not STAGES["runtime"].all("COPY")


def test_whatever_is_installed_is_held_to_hashes():
    installs = [run for stage in STAGES.values() for run in stage.all("RUN") if re.search(r"pip\W+(install|sync)", run)]
    assert len(installs) == 5
    for run in installs:
        ours = "--no-deps --offline" in run and run.rstrip().endswith('"${DIST}"/*.whl')
        assert "--require-hashes" in run or ours, run
        assert not re.search(r"curl|wget|apt-get|--index|https?://", run), run


def test_nothing_comes_by_address_and_nothing_secret_goes_in():
    for stage in STAGES.values():
        assert not stage.all("ADD")
        for argument in stage.all("ARG") + stage.all("ENV"):
            assert not re.search(r"(?i)secret|token|passw|credential|_key", argument)


@pytest.mark.parametrize(("target", "lock"), [("model", "tensorflow"), ("deploy", "deploy")])
def test_a_target_is_made_from_its_lock(target: str, lock: str):
    stage = STAGES[f"{target}-environment"]
    assert stage.all("COPY")[0] == f"requirements/{lock}.txt requirements/"
    assert f"requirements/{lock}.txt" in stage.all("RUN")[0]


def test_the_label_tells_the_version_of_the_project():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'org.opencontainers.image.version="{version}"' in STAGES["runtime"].all("LABEL")[0]


def test_only_what_the_build_copies_leaves_the_checkout():
    rules = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and not line.startswith("#")]
    assert rules[0] == "*", "everything is shut out first"
    allowed = {rule.removeprefix("!").split("/")[0] for rule in rules if rule.startswith("!")}
    copied = {
        source.split("/")[0]
        for stage in STAGES.values()
        for argument in stage.all("COPY")
        if not argument.startswith("--from")
        for source in argument.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


class Builder:
    """Does a stage's steps in a folder: what an engine does in a container, with ``/opt`` and ``/src`` moved there."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.done: set[str] = set()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
        self.env = {**kept, "PATH": path, "PYTHON_IMAGE": SOME_DIGEST}
        self.cwd = place

    def moved(self, path: str) -> Path:
        return self.place / path.lstrip("/") if path.startswith("/") else self.cwd / path

    def build(self, name: str) -> None:
        if name in self.done or name not in STAGES:
            return
        stage = STAGES[name]
        self.build(stage.base)
        does = {"ARG": self.arg, "ENV": self.set, "WORKDIR": self.workdir, "COPY": self.copy, "RUN": self.run}
        for word, argument in stage.steps:
            does[word](argument)
        self.done.add(name)

    def arg(self, argument: str) -> None:
        assert argument in self.env

    def set(self, argument: str) -> None:
        for name, value in (pair.split("=", 1) for pair in argument.split()):
            self.env[name] = str(self.moved(value))

    def workdir(self, argument: str) -> None:
        self.cwd = self.moved(argument)
        self.cwd.mkdir(parents=True)

    def copy(self, argument: str) -> None:
        words = argument.split()
        if words[0].startswith("--from="):
            self.build(words[0].removeprefix("--from="))
            assert words[1] == words[2]  # all stages share one folder here, so it is already in its place
            return
        *sources, target = words
        for source in sources:
            self._copy_one(ROOT / source, self.moved(target), into=target.endswith("/"))

    def _copy_one(self, source: Path, target: Path, *, into: bool) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            return
        assert into
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

    def run(self, argument: str) -> None:
        done = subprocess.run(
            ["sh", "-c", argument], cwd=self.cwd, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{argument}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_install_steps_of_deploy_make_a_command_that_runs(tmp_path: Path):
    builder = Builder(tmp_path)
    builder.build("deploy-environment")
    installed = tmp_path / "opt" / "slipway"
    clean = {"PATH": f"{installed / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}

    done = subprocess.run(["slipway", "--help"], cwd="/", env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: slipway" in done.stdout

    packages = {path.name.split("-")[0] for path in installed.glob("lib/python3*/site-packages/*.dist-info")}
    assert {"slipway", "kubernetes", "google_cloud_storage"} <= packages
    assert not {"pip", "setuptools", "uv", "hatchling", "tensorflow"} & packages

    # Templates and descriptors are no modules, yet the command needs them as well.
    (site,) = installed.glob("lib/python3*/site-packages")
    ours = [path for name in ("components", "manifests", "pipelines") for path in (tmp_path / "src" / name).rglob("*")]
    lost = [path.name for path in ours if path.is_file() and not (site / path.relative_to(tmp_path / "src")).is_file()]
    assert lost == []
