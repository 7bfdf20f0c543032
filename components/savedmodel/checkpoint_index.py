"""Reads which tensors a checkpoint holds from its ``.index`` file alone, without tensorflow and without the data.

The file is a table of sorted strings as LevelDB writes it (https://github.com/google/leveldb, doc/table_format.md); its
values are ``BundleEntryProto`` messages, and the empty key has the ``BundleHeaderProto`` (tensorflow/core/util/
tensor_bundle/tensor_bundle.h, tensorflow/core/protobuf/tensor_bundle.proto).
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from components.savedmodel.dtypes import dtype_name
from components.savedmodel.wire import WireError, fields, message, number, signed, varint

OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""A tensor that TensorFlow 2 keeps beside the variables: how to find them from Python objects."""

_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # a block's compression and its checksum
_MAGIC = 0xDB4775248B80FB57
_MAX_ENTRIES = 1_000_000
_MAX_KEY_BYTES = 65536
_MAX_ALL_KEYS_BYTES = 2**26  # keys share their beginnings, so a small file could hold very long ones
_SLICE_KEY = b"\0"  # the parts of a partitioned variable; the variable itself has an entry of its own


class Entry(NamedTuple):
    """One tensor of a checkpoint. ``size`` is in bytes, as stored; ``slices`` is how many parts it was saved in."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    shard: int
    slices: int = 0


class CheckpointIndex(NamedTuple):
    """All tensors of a checkpoint, sorted by key, and the number of its data files."""

    entries: tuple[Entry, ...]
    shards: int


def parse(data: memoryview) -> CheckpointIndex:
    """Return what an index file says. Checksums are not compared: whoever loads the checkpoint does.

    Args:
        data: The bytes of the file.

    Raises:
        WireError: It is no such table, or one of its messages cannot be decoded.
    """
    entries, shards = list[Entry](), 0
    for key, value in _table(data):
        if not key:
            shards = _shards(value)
        elif key.startswith(_SLICE_KEY):
            continue  # its bytes are counted below by the whole tensor's entry
        else:
            entries.append(_entry(_text(key), value))
    return CheckpointIndex(tuple(entries), shards)


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"a key that is no UTF-8: {key[:80]!r}") from error


def _shards(value: memoryview) -> int:
    found, endianness = 0, 0
    for field, content in fields(value):
        if field == 1:
            found = signed(content)
        elif field == 2:
            endianness = number(content)
    if endianness:
        raise WireError("a checkpoint of a big-endian machine")
    return found


def _entry(key: str, value: memoryview) -> Entry:
    dtype = size = shard = slices = 0
    shape: tuple[int, ...] = ()
    for field, content in fields(value):
        match field:
            case 1:
                dtype = number(content)
            case 2:
                shape = tuple(_sizes(message(content)))
            case 3:
                shard = signed(content)
            case 5:
                size = signed(content)
            case 7:
                slices += 1
            case _:
                pass
    if size < 0 or any(length < 0 for length in shape):
        raise WireError(f"{key} has a negative size")
    name = dtype_name(dtype)
    return Entry(key, name, shape, size or _whole(name, shape) if slices else size, shard, slices)


def _whole(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor saved in parts, whose own entry has no data."""
    return math.prod(shape) * _ITEM_BYTES.get(dtype, 0)


_ITEM_BYTES = {
    **dict.fromkeys(("int8", "uint8", "bool", "qint8", "quint8"), 1),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16", "qint16", "quint16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32", "qint32"), 4),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    "complex128": 16,
}


def _sizes(shape: memoryview) -> Iterator[int]:
    for field, content in fields(shape):
        if field == 2:
            yield next((signed(size) for name, size in fields(message(content)) if name == 1), 0)


def _table(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the keys and values of a table, in order."""
    if len(data) < _FOOTER_BYTES:
        raise WireError(f"{len(data)} bytes, which is less than a footer")
    footer = data[-_FOOTER_BYTES:]
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise WireError("no table: its magic number is missing at the end")
    _, _, at = _handle(footer, 0)  # of the index of meta blocks, which checkpoints do not use
    start, size, _ = _handle(footer, at)
    count = key_bytes = 0
    for _, handle in _block(data, start, size):
        where, length, _ = _handle(handle, 0)
        for entry in _block(data, where, length):
            count += 1
            key_bytes += len(entry[0])
            if count > _MAX_ENTRIES or key_bytes > _MAX_ALL_KEYS_BYTES:
                raise WireError(f"more than {_MAX_ENTRIES} entries, or {_MAX_ALL_KEYS_BYTES} bytes of keys")
            yield entry


def _handle(data: memoryview, at: int) -> tuple[int, int, int]:
    start, at = varint(data, at)
    size, at = varint(data, at)
    return start, size, at


def _block(data: memoryview, start: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the entries of one block; each key shares the beginning of the one before."""
    if start + size + _TRAILER_BYTES > len(data) - _FOOTER_BYTES:
        raise WireError(f"a block of {size} bytes at byte {start} reaches beyond the end")
    if compression := data[start + size]:
        raise WireError(f"a block with compression {compression}; checkpoints are written without")
    block = data[start : start + size]
    end = size - 4 * (_fixed32(block, size - 4) + 1)
    if end < 0:
        raise WireError(f"the block at byte {start} has more restarts than bytes")
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        fresh, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + fresh + length > end or shared + fresh > _MAX_KEY_BYTES:
            raise WireError(f"an entry of the block at byte {start} is cut short")
        key = key[:shared] + bytes(block[at : at + fresh])
        at += fresh + length
        yield key, block[at - length : at]


def _fixed32(data: memoryview, at: int) -> int:
    if at < 0:
        raise WireError("an empty block")
    return int.from_bytes(data[at : at + 4], "little")
