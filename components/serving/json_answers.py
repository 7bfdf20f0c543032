"""Arrays as JSON text, written as TensorFlow Serving writes them (tensorflow/serving: util/json_tensor.cc)."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from components.savedmodel.tensors import Array, short_name
from components.serving.status import invalid

_PLAIN = frozenset({"int32", "int16", "int8", "uint8", "int64", "uint32", "uint64"})
_DIGITS = {"float32": 9, "float64": 17}
"""``std::numeric_limits<T>::max_digits10``."""


def decimals(array: Array) -> list[str]:
    """Return each float as text: six digits if they read back as the same number, else as many as it takes.

    Whole numbers end in ``.0``, so that a client never sees a list of mixed types; NaN and infinities are JSON's
    common extension.
    """
    flat = array.ravel()
    texts = [f"{value:.6g}" for value in flat.tolist()]
    with np.errstate(over="ignore"):
        same = np.array(texts, np.float64).astype(flat.dtype) == flat
    digits = _DIGITS[flat.dtype.name]
    for index in np.flatnonzero(~same).tolist():
        texts[index] = _exact(float(flat[index]), digits)
    return [text if "." in text or "e" in text or text[-1] in "yNf" else f"{text}.0" for text in _named(texts)]


def _exact(value: float, digits: int) -> str:
    return "NaN" if value != value else f"{value:.{digits}g}"  # noqa: PLR0124 - the definition of NaN


def _named(texts: list[str]) -> Iterator[str]:
    names = {"inf": "Infinity", "-inf": "-Infinity"}
    return (names.get(text, text) for text in texts)


def values(name: str, array: Array) -> list[str]:
    """Return each element of a tensor as JSON text, in row-major order.

    Args:
        name: The tensor's alias: strings of one that ends in ``_bytes`` are written as base64.
        array: Any shape.

    Raises:
        ServingError: INVALID_ARGUMENT for a dtype that REST cannot write.
    """
    kind = array.dtype.name
    if kind in _DIGITS:
        return decimals(array)
    if kind in _PLAIN:
        return [str(value) for value in array.ravel().tolist()]
    if kind == "bool":
        return ["true" if value else "false" for value in array.ravel().tolist()]
    if kind != "object":
        raise invalid(f"Failed to write JSON value for tensor type: {short_name(kind)}")
    if name.endswith("_bytes"):
        return [f'{{"b64": "{base64.b64encode(item).decode()}"}}' for item in array.ravel().tolist()]
    return [string(item) for item in array.ravel().tolist()]


def string(item: bytes) -> str:
    """Return bytes as a JSON string; what is no UTF-8 passes through as it is (``surrogateescape``)."""
    return json.dumps(item.decode("utf-8", "surrogateescape"), ensure_ascii=False)


def nested(texts: list[str], shape: tuple[int, ...]) -> str:
    """Return elements in row-major order as nested JSON lists of a shape."""
    if not shape:
        return texts[0]
    for axis in range(len(shape) - 1, 0, -1):
        size, count = shape[axis], int(np.prod(shape[:axis]))
        texts = [f"[{', '.join(texts[index * size : (index + 1) * size])}]" for index in range(count)]
    return f"[{', '.join(texts)}]"


def columns(outputs: Mapping[str, Array]) -> str:
    """Return outputs in columnar form: bare if there is one, else by alias.

    Raises:
        ServingError: There are none, or REST cannot write one.
    """
    _some(outputs)
    parts = {name: nested(values(name, array), array.shape) for name, array in outputs.items()}
    if len(parts) == 1:
        body = next(iter(parts.values()))
    else:
        body = _object([f"{json.dumps(name)}: {text}" for name, text in parts.items()], indent=8)
    return f'{{\n    "outputs": {body}\n}}'


def rows(outputs: Mapping[str, Array]) -> str:
    """Return outputs in row form: one entry for each row, bare if there is one output, else by alias.

    Raises:
        ServingError: There are none, one is a scalar, their first dimensions differ, or REST cannot write one.
    """
    _some(outputs)
    count = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if count >= 0 and array.shape[0] != count:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {count}")
        count = array.shape[0]
    split = {name: _split(values(name, array), array.shape) for name, array in outputs.items()}
    if len(split) == 1:
        entries = next(iter(split.values()))
    else:
        entries = [
            _object([f"{json.dumps(name)}: {texts[row]}" for name, texts in split.items()], indent=12)
            for row in range(count)
        ]
    return f'{{\n    "predictions": [{", ".join(entries)}\n    ]\n}}'


def _split(texts: list[str], shape: tuple[int, ...]) -> list[str]:
    size = len(texts) // shape[0] if shape[0] else 0
    return [nested(texts[row * size : (row + 1) * size], shape[1:]) for row in range(shape[0])]


def _object(members: list[str], *, indent: int) -> str:
    inner = ",\n".join(" " * indent + member for member in members)
    return f"{{\n{inner}\n{' ' * (indent - 4)}}}"


def _some(outputs: Mapping[str, Array]) -> None:
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")


def classifications(result: Any) -> str:  # noqa: ANN401 - a ClassificationResult
    """Return a ``ClassificationResult``: for each example a list of [label, score].

    Raises:
        ServingError: It is empty.
    """
    if not result.classifications:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    entries = []
    for found in result.classifications:
        scores = decimals(np.array([item.score for item in found.classes], np.float32))
        pairs = [f"[{_label(item)}, {score}]" for item, score in zip(found.classes, scores, strict=True)]
        entries.append(f"[{', '.join(pairs)}]")
    return f'{{\n    "results": [{", ".join(entries)}\n    ]\n}}'


def _label(item: Any) -> str:  # noqa: ANN401 - a Class
    return json.dumps(item.label, ensure_ascii=False)


def regressions(result: Any) -> str:  # noqa: ANN401 - a RegressionResult
    """Return a ``RegressionResult``: a value for each example.

    Raises:
        ServingError: It is empty.
    """
    if not result.regressions:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    found = decimals(np.array([item.value for item in result.regressions], np.float32))
    return f'{{\n    "results": [{", ".join(found)}]\n}}'
