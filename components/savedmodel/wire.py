"""Protocol Buffers' wire format, read field by field without the messages: only what is asked for is decoded.

Parsing a SavedModel as one message costs time and memory by its graph's size; a length-delimited field can be stepped
over instead. Source of the format: https://protobuf.dev/programming-guides/encoding/.
"""

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MORE = 0x80  # a byte of a varint that is not its last
_MAX_VARINT_BYTES = 10
_SIGN, _WRAP = 1 << 63, 1 << 64

Value = int | memoryview
Field = tuple[int, Value]
"""A field's number and its value: any number as an unsigned int, everything else as a view of its bytes."""

T = TypeVar("T")


class WireError(ValueError):
    """The bytes are no Protocol Buffers message; says at which byte of it and why."""


def mapped(path: Path) -> memoryview:
    """Return a file's bytes without reading them: pages come from the disk when they are looked at.

    The mapping lives as long as a view of it does.
    """
    with path.open("rb") as stream:
        if not stream.seek(0, 2):  # an empty file cannot be mapped
            return memoryview(b"")
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def fields(message: memoryview) -> Iterator[Field]:
    """Yield the fields of one message in the order of its bytes; nested messages stay bytes.

    Raises:
        WireError: A field is cut short, or of a kind that proto3 does not write.
    """
    at, end = 0, len(message)
    while at < end:
        key = message[at]
        at += 1
        if key >= _MORE:
            key, at = varint(message, at - 1)
        kind, number = key & 7, key >> 3
        if not number:
            raise WireError(f"field number 0 at byte {at}")
        if kind == BYTES:
            size = message[at] if at < end else _MORE
            if size < _MORE:
                at += 1
            else:
                size, at = varint(message, at)
            stop = at + size
            if stop > end:
                raise WireError(f"field {number} at byte {at} wants {size} bytes, {end - at} are left")
            yield number, message[at:stop]
            at = stop
        elif kind == VARINT:
            value, at = varint(message, at)
            yield number, value
        elif kind in (FIXED32, FIXED64):
            stop = at + (8 if kind == FIXED64 else 4)
            if stop > end:
                raise WireError(f"field {number} at byte {at} is cut short")
            yield number, int.from_bytes(message[at:stop], "little")
            at = stop
        else:
            raise WireError(f"field {number} at byte {at} is of wire type {kind}, which nobody writes any more")


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the unsigned number that begins at ``at``, and where it ends.

    Raises:
        WireError: It is cut short or longer than 64 bits.
    """
    value = shift = 0
    for byte in data[at : at + _MAX_VARINT_BYTES]:
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < _MORE:
            return value & (_WRAP - 1), at
        shift += 7
    raise WireError(f"the number at byte {at} does not end")


def message(value: Value) -> memoryview:
    """Return the bytes of a field that is a message, a string or bytes.

    Raises:
        WireError: It is a number.
    """
    if isinstance(value, int):
        raise WireError("a number where a message or text should be")
    return value


def number(value: Value) -> int:
    """Return a field that is an unsigned number, an enum or a bool.

    Raises:
        WireError: It is bytes.
    """
    if not isinstance(value, int):
        raise WireError("bytes where a number should be")
    return value


def signed(value: Value) -> int:
    """Return an ``int32`` or ``int64`` field: a varint in two's complement."""
    found = number(value)
    return found - _WRAP if found & _SIGN else found


def zigzag(value: Value) -> int:
    """Return a ``sint32`` or ``sint64`` field."""
    found = number(value)
    return found >> 1 ^ -(found & 1)


def text(value: Value) -> str:
    """Return a ``string`` field.

    Raises:
        WireError: It is no UTF-8.
    """
    try:
        return str(message(value), "utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"text that is no UTF-8: {error.reason} at byte {error.start}") from error


def values(parent: memoryview, wanted: int) -> Iterator[Value]:
    """Yield the values of one field, repeated or not."""
    return (value for number_, value in fields(parent) if number_ == wanted)


def submessage(parent: memoryview, wanted: int) -> memoryview:
    """Return one message field; its occurrences are joined, which is how parsers merge them; empty without any."""
    found = [message(value) for value in values(parent, wanted)]
    return found[0] if len(found) == 1 else memoryview(b"".join(found))


def numbers(parent: memoryview, wanted: int) -> Iterator[int]:
    """Yield a repeated number, packed or not."""
    for value in values(parent, wanted):
        if isinstance(value, int):
            yield value
        else:
            at = 0
            while at < len(value):
                one, at = varint(value, at)
                yield one


def last_text(parent: memoryview, wanted: int) -> str:
    """Return a ``string`` field: the last one counts; empty without any."""
    return text(last_bytes(parent, wanted))


def last_bytes(parent: memoryview, wanted: int) -> memoryview:
    """Return a length-delimited field: the last one counts; empty without any.

    Does what :func:`fields` does, three times as fast: a graph has one op a node, and thousands of nodes.
    """
    found, at, end, key_byte = memoryview(b""), 0, len(parent), wanted << 3 | BYTES
    while at < end:
        key = parent[at]
        if key & 7 != BYTES or key >= _MORE or key < 8 or at + 1 == end or parent[at + 1] >= _MORE:
            # a long or unusual field: the general way, for it and the rest
            for value in values(parent[at:], wanted):
                found = message(value)
            return found
        stop = at + 2 + parent[at + 1]
        if stop > end:
            raise WireError(f"field {key >> 3} at byte {at} is cut short")
        if key == key_byte:
            found = parent[at + 2 : stop]
        at = stop
    return found


def last_number(parent: memoryview, wanted: int) -> int:
    """Return a number field: the last one counts; 0 without any."""
    found = 0
    for value in values(parent, wanted):
        found = number(value)
    return found


def entries(parent: memoryview, wanted: int, decode: Callable[[memoryview], T]) -> dict[str, T]:
    """Return a ``map<string, message>`` field, sorted by key; of a key that comes twice the last counts."""
    found: dict[str, T] = {}
    for value in values(parent, wanted):
        entry = message(value)
        found[last_text(entry, 1)] = decode(submessage(entry, 2))
    return dict(sorted(found.items()))
