"""Releases of a small model through the installed command, for the tests that look at a run from outside."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SLIPWAY = Path(sys.executable).with_name("slipway")

TRAINER = """\
import pathlib, shutil, sys
shutil.copytree("trained", sys.argv[1], dirs_exist_ok=True)
"""

SPEC = """\
apiVersion: slipway.dev/v1
model: mlp
source:
  train:
    command: [python, train.py, "{output}"]
    inputs: [train.py, trained]
optimize: {profile: none}
validate:
  evaluate: {data: labelled.npz, output: scores}
export:
  signatures:
    serving_default:
      inputs: {pixels: {shape: [null, 64]}}
      outputs: {scores: {shape: [null, 10]}}
store: {uri: ./store}
canary:
  traffic: {requests: labelled.npz, rate_per_s: 150}
  budgets: {error_rate: 0.1, churn: 0.2, latency_ratio: 20, error_ratio: 5}
  limits: {min_requests: 20, warm_up_requests: 5, max_duration_s: 60}
"""


@dataclass(frozen=True)
class Place:
    """A folder with a spec, its trainer, its store and its state."""

    folder: Path

    @property
    def spec(self) -> Path:
        return self.folder / "release.yaml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def command(self, *words: str) -> list[str]:
        return [str(SLIPWAY), "--state", str(self.state), *words]

    def run(self, *words: str, code: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command; with ``code``, check how it exits."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=280, check=False)
        if code is not None:
            assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def release(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        return self.run("run", str(self.spec), *words, code=code)

    def status(self) -> dict:
        """The model's row of ``slipway status --live --json``."""
        return json.loads(self.run("status", "--live", "--json", code=0).stdout)["models"][0]

    def stop_at(self, step: int, number: signal.Signals) -> int:
        """Run the release, send a signal as soon as step ``step`` begins, and return the exit code."""
        with subprocess.Popen(
            self.command("run", str(self.spec)), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as running:
            assert running.stderr is not None
            for line in running.stderr:
                if line.startswith(f"[{step}/"):
                    os.kill(running.pid, number)
                    break
            running.stderr.read()
            return running.wait(timeout=60)


def make_place(folder: Path, model: Path, scale: float = 1.0) -> Place:
    """Write spec, trainer and labelled data around a SavedModel ``pixels`` [n, 64] to ten scores."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(model, folder / "trained")
    (folder / "train.py").write_text(TRAINER)
    (folder / "release.yaml").write_text(SPEC)
    random = np.random.default_rng(7)
    rows = (random.random((64, 64)) * scale).astype(np.float32)
    np.savez(folder / "labelled.npz", pixels=rows, labels=np.arange(64) % 10)
    return Place(folder)
