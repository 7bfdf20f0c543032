"""Flags that change how the server listens and runs, each on a real process: batching, TLS, sockets, limits."""

import datetime as dt
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from components.serving.client import CallFailed, GrpcClient
from components.serving.configs import declared_message
from tests.embedded import Running, http, launch, models, start, until

pytestmark = pytest.mark.slow

TIMEOUT_S = 2
BODY_LIMIT = 100_000
BATCHING = """
max_batch_size { value: 4 } batch_timeout_micros { value: 300000 } max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 } allowed_batch_sizes: 2 allowed_batch_sizes: 4
"""
POST = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with batching, a UNIX socket, small limits, metrics and health."""
    folder = tmp_path_factory.mktemp("flags")
    (folder / "batching").write_text(BATCHING)
    (folder / "monitoring").write_text("prometheus_config { enable: true }")
    (folder / "session").write_text("graph_options { infer_shapes: true }")
    running = start(
        folder,
        f"--model_config_file={models() / 'models.config'}",
        f"--batching_parameters_file={folder / 'batching'}",
        f"--monitoring_config_file={folder / 'monitoring'}",
        f"--tensorflow_session_config_file={folder / 'session'}",
        f"--grpc_socket_path={folder / 'g.sock'}",
        f"--rest_api_timeout_in_ms={TIMEOUT_S * 1000}",
        f"--slipway_max_body_bytes={BODY_LIMIT}",
        "--enable_batching",
        "--tensorflow_intra_op_parallelism=2",
        "--tensorflow_inter_op_parallelism=2",
        "--allow_version_labels_for_unavailable_models",
        "--enable_grpc_healthcheck_service",
    )
    still_answers(running)
    yield running
    assert running.stop() == 0


def metric(server: Running, name: str) -> int:
    page = http(
        server.rest_port, b"GET /monitoring/prometheus/metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    return sum(int(line.split()[-1]) for line in page[2].decode().splitlines() if line.startswith(name))


RUNS = ":tensorflow:serving:batching_session:wrapped_run_count"


def test_requests_of_several_clients_run_as_one_and_each_gets_its_own_answer(server: Running):
    client, before = server.grpc(), metric(server, RUNS)
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda x: client.predict("half_plus_two", {"x": np.float32([x])}, version=1), range(40))
        )
    assert [answer["y"].tolist() for answer in answers] == [[x / 2 + 2] for x in range(40)]
    assert metric(server, RUNS) - before < 40
    client.close()


def test_a_batch_is_of_one_version_signature_and_outputs(server: Running):
    client = server.grpc()
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(lambda v: client.predict("half_plus_two", {"x": np.float32([2])}, version=v)["y"][0], [1, 2] * 6)
        )
    assert answers == [3.0, 4.0] * 6
    client.close()


def test_an_error_that_one_request_shows_alone_harms_no_neighbour(server: Running):
    client = server.grpc()

    def ask(inputs: dict[str, Any]) -> object:
        try:
            return client.predict("half_plus_two", inputs, version=1)["y"].tolist()
        except CallFailed as error:
            return error.code, error.message

    good, wrong, large, bare = (np.float32([2]), np.float64([2]), np.float32([1] * 5), np.float32(2))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [{"x": x} for x in (good, wrong, good, large, good, bare, good)]))
    assert answers[::2] == [[3.0]] * 4
    assert "Expects arg[0] to be float but double is provided" in answers[1][1]
    assert answers[3] == ("INVALID_ARGUMENT", "Task size 5 is larger than maximum input batch size 4")
    assert answers[5] == ("INVALID_ARGUMENT", "Batching Run() input tensors must have at least one dimension")
    client.close()


def test_other_shapes_in_one_batch_are_refused_in_the_real_servers_words(server: Running):
    client = server.grpc()

    def ask(columns: int) -> object:
        try:
            inputs = {"x": np.ones((1, columns), np.float32)}
            return client.predict("kinds", inputs, signature="echo_float32")["y"].shape
        except CallFailed as error:
            return error.message

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, (1, 2)))
    assert all("from different tasks have different shapes and padding is turned off" in str(text) for text in answers)
    client.close()


def test_examples_and_texts_are_batched_too(server: Running):
    client = server.rest()
    body = b'{"signature_name": "regress_x_to_y", "examples": [{"x": 2.0}, {"x": 4.0}, {"x": 6.0}]}'
    path = b"POST /v1/models/half_plus_two/versions/1:regress HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    status, _, text = http(server.rest_port, path + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert (status, json.loads(text)) == (200, {"results": [3.0, 4.0, 5.0]})
    assert client.predict("kinds", {"s": [b"two", b"none", b"one"]}, signature="lookup")["id"].tolist() == [2, -1, 1]
    client.close()


def test_a_unix_socket_answers_as_the_port_does(server: Running):
    client = GrpcClient(f"unix:{server.log.parent / 'g.sock'}")
    assert client.predict("half_plus_two", {"x": np.float32([2])}, version=2)["y"].tolist() == [4.0]
    client.close()


# -- limits ------------------------------------------------------------------------------------------------------------


def still_answers(server: Running) -> None:
    client = server.grpc()
    assert client.predict("half_plus_two", {"x": np.float32([2])}, version=1)["y"].tolist() == [3.0]
    client.close()


def test_a_body_without_an_end_is_refused_at_the_limit(server: Running):
    chunk = b"%x\r\n%s\r\n" % (8192, b" " * 8192)
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(BODY_LIMIT // 8192 + 1):
            connection.sendall(chunk)
        assert connection.recv(12) == b"HTTP/1.1 429"
    still_answers(server)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/mod", POST], ids=["nothing", "half a line", "half a head"])
def test_a_connection_that_sends_no_whole_head_is_ended(server: Running, sent: bytes):
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=TIMEOUT_S * 4) as connection:
        connection.sendall(sent)
        assert connection.recv(100) == b""
    still_answers(server)


def test_a_body_that_drips_is_answered_when_its_time_is_over(server: Running):
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=TIMEOUT_S * 4) as connection:
        connection.sendall(POST + b"Content-Length: 1000\r\n\r\n")
        began, stop = time.monotonic(), threading.Event()

        def drip() -> None:
            while not stop.wait(0.1):
                connection.sendall(b" ")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        answer = connection.recv(100)
        stop.set()
        thread.join()
    assert answer.startswith(b"HTTP/1.1 504")
    assert time.monotonic() - began < TIMEOUT_S * 3
    still_answers(server)


def test_a_connection_that_has_spoken_stays_open(server: Running):
    body = b'{"instances": [2.0]}'
    ask = POST.replace(b"Connection: close\r\n", b"") + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as connection:
        for wait_s in (TIMEOUT_S + 0.5, 0):
            connection.sendall(ask)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            time.sleep(wait_s)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "image/png", "multipart/form-data"]
)
def test_the_content_type_does_not_matter_as_in_the_real_server(server: Running, kind: str):
    body = b'{"instances": [2.0]}'
    head = POST + f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert http(server.rest_port, head + body)[0] == 200


@pytest.mark.parametrize(
    "text",
    ["[" * 40_000, '{"instances":' * 7_000, '{"instances": ' + "[" * 40_000 + "1"],
    ids=["lists", "objects", "rows"],
)
def test_deep_json_is_an_invalid_argument(server: Running, text: str):
    status, _, body = http(server.rest_port, POST + b"Content-Length: %d\r\n\r\n" % len(text) + text.encode())
    assert status == 400
    assert "error" in json.loads(body)
    still_answers(server)


def test_a_request_whose_deadline_is_over_is_not_run(server: Running):
    client, before = server.grpc(), metric(server, RUNS)
    with pytest.raises(CallFailed) as caught:
        client.predict("half_plus_two", {"x": np.float32([2])}, timeout_s=1e-6)
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert metric(server, RUNS) == before
    client.close()


# -- health ------------------------------------------------------------------------------------------------------------


def watch(channel, service: str):
    ask: Callable[..., Any] = channel.unary_stream("/grpc.health.v1.Health/Watch")
    return ask(declared_message("grpc.health.v1.HealthCheckRequest")(service=service).SerializeToString(), timeout=60)


def state(answer: bytes) -> int:
    return declared_message("grpc.health.v1.HealthCheckResponse").FromString(answer).status


def test_many_watchers_hold_no_thread_and_unknown_names_are_told(server: Running):
    with grpc.insecure_channel(server.grpc_address) as channel:
        streams = [watch(channel, "PredictionService") for _ in range(50)]
        assert {state(next(stream)) for stream in streams} == {1}
        assert state(next(watch(channel, "Nobody"))) == 3
        still_answers(server)
        for stream in streams:
            stream.cancel()


# -- TLS ---------------------------------------------------------------------------------------------------------------


def certificate(
    name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return a certificate and its key, signed by an issuer or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(local, critical=False)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    return made, key


def pem(made: x509.Certificate) -> bytes:
    return made.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def test_tls_admits_who_is_known_and_nobody_else(tmp_path: Path):
    authority = certificate("authority")
    own, own_key = certificate("server", authority)
    theirs, their_key = certificate("client", authority)
    texts = {"server_key": key_pem(own_key), "server_cert": pem(own), "custom_ca": pem(authority[0])}
    config = "".join(f"{name}: {json.dumps(text.decode())}\n" for name, text in texts.items())
    (tmp_path / "ssl").write_text(f"{config} client_verify: true")
    server = start(
        tmp_path,
        "--model_name=half_plus_two",
        f"--model_base_path={models() / 'half_plus_two'}",
        f"--ssl_config_file={tmp_path / 'ssl'}",
        "--slipway_drain_seconds=5",
        "--enable_grpc_healthcheck_service",
    )
    inputs, root = {"x": np.float32([2])}, pem(authority[0])
    known = GrpcClient(
        server.grpc_address, root_certificates=root, client_certificate=(key_pem(their_key), pem(theirs))
    )
    assert known.predict("half_plus_two", inputs)["y"].tolist() == [4.0]
    strangers = [
        GrpcClient(server.grpc_address),
        GrpcClient(server.grpc_address, root_certificates=root),
        GrpcClient(server.grpc_address, root_certificates=pem(certificate("other")[0])),
    ]
    for stranger in strangers:
        with pytest.raises(CallFailed) as caught:
            stranger.predict("half_plus_two", inputs, timeout_s=5)
        assert caught.value.code == "UNAVAILABLE"
        stranger.close()
    credentials = grpc.ssl_channel_credentials(root, key_pem(their_key), pem(theirs))
    with grpc.secure_channel(server.grpc_address, credentials) as channel:
        stream = watch(channel, "ModelService")
        assert state(next(stream)) == 1
        began = time.monotonic()
        assert server.stop() == 0
        assert [state(answer) for answer in stream] == [2]
        assert time.monotonic() - began < 5  # a watcher does not hold up the drain
    known.close()


@pytest.mark.parametrize(
    ("flag", "content", "text"),
    [
        ("ssl_config_file", 'server_cert: "c"', "misses server_key"),
        ("ssl_config_file", 'server_cert: "c" server_key: "k" client_verify: true', "misses custom_ca"),
        ("ssl_config_file", "nonsense", "cannot be read"),
        ("tensorflow_session_config_file", "nonsense: 1", "not a session's configuration"),
    ],
)
def test_a_wrong_file_ends_the_start_at_once(tmp_path: Path, flag: str, content: str, text: str):
    (tmp_path / "file").write_text(content)
    base = f"--model_base_path={models() / 'half_plus_two'}"
    process = launch("--port=0", base, f"--{flag}={tmp_path / 'file'}", log=tmp_path / "log")
    until(lambda: process.poll() is not None, within_s=60)
    assert process.returncode == 10, (tmp_path / "log").read_text()
    assert text in (tmp_path / "log").read_text()
