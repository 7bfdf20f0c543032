"""Judges a Keras file before Keras sees it: its configuration names code to run. Imports neither keras nor tensorflow.

``safe_mode=True`` refuses Lambda payloads by itself; here the refusal has a reason code, also covers legacy ``.h5``
files, and classes outside Keras, whose modules would be imported.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from components.core.errors import Rejected

_CONFIG = "config.json"
_MAX_CONFIG_BYTES = 2**28
_LAMBDAS = frozenset({"Lambda", "__lambda__", "TorchModuleWrapper"})  # bytecode, bytecode, pickle
_MAX_NODES = 5_000_000


def require_safe_archive(path: Path) -> None:
    """Check a ``.keras`` file.

    Raises:
        Rejected: KERAS_FILE, KERAS_LAMBDA or KERAS_UNSAFE_MODULE.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(_CONFIG).file_size > _MAX_CONFIG_BYTES:
                raise _no_keras_file(path, f"{_CONFIG} of more than {_MAX_CONFIG_BYTES} bytes")
            text = archive.read(_CONFIG)
    except (zipfile.BadZipFile, KeyError, NotImplementedError, EOFError, RuntimeError) as error:
        raise _no_keras_file(path, str(error)) from error
    require_safe_config(path, text)


def require_safe_config(path: Path, text: str | bytes) -> None:
    """Check a model's configuration as JSON.

    Raises:
        Rejected: KERAS_FILE, KERAS_LAMBDA or KERAS_UNSAFE_MODULE.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_keras_file(path, str(error)) from error
    for node in _objects(config):
        class_name, module = node.get("class_name"), node.get("module")
        if class_name in _LAMBDAS:
            raise Rejected(
                f"{path.name} holds a {class_name}: code that would run when it is loaded",
                expected="layers of Keras only",
                got=f"{class_name} {_name(node)}".strip(),
                fix="replace the Lambda by a layer of Keras or keras.ops, or write a SavedModel with model.export(...)",
                reason="KERAS_LAMBDA",
            )
        if isinstance(module, str) and module != "builtins" and module.partition(".")[0] != "keras":
            raise Rejected(
                f"{path.name} needs the module {module}, which is not part of Keras",
                expected="layers of Keras only",
                got=f"{module}.{class_name}",
                fix="write a SavedModel with model.export(...) in the training code, which has that module",
                reason="KERAS_UNSAFE_MODULE",
            )


def _objects(value: object) -> Iterator[dict[str, object]]:
    """Every JSON object that names a class, however deep; without recursion, as depth is the maker's choice."""
    pending, seen = [value], 0
    while pending:
        current = pending.pop()
        seen += 1
        if seen > _MAX_NODES:
            return
        if isinstance(current, dict):
            if "class_name" in current:
                yield current
            pending.extend(current.values())
        elif isinstance(current, list):
            pending.extend(current)


def _name(node: dict[str, object]) -> str:
    config = node.get("config")
    return str(config.get("name", "")) if isinstance(config, dict) else ""


def _no_keras_file(path: Path, got: str) -> Rejected:
    return Rejected(
        f"{path.name} is no Keras 3 file",
        expected=f"a zip archive with {_CONFIG}, as model.save('model.keras') writes it",
        got=got,
        reason="KERAS_FILE",
    )
