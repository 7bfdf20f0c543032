"""Embedded servers as real processes, and the models they serve: made once a session, as TensorFlow starts slowly."""

import atexit
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from components.serving.client import GrpcClient, RestClient

ROOT = Path(__file__).resolve().parents[1]
START_S = 120


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    process: subprocess.Popen[bytes]
    grpc_port: int
    rest_port: int
    log: Path

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    def grpc(self) -> GrpcClient:
        return GrpcClient(self.grpc_address)

    def rest(self) -> RestClient:
        return RestClient(self.rest_url)

    def stop(self, *, within_s: float = 30) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)


def launch(*flags: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a server and do not wait for it."""
    command = [sys.executable, "-P", str(ROOT / "slipway.py"), "--module", "components.serving.main", *flags]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=errors, stderr=errors, stdin=subprocess.DEVNULL)
    atexit.register(process.kill)
    return process


def start(folder: Path, *flags: str) -> Running:
    """Start a server on free ports and wait until its models are available."""
    ready, log = folder / "ready.json", folder / "server.log"
    ready.unlink(missing_ok=True)
    process = launch("--port=0", "--rest_api_port=0", f"--slipway_ready_file={ready}", *flags, log=log)
    until(lambda: ready.exists() or process.poll() is not None, within_s=START_S)
    assert ready.exists(), log.read_text()
    found = json.loads(ready.read_text())
    return Running(process, found["grpc_port"], found["rest_port"], log)


def until(condition: Callable[[], bool], *, within_s: float) -> None:
    """Wait for a condition, or fail."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"nothing within {within_s} s"
        time.sleep(0.02)


def http(port: int, request: bytes, *, timeout_s: float = 30) -> tuple[int, dict[str, str], bytes]:
    """Send raw bytes as an HTTP request that closes, and return status, headers and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


@cache
def models() -> Path:
    """Return a folder with the contract suite's models and ``models.config``."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    script = ROOT / "tests" / "contract" / "make_models.py"
    made = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, timeout=START_S, check=False)
    assert made.returncode == 0, made.stderr.decode()[-3000:]
    return folder


@cache
def contract_server() -> Running:
    """Return the one server with the contract suite's models that a whole session shares."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-server-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    monitoring = folder / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    return start(
        folder,
        f"--model_config_file={models() / 'models.config'}",
        f"--monitoring_config_file={monitoring}",
        "--allow_version_labels_for_unavailable_models",
        "--enable_grpc_healthcheck_service=true",
        "--file_system_poll_wait_seconds=0",
    )
