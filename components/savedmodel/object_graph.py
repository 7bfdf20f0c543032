"""What the object graph of a TensorFlow 2 SavedModel says: functions with their arguments, and variables.

Source: tensorflow/core/protobuf/{saved_object_graph,struct}.proto; what can be called from Python is what the root
object has as attributes (tensorflow/python/saved_model/load.py).
"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from components.core.signature import Shape, TensorSpec
from components.savedmodel.dtypes import dtype_name
from components.savedmodel.wire import (
    Value,
    WireError,
    entries,
    fields,
    last_text,
    message,
    number,
    signed,
    submessage,
    text,
    values,
    zigzag,
)

_MAX_DEPTH = 64
_MAX_OPTIONS = 100_000  # attributes may share functions, so a small file could tell of very many
_ATTRIBUTES = "/.ATTRIBUTES/"
_SLOT = "/.OPTIMIZER_SLOT/"


class Argument(NamedTuple):
    """One argument of a traced function: its text, and the tensor it stands for unless it is a constant."""

    text: str
    name: str = ""
    """Keyword, for those that are passed by name."""
    tensor: TensorSpec | None = None


class Option(NamedTuple):
    """One trace of a function: what it can be called with, and what it returns."""

    concrete: str
    """Name in the graph's library."""
    arguments: tuple[Argument, ...]
    returns: str


class Function(NamedTuple):
    """A callable attribute of the loaded object."""

    name: str
    options: tuple[Option, ...]


class SavedVariable(NamedTuple):
    """A variable as the object graph knows it."""

    name: str
    trainable: bool


class ObjectGraph:
    """A view of one ``SavedObjectGraph``; methods raise WireError where its bytes are wrong."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._known: dict[int, dict[str, int]] = {}
        self._steps: dict[int, dict[str, int]] = {}

    @cached_property
    def _nodes(self) -> list[memoryview]:
        return [message(value) for value in values(self._data, 1)]

    @cached_property
    def _concrete(self) -> dict[str, memoryview]:
        return entries(self._data, 2, lambda data: data)

    def __bool__(self) -> bool:
        """Whether there are objects at all: a TensorFlow 1 export has none."""
        return next(values(self._data, 1), None) is not None

    def functions(self) -> tuple[Function, ...]:
        """Return the callable attributes of the root object, by name."""
        found, options = {}, 0
        for name, node in self._children(0).items():
            concrete = list(_concrete_names(self._node(node)))
            options += len(concrete)
            if options > _MAX_OPTIONS:
                raise WireError(f"more than {_MAX_OPTIONS} functions")
            if concrete:
                found[name] = Function(name, tuple(self._option(each) for each in sorted(concrete)))
        return tuple(found[name] for name in sorted(found))

    def variable_at(self, checkpoint_key: str) -> SavedVariable | None:
        """Return the variable whose value a checkpoint keeps under a key; None if it is none of the object graph's.

        A key is the path of attribute names from the root, with ``.`` and ``/`` in a name escaped
        (tensorflow/python/trackable/trackable_utils.py).
        """
        path, attributes, _ = checkpoint_key.partition(_ATTRIBUTES)
        if not attributes or _SLOT in f"{path}/":
            return None
        node = 0
        for part in path.split("/"):
            step = self._escaped(node).get(part)
            if step is None:
                return None
            node = step
        for field, value in fields(self._node(node)):
            if field == 7:
                return _variable(message(value))
        return None

    def _node(self, index: int) -> memoryview:
        if not 0 <= index < len(self._nodes):
            raise WireError(f"object {index} of {len(self._nodes)}")
        return self._nodes[index]

    def _children(self, index: int) -> dict[str, int]:
        if index not in self._known:
            found = {}
            for child in values(self._node(index), 1):
                node_id, name = 0, ""
                for field, value in fields(message(child)):
                    if field == 1:
                        node_id = signed(value)
                    elif field == 2:
                        name = text(value)
                found[name] = node_id
            self._known[index] = found
        return self._known[index]

    def _escaped(self, index: int) -> dict[str, int]:
        if index not in self._steps:
            self._steps[index] = {
                name.replace(".", "..").replace("/", ".S"): child for name, child in self._children(index).items()
            }
        return self._steps[index]

    def _option(self, concrete: str) -> Option:
        data = self._concrete.get(concrete, memoryview(b""))
        arguments, returns = list[Argument](), "None"
        for field, value in fields(data):
            if field == 3:
                arguments = list(_arguments(message(value)))
            elif field == 4:
                returns = _text_of(message(value), 0)
        return Option(concrete, tuple(arguments), returns)


def _variable(saved: memoryview) -> SavedVariable:
    name, trainable = "", False
    for field, value in fields(saved):
        if field == 3:
            trainable = bool(number(value))
        elif field == 6:
            name = text(value)
    return SavedVariable(name, trainable)


def _concrete_names(node: memoryview) -> Iterator[str]:
    for field, value in fields(node):
        if field == 6:
            yield from (text(name) for name in values(message(value), 1))
        elif field == 8:
            yield last_text(message(value), 1)


def _arguments(structured: memoryview) -> Iterator[Argument]:
    """The arguments of a canonical input signature: a tuple of positional ones and a dictionary of named ones."""
    pair = [message(value) for value in values(submessage(structured, 52), 1)]
    if len(pair) != 2:
        raise WireError("an input signature that is no pair of arguments and keywords")
    for value in values(submessage(pair[0], 52), 1):
        yield Argument(_text_of(message(value), 0), tensor=_tensor_in(message(value)))
    for name, named in entries(submessage(pair[1], 53), 1, lambda data: data).items():
        yield Argument(_text_of(named, 0), name, _tensor_in(named))


def _tensor_in(structured: memoryview) -> TensorSpec | None:
    found = None
    for field, value in fields(structured):
        if field in (33, 35):
            found = tensor_spec(message(value))
    return found


def tensor_spec(data: memoryview) -> TensorSpec:
    """Return a ``TensorSpecProto``: name 1, shape 2, dtype 3."""
    dtype, name = 0, ""
    known: Shape = ()
    for field, value in fields(data):
        if field == 1:
            name = text(value)
        elif field == 2:
            known = shape(message(value))
        elif field == 3:
            dtype = number(value)
    return TensorSpec(dtype_name(dtype), known, name)


def shape(data: memoryview) -> Shape:
    """Return a ``TensorShapeProto``: None for an unknown rank, and for each size that is not known."""
    sizes = list[int | None]()
    for field, value in fields(data):
        if field == 2:
            size = next((signed(each) for each in values(message(value), 1)), 0)
            sizes.append(None if size < 0 else size)
        elif field == 3 and number(value):
            return None
    return tuple(sizes)


def _text_of(structured: memoryview, depth: int) -> str:
    """Return a ``StructuredValue`` as people write it; the last kind that is set counts."""
    if depth > _MAX_DEPTH:
        raise WireError(f"a structure nested more than {_MAX_DEPTH} deep")
    found = "None"
    for field, value in fields(structured):
        found = _kind_text(field, value, depth)
    return found


def _kind_text(field: int, value: Value, depth: int) -> str:  # noqa: C901, PLR0911, PLR0912 - one case a kind
    match field:
        case 1:
            return "None"
        case 11:
            import struct  # noqa: PLC0415 - only where a float is an argument

            return repr(struct.unpack("<d", number(value).to_bytes(8, "little"))[0])
        case 12:
            return str(zigzag(value))
        case 13:
            return repr(text(value))
        case 14:
            return str(bool(number(value)))
        case 31:
            return f"shape {_shape_text(shape(message(value)))}"
        case 32:
            return dtype_name(number(value))
        case 33 | 35:
            spec = tensor_spec(message(value))
            return f"{spec.name}: {spec}" if spec.name else str(spec)
        case 34:
            return last_text(message(value), 3) or "a composite tensor"
        case 51:
            return f"[{', '.join(_items(value, depth))}]"
        case 52:
            return f"({', '.join(_items(value, depth))})"
        case 53:
            named = entries(message(value), 1, lambda data: _text_of(data, depth + 1))
            return "{" + ", ".join(f"{key!r}: {item}" for key, item in named.items()) + "}"
        case 54:
            pairs = (message(pair) for pair in values(message(value), 2))
            inside = (f"{last_text(pair, 1)}={_text_of(submessage(pair, 2), depth + 1)}" for pair in pairs)
            return f"{last_text(message(value), 1)}({', '.join(inside)})"
        case _:
            return f"a value of kind {field}"


def _items(value: Value, depth: int) -> Iterator[str]:
    return (_text_of(message(item), depth + 1) for item in values(message(value), 1))


def _shape_text(sizes: Shape) -> str:
    return "?" if sizes is None else f"[{', '.join('?' if size is None else str(size) for size in sizes)}]"
