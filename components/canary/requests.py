"""Where the canary's requests come from: a file of the user's, the model's warm-up file, or as a last resort made up.

All are pools that requests are drawn from with replacement, so that a sample is independent and identically distributed
over the pool whatever the order of the file, and the same for the same seed.
"""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec, accepts
from components.core.spec import Traffic
from components.savedmodel import warmup
from components.savedmodel.generate_inputs import generate
from components.savedmodel.tensors import Array, numpy_dtype

GENERATED_REQUESTS = 64
"""Different requests that are made up where there are no others."""

_BLOCK = 1024


class RequestSource(Protocol):
    """Requests without end."""

    @property
    def origin(self) -> str:
        """Where they come from, in words."""
        ...

    @property
    def kind(self) -> Literal["recorded", "warm-up", "generated"]:
        """The same as a code."""
        ...

    def stream(self, seed: int) -> Iterator[Mapping[str, Array]]:
        """Yield the inputs of one request after another, by alias; the same ones for the same seed."""
        ...


@dataclass(frozen=True, slots=True)
class RowPool:
    """Rows of equally long arrays; a request is ``batch_size`` of them."""

    origin: str
    arrays: Mapping[str, Array]
    batch_size: int
    kind: Literal["recorded"] = "recorded"

    def stream(self, seed: int) -> Iterator[Mapping[str, Array]]:
        """Yield requests of rows drawn with replacement."""
        rows = len(next(iter(self.arrays.values())))
        random = np.random.default_rng(seed)
        while True:
            for drawn in random.integers(0, rows, (_BLOCK, self.batch_size)):
                yield {alias: array[drawn] for alias, array in self.arrays.items()}


@dataclass(frozen=True, slots=True)
class WholePool:
    """Whole requests."""

    origin: str
    requests: tuple[Mapping[str, Array], ...]
    kind: Literal["warm-up", "generated"]

    def stream(self, seed: int) -> Iterator[Mapping[str, Array]]:
        """Yield requests drawn with replacement."""
        random = np.random.default_rng(seed)
        while True:
            for drawn in random.integers(0, len(self.requests), _BLOCK).tolist():
                yield self.requests[drawn]


def open_requests(traffic: Traffic, signature: Signature, *, spec_dir: Path, version_dir: Path | None) -> RequestSource:
    """Return the requests that the spec asks for.

    Args:
        traffic: The spec's section.
        signature: The signature that is asked; its inputs must be there.
        spec_dir: Folder that ``traffic.requests`` is relative to.
        version_dir: The candidate's SavedModel, for its warm-up file; none if it is not at hand.

    Raises:
        Rejected: CANARY_REQUESTS: the file cannot be read or does not fit the signature; WARMUP_DAMAGED;
            DTYPE_UNSUPPORTED: no request can be made up.
    """
    if traffic.requests:
        return from_npz(spec_dir / traffic.requests, signature, traffic.batch_size, name=traffic.requests)
    if version_dir is not None:
        recorded = [one.inputs for one in warmup.read(version_dir) if one.signature == traffic.signature]
        if recorded:
            return WholePool(f"the {len(recorded)} requests of the warm-up file", tuple(recorded), "warm-up")
    first = traffic.seed * GENERATED_REQUESTS
    made = tuple(
        generate(signature, batch_size=traffic.batch_size, seed=first + number) for number in range(GENERATED_REQUESTS)
    )
    return WholePool(f"{len(made)} random requests made from the signature, for want of real ones", made, "generated")


def from_npz(path: Path, signature: Signature, batch_size: int, *, name: str) -> RowPool:
    """Read the rows of an ``.npz`` file; arrays that are no input (labels, say) are left alone.

    Args:
        path: The file.
        signature: Whose inputs are read.
        batch_size: Rows a request.
        name: What to call the file in records and messages.

    Raises:
        Rejected: CANARY_REQUESTS.
    """
    try:
        # numpy leaves a file it cannot read open, if it opened it itself
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {alias: archive[alias] for alias in archive.files if alias in signature.inputs}
            names = sorted(archive.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise _refused(f"{name}: cannot be read", "an .npz file written by numpy.savez", str(error)) from error
    missing = sorted(signature.inputs.keys() - found.keys())
    if missing:
        raise _refused(f"{name}: no array for the input {missing[0]}", f"arrays {sorted(signature.inputs)}", str(names))
    arrays = {alias: _fitting(name, alias, found[alias], spec, batch_size) for alias, spec in signature.inputs.items()}
    lengths = {alias: len(array) for alias, array in arrays.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise _refused(f"{name}: the arrays must be equally long and not empty", "one row a request row", str(lengths))
    rows = next(iter(lengths.values()))
    return RowPool(f"{rows:,} rows of {name}, {batch_size} a request", arrays, batch_size)


def _fitting(name: str, alias: str, array: Array, spec: TensorSpec, batch_size: int) -> Array:
    if array.ndim == 0 or not accepts(spec.shape, (batch_size, *array.shape[1:])):
        what = f"{name}: array {alias} does not fit the input with {batch_size} rows a request"
        raise _refused(what, str(spec), str(list(array.shape)))
    if spec.dtype == "string":
        if array.dtype.kind in "SU":
            return array
        raise _refused(f"{name}: array {alias} holds no text", str(spec), array.dtype.name)
    wanted = numpy_dtype(spec.dtype)
    if array.dtype != wanted and not np.can_cast(array.dtype, wanted, "same_kind"):
        raise _refused(f"{name}: array {alias} has the wrong dtype", str(spec), array.dtype.name)
    return array.astype(wanted, copy=False)


def _refused(what: str, expected: str, got: str) -> Rejected:
    return Rejected(
        f"canary.traffic.requests: {what}",
        expected=expected,
        got=got,
        fix="write one array for each input alias, one row for each example",
        reason="CANARY_REQUESTS",
    )
