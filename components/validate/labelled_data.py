"""Labelled examples from a file: inputs by alias, labels, and columns to slice by. Reads without tensorflow.

What each format holds is told in docs/quality.md. Nothing is guessed: a name, dtype, shape or count that does not fit
is refused, with the place where it stands.
"""

import base64
import binascii
import csv
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from components.core.errors import Rejected
from components.core.signature import Shape, Signature
from components.savedmodel import tfrecord
from components.savedmodel.messages import message
from components.savedmodel.tensors import numpy_dtype

Array = npt.NDArray[np.generic]

_INDEXED = re.compile(r"(?P<name>.+)\[(?P<index>\d+)\]")
_COLUMN_KINDS = "SUObiu"


@dataclass(frozen=True, slots=True)
class LabelledData:
    """Examples: every array has one entry an example along its first axis."""

    inputs: Mapping[str, Array]
    labels: Array
    columns: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a reader has to find: names, and for inputs their specs."""

    signature: Signature
    inputs: tuple[str, ...]
    labels: str
    columns: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.inputs, self.labels, *self.columns)))

    def shape(self, name: str) -> Shape:
        """Shape of one example; None where nothing is known."""
        if name not in self.inputs:
            return None
        shape = self.signature.inputs[name].shape
        return None if shape is None else shape[1:]


def read(
    path: Path, signature: Signature, *, inputs: Sequence[str], labels: str, columns: Sequence[str] = ()
) -> LabelledData:
    """Read a labelled file; its name says the format: .npz, .tfrecord, .jsonl or .csv.

    Args:
        path: The file.
        signature: Whose inputs the examples are for.
        inputs: Aliases that a request must give.
        labels: Name of the labels.
        columns: Names of further arrays, to slice by.

    Raises:
        Rejected: EVALUATION_DATA: it cannot be read, or does not fit the signature.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(sorted(_READERS))
        raise bad_data(path, f"a name that ends in one of {known}", path.suffix or "no ending")
    wanted = _Wanted(signature, tuple(inputs), labels, tuple(columns))
    try:
        arrays = reader(path, wanted)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, RecursionError) as error:
        raise bad_data(path, "a readable file", f"{type(error).__name__}: {error}"[:500]) from error
    missing = [name for name in wanted.names if name not in arrays]
    if missing:
        raise bad_data(path, f"{', '.join(wanted.names)}", f"no {', '.join(missing)}")
    found = arrays[labels]
    if found.ndim == 0 or not len(found) or found.dtype.kind not in "biuf":
        raise bad_data(path, f"{labels}: numbers, at least one example", f"{found.dtype}{list(found.shape)}")
    rows = {name: len(array) if array.ndim else 0 for name, array in arrays.items() if name in wanted.names}
    if wrong := {name: count for name, count in rows.items() if count != len(found)}:
        raise bad_data(
            path, f"{len(found)} rows, one a label", ", ".join(f"{n} of {name}" for name, n in wrong.items())
        )
    return LabelledData(
        inputs={name: _as_input(path, name, arrays[name], signature) for name in inputs},
        labels=found,
        columns={name: _as_column(path, name, arrays[name]) for name in columns},
    )


def _as_input(path: Path, name: str, array: Array, signature: Signature) -> Array:
    """The dtype that the signature asks for, if that changes nothing but the rounding of floats."""
    spec = signature.inputs[name]
    wanted = numpy_dtype(spec.dtype)
    if wanted.kind == "O":
        if array.dtype.kind not in "SUO":
            raise bad_data(path, f"{name}: {spec}", f"{array.dtype}{list(array.shape)}")
        return _bytes(array)
    if array.dtype == wanted:
        return array
    if array.dtype.kind in "biuf":
        with np.errstate(all="ignore"):
            found = array.astype(wanted)
            rounded = array.dtype.kind == "f" and found.dtype.kind not in "biu"
        if rounded or np.array_equal(found.astype(array.dtype), array):
            return found
    raise bad_data(path, f"{name}: {spec}", f"{array.dtype}{list(array.shape)}")


def _as_column(path: Path, name: str, array: Array) -> Array:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in _COLUMN_KINDS:
        raise bad_data(
            path, f"{name}: text, whole numbers or booleans to slice by", f"{array.dtype}{list(array.shape)}"
        )
    return array


def _bytes(array: Array) -> Array:
    """Text as the object arrays of bytes that TensorFlow takes."""
    items = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
    found = np.empty(array.size, np.object_)
    found[:] = items
    return found.reshape(array.shape)


def _npz(path: Path, wanted: _Wanted) -> dict[str, Array]:
    # numpy leaves the file open where it is no archive; ours is closed in any case
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files if name in wanted.names}


def _jsonl(path: Path, wanted: _Wanted) -> dict[str, Array]:
    rows: list[Mapping[str, object]] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            row = json.loads(line, parse_constant=_no_constant)
            if not isinstance(row, dict) or (absent := [name for name in wanted.names if name not in row]):
                got = f"no {', '.join(absent)}" if isinstance(row, dict) else type(row).__name__
                raise bad_data(path, f"line {number}: an object with {', '.join(wanted.names)}", got)
            rows.append(row)
    return {name: _stacked(path, name, [_unpacked(row[name]) for row in rows]) for name in wanted.names if rows}


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _unpacked(value: object) -> object:
    """``{"b64": TEXT}`` are bytes, as in TensorFlow Serving's REST bodies."""
    if isinstance(value, list):
        return [_unpacked(each) for each in value]
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"no base64: {value['b64'][:40]}") from error
    return value.encode() if isinstance(value, str) else value


def _csv(path: Path, wanted: _Wanted) -> dict[str, Array]:
    """A column a name; a vector is ``name[0]``, ``name[1]``, … in any order."""
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        rows = list(reader)
        header = list(reader.fieldnames or ())
    if len(set(header)) != len(header):
        raise bad_data(path, "a header that names each column once", ", ".join(header))
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise bad_data(path, f"row {number}: {len(header)} fields", "another number of fields")
    return {
        name: array
        for name in wanted.names
        if rows and (array := _csv_array(path, name, header, rows, wanted)) is not None
    }


def _csv_array(
    path: Path, name: str, header: Sequence[str], rows: Sequence[Mapping[str, str]], wanted: _Wanted
) -> Array | None:
    text = name in wanted.inputs and wanted.signature.inputs[name].dtype == "string"
    convert = _text_column if text or name not in (*wanted.inputs, wanted.labels) else _number_column
    if name in header:
        return convert(path, name, [row[name] for row in rows])
    parts = {
        int(match["index"]): each for each in header if (match := _INDEXED.fullmatch(each)) and match["name"] == name
    }
    if not parts:
        return None
    if sorted(parts) != list(range(len(parts))):
        raise bad_data(path, f"columns {name}[0] to {name}[{len(parts) - 1}]", ", ".join(parts.values()))
    columns = [convert(path, each, [row[each] for row in rows]) for _, each in sorted(parts.items())]
    return _shaped(path, name, np.stack(columns, axis=1), wanted.shape(name))


def _text_column(_path: Path, _name: str, texts: Sequence[str]) -> Array:
    found = np.empty(len(texts), np.object_)
    found[:] = [text.encode() for text in texts]
    return found


def _number_column(path: Path, name: str, texts: Sequence[str]) -> Array:
    """Whole numbers if all are; true and false are 1 and 0."""
    plain = [{"true": "1", "false": "0"}.get(text.strip().lower(), text) for text in texts]
    for kind in (int, float):
        try:
            return np.array([kind(text) for text in plain])
        except ValueError:
            continue
    wrong = next(text for text in plain if not _is_number(text))
    raise bad_data(path, f"column {name}: numbers", repr(wrong[:100]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _tfrecord(path: Path, wanted: _Wanted) -> dict[str, Array]:
    """Features by name; or, where no feature is called like the only input and that takes text, the whole example."""
    example_class = message("tensorflow.Example")
    values: dict[str, list[object]] = {name: [] for name in wanted.names}
    whole = ""
    for number, data in enumerate(_records(path), start=1):
        try:
            features = example_class.FromString(data).features.feature
        except DecodeError as error:
            raise bad_data(path, f"record {number}: a tf.train.Example", str(error)) from error
        if number == 1:
            whole = _serialized_input(features, wanted)
        for name in wanted.names:
            if name == whole:
                values[name].append(data)
            else:
                values[name].append(_feature(path, number, name, features))
    return {
        name: _shaped(path, name, _stacked(path, name, found), None if name == whole else wanted.shape(name))
        for name, found in values.items()
        if found
    }


def _records(path: Path) -> Iterator[bytes]:
    try:
        yield from tfrecord.records(path)
    except Rejected as error:
        raise bad_data(path, "whole TFRecord frames", error.what) from error


def _serialized_input(features: Mapping[str, object], wanted: _Wanted) -> str:
    """Name of the input that takes serialized examples; empty if inputs are features."""
    if len(wanted.inputs) != 1 or wanted.inputs[0] in features:
        return ""
    [name] = wanted.inputs
    spec = wanted.signature.inputs[name]
    return name if spec.dtype == "string" and (spec.shape is None or len(spec.shape) == 1) else ""


def _feature(path: Path, number: int, name: str, features: Mapping[str, object]) -> list[object]:
    kind = features[name].WhichOneof("kind") if name in features else None  # type: ignore[attr-defined]
    if kind is None:
        raise bad_data(path, f"record {number}: a feature {name}", ", ".join(sorted(features)) or "no features")
    return list(getattr(features[name], kind).value)


def _stacked(path: Path, name: str, rows: Sequence[object]) -> Array:
    """One array of equally shaped rows: bytes as objects, numbers as NumPy reads them."""
    first = rows[0]
    while isinstance(first, list) and first:
        first = first[0]
    try:
        if isinstance(first, bytes):
            found = np.array(rows, dtype=np.object_)
            if all(isinstance(item, bytes) for item in found.ravel().tolist()):
                return found
            raise ValueError("text and something else")
        found = np.array(rows)
    except ValueError as error:
        raise bad_data(path, f"{name}: values of one kind, equally many in each example", str(error)[:200]) from error
    if found.dtype.kind not in "biuf":
        raise bad_data(path, f"{name}: numbers or text", f"{type(first).__name__}")
    return found


def _shaped(path: Path, name: str, array: Array, shape: Shape) -> Array:
    """Features and columns are flat; the signature says their shape, of which one unknown size follows."""
    if shape is None:
        return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    try:
        return array.reshape((len(array), *(-1 if size is None else size for size in shape)))
    except ValueError as error:
        expected = ", ".join("?" if size is None else str(size) for size in shape)
        got = f"{array[0].size} values an example"
        raise bad_data(path, f"{name}: examples of shape [{expected}], one unknown size at most", got) from error


def bad_data(path: Path, expected: str, got: str) -> Rejected:
    """Return the refusal of a labelled file."""
    return Rejected(
        f"{path.name} is no labelled data for this model",
        expected=expected,
        got=got,
        fix="see docs/quality.md for what each format holds",
        reason="EVALUATION_DATA",
    )


_READERS: Mapping[str, Callable[[Path, _Wanted], dict[str, Array]]] = MappingProxyType(
    {
        ".npz": _npz,
        ".jsonl": _jsonl,
        ".ndjson": _jsonl,
        ".csv": _csv,
        ".tfrecord": _tfrecord,
        ".tfrecords": _tfrecord,
    }
)
