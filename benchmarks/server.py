"""What the embedded server costs over the bare session, on the loopback, in interleaved rounds.

Run ``python -P slipway.py --module benchmarks.server``. Three claims: MobileNetV2 at batch 1 over gRPC against the bare
session's run; half_plus_two's whole REST path against the bare callable plus an empty HTTP echo of the library the
server uses; start to first answer against importing TensorFlow and loading alone. Medians of rounds that take turns,
so that a busy machine slows both sides.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from components.serving.client import GrpcClient
from tests.embedded import models, start

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_ECHO = """
import asyncio
from aiohttp import web
async def main():
    async def echo(request):
        return web.Response(body=await request.read())
    runner = web.ServerRunner(web.Server(echo, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
_BARE_START = """
import sys
from pathlib import Path
import numpy as np
from components.savedmodel.load import load
load(Path(sys.argv[1]), frozenset({"serve"})).run("serving_default", {"x": np.float32([1])})
"""
_BODY = b'{"instances": [1.0, 2.0, 5.0]}'


def main() -> int:
    """Print one row a claim; return 1 if one is missed."""
    rows = [*_answering(), _starting()]
    print(f"{'what':44} {'ours':>10} {'bare':>10} {'ratio':>6} {'claim':>6}")
    for what, ours, bare, claim in rows:
        print(f"{what:44} {ours * 1e3:>8.2f}ms {bare * 1e3:>8.2f}ms {ours / bare:>6.2f} {claim:>6.2f}")
    return int(any(ours / bare > claim for _, ours, bare, claim in rows))


def _answering() -> list[tuple[str, float, float, float]]:
    import tensorflow as tf  # noqa: PLC0415 - it takes seconds, and starting is measured apart

    from components.savedmodel.load import load  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        folder = Path(name)
        network = tf.keras.applications.MobileNetV2(weights=None)
        network.export(str(folder / "mobilenet" / "1"), verbose=False)
        half = models() / "half_plus_two"
        config = "".join(
            f'config {{ name: "{path.name}" base_path: "{path}" model_platform: "tensorflow" }} '
            for path in (folder / "mobilenet", half)
        )
        (folder / "config").write_text(f"model_config_list {{ {config} }}")
        server = start(folder, f"--model_config_file={folder / 'config'}")
        serve = frozenset({"serve"})
        mobilenet, plus_two = load(folder / "mobilenet" / "1", serve), load(half / "2", serve)
        signature = mobilenet.contract.signatures["serving_default"]
        image = {next(iter(signature.inputs)): np.random.default_rng(0).random((1, 224, 224, 3), np.float32)}
        client = GrpcClient(server.grpc_address)
        over_grpc, bare = _interleaved(
            200,
            lambda: client.predict("mobilenet", image),
            lambda: mobilenet.run("serving_default", image),
        )
        echo = subprocess.Popen([sys.executable, "-c", _ECHO], stdout=subprocess.PIPE)
        assert echo.stdout is not None
        echo_port = int(echo.stdout.readline())
        over_rest, echoed, callable_s = _interleaved(
            1000,
            _post(server.rest_port, "/v1/models/half_plus_two:predict"),
            _post(echo_port, "/"),
            lambda: plus_two.run("serving_default", {"x": np.float32([1, 2, 5])}),
        )
        echo.terminate()
        echo.wait()
        client.close()
        server.stop()
    return [
        ("MobileNetV2, batch 1, gRPC / session", over_grpc, bare, 1.15),
        ("half_plus_two, REST / (callable + echo)", over_rest, callable_s + echoed, 5.0),
    ]


def _post(port: int, path: str) -> Callable[[], None]:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(_BODY)}\r\n\r\n".encode() + _BODY

    def ask() -> None:
        connection.sendall(request)
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(65536)

    return ask


def _interleaved(rounds: int, *calls: Callable[[], object]) -> list[float]:
    times: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 20):
        for call, found in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            if number >= 20:  # the first ones warm both sides up
                found.append(time.perf_counter() - began)
    return [statistics.median(found) for found in times]


def _starting() -> tuple[str, float, float, float]:
    model = models() / "half_plus_two"
    ours, bare = [], []
    for _ in range(5):
        with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
            began = time.perf_counter()
            server = start(Path(folder), "--model_name=m", f"--model_base_path={model}")
            server.grpc().predict("m", {"x": np.float32([1])})
            ours.append(time.perf_counter() - began)
            server.stop()
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", _BARE_START, str(model / "2")], check=True, capture_output=True)
        bare.append(time.perf_counter() - began)
    return "start to first answer / import and load", statistics.median(ours), statistics.median(bare), 1.2


if __name__ == "__main__":
    sys.exit(main())
