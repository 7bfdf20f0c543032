"""The relay as its own process, in front of small real servers."""

import contextlib
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from components.cluster import daemon
from components.core.clock import SystemClock
from components.core.errors import Unavailable

CLOCK = SystemClock()


class Named(socketserver.ThreadingTCPServer):
    """Answers every line with its own name, and says when a client has gone."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.name = name.encode()
        self.gone = threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            for line in self.rfile:
                self.wfile.write(self.server.name + b" " + line)  # type: ignore[attr-defined]
        self.server.gone.set()  # type: ignore[attr-defined]


@contextlib.contextmanager
def serving(name: str):
    with Named(name) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def point(route: Path, server: Named) -> None:
    temporary = route.with_suffix(".new")
    temporary.write_text(json.dumps({"grpc": server.address, "rest": server.address}))
    temporary.replace(route)


def start(tmp_path: Path, grpc_port: int = 0) -> daemon.Daemon:
    ready = tmp_path / "relay.json"
    return daemon.start(
        "components.cluster.relay",
        [str(tmp_path / "route.json"), str(ready), "127.0.0.1", str(grpc_port), "0"],
        ready=ready,
        log=tmp_path / "relay.log",
        deadline_s=20,
        clock=CLOCK,
        environment=dict(os.environ),
        what="the relay",
    )


@pytest.fixture
def relay(tmp_path):
    yield start(tmp_path)
    daemon.stop(tmp_path / "relay.json", deadline_s=5, clock=CLOCK)


def ask(port: int, text: bytes = b"hello\n") -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(text)
        return client.makefile("rb").readline()


def test_a_new_connection_goes_to_whatever_is_stable_then(tmp_path, relay):
    with serving("one") as one, serving("two") as two:
        point(tmp_path / "route.json", one)
        assert ask(relay.grpc_port) == b"one hello\n"
        point(tmp_path / "route.json", two)
        assert ask(relay.grpc_port) == b"two hello\n"
        assert ask(relay.rest_port) == b"two hello\n"


def test_an_open_connection_stays_with_its_server_until_that_ends_it(tmp_path, relay):
    with serving("one") as one, serving("two") as two:
        point(tmp_path / "route.json", one)
        with socket.create_connection(("127.0.0.1", relay.grpc_port), timeout=5) as client:
            lines = client.makefile("rb")
            client.sendall(b"a\n")
            assert lines.readline() == b"one a\n"
            point(tmp_path / "route.json", two)
            client.sendall(b"b\n")
            assert lines.readline() == b"one b\n"


def test_an_answer_follows_although_the_client_has_finished_sending(tmp_path, relay):
    with serving("one") as one:
        point(tmp_path / "route.json", one)
        with socket.create_connection(("127.0.0.1", relay.grpc_port), timeout=5) as client:
            client.sendall(b"a\nb\n")
            client.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").read() == b"one a\none b\n"


def test_a_client_that_vanishes_does_not_keep_its_server_waiting(tmp_path, relay):
    with serving("one") as one:
        point(tmp_path / "route.json", one)
        client = socket.create_connection(("127.0.0.1", relay.grpc_port), timeout=5)
        client.sendall(b"a\n")
        assert client.recv(100) == b"one a\n"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        client.close()  # a reset, not a farewell
        assert one.gone.wait(5)


def test_large_answers_pass_untouched(tmp_path, relay):
    with serving("one") as one:
        point(tmp_path / "route.json", one)
        big = b"x" * 3_000_000 + b"\n"
        assert ask(relay.grpc_port, big) == b"one " + big


def ends_without_an_answer(port: int) -> bool:
    try:
        return ask(port) == b""
    except ConnectionError:
        return True


def test_with_nothing_behind_it_a_connection_ends_at_once(tmp_path, relay):
    assert ends_without_an_answer(relay.grpc_port)
    with serving("one") as one:
        point(tmp_path / "route.json", one)
    assert ends_without_an_answer(relay.grpc_port)


def test_a_busy_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable) as error:
            start(tmp_path, grpc_port=port)
    assert f"port {port}" in error.value.got
    assert not (tmp_path / "relay.json").exists()


def test_a_process_is_found_again_and_stopped_once(tmp_path, relay):
    ready = tmp_path / "relay.json"
    assert daemon.find(ready) == relay
    assert daemon.stop(ready, deadline_s=5, clock=CLOCK)
    assert daemon.find(ready) is None
    assert not daemon.stop(ready, deadline_s=5, clock=CLOCK)


def test_another_process_under_the_same_id_is_not_taken_for_ours(tmp_path):
    ready = tmp_path / "server.json"
    ready.write_text(json.dumps({"pid": os.getpid(), "grpc_port": 1, "rest_port": 2}))
    assert daemon.find(ready) is None
    assert not daemon.stop(ready, deadline_s=1, clock=CLOCK)
    assert sys.argv  # this very process is still there


def test_a_process_that_merely_reads_the_file_is_left_alone(tmp_path, relay):
    ready = tmp_path / "relay.json"
    with subprocess.Popen(["tail", "-f", str(ready)], stdout=subprocess.DEVNULL) as reader:
        assert daemon.stop(ready, deadline_s=5, clock=CLOCK)
        assert reader.poll() is None
        reader.kill()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "grpc_port": 1, "rest_port": 1}'])
def test_a_damaged_ready_file_means_that_nothing_runs(tmp_path, text):
    ready = tmp_path / "server.json"
    ready.write_text(text)
    assert daemon.find(ready) is None
