"""NumPy arrays to ``TensorProto`` and back, without tensorflow.

The rules are those of TensorFlow's own ``Tensor::FromProto`` (tensorflow/core/framework/tensor.cc): ``tensor_content``
wins where it is set and must have exactly the bytes of the shape; otherwise the typed field is read, surplus values are
ignored, missing ones repeat the last, and none at all means zeros.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from components.core.errors import Rejected
from components.savedmodel.messages import enum_name, message

Array = npt.NDArray[Any]

MAX_PADDED_BYTES = 2**31
"""What a tensor may grow to by repeating its last value: no message can carry more (protobuf's limit is 2 GiB)."""

_STRING, _HALF, _BFLOAT16 = 7, 19, 14

_NUMPY_NAMES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "object",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
"""``DataType`` numbers by which TensorFlow Serving carries data, and NumPy's name of each."""

_NUMBERS = {name: number for number, name in _NUMPY_NAMES.items()}

_SHORT = {"float16": "half", "float32": "float", "float64": "double", "object": "string"}

_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int32": "int_val",
    "uint8": "int_val",
    "int16": "int_val",
    "int8": "int_val",
    "uint16": "int_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
}

_PACKED = {"float_val": 5, "double_val": 6, "scomplex_val": 9, "dcomplex_val": 12}
"""Fields whose packed bytes on the wire are the array's own bytes, by their field number."""


def dtype_name(number: int) -> str:
    """Return TensorFlow's lower-case name of a ``DataType`` number: ``float32`` for 1, ``string`` for 7."""
    if number in _NUMPY_NAMES:
        return "string" if number == _STRING else _NUMPY_NAMES[number]
    return enum_name("tensorflow.DataType", number).removeprefix("DT_").lower()


def short_name(name: str) -> str:
    """Return the name TensorFlow's error messages use of a dtype or NumPy name: ``float`` for ``float32``."""
    return _SHORT.get(name, name)


def dtype_number(name: str) -> int:
    """Return the ``DataType`` number of TensorFlow's lower-case name.

    Raises:
        Rejected: It is none that a request can carry.
    """
    number = _STRING if name == "string" else _NUMBERS.get("" if name == "object" else name)
    if number is None:
        raise _refused(f"no tensor of dtype {name} can be sent", got=name)
    return number


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype of TensorFlow's lower-case name; ``string`` is an object array of bytes.

    Raises:
        Rejected: It is none that a request can carry, or bfloat16 without ml_dtypes.
    """
    dtype_number(name)
    if name == "string":
        return np.dtype(object)
    return _bfloat16() if name == "bfloat16" else np.dtype(name)


def _bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes  # noqa: PLC0415 - comes with tensorflow, and is needed for this dtype only
    except ImportError as error:
        raise _refused("bfloat16 needs the package ml_dtypes", fix="pip install ml_dtypes") from error
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def to_proto(array: npt.ArrayLike, *, typed_fields: bool = False) -> Any:  # noqa: ANN401 - a dynamic message
    """Return an array as a ``TensorProto``.

    Args:
        array: Any shape; numbers, bool, complex, float16, bfloat16; text or bytes (as ``S``, ``U`` or object).
        typed_fields: Use ``float_val`` and its like, as TensorFlow Serving answers, instead of ``tensor_content``.

    Raises:
        Rejected: Its dtype cannot be sent, or an object in it is neither text nor bytes.
    """
    array = np.asarray(array)
    proto = message("tensorflow.TensorProto")()
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if not array.shape:
        proto.tensor_shape.SetInParent()
    if array.dtype.kind in "SUO":
        proto.dtype = _STRING
        proto.string_val.extend([_as_bytes(item) for item in array.ravel().tolist()])
        return proto
    name = array.dtype.name
    proto.dtype = dtype_number(name)
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if typed_fields:
        _fill_field(proto, _FIELDS[name], little)
    else:
        proto.tensor_content = little.tobytes()
    return proto


def _as_bytes(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise _refused("a string tensor holds something that is neither text nor bytes", got=type(item).__name__)


def _fill_field(proto: Any, field: str, array: Array) -> None:  # noqa: ANN401
    if field in _PACKED:
        data = array.tobytes()
        if data:
            proto.MergeFromString(_varint(_PACKED[field] << 3 | 2) + _varint(len(data)) + data)
    else:
        values = array.view(np.uint16) if field == "half_val" else array
        getattr(proto, field).extend(values.ravel().tolist())


def from_proto(proto: Any) -> Array:  # noqa: ANN401
    """Return a ``TensorProto`` as an array, read-only where it shares the message's bytes; strings as objects of bytes.

    Raises:
        Rejected: Bytes and shape disagree, the shape is not fully known, or the dtype carries no data.
    """
    if proto.dtype not in _NUMPY_NAMES:
        raise _refused(f"a tensor of {enum_name('tensorflow.DataType', proto.dtype)} carries no data")
    shape = _shape(proto)
    count = _product(shape)
    if proto.dtype == _STRING:
        return _strings(proto, count).reshape(shape)
    dtype = numpy_dtype(_NUMPY_NAMES[proto.dtype])
    content = proto.tensor_content
    if content:
        if len(content) != count * dtype.itemsize:
            raise _refused(
                "a tensor's bytes and shape disagree",
                expected=f"{count * dtype.itemsize} bytes for shape {list(shape)} of {dtype.name}",
                got=f"{len(content)} bytes",
            )
        values = np.frombuffer(content, dtype=dtype.newbyteorder("<"))
    else:
        values = _padded(_from_field(proto, _FIELDS[dtype.name], dtype, count), count)
    return values.reshape(shape)


def _shape(proto: Any) -> tuple[int, ...]:  # noqa: ANN401
    sizes = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise _refused("a tensor's shape is not fully known", got=str(list(sizes)))
    return sizes


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    if count >= 2**63 or len(shape) > 64:
        raise _refused("a tensor's shape is too large", got=str(list(shape))[:200])
    return count


def _from_field(proto: Any, field: str, dtype: np.dtype[Any], count: int) -> Array:  # noqa: ANN401
    if field in _PACKED:
        values = np.frombuffer(_wire_bytes(proto.SerializeToString(), _PACKED[field]), dtype=np.uint8)
        surplus = values.size % dtype.itemsize  # half a complex number
        return values[: values.size - surplus].copy().view(dtype)[:count]
    repeated = getattr(proto, field)
    if field == "half_val":
        return np.fromiter((value & 0xFFFF for value in repeated), np.uint16, len(repeated)).view(dtype)[:count]
    wide = np.int64 if field == "int_val" else dtype
    return np.fromiter(repeated, wide, len(repeated))[:count].astype(dtype)


def _padded(values: Array, count: int) -> Array:
    if values.size == count:
        return values
    if count * max(1, values.itemsize) > MAX_PADDED_BYTES:
        raise _refused(
            "a tensor's values and shape disagree", expected=f"{count} values, or content", got=f"{values.size} values"
        )
    if not values.size:
        return np.zeros(count, values.dtype)
    return np.concatenate([values, np.full(count - values.size, values[-1], values.dtype)])


def _strings(proto: Any, count: int) -> Array:  # noqa: ANN401
    items = _split_strings(proto.tensor_content, count) if proto.tensor_content else list(proto.string_val)[:count]
    if len(items) < count:
        if (count - len(items)) * 8 > MAX_PADDED_BYTES:
            raise _refused("a tensor's values and shape disagree", expected=f"{count} strings", got=str(len(items)))
        items += [items[-1] if items else b""] * (count - len(items))
    array = np.empty(count, object)
    array[:] = items
    return array


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """TensorFlow's ``EncodeStringList``: all lengths as varints, then all bytes."""
    sizes, at = [], 0
    for _ in range(min(count, len(content) + 1)):
        size, at = _read_varint(content, at)
        sizes.append(size)
    if len(sizes) != count or at + sum(sizes) != len(content):
        raise _refused("a tensor's bytes and shape disagree", expected=f"{count} strings", got=f"{len(content)} bytes")
    items = []
    for size in sizes:
        items.append(content[at : at + size])
        at += size
    return items


def _wire_bytes(data: bytes, number: int) -> bytes:
    """Return the bytes of one packed field of a serialized message: thirty times as fast as iterating over it."""
    at, found = 0, []
    view = memoryview(data)
    while at < len(data):
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == 2:
            size, at = _read_varint(data, at)
            if tag >> 3 == number:
                found.append(view[at : at + size])
            at += size
        elif kind == 0:
            _, at = _read_varint(data, at)
        else:
            at += 8 if kind == 1 else 4
    return b"".join(found)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _refused("a tensor's bytes end inside a number")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _refused(what: str, *, expected: str = "", got: str = "", fix: str = "") -> Rejected:
    return Rejected(what, expected=expected, got=got, fix=fix, reason="TENSOR")
