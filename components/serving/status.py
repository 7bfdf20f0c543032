"""Status codes of gRPC, and how REST shows them (tensorflow/serving: model_servers/http_server.cc)."""

CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""Names by number."""

_HTTP = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)

_DETAILS_LIMIT = 1024


class ServingError(Exception):
    """A request, a load or a configuration that the server refuses, with the code it tells the client.

    Args:
        code: One of CODES.
        message: The text TensorFlow Serving gives.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    @property
    def number(self) -> int:
        """The code's number."""
        return CODES.index(self.code)

    @property
    def http_status(self) -> int:
        """The HTTP status REST answers with."""
        return _HTTP[self.number]

    @property
    def details(self) -> str:
        """The message as gRPC sends it: cut after 1,024 characters (grpc_status_util.cc)."""
        if len(self.message) <= _DETAILS_LIMIT:
            return self.message
        return f"{self.message[:_DETAILS_LIMIT]}...TRUNCATED"


def invalid(message: str) -> ServingError:
    """Return an INVALID_ARGUMENT, the code of most refusals."""
    return ServingError("INVALID_ARGUMENT", message)
