"""The client of TensorFlow Serving's REST protocol."""

import base64
import contextlib
import json
import time
from typing import Any, cast
from urllib.parse import quote

import numpy as np

from components.core.clock import Clock, SystemClock
from components.core.signature import DEFAULT_SIGNATURE, Contract
from components.savedmodel.messages import message, pool
from components.savedmodel.tensors import Array, numpy_dtype
from components.serving.calls import DEFAULT_TIMEOUT_S, CallFailed, Inputs, Prepared, persist
from components.serving.requests import VersionStatus, contract, statuses

_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""HTTP status to gRPC status name, the inverse of the server's own table (http_rest_api_util.cc)."""


class RestClient:
    """The REST protocol (api_rest.md), in its columnar form, which every signature with inputs can be called by.

    REST answers carry neither dtypes nor, for a single output, names; both are read once per model and version from the
    metadata. float16, bfloat16, uint16 and complex inputs are not part of the protocol.

    Args:
        base_url: ``http://host:port``, or ``https://…``.
        retries: Further tries after UNAVAILABLE, within the call's deadline.
        clock: Time between tries.
    """

    def __init__(self, base_url: str, *, retries: int = 0, clock: Clock | None = None) -> None:
        import httpx  # noqa: PLC0415 - 80 ms that commands which ask no server should not pay

        self._httpx = httpx
        self._http = httpx.Client(base_url=base_url, trust_env=False, limits=httpx.Limits(max_connections=None))
        self._retries = retries
        self._clock = clock or SystemClock()
        self._contracts: dict[tuple[str, int | None], Contract] = {}

    def _ask(self, path: str, body: bytes | None, timeout_s: float) -> bytes:
        def attempt(left_s: float) -> bytes:
            try:
                return self._exchange(path, body, left_s)
            except self._httpx.TimeoutException as error:
                raise CallFailed("DEADLINE_EXCEEDED", f"no answer within {timeout_s:g} s") from error
            except self._httpx.TransportError as error:
                raise CallFailed("UNAVAILABLE", str(error) or type(error).__name__) from error

        return persist(attempt, timeout_s=timeout_s, retries=self._retries, clock=self._clock)

    def _exchange(self, path: str, body: bytes | None, left_s: float) -> bytes:
        # httpx's own timeout is for one read; a server that drips bytes is held to the whole deadline here
        until_s = time.monotonic() + left_s
        method = "GET" if body is None else "POST"
        headers = None if body is None else {"content-type": "application/json"}
        with self._http.stream(method, path, content=body, headers=headers, timeout=left_s) as response:
            parts = []
            for part in response.iter_bytes():
                if time.monotonic() > until_s:
                    raise CallFailed("DEADLINE_EXCEEDED", "the answer did not end in time")
                parts.append(part)
        answer = b"".join(parts)
        if response.status_code != 200:
            raise CallFailed(_CODES.get(response.status_code, "INTERNAL"), _error_text(answer))
        return answer

    def predict(
        self,
        model: str,
        inputs: Inputs,
        *,
        signature: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> dict[str, Array]:
        """Return the outputs by alias; strings are object arrays of bytes.

        Raises:
            CallFailed: The server refused or did not answer in time.
            Rejected: An input cannot be encoded.
        """
        return self.call(self.prepare(model, inputs, signature=signature, version=version), timeout_s=timeout_s)

    def prepare(
        self, model: str, inputs: Inputs, *, signature: str = DEFAULT_SIGNATURE, version: int | None = None
    ) -> Prepared:
        """Encode a predict request; asks for the metadata the first time."""
        found = self._contract(model, version).signatures.get(signature)
        values = {alias: _jsonable(np.asarray(array)) for alias, array in inputs.items()}
        body = json.dumps({"signature_name": signature, "inputs": values}).encode()
        return Prepared(f"{_path(model, version)}:predict", body, found)

    def _contract(self, model: str, version: int | None) -> Contract:
        key = (model, version)
        if key not in self._contracts:
            self._contracts[key] = self.metadata(model, version)
        return self._contracts[key]

    def send(self, prepared: Prepared, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> bytes:
        """Send a prepared request and return the JSON text of the answer."""
        return self._ask(prepared.target, prepared.body, timeout_s)

    def decode(self, prepared: Prepared, answer: bytes) -> dict[str, Array]:
        """Decode the JSON text of an answer."""
        if prepared.signature is None:
            raise CallFailed("INTERNAL", "the server answered a signature that its metadata does not have")
        outputs = _json_object(answer).get("outputs")
        specs = prepared.signature.outputs
        if len(specs) == 1:
            outputs = {next(iter(specs)): outputs}
        if not isinstance(outputs, dict) or outputs.keys() != specs.keys():
            raise CallFailed("INTERNAL", f"expected the outputs {sorted(specs)}, got {answer[:200]!r}")
        return {alias: _array(alias, outputs[alias], spec.dtype) for alias, spec in specs.items()}

    def call(self, prepared: Prepared, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> dict[str, Array]:
        """Send a prepared request and decode the answer."""
        return self.decode(prepared, self.send(prepared, timeout_s=timeout_s))

    def status(
        self, model: str, version: int | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> list[VersionStatus]:
        """Return the state of one version, or of all the server knows, newest first."""
        answer = self._ask(_path(model, version), None, timeout_s)
        return statuses(_parse("tensorflow.serving.GetModelStatusResponse", _json_object(answer)))

    def metadata(self, model: str, version: int | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Contract:
        """Return the signatures of a version; only an AVAILABLE one answers."""
        answer = _json_object(self._ask(f"{_path(model, version)}/metadata", None, timeout_s))
        metadata = answer.get("metadata")
        definitions = metadata.get("signature_def") if isinstance(metadata, dict) else None
        return contract(_parse("tensorflow.serving.SignatureDefMap", definitions))

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


def _path(model: str, version: int | None) -> str:
    base = f"/v1/models/{quote(model, safe='')}"
    return base if version is None else f"{base}/versions/{version}"


def _jsonable(array: Array) -> object:
    if array.dtype.kind not in "SUO":
        return array.tolist()
    flat = [
        {"b64": base64.b64encode(item if isinstance(item, bytes) else str(item).encode()).decode()}
        for item in array.flat
    ]
    shaped = np.empty(array.size, object)
    shaped[:] = flat
    return shaped.reshape(array.shape).tolist()


def _array(alias: str, value: object, dtype: str) -> Array:
    try:
        if dtype != "string":
            plain = np.array(value)
            if plain.dtype.kind in "OU":  # null and text, which NumPy would turn into numbers
                raise TypeError("not only numbers")
            return plain.astype(numpy_dtype(dtype))
        array = np.array(value, object)
        return np.array([_text(item) for item in array.flat] + [b""], object)[:-1].reshape(array.shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise CallFailed("INTERNAL", f"output {alias} is no tensor of {dtype}: {error}") from error


def _text(item: object) -> bytes:
    if isinstance(item, dict):
        return base64.b64decode(item["b64"])
    return str(item).encode()


def _json_object(answer: bytes) -> dict[str, object]:
    with contextlib.suppress(ValueError):
        found = json.loads(answer)
        if isinstance(found, dict):
            return found
    raise CallFailed("INTERNAL", f"the answer is no JSON object: {answer[:200]!r}")


def _error_text(answer: bytes) -> str:
    with contextlib.suppress(CallFailed):
        found = _json_object(answer).get("error")
        if isinstance(found, str):
            return found
    return answer[:1024].decode(errors="replace")


def _parse(name: str, value: object) -> Any:  # noqa: ANN401
    from google.protobuf import json_format  # noqa: PLC0415 - only REST needs it

    try:
        found = cast("dict[str, Any]", value)
        return json_format.ParseDict(found, message(name)(), ignore_unknown_fields=True, descriptor_pool=pool())
    except (json_format.ParseError, AttributeError, TypeError) as error:
        raise CallFailed("INTERNAL", f"the answer is no {name}: {error}") from error
