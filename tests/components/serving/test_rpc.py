"""The gRPC server's own settings."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.serving.lifecycle import Models, Timing
from components.serving.metrics import Metrics
from components.serving.rpc import make_server
from components.serving.service import Service
from components.serving.status import ServingError


def load(_name: str, _version: int, _path: Path):
    raise ServingError("NOT_FOUND", "nothing is loaded here")


def test_two_servers_never_share_a_port_and_so_its_requests():
    models = Models(load, Timing())
    service = Service(models, Metrics())
    with ThreadPoolExecutor(1) as threads:
        first, second = make_server(service, threads), make_server(service, threads)
        port = first.add_insecure_port("127.0.0.1:0")
        with pytest.raises(RuntimeError):
            second.add_insecure_port(f"127.0.0.1:{port}")
        for server in (first, second):
            server.stop(0).wait(5)
    models.close()
