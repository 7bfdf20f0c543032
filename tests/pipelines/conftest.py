"""Where compiled pipelines are executed: an environment without kfp and hera."""

import subprocess

import pytest

from tests.pipelines.images import NOT_MADE, STEPS_ENV

_NEITHER = "import importlib.util as u; print([name for name in ('kfp', 'hera') if u.find_spec(name)])"


@pytest.fixture(scope="session")
def steps_env() -> None:
    """Skip without the environment of the steps; prove that neither engine's package is in it."""
    python = STEPS_ENV / "bin" / "python"
    if not (STEPS_ENV / "bin" / "slipway").exists():
        pytest.skip(NOT_MADE)
    said = subprocess.run([python, "-c", _NEITHER], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]", f"the environment of the steps holds {said.stdout.strip()}"
