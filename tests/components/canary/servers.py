"""Small model servers with injected behaviour: real sockets, real protocols, no model."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import grpc
import numpy as np

from components.savedmodel.messages import message
from components.savedmodel.tensors import Array, from_proto, to_proto
from components.serving.client import GrpcClient, RestClient
from components.serving.grpc_client import PREDICT


class Refusal(Exception):
    """Makes a server answer UNAVAILABLE."""


def scores(x: Array) -> Array:
    """Three scores a row, the largest at the row's first value modulo 3."""
    return np.eye(3, dtype=np.float32)[x[:, 0].astype(int) % 3]


@dataclass(frozen=True)
class Behaviour:
    """What a server does with its n-th request: how long it takes, and what it answers (or raises)."""

    delay_s: Callable[[int], float] = lambda _: 0.0
    answer: Callable[[int, Array], Array] = lambda _, x: scores(x)


HEALTHY = Behaviour()


@contextmanager
def grpc_server(behaviour: Behaviour) -> Iterator[GrpcClient]:
    numbers = count()

    def predict(body: bytes, context: grpc.ServicerContext) -> bytes:
        number = next(numbers)
        request = message("tensorflow.serving.PredictRequest").FromString(body)
        time.sleep(behaviour.delay_s(number))
        try:
            answer = behaviour.answer(number, from_proto(request.inputs["x"]))
        except Refusal as refusal:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(refusal))
        response = message("tensorflow.serving.PredictResponse")()
        response.outputs["scores"].CopyFrom(to_proto(answer))
        data: bytes = response.SerializeToString()
        return data

    service, method = PREDICT.strip("/").split("/")
    handler = grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(predict)})
    server = grpc.server(ThreadPoolExecutor(64), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = GrpcClient(f"127.0.0.1:{port}")
    try:
        yield client
    finally:
        client.close()
        server.stop(None).wait(10)


_METADATA = {
    "metadata": {
        "signature_def": {
            "signature_def": {
                "serving_default": {
                    "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}},
                    "outputs": {
                        "scores": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "3"}]}}
                    },
                    "method_name": "tensorflow/serving/predict",
                }
            }
        }
    }
}


@contextmanager
def rest_server(behaviour: Behaviour) -> Iterator[RestClient]:
    numbers = count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(200, _METADATA)

        def do_POST(self) -> None:
            number = next(numbers)
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            time.sleep(behaviour.delay_s(number))
            try:
                answer = behaviour.answer(number, np.array(body["inputs"]["x"], np.float32))
            except Refusal as refusal:
                self._reply(503, {"error": str(refusal)})
            else:
                self._reply(200, {"outputs": answer.tolist()})

        def _reply(self, status: int, content: object) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that stops early closes connections under way; that is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    client = RestClient(f"http://127.0.0.1:{server.server_port}")
    try:
        yield client
    finally:
        client.close()
        server.shutdown()
        server.server_close()
        thread.join(10)
