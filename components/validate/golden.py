"""Requests whose answers candidate and source must share: those somebody chose, and edge cases."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.core.errors import Rejected
from components.core.signature import Contract, Signature
from components.savedmodel.generate_inputs import generate
from components.savedmodel.tensors import numpy_dtype

Arrays = Mapping[str, npt.NDArray[np.generic]]

EDGE_ROWS = 2
OTHER_SIZES = (1, 17)
"""Sizes of unknown dimensions behind the first, beside the one that ordinary generated requests have."""
LOUD = 255.0
"""Times the usual [0, 1): pictures that nobody normalised. More would let rounding alone exceed any tolerance."""


def read_golden(
    path: Path, contract: Contract, defaults: Mapping[str, Arrays]
) -> list[tuple[str, str, dict[str, npt.NDArray[np.generic]]]]:
    """Return the golden requests of a file: signature key, where it is from, and inputs.

    Every signature whose inputs the file holds is asked: all rows at once, and the first row alone.

    Args:
        path: ``.npz`` with an array an input alias.
        contract: Signatures.
        defaults: Inputs that may be left out, by signature key and alias.

    Raises:
        Rejected: GOLDEN: it cannot be read, or holds the inputs of no signature.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _bad(path, "a .npz file without pickles", f"{type(error).__name__}: {error}"[:500]) from error
    found = []
    for key, signature in sorted(contract.signatures.items()):
        needed = signature.inputs.keys() - defaults.get(key, {}).keys()
        if not needed <= arrays.keys():
            continue
        inputs = {alias: _fed(path, alias, arrays[alias], signature) for alias in signature.inputs if alias in arrays}
        rows = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
        found.append((key, f"{path.name}, all rows", inputs))
        if len(rows) == 1 and rows.pop() > 1:
            found.append((key, f"{path.name}, first row", {alias: array[:1] for alias, array in inputs.items()}))
    if not found:
        inputs_of = "; ".join(f"{key}: {', '.join(each.inputs)}" for key, each in contract.signatures.items())
        raise _bad(path, f"the inputs of a signature ({inputs_of})", ", ".join(arrays) or "no arrays")
    return found


def _fed(path: Path, alias: str, array: npt.NDArray[np.generic], signature: Signature) -> npt.NDArray[np.generic]:
    spec = signature.inputs[alias]
    wanted = numpy_dtype(spec.dtype)
    if wanted.kind == "O" and array.dtype.kind in "SU":
        encoded = np.char.encode(array.astype(np.str_), "utf-8") if array.dtype.kind == "U" else array
        return encoded.astype(np.object_)
    if array.dtype != wanted:
        raise _bad(path, f"{alias}: {spec}", f"{array.dtype}{list(array.shape)}")
    return array


def edge_cases(signature: Signature, *, seed: int) -> Iterator[tuple[str, dict[str, npt.NDArray[np.generic]]]]:
    """Yield requests at the edges: zeros, negatives, large values, empty and long strings, other unknown sizes.

    Whole numbers go no further than 0, 1 and -1: as a size or a count a large one can take all memory or all time,
    which says nothing about whether two models agree. Cases that are equal for a signature are yielded once.

    Args:
        signature: Whose inputs are wanted.
        seed: Of the random values.
    """
    plain = generate(signature, batch_size=EDGE_ROWS, seed=seed)
    seen: set[tuple[object, ...]] = {_key(plain)}
    for origin, inputs in _variants(signature, plain, seed):
        if (key := _key(inputs)) not in seen:
            seen.add(key)
            yield origin, inputs


def _variants(
    signature: Signature, plain: Arrays, seed: int
) -> Iterator[tuple[str, dict[str, npt.NDArray[np.generic]]]]:
    yield "generated, all zero and empty", {alias: _zero(array) for alias, array in plain.items()}
    yield "generated, negative and long", {alias: _negative(array) for alias, array in plain.items()}
    yield "generated, large and of any bytes", {alias: _large(array) for alias, array in plain.items()}
    for size in OTHER_SIZES:
        resized = Signature(
            {
                alias: type(spec)(spec.dtype, _resized(spec.shape, size), spec.name)
                for alias, spec in signature.inputs.items()
            },
            signature.outputs,
        )
        yield f"generated, unknown sizes {size}", generate(resized, batch_size=EDGE_ROWS, seed=seed)


def _resized(shape: tuple[int | None, ...] | None, size: int) -> tuple[int | None, ...] | None:
    if shape is None:
        return None
    return tuple(size if known is None and axis else known for axis, known in enumerate(shape))


def _zero(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return np.full(array.shape, b"", np.object_) if array.dtype.kind == "O" else np.zeros_like(array)


def _negative(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    if array.dtype.kind == "O":
        return np.full(array.shape, b"long " * 400, np.object_)
    if array.dtype.kind == "i":
        return np.full_like(array, -1)
    if array.dtype.kind in "ub":
        return np.ones_like(array)
    return np.asarray(array * np.asarray(-1, array.dtype))


def _large(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    if array.dtype.kind == "O":
        return np.full(array.shape, b"\xff\x00\xfe", np.object_)
    return (array * LOUD).astype(array.dtype) if array.dtype.kind not in "iub" else array  # type: ignore[operator]


def _key(inputs: Arrays) -> tuple[object, ...]:
    return tuple((alias, array.shape, array.tobytes() if array.dtype.kind != "O" else tuple(array.ravel().tolist()))
                 for alias, array in sorted(inputs.items()))  # fmt: skip


def _bad(path: Path, expected: str, got: str) -> Rejected:
    return Rejected(
        f"{path.name} holds no golden requests for this model",
        expected=expected,
        got=got,
        fix="save one array an input alias, in the signature's dtypes, with np.savez",
        reason="GOLDEN",
    )
