"""The embedded server: ports, start, ready file, graceful end.

Ports are looked at before anything is loaded, so that a busy one is told at once, and answer only when every configured
model serves, as the real server's do.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
from aiohttp import web

from components.core.errors import Rejected, SlipwayError, Unavailable
from components.serving.batching import Batcher
from components.serving.configs import (
    Batching,
    ModelConfig,
    read_batching,
    read_metrics_path,
    read_model_configs,
    read_tls,
)
from components.serving.flags import Flags
from components.serving.health import Health
from components.serving.lifecycle import Models, Timing
from components.serving.loading import Loading
from components.serving.metrics import Metrics
from components.serving.rest import Limits, Rest
from components.serving.rpc import make_server
from components.serving.service import Service
from components.serving.status import ServingError

if TYPE_CHECKING:  # it imports tensorflow, which takes seconds
    from components.savedmodel.load import SessionOptions

log = logging.getLogger(__name__)

_LINGER_S = 2.0
"""Seconds a connection stays open for the rest of a body that was refused unread, so that the client sees why."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports a running server answers on; REST's is None if it is off."""

    grpc: int
    rest: int | None


def check(flags: Flags) -> tuple[ModelConfig, ...]:
    """Return the models that flags ask for, after a look at all configuration files.

    Raises:
        Rejected: A file or a combination of flags is wrong.
    """
    if flags.batching_parameters_file and not flags.enable_batching:
        raise _bad_flags(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    if (
        flags.tensorflow_session_parallelism
        > 0
        < min(flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism)
    ):
        raise _bad_flags(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all."
        )
    if flags.rest_api_port == flags.port != 0:
        raise _bad_flags("server_options.http_port cannot be same as grpc_port.")
    if not flags.model_base_path and not flags.model_config_file:
        raise _bad_flags("Both server_options.model_base_path and server_options.model_config_file are empty!")
    try:
        if flags.batching_parameters_file:
            read_batching(Path(flags.batching_parameters_file))
        if flags.ssl_config_file:
            read_tls(Path(flags.ssl_config_file))
        if flags.model_config_file:
            return read_model_configs(Path(flags.model_config_file))
    except ServingError as error:
        raise failed_to_start(error) from error
    return (ModelConfig(flags.model_name, Path(flags.model_base_path).absolute()),)


def _bad_flags(text: str) -> Rejected:
    return Rejected(f"Failed to start server. Error: INVALID_ARGUMENT: {text}", fix="see --help", reason="BAD_FLAG")


def failed_to_start(error: ServingError) -> Rejected:
    """Return what ends a start, with the real server's text."""
    return Rejected(
        f"Failed to start server. Error: {error}",
        expected="a version of every configured model that loads",
        fix="mend or remove what the error names",
        reason=f"SERVER_{error.code}",
    )


def reserve(host: str, port: int, flag: str) -> socket.socket:
    """Return a socket bound to a port, or to a free one for 0; nobody else can take it while this is open.

    Raises:
        Unavailable: PORT_BUSY, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        raise _busy(host, port, flag, error) from error
    return taken


def _busy(host: str, port: int, flag: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"cannot listen on port {port} of {host} (--{flag}): {getattr(error, 'strerror', None) or error}",
        expected="a port that no other process listens on",
        got=f"--{flag}={port}",
        fix=f"stop what listens there, or choose another port; --{flag}=0 takes a free one",
        reason="PORT_BUSY",
    )


class Server:
    """One embedded server. :meth:`run` serves until :meth:`stop`.

    Args:
        flags: Its flags.
        configs: The models it serves at first.
    """

    def __init__(self, flags: Flags, configs: tuple[ModelConfig, ...]) -> None:
        self._flags = flags
        self._configs = configs
        self._metrics = Metrics()
        self._session_config = _text(flags.tensorflow_session_config_file, "tensorflow_session_config_file")
        self._models = Models(
            Loading(
                tags=flags.tags,
                metrics=self._metrics,
                warm_up=flags.enable_model_warmup,
                iterations=max(1, flags.num_request_iterations_for_warmup),
                session=self._session_options,
                batcher=self._batcher(),
                check_method_names=flags.enable_signature_method_name_check,
            ),
            Timing(
                poll_s=flags.file_system_poll_wait_seconds,
                retries=flags.max_num_load_retries,
                retry_s=flags.load_retry_interval_micros / 1e6,
                load_threads=flags.num_load_threads,
            ),
            labels_before_versions=flags.allow_version_labels_for_unavailable_models,
        )
        self._service = Service(
            self._models, self._metrics, tensor_content=flags.enable_serialization_as_tensor_content
        )
        self._health = Health()
        self._stopping = asyncio.Event()

    def _batcher(self) -> Batcher | None:
        flags = self._flags
        if not flags.enable_batching:
            return None
        file = flags.batching_parameters_file
        common = read_batching(Path(file)) if file else Batching()
        return Batcher(common, self._metrics, per_model=flags.enable_per_model_batching_parameters)

    def _session_options(self) -> "SessionOptions":
        from components.savedmodel.load import SessionOptions  # noqa: PLC0415 - imports tensorflow: seconds

        intra, inter = self._flags.op_threads
        return SessionOptions(self._session_config, intra, inter, self._flags.per_process_gpu_memory_fraction)

    def stop(self) -> None:
        """Ask :meth:`run` to drain and return; to be called in its event loop, by a signal handler."""
        self._stopping.set()

    async def run(self) -> None:
        """Load the models, serve, and after :meth:`stop` let what is in flight end.

        Raises:
            Unavailable: A port is busy.
            Rejected: A model did not become available.
        """
        flags = self._flags
        metrics_path = read_metrics_path(Path(flags.monitoring_config_file)) if flags.monitoring_config_file else None
        with contextlib.ExitStack() as held:
            grpc_socket = held.enter_context(reserve(flags.slipway_host, flags.port, "port"))
            rest_socket = None
            if flags.rest_api_port >= 0:
                rest_socket = held.enter_context(reserve(flags.slipway_host, flags.rest_api_port, "rest_api_port"))
            if not await self._load():
                return
            grpc_server, grpc_port = self._start_grpc(grpc_socket)
            runner = await self._start_rest(rest_socket, metrics_path) if rest_socket is not None else None
            ports = Ports(grpc_port, rest_socket.getsockname()[1] if rest_socket is not None else None)
            self._announce(ports)
            reloads = asyncio.ensure_future(self._reload_forever())
            await self._stopping.wait()
            reloads.cancel()
            await self._drain(grpc_server, runner)

    async def _load(self) -> bool:
        """Return whether all models serve; False if the server was stopped before."""
        loop = asyncio.get_running_loop()
        loading = loop.run_in_executor(None, self._first_models)
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait(cast("set[asyncio.Future[Any]]", {loading, stopping}), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._stopping.is_set():
            self._models.close()
            loading.add_done_callback(lambda done: done.cancelled() or done.exception())
            return False
        try:
            loading.result()
        except ServingError as error:
            self._models.close()
            raise failed_to_start(error) from error
        except Rejected:
            self._models.close()
            raise
        return True

    def _first_models(self) -> None:
        if self._session_config:  # told once and at once, not after every retry of every version
            self._session_options().proto()
        self._models.configure(self._configs)

    def _start_grpc(self, held: socket.socket) -> tuple[Any, int]:
        flags = self._flags
        host, port = held.getsockname()[:2]
        server = make_server(
            self._service,
            ThreadPoolExecutor(flags.grpc_threads, "grpc"),
            channel_arguments=flags.grpc_channel_arguments,
            health=self._health if flags.enable_grpc_healthcheck_service else None,
        )
        held.close()  # gRPC binds its own; the port was kept until here
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            add_port(server, address, flags.ssl_config_file)
        except RuntimeError as error:
            raise _busy(host, port, "port", error) from error
        if flags.grpc_socket_path:
            self._listen_on_socket(server)
        server.start()
        return server, port

    def _listen_on_socket(self, server: Any) -> None:  # noqa: ANN401
        path = self._flags.grpc_socket_path
        try:
            add_port(server, f"unix:{path}", self._flags.ssl_config_file)
        except RuntimeError as error:
            raise Unavailable(
                f"cannot listen on the UNIX socket {path} (--grpc_socket_path): {error}",
                expected="a path in a folder that can be written to, of at most 107 bytes",
                got=path,
                reason="SOCKET_UNUSABLE",
            ) from error
        log.info("Running gRPC ModelServer at UNIX socket %s ...", path)

    async def _start_rest(self, held: socket.socket, metrics_path: str | None) -> web.ServerRunner:
        flags = self._flags
        rest = Rest(
            self._service,
            self._metrics,
            ThreadPoolExecutor(flags.rest_threads, "rest"),
            Limits(flags.rest_api_timeout_in_ms / 1000, flags.slipway_max_body_bytes),
            metrics_path=metrics_path,
            cors=flags.rest_api_enable_cors_support,
        )
        runner = web.ServerRunner(
            rest.server(linger_s=_LINGER_S),
            shutdown_timeout=flags.slipway_drain_seconds,
        )
        await runner.setup()
        try:
            await web.SockSite(runner, held).start()
        except OSError as error:  # somebody listened there while the models were loading
            raise _busy(flags.slipway_host, flags.rest_api_port, "rest_api_port", error) from error
        return runner

    def _announce(self, ports: Ports) -> None:
        host = self._flags.slipway_host
        log.info("Running gRPC ModelServer at %s:%d ...", host, ports.grpc)
        if ports.rest is not None:
            log.info("Exporting HTTP/REST API at:%s:%d ...", host, ports.rest)
        if self._flags.slipway_ready_file:
            target = Path(self._flags.slipway_ready_file)
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            temporary.write_text(json.dumps({"pid": os.getpid(), "grpc_port": ports.grpc, "rest_port": ports.rest}))
            temporary.replace(target)

    async def _reload_forever(self) -> None:
        """Read the model config file again and again; what is wrong with it is logged, and the old one stays."""
        wait_s, path = self._flags.model_config_file_poll_wait_seconds, self._flags.model_config_file
        if wait_s <= 0 or not path:
            return
        loop = asyncio.get_running_loop()
        configs = self._configs
        while True:
            await asyncio.sleep(wait_s)
            try:
                found = read_model_configs(Path(path))
                if found != configs:
                    configs = found
                    await loop.run_in_executor(None, self._models.configure, found)
            except (SlipwayError, ServingError) as error:
                log.error("PollFilesystemAndReloadConfig failed to ReloadConfig: %s", error)  # noqa: TRY400

    async def _drain(self, grpc_server: Any, runner: web.ServerRunner | None) -> None:  # noqa: ANN401
        """Accept nothing new (gRPC says GOAWAY), let requests end within the drain time, then close."""
        drain_s = self._flags.slipway_drain_seconds
        log.info("draining for at most %g s", drain_s)
        self._health.end()
        stopped = grpc_server.stop(drain_s)
        if runner is not None:
            await runner.cleanup()
        await asyncio.get_running_loop().run_in_executor(None, stopped.wait, drain_s + 1)
        self._models.close()


def add_port(server: Any, address: str, ssl_config_file: str) -> None:  # noqa: ANN401 - grpc has no types
    """Let a gRPC server listen, by TLS if a file says so.

    Raises:
        RuntimeError: It cannot listen there.
    """
    if not ssl_config_file:
        server.add_insecure_port(address)
        return
    tls = read_tls(Path(ssl_config_file))
    server.add_secure_port(
        address,
        grpc.ssl_server_credentials(
            [(tls.server_key, tls.server_cert)], tls.custom_ca or None, require_client_auth=tls.client_verify
        ),
    )


def _text(path: str, flag: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8") if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(f"--{flag}={path} cannot be read", got=str(error), reason="BAD_CONFIG_FILE") from error


def configure_logging() -> None:
    """Log to standard error, a line an event."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s")
