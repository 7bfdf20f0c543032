import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import Rejected
from components.export.keras_config import require_safe_archive, require_safe_config


def keras_file(path, config):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
    return path


def layer(class_name: str, module: str | None = "keras.layers") -> dict[str, object]:
    return {
        "class_name": "Sequential",
        "module": "keras",
        "config": {"layers": [{"class_name": class_name, "module": module}]},
    }


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (layer("Lambda"), "KERAS_LAMBDA"),
        (layer("__lambda__", "builtins"), "KERAS_LAMBDA"),
        (layer("TorchModuleWrapper"), "KERAS_LAMBDA"),
        (layer("system", "os"), "KERAS_UNSAFE_MODULE"),
        (layer("Evil", "keras_evil.layers"), "KERAS_UNSAFE_MODULE"),
        ("{", "KERAS_FILE"),
        ("[" * 100_000, "KERAS_FILE"),
    ],
)
def test_a_configuration_that_is_code_is_refused(tmp_path, config, reason):
    with pytest.raises(Rejected) as caught:
        require_safe_archive(keras_file(tmp_path / "m.keras", config))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "config", [layer("Dense"), layer("Registered", None), {"class_name": "relu", "module": "builtins"}]
)
def test_layers_of_keras_and_registered_ones_pass_here(tmp_path, config):
    require_safe_archive(keras_file(tmp_path / "m.keras", config))


def test_a_file_that_is_no_zip_is_no_keras_file(tmp_path):
    (tmp_path / "m.keras").write_bytes(b"text")
    with pytest.raises(Rejected) as caught:
        require_safe_archive(tmp_path / "m.keras")
    assert caught.value.reason == "KERAS_FILE"


@given(depth=st.integers(0, 300), wrap=st.lists(st.booleans(), max_size=300))
def test_a_lambda_is_found_at_any_depth(tmp_path_factory, depth, wrap):
    value: object = {"class_name": "Lambda", "config": {"name": "evil"}}
    for as_list in wrap[:depth]:
        value = [value] if as_list else {"config": value}
    with pytest.raises(Rejected, match="Lambda evil"):
        require_safe_config(tmp_path_factory.getbasetemp() / "m.keras", json.dumps(value))
