"""The contract of TensorFlow Serving, asked of any server.

``pytest tests/contract --rest HOST:PORT --grpc HOST:PORT`` asks a running one, which must serve the folder that
``python tests/contract/make_models.py FOLDER`` writes by ``FOLDER/models.config``, with
``--allow_version_labels_for_unavailable_models=true`` and a monitoring config that enables Prometheus. Without the
options it starts the embedded server.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from components.serving.client import GrpcClient, RestClient
from tests.embedded import contract_server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rest", help="HOST:PORT of a running server's REST")
    parser.addoption("--grpc", help="HOST:PORT of a running server's gRPC")


@dataclass(frozen=True)
class Answer:
    """Status and JSON (or text) of an HTTP answer."""

    status: int
    body: Any
    text: str
    content_type: str

    @property
    def error(self) -> str:
        return self.body["error"]


@pytest.fixture(scope="session")
def addresses(pytestconfig: pytest.Config) -> tuple[str, str]:
    rest, grpc = (pytestconfig.getoption(name, default=None) for name in ("--rest", "--grpc"))
    if rest and grpc:
        return rest, grpc
    server = contract_server()
    return f"127.0.0.1:{server.rest_port}", server.grpc_address


@pytest.fixture(scope="session")
def grpc_client(addresses: tuple[str, str]) -> Iterator[GrpcClient]:
    client = GrpcClient(addresses[1])
    yield client
    client.close()


@pytest.fixture(scope="session")
def rest_client(addresses: tuple[str, str]) -> Iterator[RestClient]:
    client = RestClient(f"http://{addresses[0]}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def ask(addresses: tuple[str, str]) -> Iterator[Callable[..., Answer]]:
    """Return a function (method, path, body) -> Answer."""
    with httpx.Client(base_url=f"http://{addresses[0]}", trust_env=False, timeout=30) as client:

        def call(method: str, path: str, body: str | bytes | None = None, **headers: str) -> Answer:
            found = client.request(method, path, content=body, headers=headers)
            kind = found.headers.get("content-type", "")
            return Answer(
                found.status_code,
                found.json() if kind == "application/json" and found.content else None,
                found.text,
                kind,
            )

        yield call
