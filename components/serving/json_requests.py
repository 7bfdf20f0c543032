"""REST request bodies: JSON to arrays and examples, with TensorFlow Serving's rules and texts.

Source: tensorflow/serving, util/json_tensor.cc. Values are checked all at once where they are right, and one by one, in
the order the real server does, only where something is wrong and its text is needed.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import cast

import numpy as np

from components.core.signature import Signature, TensorSpec
from components.savedmodel.tensors import Array, short_name
from components.serving.status import ServingError, invalid

_DEBUG_LIMIT = 256
_MAX_RANK = 64  # NumPy's; TensorFlow's own limit is 254
_INTEGERS = {
    "int32": (-(2**31), 2**31 - 1),
    "int16": (-(2**31), 2**31 - 1),  # as in the real server: narrow types are cut off later, not refused here
    "int8": (-(2**31), 2**31 - 1),
    "uint8": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
_NUMBERS = frozenset({int, float})

_PARSE_ERRORS = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting ',' delimiter": "Missing a comma after an element.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
    "Invalid control character at": "Invalid encoding in string.",
}
_INF = re.compile(r'("(?:[^"\\]|\\.)*")|\bInf\b')


@dataclass(frozen=True, slots=True)
class PredictBody:
    """The JSON object of a predict request; its tensors need the signature, see :func:`tensors`.

    Args:
        signature: Key of the signature; empty if not given.
        document: All of it.
    """

    signature: str
    document: dict[str, object]

    @property
    def by_rows(self) -> bool:
        """Whether it is in row form, which the answer follows."""
        return "instances" in self.document


def parse(body: bytes) -> PredictBody:
    """Return a predict request; what follows the JSON value is ignored.

    Raises:
        ServingError: INVALID_ARGUMENT: no JSON, no object, or a signature_name that is no string.
    """
    document = _document(body)
    signature = document.get("signature_name", "")
    if not isinstance(signature, str):
        raise format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return PredictBody(signature, document)


def _document(body: bytes) -> dict[str, object]:
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").lstrip(" \t\n\r")
    document = _decode(text)
    if not isinstance(document, dict):
        raise format_error(document, "Is not object")
    return document


def _decode(text: str) -> object:
    try:
        try:
            return json.JSONDecoder().raw_decode(text)[0]
        except json.JSONDecodeError:
            spelled_out = _INF.sub(lambda found: found[1] or "Infinity", text)  # RapidJSON takes Inf, too
            return json.JSONDecoder().raw_decode(spelled_out)[0]
    except json.JSONDecodeError as error:
        what = "The document is empty." if not text else _PARSE_ERRORS.get(error.msg, "Invalid value.")
        raise invalid(f"JSON Parse error: {what} at offset: {error.pos}") from error
    except RecursionError:
        raise invalid("JSON Parse error: nested too deep") from None
    except ValueError as error:  # an integer of thousands of digits
        raise invalid(f"JSON Parse error: Number too big to be stored in double. at offset: 0 ({error})") from error


def tensors(body: PredictBody, signature: Signature) -> dict[str, Array]:
    """Return the inputs of a predict request by alias.

    Raises:
        ServingError: INVALID_ARGUMENT for what does not fit the signature; UNIMPLEMENTED for a dtype REST cannot carry.
    """
    document = body.document
    if not signature.inputs:
        raise invalid(f"Failed to get input map for signature: {body.signature or 'DEFAULT'}")
    if "instances" in document and "inputs" in document:
        raise format_error(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        found = document["instances"]
        if not isinstance(found, list):
            raise format_error(document, "Expecting 'instances' to be an list/array")
        if not found:
            raise format_error(document, "No values in 'instances' array")
        return _rows(found, signature.inputs)
    if "inputs" in document:
        return _columns(document["inputs"], signature.inputs)
    raise invalid("Missing 'inputs' or 'instances' key")


def _columns(value: object, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not isinstance(value, dict) or is_base64(value):
        if len(specs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        alias, spec = next(iter(specs.items()))
        return {alias: _tensor(value, spec.dtype)}
    found = {}
    for alias, spec in specs.items():
        if alias not in value:
            raise invalid(f"Missing named input: {alias} in 'inputs' object.")
        found[alias] = _tensor(value[alias], spec.dtype)
    return found


def _rows(items: list[object], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if len(specs) > 1 and not isinstance(items[0], dict):
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if _is_object(items[0]):
        return _named_rows(items, specs)
    for number, item in enumerate(items):
        if _is_object(item):
            raise invalid(f"Expecting value/list but got object at item {number} of input list")
    alias, spec = next(iter(specs.items()))
    return {alias: _stack(items, spec.dtype, lambda row: f"{row}")}


def _named_rows(items: list[object], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    columns: dict[str, list[object]] = {alias: [] for alias in specs}
    for number, item in enumerate(items):
        if not _is_object(item):
            raise invalid(f"Expecting object but got list at item {number} of input list")
        row = cast("dict[str, object]", item)
        for alias in row:
            if alias not in specs:
                text = f"JSON object: does not have named input: {alias}"
                raise _row_error(f"{number} key: {alias}", invalid(text))
        if row.keys() != specs.keys():
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: {_debug(row)} keys must be "
                f"equal to: {','.join(sorted(specs))}"
            )
        for alias, value in row.items():
            columns[alias].append(value)
    return {
        alias: _stack(columns[alias], spec.dtype, lambda row, alias=alias: f"{row} key: {alias}")  # type: ignore[misc]
        for alias, spec in specs.items()
    }


def _stack(items: list[object], dtype: str, where: Callable[[int], str]) -> Array:
    try:
        return _tensor(items, dtype)
    except ServingError:
        first: Array | None = None
        for number, item in enumerate(items):  # find the row that is wrong, and say so as the real server does
            try:
                array = _tensor(item, dtype)
                first = _same_shape(array, first)
            except ServingError as error:
                raise _row_error(where(number), error) from error
        raise


def _same_shape(array: Array, first: Array | None) -> Array:
    if first is None:
        return array
    if array.size != first.size:
        raise invalid(f"Expecting tensor size: {first.size} but got: {array.size}")
    if array.shape != first.shape:
        raise invalid(f"Expecting shape {_shape(first)} but got: {_shape(array)}")
    return first


def _shape(array: Array) -> str:
    return f"[{','.join(str(size) for size in array.shape)}]"


def _row_error(where: str, error: ServingError) -> ServingError:
    return invalid(f"Failed to process element: {where} of 'instances' list. Error: {error.code}: {error.message}")


def _tensor(value: object, dtype: str) -> Array:
    shape: list[int] = []
    leaf = value
    while isinstance(leaf, list):
        shape.append(len(leaf))
        if not leaf:
            break
        leaf = leaf[0]
    if len(shape) > _MAX_RANK:
        raise invalid(f"tensor parsing error: rank {len(shape)}")
    leaves = [value]
    for size in shape:
        if any(not isinstance(item, list) or len(item) != size for item in leaves):
            _explain(value, 0, shape, dtype)
        leaves = list(chain.from_iterable(cast("list[list[object]]", leaves)))
    if not leaves:
        return np.zeros(shape, object if dtype == "string" else np.dtype(_carrier(dtype, None)))
    array = _convert(leaves, dtype)
    if array is None:
        _explain(value, 0, shape, dtype)
        raise _type_error(leaf, dtype)
    return array.reshape(shape)


def _convert(leaves: list[object], dtype: str) -> Array | None:
    """Return all values as one array, or None if one of them does not fit; decided by the set of their types."""
    types = set(map(type, leaves))
    if dtype == "string":
        return _strings(leaves) if types <= {str, dict} else None
    if dtype == "bool":
        return np.array(leaves, np.bool_) if types == {bool} else None
    if dtype in ("float32", "float64"):
        if not types <= _NUMBERS:
            return None
        with np.errstate(over="ignore"):  # too large for float32 is infinity, as a C cast makes it
            return np.array(leaves, np.float64).astype(dtype)
    if dtype in _INTEGERS:
        low, high = _INTEGERS[dtype]
        numbers = cast("list[int]", leaves)
        if types != {int} or min(numbers) < low or max(numbers) > high:
            return None
        wide = np.uint64 if dtype == "uint64" else np.int64
        return np.array(numbers, wide).astype(dtype)
    raise _carrier_error(leaves[0], dtype)


def _strings(leaves: list[object]) -> Array | None:
    found = np.empty(len(leaves), object)
    for index, leaf in enumerate(leaves):
        if isinstance(leaf, str):
            found[index] = leaf.encode("utf-8", "surrogateescape")
        elif is_base64(leaf):
            found[index] = from_base64(cast("dict[str, str]", leaf)["b64"])
        else:
            return None
    return found


def from_base64(text: str) -> bytes:
    """Return decoded base64, padded or not."""
    try:
        padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
        return base64.b64decode(padded.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise invalid("Unable to base64 decode") from None


def _carrier(dtype: str, leaf: object) -> str:
    if dtype in _INTEGERS or dtype in ("float32", "float64", "bool"):
        return dtype
    raise _carrier_error(leaf, dtype)


def _carrier_error(leaf: object, dtype: str) -> ServingError:
    return ServingError("UNIMPLEMENTED", f"Conversion of JSON Value: {_debug(leaf)} to type: {short_name(dtype)}")


def _explain(value: object, level: int, shape: list[int], dtype: str) -> None:
    """Walk depth first, as FillTensorProto does, and raise what it finds wrong first."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_debug(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        if dtype == "string" and isinstance(value, dict) and not is_base64(value):
            raise invalid(f"JSON Value: {_debug(value)} not formatted correctly for base64 data")
        if _convert([value], dtype) is None:
            raise _type_error(value, dtype)
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _explain(item, level + 1, shape, dtype)


def _type_error(value: object, dtype: str) -> ServingError:
    names = {bool: str(value), type(None): "Null", str: "String", dict: "Object", list: "Array"}
    return invalid(
        f"JSON Value: {_debug(value)} Type: {names.get(type(value), 'Number')} is not of expected type: "
        f"{short_name(dtype)}"
    )


def is_base64(value: object) -> bool:
    """Return whether a JSON value is ``{"b64": "…"}``, which stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_object(value: object) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def format_error(document: object, text: str) -> ServingError:
    """Return a refusal that shows (the beginning of) the document."""
    return invalid(f"JSON Value: {_debug(document)} {text}")


def _debug(value: object) -> str:
    if isinstance(value, list | dict):
        parts: list[str] = []
        size = 0
        for part in json.JSONEncoder(ensure_ascii=False).iterencode(value):
            parts.append(part)
            size += len(part)
            if size > _DEBUG_LIMIT:  # never print a whole image into an error
                break
        return "".join(parts)[:_DEBUG_LIMIT]
    return json.dumps(value, ensure_ascii=False)[:_DEBUG_LIMIT]
