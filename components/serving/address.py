"""Addresses of served models, as users write them: ``http://HOST:PORT/v1/models/M[/versions/N]``, or ``grpc://…``."""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from components.core.errors import Rejected
from components.serving.calls import ServingClient

Protocol = Literal["http", "https", "grpc"]
_PROTOCOLS: dict[str, Protocol] = {"http": "http", "https": "https", "grpc": "grpc"}
SCHEMES = ("http://", "https://", "grpc://")
_PATH = re.compile(r"/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>[0-9]{1,18}))?/?")
_BARE = re.compile(r"/(?P<model>[^/:]+)(/(?P<version>[0-9]{1,18}))?/?")


@dataclass(frozen=True, slots=True)
class ServedAddress:
    """A model on a server. ``version`` is None for whatever the server calls its latest."""

    protocol: Protocol
    host: str
    """``host:port``"""
    model: str
    version: int | None

    def connect(self, *, retries: int = 0) -> ServingClient:
        """Return a client of the server; nothing is sent yet."""
        if self.protocol == "grpc":
            from components.serving.grpc_client import GrpcClient  # noqa: PLC0415 - 50 ms that REST need not pay

            return GrpcClient(self.host, retries=retries)
        from components.serving.rest_client import RestClient  # noqa: PLC0415 - 80 ms that gRPC need not pay

        return RestClient(f"{self.protocol}://{self.host}", retries=retries)


def is_address(text: str) -> bool:
    """Return whether a text names a server rather than a directory or a store."""
    return text.startswith(SCHEMES)


def parse(text: str) -> ServedAddress:
    """Return the model that an address names.

    Args:
        text: ``http://HOST:PORT/v1/models/M``, ``…/versions/N``; the same with ``grpc://``, where ``/M`` and ``/M/N``
            are enough.

    Raises:
        Rejected: SERVER_ADDRESS.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _bad(text, str(error)) from error
    grpc = parts.scheme == "grpc"
    protocol = _PROTOCOLS.get(parts.scheme)
    found = _PATH.fullmatch(parts.path) or (_BARE.fullmatch(parts.path) if grpc else None)
    if protocol is None or not parts.hostname or parts.username or parts.query:
        raise _bad(text, "no address of a model server")
    if grpc and port is None:
        raise _bad(text, "no port")
    if found is None:
        raise _bad(text, f"the path {parts.path or '/'}")
    version = found["version"]
    return ServedAddress(protocol, parts.netloc, unquote(found["model"]), int(version) if version else None)


def _bad(text: str, got: str) -> Rejected:
    return Rejected(
        f"{text!r} names no served model",
        expected="http://HOST:PORT/v1/models/M, http://HOST:PORT/v1/models/M/versions/N, or the same with grpc://",
        got=got,
        reason="SERVER_ADDRESS",
    )
