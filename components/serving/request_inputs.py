"""The inputs of one request, as a command line gives them: files, expressions, examples, or a JSON body.

The spellings are those of ``saved_model_cli run`` (``NAME=FILE.npy``, ``NAME=FILE.npz[ARRAY]``, ``NAME=EXPRESSION``,
``NAME=[{FEATURE: [VALUES]}]``, several joined by ``;``) and of TensorFlow Serving's REST bodies. Pickles are refused,
and nothing is evaluated by Python itself.
"""

import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec
from components.savedmodel.messages import message
from components.savedmodel.tensors import Array, numpy_dtype
from components.serving import json_requests
from components.serving.array_expressions import evaluate, literal
from components.serving.status import ServingError

_FILE = re.compile(r"(?P<path>.*?)(\[(?P<array>[^\[\]]+)\])?", re.DOTALL)
_INT64 = 2**63


def from_files(words: Sequence[str]) -> dict[str, Array]:
    """Return the arrays of ``NAME=FILE.npy`` and ``NAME=FILE.npz[ARRAY]``.

    Raises:
        Rejected: INPUT_FORMAT, INPUT_TWICE, INPUT_FILE or INPUT_PICKLE.
    """
    return _once((name, _load(text)) for name, text in _pairs(words))


def from_expressions(words: Sequence[str]) -> dict[str, Array]:
    """Return the arrays of ``NAME=EXPRESSION``.

    Raises:
        Rejected: INPUT_FORMAT, INPUT_TWICE or EXPRESSION.
    """
    return _once((name, evaluate(text)) for name, text in _pairs(words))


def from_examples(words: Sequence[str]) -> dict[str, Array]:
    """Return vectors of serialized ``tf.train.Example`` of ``NAME=[{FEATURE: [VALUES]}, …]``.

    Raises:
        Rejected: INPUT_FORMAT, INPUT_TWICE, EXPRESSION or EXAMPLE.
    """
    return _once((name, _examples(literal(text))) for name, text in _pairs(words))


def from_json(body: bytes, signature: Signature) -> dict[str, Array]:
    """Return the inputs of a REST body (``inputs`` or ``instances``), or of an object with just the inputs by alias.

    Raises:
        Rejected: INPUT_JSON, with the text a server would answer.
    """
    try:
        parsed = json_requests.parse(body)
        if not {"inputs", "instances"} & parsed.document.keys():
            parsed = json_requests.PredictBody(parsed.signature, {"inputs": parsed.document})
        return json_requests.tensors(parsed, signature)
    except ServingError as error:
        raise Rejected(
            "the JSON is no predict request",
            expected='{"inputs": {NAME: VALUES}} or {"instances": [ROW, ...]}',
            got=error.message,
            reason="INPUT_JSON",
        ) from error


def signature_in_json(body: bytes) -> str:
    """Return the ``signature_name`` of a REST body; empty if it names none or is no JSON object."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    name = found.get("signature_name", "") if isinstance(found, dict) else ""
    return name if isinstance(name, str) else ""


def joined(*parts: dict[str, Array]) -> dict[str, Array]:
    """Return all inputs together.

    Raises:
        Rejected: INPUT_TWICE.
    """
    return _once(pair for part in parts for pair in part.items())


def fit(inputs: dict[str, Array], signature: Signature) -> dict[str, Array]:
    """Return inputs in the dtypes that a signature asks for, where that changes no value beyond rounding.

    Names and shapes stay as they are: the model or server judges those.

    Raises:
        Rejected: INPUT_DTYPE.
    """
    return {
        name: _fitted(name, array, signature.inputs[name]) if name in signature.inputs else array
        for name, array in inputs.items()
    }


def _fitted(name: str, array: Array, spec: TensorSpec) -> Array:
    wanted = numpy_dtype(spec.dtype)
    if array.dtype == wanted or (wanted.kind == "O" and array.dtype.kind in "SU"):
        return array
    if array.dtype.kind in ("biufc" if wanted.kind == "c" else "biuf") and wanted.kind != "O":
        with np.errstate(all="ignore"):
            found: Array = array.astype(wanted)
        if np.can_cast(array.dtype, wanted, "same_kind") and _unchanged_integers(array, found):
            return found
        if np.array_equal(found, array) and found.dtype.kind != "b":
            return found
    raise Rejected(
        f"input {name} has another dtype",
        expected=str(spec),
        got=f"{'string' if array.dtype.kind in 'SUO' else array.dtype.name}{list(array.shape)}",
        fix="give values of that dtype",
        reason="INPUT_DTYPE",
    )


def _unchanged_integers(array: Array, found: Array) -> bool:
    """Rounding a float is expected of a narrower one; an integer that was cut off is another number."""
    return found.dtype.kind not in "iu" or bool(np.array_equal(found, array))


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        for part in _split(word):
            name, equals, text = part.partition("=")
            if not equals or not name.strip() or not text.strip():
                raise Rejected(
                    f"{part[:200]!r} says no input",
                    expected="NAME=VALUE, several joined by `;`",
                    got=part[:200],
                    reason="INPUT_FORMAT",
                )
            yield name.strip(), text.strip()


def _split(word: str) -> Iterator[str]:
    """Split at each ``;`` that is outside of quotes."""
    start, quote, escaped = 0, "", False
    for at, letter in enumerate(word):
        if escaped:
            escaped = False
        elif letter == "\\" and quote:
            escaped = True
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == ";":
            yield from filter(str.strip, [word[start:at]])
            start = at + 1
    yield from filter(str.strip, [word[start:]])


def _once(pairs: Iterator[tuple[str, Array]]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name, array in pairs:
        if name in found:
            raise Rejected(f"input {name} is given twice", expected="each input once", reason="INPUT_TWICE")
        found[name] = array
    return found


def _load(text: str) -> Array:
    match = _FILE.fullmatch(text)
    path, wanted = (match["path"], match["array"]) if match else (text, None)
    try:
        with Path(path).open("rb") as stream:  # NumPy leaves a damaged archive open
            opened = np.load(stream, allow_pickle=False)
            return opened if isinstance(opened, np.ndarray) else _member(path, opened, wanted)
    except (OSError, EOFError, ValueError, MemoryError, SyntaxError, zipfile.BadZipFile, NotImplementedError) as error:
        pickled = "pickle" in str(error).lower() or "Object arrays" in str(error)
        raise Rejected(
            f"{path} is refused: it would run code to be read" if pickled else f"{path} cannot be read",
            expected="a .npy or .npz file of numbers or text",
            got=f"{type(error).__name__}: {error}"[:500],
            fix="save it with np.save, as an array whose dtype is not object" if pickled else "",
            reason="INPUT_PICKLE" if pickled else "INPUT_FILE",
        ) from error


def _member(path: str, opened: "np.lib.npyio.NpzFile", wanted: str | None) -> Array:
    there = opened.files
    if wanted is None and len(there) == 1:
        wanted = there[0]
    if wanted is None or wanted not in there:
        raise Rejected(
            f"{path} has no array {wanted}" if wanted else f"{path} has several arrays",
            expected=f"NAME={Path(path).name}[ARRAY] with one of {', '.join(there)}" if there else "arrays",
            got=wanted or "no name",
            reason="INPUT_FILE",
        )
    found: Array = opened[wanted]
    return found


def _examples(value: object) -> Array:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _no_example(value, "a list of dictionaries")
    found = np.empty(len(value), object)
    found[:] = [_example(item) for item in value]
    return found


def _example(features: dict[object, object]) -> bytes:
    example = message("tensorflow.Example")()
    for name, values in features.items():
        if not isinstance(name, str) or not isinstance(values, list):
            raise _no_example({name: values}, "feature names with lists of values")
        _fill(example.features.feature[name], values)
    data: bytes = example.SerializeToString(deterministic=True)
    return data


def _fill(feature: object, values: list[object]) -> None:
    """As saved_model_cli chooses the kind, but by all values: one float among whole numbers makes them floats."""
    if all(isinstance(value, str | bytes) for value in values):
        encoded = [value.encode() if isinstance(value, str) else value for value in values]
        feature.bytes_list.value.extend(encoded)  # type: ignore[attr-defined]
    elif all(isinstance(value, int) and -_INT64 <= value < _INT64 for value in values):
        feature.int64_list.value.extend(values)  # type: ignore[attr-defined]
    elif all(isinstance(value, int | float) for value in values):
        feature.float_list.value.extend([float(value) for value in values])  # type: ignore[attr-defined, arg-type]
    else:
        raise _no_example(values, "values all of one kind: numbers, or text and bytes")


def _no_example(value: object, expected: str) -> Rejected:
    return Rejected("no tf.train.Example", expected=expected, got=repr(value)[:200], reason="EXAMPLE")
