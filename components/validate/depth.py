"""Whether a graph's message is nested deeper than protobuf reads. Pure but for reading the file.

A parser of a limited depth only says that it cannot go on; a graph that deep is no accident, so it gets a reason of its
own. Walks the wire format (https://protobuf.dev/programming-guides/encoding) by the schema, with a stack of its own.
"""

from pathlib import Path
from typing import Any

from components.savedmodel.inspect import GRAPH_FILE
from components.savedmodel.messages import message

MAX_DEPTH = 100
"""Protobuf's own limit, which TensorFlow's loader has as well."""

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, are in no message of TensorFlow's


def too_deep(root: Path) -> bool:
    """Return whether the SavedModel's graph holds messages nested deeper than :data:`MAX_DEPTH`."""
    file = root / GRAPH_FILE
    return file.is_file() and _too_deep(file.read_bytes(), message("tensorflow.SavedModel").DESCRIPTOR)


def _too_deep(data: bytes, schema: Any) -> bool:  # noqa: ANN401 - a descriptor
    pending = [(0, len(data), schema, 1)]
    while pending:
        at, end, kind, depth = pending.pop()
        if depth > MAX_DEPTH:
            return True
        try:
            while at < end:
                key, at = _varint(data, at, end)
                start, at = _value(data, at, end, key & 7)
                field = kind.fields_by_number.get(key >> 3)
                if key & 7 == _LEN and field is not None and field.message_type is not None:
                    pending.append((start, at, field.message_type, depth + 1))
        except ValueError:
            continue  # what is broken here cannot be deeper
    return False


def _value(data: bytes, at: int, end: int, wire_type: int) -> tuple[int, int]:
    """Return where the value's content starts and where the next field does."""
    if wire_type == _VARINT:
        return at, _varint(data, at, end)[1]
    if wire_type == _LEN:
        size, at = _varint(data, at, end)
        if at + size > end:
            raise ValueError
        return at, at + size
    if wire_type in (_I64, _I32):
        return at, at + (8 if wire_type == _I64 else 4)
    raise ValueError


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError
