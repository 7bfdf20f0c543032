"""What answers at once must not wait for TensorFlow, an engine's SDK or a cloud client to be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("tensorflow", "keras", "kfp", "kubernetes", "google.cloud", "hera", "sklearn")

# Runs the command as the console script does, then tells which heavy packages it has imported on the way.
PROBE = """
import json, sys
sys.argv = ["slipway", *sys.argv[1:]]
import slipway
code = 0
try:
    slipway.main()
except SystemExit as end:
    code = end.code
finally:
    heavy = json.loads({heavy!r})
    loaded = [name for name in heavy if name in sys.modules]
    print("\\nPROBE", json.dumps({{"code": code, "loaded": loaded}}))
"""

LOCAL = """\
apiVersion: slipway.dev/v1
model: digits
source: {fetch: {uri: ./model}}
store: {uri: ./store}
"""

KUBERNETES = f"""\
apiVersion: slipway.dev/v1
model: digits
source: {{fetch: {{uri: "gs://bucket/model"}}}}
store: {{uri: "gs://bucket/models"}}
serving:
  image: example.invalid/serving@sha256:{"0" * 64}
  tools_image: example.invalid/slipway@sha256:{"1" * 64}
"""


def probed(*words: str, cwd: Path) -> tuple[object, list[str], str]:
    """Run a command and return its exit code, the heavy packages it imported, and what it wrote."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = PROBE.format(heavy=json.dumps(HEAVY))
    command = [sys.executable, "-P", "-c", script, *words]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert "PROBE" in done.stdout, done.stderr
    answer = json.loads(done.stdout.rsplit("PROBE", 1)[1])
    return answer["code"], answer["loaded"], done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "local.yaml").write_text(LOCAL)
    (tmp_path / "kubernetes.yaml").write_text(KUBERNETES)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").touch()
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--help",), id="help"),
        pytest.param(("--version",), id="version"),
        pytest.param(("plan", "local.yaml"), id="plan"),
        pytest.param(("render", "kubernetes.yaml", "--version", "3", "--digest", f"sha256:{'a' * 64}"), id="render"),
        pytest.param(("status",), id="status"),
        pytest.param(("spec", "schema"), id="schema"),
    ],
)
def test_a_command_that_only_reads_and_decides_imports_nothing_heavy(project: Path, words: tuple[str, ...]):
    code, loaded, wrote = probed("--state", "state", *words, cwd=project)
    assert code in (0, None), wrote
    assert loaded == []


def test_the_probe_sees_a_heavy_import(project: Path):
    script = PROBE.format(heavy=json.dumps(["decimal"])).replace("import slipway\n", "import decimal, slipway\n")
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, "--help"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert '"loaded": ["decimal"]' in done.stdout
