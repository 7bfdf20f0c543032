"""The lock files, read as text: hashed, complete, in agreement, and free of anybody's addresses. Needs no network."""

import re
import tomllib
from pathlib import Path

import pytest
from hatchling.build import get_requires_for_build_editable, get_requires_for_build_wheel
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from components.core.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
LOCKS = {path.stem: path for path in sorted((ROOT / "requirements").glob("*.txt"))}
PARTS = sorted(set(LOCKS) - {"all"})

EXTRAS = {
    "base": (),
    "tensorflow": ("tensorflow", "gcs"),
    "deploy": ("gcs", "kubernetes"),
    "kubeflow": ("kubeflow",),
    "argo": ("argo",),
    "examples": ("tensorflow", "examples"),
}
"""Which extras each lock of the product holds; the rest are dependency groups."""

GROUPS = {"dev": "dev", "uv": "bootstrap", "build": "build"}


def entries(lock: str) -> dict[str, list[tuple[Requirement, frozenset[str]]]]:
    """Return each locked package's pins, more than one where they differ by marker, with their hashes."""
    found: dict[str, list[tuple[Requirement, frozenset[str]]]] = {}
    text = re.sub(r"(?m)^\s*#.*$", "", LOCKS[lock].read_text())
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        pin, *hashes = re.split(r"\s+--hash=", line.strip())
        requirement = Requirement(pin)
        found.setdefault(canonicalize_name(requirement.name), []).append((requirement, frozenset(hashes)))
    return found


def pins(lock: str) -> set[tuple[str, str]]:
    return {(name, str(pin.specifier)) for name, rows in entries(lock).items() for pin, _ in rows}


def asked(lock: str) -> list[Requirement]:
    """Return what pyproject.toml asks of a lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    if lock == "all":
        return [requirement for part in PARTS for requirement in asked(part)]
    groups = project["dependency-groups"]
    lines = list(project["project"]["dependencies"]) if lock in EXTRAS or lock == "dev" else []
    for extra in EXTRAS.get(lock, ()):
        lines += project["project"]["optional-dependencies"][extra]
    waiting = [GROUPS[lock]] if lock in GROUPS else []
    while waiting:
        for entry in groups[waiting.pop()]:
            if isinstance(entry, dict):
                waiting.append(entry["include-group"])
            else:
                lines.append(entry)
    return [Requirement(line) for line in lines]


def test_every_lock_is_described_here_and_every_described_lock_exists():
    assert set(LOCKS) == {"all", *EXTRAS, *GROUPS}


def test_every_extra_is_in_some_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) == {extra for extras in EXTRAS.values() for extra in extras}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_has_sha256_hashes(lock: str):
    for name, rows in entries(lock).items():
        for pin, hashes in rows:
            assert re.fullmatch(r"==[^,*]+", str(pin.specifier)), f"{name} in {lock} is not pinned: {pin}"
            assert hashes, f"{name} in {lock} has no hash"
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes)


@pytest.mark.parametrize("lock", PARTS)
def test_every_part_is_a_subset_of_all_so_any_two_install_together(lock: str):
    assert pins(lock) <= pins("all")


@pytest.mark.parametrize("lock", PARTS)
def test_a_part_accepts_the_same_files_as_all(lock: str):
    everything = {(name, str(pin.specifier)): hashes for name, rows in entries("all").items() for pin, hashes in rows}
    for name, rows in entries(lock).items():
        for pin, hashes in rows:
            assert hashes == everything[name, str(pin.specifier)], name


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_a_pin_within_the_range_of_everything_the_project_asks_for(lock: str):
    locked = entries(lock)
    for requirement in asked(lock):
        rows = locked.get(canonicalize_name(requirement.name), [])
        assert rows, f"{requirement.name} is missing from {lock}: make lock"
        for pin, _ in rows:
            version = str(pin.specifier).removeprefix("==")
            assert requirement.specifier.contains(version, prereleases=True), f"{pin} in {lock}, asked {requirement}"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host_and_no_path(lock: str):
    for line in LOCKS[lock].read_text().splitlines():
        assert not re.search(r"://|file:|(^|\s)/|--(extra-)?index|--find-links", line), line


@pytest.mark.parametrize(
    ("lock", "absent"),
    [
        ("base", {"tensorflow", "kfp", "hera", "kubernetes", "google-cloud-storage", "scikit-learn"}),
        ("tensorflow", {"kfp", "hera", "kubernetes", "pytest", "pip", "uv", "hatchling"}),
        ("deploy", {"tensorflow", "kfp", "hera", "scikit-learn", "pip", "uv", "hatchling"}),
        ("examples", {"kfp", "hera", "kubernetes", "mypy", "pytest"}),
    ],
)
def test_what_is_installed_for_a_purpose_holds_nothing_of_another(lock: str, absent: set[str]):
    assert not absent & set(entries(lock))


def test_the_build_lock_holds_what_the_build_backend_asks_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)  # a build backend works in the folder of its project
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    required = [
        *project["build-system"]["requires"],
        *get_requires_for_build_editable(),
        *get_requires_for_build_wheel(),
    ]
    assert {canonicalize_name(Requirement(line).name) for line in required} <= set(entries("build"))


def test_the_version_stands_once_in_the_project_and_once_in_the_code_and_is_the_same():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert declared == VERSION
