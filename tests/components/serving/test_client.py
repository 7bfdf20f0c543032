"""The clients' own rules: retries, deadlines, failures, proxies. What they say to a server is in tests/contract."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest

from components.core.clock import ManualClock
from components.core.errors import Rejected, Unavailable
from components.savedmodel.messages import message
from components.savedmodel.tensors import to_proto
from components.serving.client import CallFailed, GrpcClient, RestClient
from tests.embedded import ROOT

X = {"x": np.float32([1])}


class Script:
    """A server that answers what it is told, one code after the other; OK after the last."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.asked = 0

    def next(self) -> str:
        self.asked += 1
        return self.codes.pop(0) if self.codes else "OK"


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def grpc_address(script: Script) -> Iterator[str]:
    def predict(_request: bytes, context: grpc.ServicerContext) -> bytes:
        code = script.next()
        if code != "OK":
            context.abort(grpc.StatusCode[code], f"told to be {code}")
        response = message("tensorflow.serving.PredictResponse")()
        response.outputs["y"].CopyFrom(to_proto(np.float32([7])))
        return response.SerializeToString()

    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {"Predict": grpc.unary_unary_rpc_method_handler(predict)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait(5)


METADATA = (
    b'{"model_spec":{"name":"m"},"metadata":{"signature_def":{"signature_def":{"serving_default":{'
    b'"inputs":{"x":{"dtype":"DT_FLOAT","name":"x:0"}},"outputs":{"y":{"dtype":"DT_FLOAT","name":"y:0"}}}}}}}'
)
STATUS = {"UNAVAILABLE": 503, "INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "DEADLINE_EXCEEDED": 504}


@pytest.fixture
def rest_url(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(200, METADATA)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            code = script.next()
            if code == "OK":
                self.answer(200, b'{"outputs": [7.0]}')
            elif code in STATUS:
                self.answer(STATUS[code], f'{{"error": "told to be {code}"}}'.encode())
            else:
                self.answer(200, code.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture(params=["grpc", "rest"])
def make(request: pytest.FixtureRequest):
    """Return a function that makes a client of either protocol."""
    made: list[GrpcClient | RestClient] = []

    def client(**options: object) -> GrpcClient | RestClient:
        kind = GrpcClient if request.param == "grpc" else RestClient
        made.append(kind(request.getfixturevalue("grpc_address" if kind is GrpcClient else "rest_url"), **options))
        return made[-1]

    yield client
    for each in made:
        each.close()


def test_nothing_is_retried_unless_asked(make, script: Script):
    script.codes = ["UNAVAILABLE"]
    with pytest.raises(CallFailed) as caught:
        make().predict("m", X)
    assert (caught.value.code, caught.value.message, script.asked) == ("UNAVAILABLE", "told to be UNAVAILABLE", 1)


def test_unavailable_is_retried_with_growing_pauses(make, script: Script):
    clock = ManualClock()
    script.codes = ["UNAVAILABLE", "UNAVAILABLE"]
    assert make(retries=2, clock=clock).predict("m", X)["y"].tolist() == [7.0]
    assert script.asked == 3
    assert clock.monotonic_s() == pytest.approx(0.1 + 0.2)


def test_retries_stay_within_the_deadline(make, script: Script):
    script.codes = ["UNAVAILABLE"] * 100
    clock = ManualClock()
    with pytest.raises(CallFailed):
        make(retries=50, clock=clock).predict("m", X, timeout_s=1.0)
    assert clock.monotonic_s() < 1.0


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND", "DEADLINE_EXCEEDED"])
def test_what_is_not_unavailable_is_never_retried(make, script: Script, code: str):
    script.codes = [code]
    with pytest.raises(CallFailed) as caught:
        make(retries=5).predict("m", X)
    assert (caught.value.code, script.asked) == (code, 1)


def test_proxies_of_the_environment_are_not_used(make, monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert make().predict("m", X)["y"].tolist() == [7.0]


@pytest.mark.parametrize(
    "answer",
    [
        "{}",
        "nonsense",
        '{"outputs": ["a"]}',
        '{"outputs": ["1"]}',
        '{"outputs": [null]}',
        '{"outputs": {"y": 1}}',
        "[]",
    ],
)
def test_an_answer_that_is_none_is_internal(rest_url: str, script: Script, answer: str):
    script.codes = [answer]
    client = RestClient(rest_url)
    with pytest.raises(CallFailed) as caught:
        client.predict("m", X)
    assert caught.value.code == "INTERNAL"
    client.close()


def test_a_server_that_is_not_there_is_unavailable():
    for client in (GrpcClient("127.0.0.1:1"), RestClient("http://127.0.0.1:1")):
        with pytest.raises(CallFailed) as caught:
            client.status("m", timeout_s=5)
        assert caught.value.code == "UNAVAILABLE"
        client.close()


def test_a_call_that_is_closed_under_it_fails(grpc_address: str):
    client = GrpcClient(grpc_address)
    assert client.send_async(client.prepare("m", X), timeout_s=5).result(5)
    client.close()


@pytest.mark.parametrize(
    ("code", "family"),
    [("UNAVAILABLE", Unavailable), ("DEADLINE_EXCEEDED", Unavailable), ("INVALID_ARGUMENT", Rejected)],
)
def test_a_failed_call_is_an_error_of_ours_where_it_ends_the_work(code: str, family: type):
    error = CallFailed(code, "why").as_error("127.0.0.1:8500")
    assert type(error) is family
    assert error.reason == f"SERVER_{code}"
    assert "127.0.0.1:8500" in str(error)
    assert "why" in str(error)


def test_a_config_that_is_no_text_proto_is_refused_before_it_is_sent(grpc_address: str):
    client = GrpcClient(grpc_address)
    with pytest.raises(Rejected) as caught:
        client.reload("model_config_list { nonsense }")
    assert caught.value.reason == "MODEL_CONFIG"
    client.close()


def test_importing_the_client_imports_neither_tensorflow_nor_a_transport():
    heavy = "{'tensorflow', 'grpc', 'httpx', 'aiohttp'}"
    code = f"import sys, components.serving.client; print(sorted({heavy} & {{*sys.modules}}))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
