"""``slipway compile``: where the text goes, and what it says when it cannot write one."""

import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines.cli import main
from tests.pipelines.compiling import EXAMPLE, IMAGES
from tests.pipelines.images import STEPS_ENV

SETS = [word for each in IMAGES for word in ("--set", each)]
SPEC = str(EXAMPLE / "release.yaml")


@pytest.mark.parametrize("engine", ["kubeflow", "argo"])
def test_standard_output_holds_the_yaml_and_nothing_else(engine: str, capsys: pytest.CaptureFixture[str]):
    assert main(["compile", SPEC, "--engine", engine, *SETS]) == 0
    assert all(isinstance(each, dict) for each in yaml.safe_load_all(capsys.readouterr().out))


def test_a_file_is_written_in_a_folder_that_is_made_for_it(tmp_path: Path):
    output = tmp_path / "new" / "argo.yaml"
    assert main(["compile", SPEC, "--engine", "argo", "-o", str(output), *SETS]) == 0
    assert output.read_text().startswith("---\n")


def test_without_images_it_is_rejected_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "argo.yaml"
    assert main(["compile", SPEC, "--engine", "argo", "-o", str(output)]) == 10
    assert "engine.model_image, serving.image, serving.tools_image" in capsys.readouterr().err
    assert not output.exists()


def test_components_are_kubeflows_only(tmp_path: Path):
    assert main(["compile", SPEC, "--engine", "argo", "--components", str(tmp_path), *SETS]) == 2


@pytest.mark.usefixtures("steps_env")
@pytest.mark.parametrize("engine", ["kubeflow", "argo"])
def test_without_the_engines_package_it_names_the_extra_to_install(engine: str):
    command = [STEPS_ENV / "bin" / "slipway", "compile", SPEC, "--engine", engine, *SETS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 10
    assert f"pip install 'slipway[{engine}]'" in done.stderr
    assert not done.stdout
