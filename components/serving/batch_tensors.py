"""Arithmetic of batches: rows of a request, requests put together, answers taken apart. Pure.

Texts and order of the checks follow tensorflow/serving, batching/batching_session.cc (``MergeInputTensors``,
``SplitOutputTensors``) and batching/batching_util.cc (padding); sizes of split requests follow tensorflow,
core/kernels/batching_util/input_split_metadata.cc.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from components.savedmodel.tensors import Array
from components.serving.status import ServingError, invalid

Arrays = Mapping[str, Array]


def rows_of(inputs: Arrays) -> int:
    """Return the rows of a request: the 0th dimension that all of its tensors share.

    Raises:
        ServingError: INVALID_ARGUMENT if there is none.
    """
    if not inputs:
        raise invalid("Batching Run() must have at least one input tensor")
    rows: int | None = None
    for array in inputs.values():
        if array.ndim == 0:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        if rows is not None and len(array) != rows:
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        rows = len(array)
    return rows or 0


def piece_sizes(rows: int, open_slots: int, largest: int) -> list[int]:
    """Return the rows of each piece of a request: first what the open batch has room for, then full batches."""
    first = min(open_slots, rows)
    full, rest = divmod(rows - first, largest)
    return [size for size in (first, *[largest] * full, rest) if size]


def padded_size(rows: int, allowed: Sequence[int]) -> int:
    """Return the first allowed size that holds ``rows``; ``rows`` itself if none does or none is asked for."""
    return next((size for size in allowed if size >= rows), rows)


def merge(
    requests: Sequence[Arrays], names: Mapping[str, str], allowed: Sequence[int], *, pad: bool
) -> dict[str, Array]:
    """Return the inputs of one batch.

    Args:
        requests: Inputs by alias, all with the same aliases; at least one request.
        names: Tensor name by alias, for the texts.
        allowed: Batch sizes to round up to, by rows that repeat the last request's first one.
        pad: Whether other dimensions are padded to the largest, with a tensor's own first value.

    Raises:
        ServingError: FAILED_PRECONDITION if shapes differ and are not padded, INVALID_ARGUMENT if they cannot be.
    """
    total = sum(rows_of(request) for request in requests)
    missing = padded_size(total, allowed) - total
    merged: dict[str, Array] = {}
    for alias in requests[0]:
        parts = [request[alias] for request in requests]
        if pad:
            parts = _same_shape(parts)
        elif any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            raise ServingError(
                "FAILED_PRECONDITION",
                f"Tensors with name '{names[alias]}' from different tasks have different shapes and padding is turned "
                "off. Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal "
                "dimensions starting with the first dim.",
            )
        if missing:
            parts = [*parts, np.repeat(parts[-1][:1], missing, axis=0)]
        merged[alias] = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return merged


def _same_shape(parts: Sequence[Array]) -> list[Array]:
    if any(not 1 <= part.ndim <= 6 for part in parts):
        raise invalid("Only tensors with rank from 1 to 6 can be padded.")
    if any(part.ndim != parts[0].ndim for part in parts):
        raise ServingError("INTERNAL", "Tensor concat operation failed: the ranks differ")
    largest = tuple(max(part.shape[axis] for part in parts) for axis in range(1, parts[0].ndim))
    return [_enlarged(part, largest) for part in parts]


def _enlarged(part: Array, largest: tuple[int, ...]) -> Array:
    if part.shape[1:] == largest:
        return part
    if part.size == 0:
        raise invalid("Got empty tensor in batch of non-empty tensors.")
    made: Array = np.full((len(part), *largest), part.flat[0], part.dtype)
    made[tuple(slice(size) for size in part.shape)] = part
    return made


def split(outputs: Arrays, sizes: Sequence[int], executed: int) -> list[dict[str, Array]]:
    """Return each request's outputs.

    Args:
        outputs: What the batch answered, by alias.
        sizes: Rows of each request.
        executed: Rows of the batch, with its padding.

    Raises:
        ServingError: FAILED_PRECONDITION if an output does not have a row for each row of the batch.
    """
    for array in outputs.values():
        if array.ndim == 0:
            raise ServingError("FAILED_PRECONDITION", "Batched output tensor has 0 dimensions")
        if len(array) != executed:
            raise ServingError(
                "FAILED_PRECONDITION",
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors",
            )
    ends = np.cumsum(sizes)
    return [
        {alias: array[end - size : end] for alias, array in outputs.items()}
        for size, end in zip(sizes, ends.tolist(), strict=True)
    ]
