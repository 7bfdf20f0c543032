"""Random requests for any signature, the same for the same seed; numpy only.

Values are chosen so that as many models as possible accept them: floats in [0, 1), where images and normalised features
live and logarithm and square root are defined; integers 0 or 1, which every embedding, mask and one-hot depth has room
for; strings of one to four lower-case ASCII letters.
"""

import numpy as np
import numpy.typing as npt

from components.core.errors import Rejected
from components.core.signature import Shape, Signature

SEQUENCE_LENGTH = 8
"""Size of an unknown dimension that is not the leading one, up to rank 3."""
IMAGE_SIDE = 64
"""The same from rank 4 on (pictures, volumes), which smaller sizes could make vanish in unpadded convolutions."""

_INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})
_FLOATS = frozenset({"float16", "float32", "float64"})
_COMPLEX = frozenset({"complex64", "complex128"})


def generate(signature: Signature, *, batch_size: int, seed: int) -> dict[str, npt.NDArray[np.generic]]:
    """Return one request: an array for each input alias.

    Args:
        signature: Whose inputs are wanted.
        batch_size: Size of each unknown leading dimension, in rows; an input of unknown rank becomes ``[batch_size]``.
        seed: Of the random numbers; each alias has a stream of its own, so that another input changes none of the rest.

    Raises:
        Rejected: DTYPE_UNSUPPORTED: an input that no client can send, such as a resource.
    """
    return {
        alias: _array(
            alias, spec.dtype, _concrete(spec.shape, batch_size), np.random.default_rng([seed, *alias.encode()])
        )
        for alias, spec in sorted(signature.inputs.items())
    }


def _concrete(shape: Shape, batch_size: int) -> tuple[int, ...]:
    if shape is None:
        return (batch_size,)
    inner = IMAGE_SIDE if len(shape) >= 4 else SEQUENCE_LENGTH
    return tuple(size if size is not None else (batch_size if axis == 0 else inner) for axis, size in enumerate(shape))


def _array(alias: str, dtype: str, shape: tuple[int, ...], random: np.random.Generator) -> npt.NDArray[np.generic]:
    if dtype in _FLOATS:
        return random.random(shape).astype(dtype)
    if dtype == "bfloat16":
        # numpy has no bfloat16; the type comes with ml_dtypes, a dependency of tensorflow itself.
        import ml_dtypes  # noqa: PLC0415 - only for a dtype that few models take

        return random.random(shape).astype(ml_dtypes.bfloat16)
    if dtype in _COMPLEX:
        return (random.random(shape) + 1j * random.random(shape)).astype(dtype)
    if dtype in _INTEGERS:
        return random.integers(0, 2, shape).astype(dtype)
    if dtype == "bool":
        return random.integers(0, 2, shape).astype(np.bool_)
    if dtype == "string":
        return _strings(shape, random)
    raise Rejected(
        f"input {alias}: no value can be made for dtype {dtype}",
        expected="a dtype that a client can send",
        got=dtype,
        reason="DTYPE_UNSUPPORTED",
    )


def _strings(shape: tuple[int, ...], random: np.random.Generator) -> npt.NDArray[np.generic]:
    made = np.empty(shape, np.object_)
    for index in np.ndindex(shape):
        made[index] = bytes(random.integers(ord("a"), ord("z") + 1, random.integers(1, 5)).astype(np.uint8))
    return made
