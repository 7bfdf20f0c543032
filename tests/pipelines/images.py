"""Container images, for launchers without a container engine: what a program finds in one is a PATH and an environment.

What this cannot show, and a real node would: file system isolation, users, resources, pulling.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEPS_ENV = ROOT / ".venv-steps"
"""Made by ``make env-steps``: what the image `model` holds, so neither kfp nor hera."""

NOT_MADE = "needs .venv-steps, an environment without kfp and hera: make env-steps"


@dataclass(frozen=True)
class Image:
    """A program is looked up on ``path`` alone; it inherits nothing of this process's environment but ``env``."""

    path: tuple[Path, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pod:
    """One container that has run: 137 says that it was killed at its deadline, as a container's exit code does."""

    node: str
    words: tuple[str, ...]
    exit_code: int
    log: str


def steps_image() -> Image:
    """Slipway's own image."""
    return Image((STEPS_ENV / "bin", Path("/usr/bin"), Path("/bin")), {"TF_CPP_MIN_LOG_LEVEL": "3"})


def users_image(folder: Path, environment: Path = Path(sys.prefix)) -> Image:
    """An image of a user's own: its ``python`` finds the packages of an environment, but not Slipway.

    Slipway is installed there in place, by a .pth file; -S leaves .pth files unread, and PYTHONPATH never reads them.
    """
    packages = next((environment / "lib").glob("python3*/site-packages"))
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {environment}/bin/python -S -P "$@"\n')
    python.chmod(0o755)
    return Image((folder, Path("/usr/bin"), Path("/bin")), {"TF_CPP_MIN_LOG_LEVEL": "3"})


def run(node: str, image: Image, words: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout_s: float) -> Pod:
    """Run a container's command to its end, as a node does: its exit code, and both its outputs as one log."""
    path = os.pathsep.join(str(folder) for folder in image.path)
    around = {"PATH": path, "HOME": str(cwd), **image.env, **env}
    # What a step leaves running (servers of the target `local`) must not keep a pipe of ours open: the log is a file.
    log = cwd / f"{node}.log"
    with log.open("wb") as out:
        command = ["/usr/bin/env", *words]
        try:
            code = subprocess.run(
                command,
                env=around,
                cwd=cwd,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                timeout=timeout_s,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = 137
    return Pod(node, tuple(words), code if code >= 0 else 128 - code, log.read_text(errors="replace"))
