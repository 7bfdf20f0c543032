"""Protobuf's text format, as far as TensorFlow Serving's configuration files need it.

Written by hand because ``manifests`` carries no descriptors; the tests read every file back with the real ones.
Grammar: https://protobuf.dev/reference/protobuf/textformat-spec/
"""

from collections.abc import Sequence
from typing import TypeAlias

Value: TypeAlias = "str | int | bool | Sequence[Field]"
Field: TypeAlias = tuple[str, Value]
"""A field's name and its value: text, number, truth value, or a nested message's fields. Repeated ones stand again."""

_PRINTABLE = range(0x20, 0x7F)
_ESCAPED = {ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n"}


def quote(text: str) -> str:
    """Return text as a string literal: UTF-8, all that is not printable ASCII as three octal digits."""
    body = "".join(
        _ESCAPED.get(byte) or (chr(byte) if byte in _PRINTABLE else f"\\{byte:03o}") for byte in text.encode("utf-8")
    )
    return f'"{body}"'


def write(fields: Sequence[Field], *, indent: int = 0) -> str:
    """Return a message's fields as text, one a line, nested ones indented by two blanks."""
    return "".join(_field(name, value, indent) for name, value in fields)


def _field(name: str, value: Value, indent: int) -> str:
    blank = " " * indent
    if isinstance(value, str):
        return f"{blank}{name}: {quote(value)}\n"
    if isinstance(value, bool):  # before int, which it is too
        return f"{blank}{name}: {'true' if value else 'false'}\n"
    if isinstance(value, int):
        return f"{blank}{name}: {value}\n"
    return f"{blank}{name} {{\n{write(value, indent=indent + 2)}{blank}}}\n"
