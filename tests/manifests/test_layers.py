"""Rendering is the bottom layer, and quick to start."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
from manifests.bundle import foundation, render, to_yaml
from tests.manifests.cases import CPU, VERSION
to_yaml(foundation(CPU) + render(CPU, VERSION))
print(*sys.modules)
"""

FORBIDDEN = {"components", "pipelines", "kubernetes", "tensorflow", "kfp", "hera", "numpy", "google.cloud",
             "google.protobuf", "grpc", "click", "rich", "jinja2"}  # fmt: skip


def test_rendering_loads_nothing_of_ours_above_it_and_nothing_heavy():
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    modules = answer.stdout.split()
    loaded = {".".join(name.split(".")[:depth]) for name in modules for depth in (1, 2)}
    assert "manifests" in loaded
    assert not loaded & FORBIDDEN
