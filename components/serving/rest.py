"""The REST protocol: paths, methods and bodies over aiohttp.

Sources: tensorflow/serving, model_servers/http_rest_api_util.cc (paths), http_rest_api_handler.cc (dispatch) and
http_server.cc (status codes, CORS). Bodies are read with a limit and answered on threads, so that neither a large body
nor a slow model stops the others.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web
from google.protobuf import json_format

from components.savedmodel.messages import message, pool
from components.serving.metrics import Metrics
from components.serving.service import Service
from components.serving.status import ServingError, invalid

_FLAGS = re.IGNORECASE | re.ASCII
_CALL = re.compile(
    r"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)", _FLAGS
)
_STATE = re.compile(r"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?", _FLAGS)
_NOT_FOUND = "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may use.

    Args:
        timeout_s: Seconds until it is answered DEADLINE_EXCEEDED; as long, each, may its head and its body take.
        body_bytes: Bytes of its body.
    """

    timeout_s: float
    body_bytes: int


class Rest:
    """Handles HTTP requests for aiohttp's low-level server.

    Args:
        service: What answers.
        metrics: What the metrics page shows.
        pool: Threads that answer.
        limits: What a request may use.
        metrics_path: URL path of the metrics page; none if not given.
        cors: Whether to send CORS headers.
    """

    def __init__(
        self,
        service: Service,
        metrics: Metrics,
        threads: ThreadPoolExecutor,
        limits: Limits,
        *,
        metrics_path: str | None = None,
        cors: bool = False,
    ) -> None:
        self._service = service
        self._metrics = metrics
        self._threads = threads
        self._limits = limits
        self._metrics_path = metrics_path
        self._headers = _CORS if cors else {}
        self._heard: set[object] = set()

    def server(self, *, linger_s: float) -> web.Server:
        """Return aiohttp's server over :meth:`handle`, which ends connections that send no whole head in time.

        Args:
            linger_s: Seconds a connection stays open for the rest of a body that was refused unread.
        """
        return _Impatient(self.handle, self._heard, head_s=self._limits.timeout_s, linger_s=linger_s)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self._heard.add(request.protocol)
        path = request.rel_url.raw_path
        if self._metrics_path is not None and path == self._metrics_path:
            return web.Response(text=self._metrics.page())
        if not path.lower().startswith("/v1/"):
            return web.Response(status=404, text=_NOT_FOUND, content_type="text/html")
        try:
            if request.method == "OPTIONS":
                return self._preflight(request)
            body = await self._read_in_time(request)
            text = await self._answer(request.method, path, body)
        except ServingError as error:
            return self._respond(error.http_status, _error_body(error))
        return self._respond(200, text)

    async def _answer(self, method: str, path: str, body: bytes) -> str:
        # a request that runs too long is answered, but its thread goes on, and is one less until TensorFlow is done
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._dispatch, method, path, body)
        done, _ = await asyncio.wait({work}, timeout=self._limits.timeout_s)
        if not done:
            work.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise ServingError("DEADLINE_EXCEEDED", "Timed out waiting for notification")
        return work.result()

    async def _read_in_time(self, request: web.BaseRequest) -> bytes:
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await self._read(request)
        except TimeoutError:
            raise ServingError("DEADLINE_EXCEEDED", "The request's body did not end in time") from None

    async def _read(self, request: web.BaseRequest) -> bytes:
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        limit = self._limits.body_bytes
        too_large = ServingError("RESOURCE_EXHAUSTED", f"The request is larger than {limit} bytes")
        if request.content_length is not None and request.content_length > limit:
            raise too_large
        parts = bytearray()
        async for part in request.content.iter_any():
            parts += part
            if len(parts) > limit:
                raise too_large
        return bytes(parts)

    def _preflight(self, request: web.BaseRequest) -> web.Response:
        origin = request.headers.get("Origin", "")  # without one the real server answers a bare 400, too
        return self._respond(400 if re.search("https?://", origin) is None else 200, "")

    def _respond(self, status: int, text: str) -> web.Response:
        body = text.encode("utf-8", "surrogateescape")
        return web.Response(status=status, body=body, content_type="application/json", headers=self._headers)

    def _dispatch(self, method: str, path: str, body: bytes) -> str:
        malformed = invalid(f"Malformed request: {method} {path}")
        if method == "POST" and (found := _CALL.fullmatch(path)):
            spec, verb = _model_spec(found), found[4].lower()
            answers: dict[str, Callable[[Any, bytes], str]] = {
                "predict": self._service.rest_predict,
                "classify": self._service.rest_classify,
                "regress": self._service.rest_regress,
            }
            return self._service.counted(spec.name, verb, "REST", lambda: answers[verb](spec, body))
        if method == "GET" and (found := _STATE.fullmatch(path)):
            spec = _model_spec(found)
            describe = self._metadata if found[4] else self._status
            return self._service.counted(spec.name, "", "REST", lambda: describe(spec))
        raise malformed

    def _status(self, spec: Any) -> str:  # noqa: ANN401 - a ModelSpec
        _named(spec)
        request = message("tensorflow.serving.GetModelStatusRequest")(model_spec=spec)
        return _json(self._service.status(request), indent=1)

    def _metadata(self, spec: Any) -> str:  # noqa: ANN401 - a ModelSpec
        _named(spec)
        request = message("tensorflow.serving.GetModelMetadataRequest")(model_spec=spec)
        request.metadata_field.append("signature_def")
        response = self._service.metadata(request)
        definitions = message("tensorflow.serving.SignatureDefMap")()
        response.metadata["signature_def"].Unpack(definitions)
        return (
            f'{{\n"model_spec":{_json(response.model_spec, indent=1)},\n'
            f'"metadata": {{"signature_def": {_json(definitions, indent=1)}}}\n}}\n'
        )


class _Impatient(web.Server):
    """aiohttp waits for ever for the first head of a connection; this waits as long as for a request."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        heard: set[object],
        *,
        head_s: float,
        linger_s: float,
    ) -> None:
        super().__init__(handler, access_log=None, lingering_time=linger_s)
        self._heard = heard
        self._head_s = head_s
        self._looks: dict[object, asyncio.TimerHandle] = {}

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:  # noqa: ANN401 - see the base
        super().connection_made(handler, transport)

        def look() -> None:
            if handler not in self._heard:
                transport.abort()

        self._looks[handler] = asyncio.get_running_loop().call_later(self._head_s, look)

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:  # noqa: ANN401 - see the base
        super().connection_lost(handler, exc)
        self._looks.pop(handler).cancel()
        self._heard.discard(handler)


def _model_spec(found: re.Match[str]) -> Any:  # noqa: ANN401 - a ModelSpec
    spec = message("tensorflow.serving.ModelSpec")()
    spec.name = _decoded(found[1] or "", "model name")
    if found[2]:
        if len(found[2]) > 19 or int(found[2]) >= 2**63:
            raise invalid(f"Failed to convert version: {found[2]} to numeric.")
        spec.version.value = int(found[2])
    elif found[3]:
        spec.version_label = _decoded(found[3], "model version label")
    return spec


def _decoded(text: str, what: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise invalid(f"Failed to decode {what}:{text}") from None


def _named(spec: Any) -> None:  # noqa: ANN401
    if not spec.name:
        raise invalid("Missing model name in request.")


def _json(proto: Any, *, indent: int) -> str:  # noqa: ANN401
    return json_format.MessageToJson(
        proto,
        indent=indent,
        always_print_fields_with_no_presence=True,
        preserving_proto_field_name=True,
        descriptor_pool=pool(),
    )


def _error_body(error: ServingError) -> str:
    text = json.dumps(error.message.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), ensure_ascii=False)
    return f'{{\n    "error": {text}\n}}'
