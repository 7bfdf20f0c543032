"""grpc.health.v1.Health: the services that TensorFlow Serving names, SERVING from the first answer to the last.

Sources: tensorflow/serving, model_servers/server.cc (names); grpc, doc/health-checking.md (Check and Watch).
"""

import threading
from collections.abc import Callable
from typing import Any

import grpc

from components.serving.configs import declared_message
from components.serving.status import ServingError

_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3
_NAMES = frozenset({"", "ModelService", "PredictionService"})

Send = Callable[[Any], None]


class Health:
    """Answers whether the server serves. Safe to use from several threads."""

    def __init__(self) -> None:
        self.request = declared_message("grpc.health.v1.HealthCheckRequest")
        self._response = declared_message("grpc.health.v1.HealthCheckResponse")
        self._lock = threading.Lock()
        self._watchers: dict[Send, str] = {}
        self._ended = False

    def check(self, request: Any) -> Any:  # noqa: ANN401 - dynamic messages
        """Answer one question.

        Raises:
            ServingError: NOT_FOUND: the server has no such service.
        """
        if request.service not in _NAMES:
            raise ServingError("NOT_FOUND", "service name unknown")
        with self._lock:
            return self._response(status=_NOT_SERVING if self._ended else _SERVING)

    def watch_handler(self) -> Any:  # noqa: ANN401 - grpc has no types
        """Return the handler of Watch: it holds no thread while a client listens, however many there are."""

        def watch(request: Any, context: Any, send: Send) -> None:  # noqa: ANN401
            with self._lock:
                if self._ended:
                    send(self._response(status=_NOT_SERVING))
                    send(None)
                    return
                self._watchers[send] = request.service
                send(self._response(status=_SERVING if request.service in _NAMES else _SERVICE_UNKNOWN))
            if not context.add_callback(lambda: self._forget(send)):
                self._forget(send)

        watch.experimental_non_blocking = True  # type: ignore[attr-defined] # how grpc's own health service says it
        return grpc.unary_stream_rpc_method_handler(
            watch,
            request_deserializer=self.request.FromString,
            response_serializer=lambda found: found.SerializeToString(),
        )

    def _forget(self, send: Send) -> None:
        with self._lock:
            self._watchers.pop(send, None)

    def end(self) -> None:
        """Tell all who watch that the server ends, so that they do not hold up its drain."""
        with self._lock:
            self._ended = True
            watchers, self._watchers = self._watchers, {}
        for send, name in watchers.items():
            send(self._response(status=_NOT_SERVING if name in _NAMES else _SERVICE_UNKNOWN))
            send(None)
