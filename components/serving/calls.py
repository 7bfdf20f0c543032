"""What a call to a model server is, whichever protocol carries it: prepared requests, failures, retries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy.typing as npt

from components.core.clock import Clock
from components.core.errors import Rejected, SlipwayError, Unavailable
from components.core.signature import DEFAULT_SIGNATURE, Contract, Signature
from components.savedmodel.tensors import Array
from components.serving.requests import VersionStatus

T = TypeVar("T")
Inputs = Mapping[str, npt.ArrayLike]

DEFAULT_TIMEOUT_S = 30.0
"""Seconds; TensorFlow Serving's own default for REST (``--rest_api_timeout_in_ms``)."""

_PAUSE_S = 0.1
_TRY_AGAIN = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"})


class CallFailed(Exception):
    """A server answered with an error, or not at all.

    Args:
        code: gRPC status name, such as ``UNAVAILABLE`` or ``INVALID_ARGUMENT``; the same for REST.
        message: The server's text.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def as_error(self, address: str) -> SlipwayError:
        """Return the error of ours this is, where a failed call ends the work: Unavailable if another try may help."""
        family = Unavailable if self.code in _TRY_AGAIN else Rejected
        return family(f"{address}: the call failed", got=str(self), reason=f"SERVER_{self.code}")


@dataclass(frozen=True, slots=True)
class Prepared:
    """An encoded predict request.

    Args:
        target: gRPC method or URL path.
        body: The bytes sent.
        signature: What the answer is decoded by, where the protocol does not carry names and dtypes (REST).
    """

    target: str
    body: bytes
    signature: Signature | None = None


class ServingClient(Protocol):
    """What both protocols can be asked. Every method raises CallFailed when the server refuses or does not answer."""

    def predict(
        self,
        model: str,
        inputs: Inputs,
        *,
        signature: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> dict[str, Array]:
        """Return the outputs by alias; strings are object arrays of bytes."""
        ...

    def prepare(
        self, model: str, inputs: Inputs, *, signature: str = DEFAULT_SIGNATURE, version: int | None = None
    ) -> Prepared:
        """Encode a predict request for :meth:`call` or :meth:`send`."""
        ...

    def call(self, prepared: Prepared, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> dict[str, Array]:
        """Send a prepared request and decode the answer."""
        ...

    def send(self, prepared: Prepared, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> bytes:
        """Send a prepared request and return the answer as it came, for :meth:`decode`."""
        ...

    def decode(self, prepared: Prepared, answer: bytes) -> dict[str, Array]:
        """Decode what :meth:`send` returned."""
        ...

    def status(
        self, model: str, version: int | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> list[VersionStatus]:
        """Return the state of one version, or of all the server knows, newest first."""
        ...

    def metadata(self, model: str, version: int | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Contract:
        """Return the signatures of a version; only an AVAILABLE one answers."""
        ...

    def close(self) -> None:
        """Give up connections."""
        ...


def persist(attempt: Callable[[float], T], *, timeout_s: float, retries: int, clock: Clock) -> T:
    """Call ``attempt`` with the seconds left until it succeeds; try again on UNAVAILABLE only."""
    deadline_s = clock.monotonic_s() + timeout_s
    for tried in range(retries + 1):
        try:
            return attempt(max(0.001, deadline_s - clock.monotonic_s()))
        except CallFailed as failure:
            pause_s = _PAUSE_S * 2**tried
            late = clock.monotonic_s() + pause_s >= deadline_s
            if failure.code != "UNAVAILABLE" or tried == retries or late:
                raise
            clock.sleep(pause_s)
    raise AssertionError("the last try returns or raises")
