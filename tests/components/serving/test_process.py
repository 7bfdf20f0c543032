"""The embedded server as a process: ports, signals, folders that change, hostile clients."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from components.savedmodel.warmup import FILE, WarmupRecord, write
from components.serving.client import CallFailed, GrpcClient, RestClient
from components.serving.configs import declared_message
from tests.embedded import Running, contract_server, http, launch, models, start, until

pytestmark = pytest.mark.slow

X = np.float32([1, 2, 5])
GOOD = WarmupRecord("serving_default", {"x": X})
BAD = WarmupRecord("serving_default", {"x": np.float64([1])})


def publish(base: Path, version: int, *, like: int = 1) -> Path:
    """Publish a version as it should be: complete, by one rename."""
    base.mkdir(exist_ok=True)
    staged = base / f".{version}"
    shutil.copytree(models() / "half_plus_two" / str(like), staged)
    return staged.rename(base / str(version))


def single(folder: Path, *flags: str) -> Running:
    return start(
        folder,
        "--model_name=m",
        f"--model_base_path={folder / 'm'}",
        "--max_num_load_retries=0",
        "--slipway_drain_seconds=20",
        *flags,
    )


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    """A server of one model whose folder the tests of this module change, and that folder."""
    folder = tmp_path_factory.mktemp("changing")
    publish(folder / "m", 1)
    server = single(folder)
    yield server, folder / "m"
    server.process.kill()
    server.process.wait()


def failed_status(client: GrpcClient, version: int) -> tuple[str, str]:
    def ended() -> bool:
        return any(status.version == version and status.state == "END" for status in client.status("m"))

    until(ended, within_s=30)
    status = client.status("m", version)[0]
    return status.code, status.message


def test_a_half_copied_version_leaves_the_old_one_serving(changing):
    server, base = changing
    client = server.grpc()
    (base / "5" / "variables").mkdir(parents=True)
    code, text = failed_status(client, 5)
    assert code == "NOT_FOUND"
    assert text.startswith(f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {base / '5'}")
    assert client.predict("m", {"x": X})["y"].tolist() == [2.5, 3.0, 4.5]
    shutil.rmtree(base / "5")
    client.close()


def test_a_damaged_model_leaves_the_old_one_serving(changing):
    server, base = changing
    client = server.grpc()
    staged = publish(base.parent / "elsewhere", 6)
    (staged / "saved_model.pb").write_bytes(b"\x0a\xff\xff")
    staged.rename(base / "6")
    assert failed_status(client, 6)[0] == "DATA_LOSS"
    assert client.predict("m", {"x": X})["y"].tolist() == [2.5, 3.0, 4.5]
    shutil.rmtree(base / "6")
    client.close()


@pytest.mark.parametrize(
    ("version", "records", "code", "text"),
    [
        (7, [GOOD, BAD], "INVALID_ARGUMENT", "Expects arg[0] to be float but double is provided"),
        (8, [GOOD] * 1001, "INVALID_ARGUMENT", "Number of warmup records exceeds the maximum (1000) at "),
        (9, None, "DATA_LOSS", "Please verify your warmup data is in TFRecord format."),
    ],
    ids=["a failing record", "one too many", "a damaged file"],
)
def test_a_warm_up_that_fails_fails_the_load(changing, version: int, records, code: str, text: str):
    server, base = changing
    client = server.grpc()
    staged = publish(base.parent / "elsewhere", version)
    one = write(staged, "m", [GOOD]).read_bytes()
    if records is None:
        (staged / FILE).write_bytes(one[:-1])
    elif len(records) > 1000:
        (staged / FILE).write_bytes(one * len(records))
    else:
        write(staged, "m", records)
    staged.rename(base / str(version))
    found = failed_status(client, version)
    assert found[0] == code
    assert text in found[1]
    shutil.rmtree(base / str(version))
    client.close()


def test_versions_come_and_go_under_load_and_no_request_is_lost_or_answered_by_the_wrong_one(changing):
    server, base = changing
    stop = threading.Event()
    constants = {1: 2.5, 2: 3.5}  # odd versions are like version 1, even ones like version 2

    def ask(client: GrpcClient | RestClient) -> set[float]:
        answers = set()
        while not stop.is_set():
            answers.add(client.predict("m", {"x": np.float32([1])})["y"].tolist()[0])
        client.close()
        return answers

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(ask, client) for client in (server.grpc(), server.grpc(), server.rest())]
        client = server.grpc()
        for version in (12, 13, 14):
            publish(base, version, like=2 - version % 2)
            until(lambda wanted=version: client.status("m")[0].version == wanted, within_s=30)
            until(lambda: client.status("m")[0].state == "AVAILABLE", within_s=30)
            exact = client.predict("m", {"x": np.float32([1])}, version=version)["y"].tolist()[0]
            assert exact == constants[2 - version % 2]
        stop.set()
        assert all(worker.result(30) <= {2.5, 3.5} for worker in workers)
    until(lambda: client.status("m", 13)[0].state == "END", within_s=30)
    client.close()


def test_a_canary_takes_two_reloads_versions_first_and_labels_then(changing):
    server, base = changing
    client = server.grpc()
    publish(base, 21, like=1)
    publish(base, 22, like=2)
    policy = "model_version_policy { specific { versions: 21 versions: 22 } }"
    both = f'name: "m" base_path: "{base}" model_platform: "tensorflow" {policy}'
    labels = 'version_labels { key: "stable" value: 21 } version_labels { key: "canary" value: 22 }'
    with pytest.raises(CallFailed, match=r"FAILED_PRECONDITION: Request to assign label to version 2[12] of model m"):
        client.reload(f"model_config_list {{ config {{ {both} {labels} }} }}")
    client.reload(f"model_config_list {{ config {{ {both} }} }}")
    until(lambda: [s.state for s in client.status("m") if s.version in (21, 22)] == ["AVAILABLE"] * 2, within_s=30)
    client.reload(f"model_config_list {{ config {{ {both} {labels} }} }}")
    for label, expected in (("stable", 2.5), ("canary", 3.5)):
        body = b'{"instances": [1.0]}'
        head = f"POST /v1/models/m/labels/{label}:predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        status, _, text = http(server.rest_port, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert (status, json.loads(text)) == (200, {"predictions": [expected]})
    with pytest.raises(CallFailed, match="Illegal to list model m multiple times in config list"):
        client.reload(f"model_config_list {{ config {{ {both} }} config {{ {both} }} }}")
    with pytest.raises(CallFailed, match="to have an absolute path or URI; got base_path"):
        client.reload('model_config_list { config { name: "m" base_path: "m" model_platform: "tensorflow" } }')
    client.close()


# -- ports and start ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["port", "rest_api_port"])
def test_a_busy_port_is_told_at_once_by_number_and_flag(tmp_path: Path, flag: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = "rest_api_port" if flag == "port" else "port"
        began = time.monotonic()
        process = launch(f"--{flag}={port}", f"--{other}=0", f"--model_base_path={tmp_path}", log=tmp_path / "log")
        assert process.wait(20) == 20
        assert time.monotonic() - began < 15
    text = (tmp_path / "log").read_text()
    assert f"cannot listen on port {port} of 127.0.0.1 (--{flag})" in text
    assert "Traceback" not in text


def test_a_second_server_on_the_ports_of_a_running_one_is_refused(tmp_path: Path):
    running = contract_server()
    process = launch(f"--port={running.grpc_port}", f"--model_base_path={tmp_path}", log=tmp_path / "log")
    assert process.wait(20) == 20


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (["--prot=1"], 2, "unknown argument: --prot"),
        (["--port=0"], 10, "Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (["--port=0", "--model_config_file=/no/such"], 10, "--model_config_file=/no/such cannot be read"),
        (
            ["--model_base_path=/m", "--batching_parameters_file=/f"],
            10,
            "without setting server_options.enable_batching",
        ),
        (["--model_base_path=/m", "--port=9", "--rest_api_port=9"], 10, "http_port cannot be same as grpc_port"),
    ],
)
def test_a_wrong_command_line_ends_with_its_code(tmp_path: Path, flags: list[str], code: int, text: str):
    process = launch(*flags, log=tmp_path / "log")
    assert process.wait(20) == code
    assert text in (tmp_path / "log").read_text()


def test_a_model_that_does_not_load_ends_the_start_with_its_reason(tmp_path: Path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    process = launch(
        "--port=0",
        "--model_name=m",
        f"--model_base_path={tmp_path / 'm'}",
        "--max_num_load_retries=0",
        log=tmp_path / "log",
    )
    assert process.wait(60) == 10
    assert (
        "Failed to start server. Error: UNKNOWN: 1 model(s) did not become available: {{{name: m version: 1} due to"
        in ((tmp_path / "log").read_text())
    )


def test_a_server_that_still_waits_for_a_version_ends_on_sigterm(tmp_path: Path):
    process = launch("--port=0", f"--model_base_path={tmp_path}", log=tmp_path / "log")
    time.sleep(3)
    process.terminate()
    assert process.wait(20) == 0


# -- the end -----------------------------------------------------------------------------------------------------------


def test_requests_in_flight_at_sigterm_are_answered_and_new_ones_refused(tmp_path: Path):
    shutil.copytree(models() / "kinds", tmp_path / "m")
    server = single(tmp_path)
    by_grpc, by_rest, late = server.grpc(), server.rest(), server.grpc()
    late.status("m")
    rounds = {"rounds": np.int32(1500)}
    by_rest.metadata("m")
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(client.predict, "m", rounds, signature="slow", timeout_s=60) for client in (by_grpc, by_rest)
        ]
        time.sleep(0.5)
        assert not any(call.done() for call in calls), "the slow signature is too fast for this test"
        server.process.terminate()
        time.sleep(0.3)
        with pytest.raises(CallFailed) as refused:
            late.predict("m", {"x": X}, signature="total", timeout_s=5)
        assert refused.value.code in ("UNAVAILABLE", "CANCELLED")
        assert all(call.result(60)["y"] == pytest.approx(1 / 300, rel=1e-3) for call in calls)
    assert server.process.wait(30) == 0
    for client in (by_grpc, by_rest, late):
        client.close()


# -- hostile clients ---------------------------------------------------------------------------------------------------


def still_answers(server: Running) -> None:
    client = server.grpc()
    assert client.predict("half_plus_two", {"x": X}, version=1)["y"].tolist() == [2.5, 3.0, 4.5]
    client.close()


POST = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read():
    server = contract_server()
    status, _, body = http(server.rest_port, POST + b"Content-Length: 99999999999\r\n\r\n")
    assert status == 429
    assert b"larger than" in body
    still_answers(server)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\0\1\2\3\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/models/%ff%fe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ],
    ids=["noise", "version", "negative length", "long path", "no utf-8"],
)
def test_malformed_http_gets_a_400_and_harms_nobody(request_bytes: bytes):
    server = contract_server()
    assert http(server.rest_port, request_bytes)[0] == 400
    still_answers(server)


def test_half_open_connections_do_not_stop_others():
    server = contract_server()
    held = [socket.create_connection(("127.0.0.1", server.rest_port)) for _ in range(100)]
    held += [socket.create_connection(("127.0.0.1", server.grpc_port)) for _ in range(20)]
    for connection in held:
        connection.sendall(b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{")
    still_answers(server)
    status, _, _ = http(server.rest_port, POST + b'Content-Length: 20\r\n\r\n{"instances": [1.0]}')
    assert status == 200
    for connection in held:
        connection.close()


def test_a_body_may_wait_for_the_servers_consent():
    server = contract_server()
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as connection:
        connection.sendall(POST + b"Content-Length: 20\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(b'{"instances": [1.0]}')
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_garbage_over_grpc_is_refused():
    server = contract_server()
    with grpc.insecure_channel(server.grpc_address) as channel:
        for method in ("Predict", "GetModelMetadata"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")(b"\xff\xff", timeout=20)
            assert caught.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
    still_answers(server)


@pytest.mark.parametrize(("service", "serving"), [("", True), ("PredictionService", True), ("Nobody", False)])
def test_grpc_health_answers_for_the_real_servers_names(service: str, serving: bool):
    with grpc.insecure_channel(contract_server().grpc_address) as channel:
        check: Callable[..., bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
        request = declared_message("grpc.health.v1.HealthCheckRequest")(service=service).SerializeToString()
        if serving:
            answer = declared_message("grpc.health.v1.HealthCheckResponse").FromString(check(request, timeout=20))
            assert answer.status == 1
        else:
            with pytest.raises(grpc.RpcError) as caught:
                check(request, timeout=20)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
