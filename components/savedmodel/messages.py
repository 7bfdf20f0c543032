"""Protobuf messages of TensorFlow and TensorFlow Serving without importing either.

The classes come from ``descriptors.binpb`` through a descriptor pool of our own: TensorFlow registers the same names in
the default pool, and a process may well hold both. Their fields are dynamic, so callers type them as ``Any`` and turn
them into values of ours before they leave the edge.
"""

from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FILE = Path(__file__).with_name("descriptors.binpb")


_BUILDING = Lock()
"""``cache`` alone lets two first calls build two pools, whose messages are strangers to each other."""


def pool() -> descriptor_pool.DescriptorPool:
    """Return the pool that holds the messages, built on first use by whichever thread comes first."""
    with _BUILDING:
        return _pool()


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    files = descriptor_pb2.FileDescriptorSet.FromString(_FILE.read_bytes())
    made = descriptor_pool.DescriptorPool()
    for file in files.file:
        made.Add(file)
    return made


@cache
def message(name: str) -> Any:  # noqa: ANN401 - a class made at run time has no static type
    """Return the message class of a full name, such as ``tensorflow.SavedModel``.

    Raises:
        KeyError: No such message is among the descriptors.
    """
    found = pool().FindMessageTypeByName(name)
    with _BUILDING:
        return message_factory.GetMessageClass(found)


@cache
def enum_name(enum: str, number: int) -> str:
    """Return an enum value's name, such as ``DT_FLOAT`` for (``tensorflow.DataType``, 1), or the number as text."""
    found = pool().FindEnumTypeByName(enum).values_by_number.get(number)
    return found.name if found is not None else str(number)
