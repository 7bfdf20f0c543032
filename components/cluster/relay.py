"""The laptop's Service: one address a model for its users, and behind it whichever version is stable.

It forwards connections, bytes untouched, to the address the route file names at the moment a connection opens. After
a promotion the server that was stable is told to stop: it finishes what it has, tells its clients to go away, and
their next connection reaches the new one. No request is lost, and nobody's configuration changes.

Run as a process of its own: ``--module components.cluster.relay ROUTE_FILE READY_FILE HOST GRPC_PORT REST_PORT``.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from components.core import atomic
from components.core.errors import Unavailable

_CHUNK = 65536


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # one side is gone: the other is told by the end of file below
    finally:
        with contextlib.suppress(OSError):
            writer.write_eof()


async def _forward(route: Path, protocol: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        host, _, port = json.loads(route.read_text())[protocol].rpartition(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
    except (OSError, KeyError, ValueError):
        writer.close()  # nothing behind the address: the client sees a refused or reset connection, as with a Service
        return
    both = (asyncio.create_task(_pump(reader, up_writer)), asyncio.create_task(_pump(up_reader, writer)))
    # The server's end of the connection decides: when it closes, the client must reconnect and so find the new stable.
    await both[1]
    both[0].cancel()
    await asyncio.gather(*both, return_exceptions=True)
    for side in (writer, up_writer):
        side.close()


async def _listen(route: Path, ready: Path, host: str, ports: dict[str, int]) -> None:
    servers: dict[str, asyncio.Server] = {}
    for protocol, port in ports.items():

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: str = protocol) -> None:
            await _forward(route, protocol, reader, writer)

        try:
            servers[protocol] = await asyncio.start_server(accept, host, port)
        except OSError as error:
            raise Unavailable(
                f"port {port} on {host} cannot be used for the {protocol} endpoint",
                got=error.strerror or str(error),
                fix=f"free the port, or set serving.local.{protocol}_port to another one (0: any free port)",
                reason="PORT_BUSY",
            ) from error
    bound = {protocol: server.sockets[0].getsockname()[1] for protocol, server in servers.items()}
    answer = {"pid": os.getpid(), **{f"{name}_port": port for name, port in bound.items()}}
    atomic.write_text(ready, json.dumps(answer))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def main() -> int:
    """Forward until told to stop; return the exit code."""
    route, ready, host, grpc_port, rest_port = sys.argv[1:6]
    try:
        asyncio.run(_listen(Path(route), Path(ready), host, {"grpc": int(grpc_port), "rest": int(rest_port)}))
    except Unavailable as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
