"""Evaluates the array expressions of a command line, such as ``np.ones((1, 3)) / 255``, without ``eval``.

The text is parsed as Python and walked: numbers, text and bytes, lists and tuples, arithmetic on numbers and arrays,
NumPy's constructors by name, ``.astype`` and ``.reshape``, and seeded generators (``np.random.default_rng(1)``, with
``random``, ``normal``, ``standard_normal``, ``uniform`` and ``integers``). Everything else is refused, and so is what
would take more than ``MAX_BYTES`` before it is made.
"""

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from components.core.errors import Rejected
from components.savedmodel.tensors import Array

MAX_BYTES = 2**28
"""Bytes of one array."""
_MAX_CALLS = 24  # so that all arrays of one expression together stay within a machine's memory
MAX_TEXT = 1_000_000
"""Characters of one expression; more belongs into a file."""
_MAX_DEPTH = 64
_MAX_BITS = 64
_LARGEST_INT = 2**_MAX_BITS
_TEXT = (str, bytes)
_NUMBER = (bool, int, float, complex)

_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_BUILTINS = {"bool": "bool", "int": "int64", "float": "float64", "complex": "complex128"}
_CONSTANTS = {"pi": math.pi, "e": math.e, "inf": math.inf, "nan": math.nan}

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_FAILURES = (TypeError, ValueError, OverflowError, ZeroDivisionError, MemoryError, RecursionError, ArithmeticError)


def evaluate(text: str) -> Array:
    """Return the array that an expression stands for; text and bytes become object arrays.

    Raises:
        Rejected: EXPRESSION: it is no expression, uses what is not allowed, or is too large.
    """
    found: Array = _guarded(text, lambda tree: as_array(_value(tree, 0)))
    return found


def literal(text: str) -> object:
    """Return the number, text, list or dictionary that a literal stands for.

    Raises:
        Rejected: EXPRESSION.
    """
    return _guarded(text, ast.literal_eval)


def _guarded(text: str, then: Callable[[ast.expr], Any]) -> Any:  # noqa: ANN401 - whatever `then` returns
    if len(text) > MAX_TEXT:
        raise _refused(f"an expression of {len(text)} characters", fix="put the values into a .npy file")
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of Python's parser, about escapes; of NumPy, about overflow
            tree = ast.parse(text.strip(), mode="eval").body
            if sum(isinstance(node, ast.Call) for node in ast.walk(tree)) > _MAX_CALLS:
                raise _refused(f"an expression of more than {_MAX_CALLS} calls")
            return then(tree)
    except SyntaxError as error:
        raise _refused(f"no expression: {error.msg}", text) from error
    except _FAILURES as error:
        raise _refused(f"{type(error).__name__}: {error}", text) from error


def as_array(value: object) -> Array:
    """Return a value as an array; text and bytes keep their length, which NumPy's own string dtypes do not.

    Raises:
        Rejected: EXPRESSION: it is no tensor.
    """
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if isinstance(value, (*_NUMBER, *_TEXT, list, tuple)):
        leaf = value
        while isinstance(leaf, list | tuple) and leaf:
            leaf = leaf[0]
        found = np.array(value, dtype=object) if isinstance(leaf, _TEXT) else np.array(value)
        wrong = found.dtype.kind == "O" and not all(isinstance(item, _TEXT) for item in found.flat)
        if not wrong and found.dtype.kind in "biufcO":
            return found
    raise _refused("this is no array of numbers, of text, or of bytes", repr(value)[:200])


def _value(node: ast.expr, depth: int) -> Any:  # noqa: ANN401, PLR0911 - one case a kind of node
    if depth > _MAX_DEPTH:
        raise _refused(f"an expression nested more than {_MAX_DEPTH} deep")
    match node:
        case ast.Constant(value=value) if isinstance(value, (*_NUMBER, *_TEXT)):
            return _checked(value)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_item(_value(item, depth + 1)) for item in items]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_operand(_value(operand, depth + 1))
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return +_operand(_value(operand, depth + 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _calculate(op, _value(left, depth + 1), _value(right, depth + 1))
        case ast.Call(func=function, args=args, keywords=keywords):
            return _call(function, args, keywords, depth)
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name) if name.rstrip("_") in _DTYPES:
            return np.dtype(name.rstrip("_"))
        case ast.Name(id=name) if name in _BUILTINS:
            return np.dtype(_BUILTINS[name])
    raise _refused("this is not allowed in an expression", ast.unparse(node)[:200])


def _item(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, np.ndarray) and value.shape:
        raise _refused("a list holds numbers, text and lists", f"an array of shape {list(value.shape)}")
    return value


def _checked(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, int) and not -_LARGEST_INT <= value <= _LARGEST_INT:
        raise _refused("a number that no tensor can hold")
    return value


def _operand(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, _NUMBER) or (isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc"):
        return value
    raise _refused("arithmetic is for numbers and arrays of numbers", repr(value)[:200], fix="write np.array([...])")


def _calculate(op: ast.operator, left: Any, right: Any) -> Any:  # noqa: ANN401
    left, right = _operand(left), _operand(right)
    if isinstance(left, int) and isinstance(right, int) and isinstance(op, ast.Pow):
        fits = abs(right) * abs(left).bit_length() <= _MAX_BITS
        return _checked(left**right) if fits else float(left) ** right
    if isinstance(left, _NUMBER) and isinstance(right, _NUMBER):
        return _checked(_OPERATORS[type(op)](left, right))
    _sized(np.broadcast_shapes(np.shape(left), np.shape(right)), np.dtype("complex128"))
    return _OPERATORS[type(op)](left, right)


def _call(function: ast.expr, args: Sequence[ast.expr], keywords: Sequence[ast.keyword], depth: int) -> Any:  # noqa: ANN401
    allowed = _function(function, depth)
    if any(isinstance(arg, ast.Starred) for arg in args) or any(keyword.arg is None for keyword in keywords):
        raise _refused("* and ** are not allowed in an expression")
    given = [_value(arg, depth + 1) for arg in args]
    named = {str(keyword.arg): _value(keyword.value, depth + 1) for keyword in keywords}
    return allowed(*given, **named)


def _function(node: ast.expr, depth: int) -> Callable[..., Any]:
    match node:
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name) if name in _CONSTRUCTORS:
            return _CONSTRUCTORS[name]
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name) if name.rstrip("_") in _DTYPES:
            return lambda value: _array(value, np.dtype(name.rstrip("_")))
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="random"), attr="default_rng"):
            return _generator
        case ast.Attribute(value=target, attr=name) if not isinstance(target, ast.Name):
            owner = _value(target, depth + 1)
            if isinstance(owner, np.random.Generator) and name in _DRAWS:
                return lambda *args, **named: _DRAWS[name](owner, *args, **named)
            if isinstance(owner, np.ndarray) and name in _METHODS:
                return lambda *args, **named: _METHODS[name](owner, *args, **named)
    raise _refused(
        "this call is not allowed in an expression",
        ast.unparse(node)[:200],
        expected=f"np.{', np.'.join(_CONSTRUCTORS)}, np.random.default_rng(SEED), .astype or .reshape",
    )


def _sized(shape: object, dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Return a shape as a tuple, if an array of it may be made."""
    sizes = tuple(operator.index(size) for size in (shape if isinstance(shape, list | tuple) else (shape,)))
    if any(size < 0 for size in sizes) or len(sizes) > _MAX_DEPTH:
        raise _refused("no shape", str(list(sizes))[:200])
    if math.prod(sizes) * dtype.itemsize > MAX_BYTES:
        raise _refused("an array that is too large", str(list(sizes))[:200], expected=f"at most {MAX_BYTES} bytes")
    return sizes


def _dtype(value: object, default: str = "float64") -> np.dtype[Any]:
    if value is None:
        return np.dtype(default)
    if isinstance(value, np.dtype):
        return value
    if isinstance(value, str) and value in (*_DTYPES, *_BUILTINS):
        return np.dtype(_BUILTINS.get(value, value))
    raise _refused("no dtype", repr(value)[:80], expected=", ".join(_DTYPES))


def _array(value: object, dtype: object = None) -> Array:
    found = as_array(value)
    if dtype is None:
        return found
    # NumPy refuses a Python number that the dtype cannot hold, but cuts off an array's
    return found.astype(_dtype(dtype)) if isinstance(value, np.ndarray) else np.array(value, _dtype(dtype))


def _zeros(shape: object, dtype: object = None) -> Array:
    return np.zeros(_sized(shape, _dtype(dtype)), _dtype(dtype))


def _ones(shape: object, dtype: object = None) -> Array:
    return np.ones(_sized(shape, _dtype(dtype)), _dtype(dtype))


def _full(shape: object, fill_value: object, dtype: object = None) -> Array:
    filling = as_array(fill_value)
    kind = filling.dtype if dtype is None else _dtype(dtype)
    return np.full(_sized(shape, kind), filling, kind)


def _arange(start: Any, stop: Any = None, step: Any = 1, dtype: object = None) -> Array:  # noqa: ANN401
    first, last = (0, _real(start)) if stop is None else (_real(start), _real(stop))
    count = math.ceil((last - first) / _real(step))
    _sized(max(0, count), np.dtype("complex128"))
    found: Array = np.arange(first, last, _real(step))
    return found if dtype is None else found.astype(_dtype(dtype))


def _linspace(start: Any, stop: Any, num: Any = 50, dtype: object = None) -> Array:  # noqa: ANN401
    (count,) = _sized(num, np.dtype("complex128"))
    return np.linspace(_real(start), _real(stop), count, dtype=None if dtype is None else _dtype(dtype))


def _eye(n: Any, m: Any = None, dtype: object = None) -> Array:  # noqa: ANN401
    rows, columns = _sized([n, n if m is None else m], _dtype(dtype))
    return np.eye(rows, columns, dtype=_dtype(dtype))


def _real(value: object) -> float | int:
    if isinstance(value, int | float) and math.isfinite(value):
        return value
    raise _refused("no finite number", repr(value)[:80])


def _generator(seed: object) -> np.random.Generator:
    if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0:
        return np.random.default_rng(seed)
    raise _refused("no seed", repr(seed)[:80], expected="a whole number, so that the same command asks the same")


def _draw(name: str, arguments: int) -> Callable[..., Array]:
    """Return a generator's method whose first ``arguments`` are numbers, and whose next is the size."""

    def draw(owner: np.random.Generator, *args: Any, size: Any = None, dtype: object = None) -> Array:  # noqa: ANN401
        if len(args) > arguments + 1 or (len(args) > arguments and size is not None):
            raise TypeError(f"{name} takes {arguments} numbers and a size")
        wanted = args[arguments] if len(args) > arguments else size
        sizes = () if wanted is None else _sized(wanted, np.dtype("complex128"))
        drawn: Array = np.asarray(getattr(owner, name)(*map(_real, args[:arguments]), size=sizes))
        return drawn if dtype is None else drawn.astype(_dtype(dtype))

    return draw


def _astype(owner: Array, dtype: object) -> Array:
    _sized(owner.shape, _dtype(dtype))
    return owner.astype(_dtype(dtype))


def _reshape(owner: Array, *shape: object) -> Array:
    wanted: Any = shape[0] if len(shape) == 1 else list(shape)
    return owner.reshape(tuple(operator.index(size) for size in (wanted if isinstance(wanted, list) else [wanted])))


_CONSTRUCTORS: Mapping[str, Callable[..., Any]] = {
    "array": _array,
    "asarray": _array,
    "zeros": _zeros,
    "ones": _ones,
    "full": _full,
    "arange": _arange,
    "linspace": _linspace,
    "eye": _eye,
}
_DRAWS: Mapping[str, Callable[..., Array]] = {
    "random": _draw("random", 0),
    "standard_normal": _draw("standard_normal", 0),
    "normal": _draw("normal", 2),
    "uniform": _draw("uniform", 2),
    "integers": _draw("integers", 2),
}
_METHODS: Mapping[str, Callable[..., Array]] = {"astype": _astype, "reshape": _reshape}


def _refused(what: str, got: str = "", *, expected: str = "", fix: str = "") -> Rejected:
    return Rejected(
        what,
        expected=expected or "numbers, text, lists, arithmetic, and constructors such as np.ones((1, 3))",
        got=got,
        fix=fix or "values that no expression can say belong into a .npy file: --inputs NAME=FILE.npy",
        reason="EXPRESSION",
    )
