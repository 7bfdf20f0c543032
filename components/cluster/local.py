"""The target ``local``: TensorFlow Serving's protocol on this machine, one process a version.

Layout of the state directory, below ``serving/MODEL/``::

    N/model/M/N/…     the version's bytes, pulled and verified; a server never reads the store
    N/server.json     written by the server once it answers (see daemon.py); N/server.log beside it
    route.json        which version the relay forwards to: {"version": N, "digest": …, "grpc": …, "rest": …}
    relay.json        written by the relay; its ports are kept for the next start
    store             URI of the store the versions come from
"""

import contextlib
import fcntl
import json
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from components.cluster import daemon
from components.cluster.protocol import Revision, Running
from components.core import atomic, digest
from components.core.clock import Clock
from components.core.digest import Digest
from components.core.errors import Conflict, Rejected, Unavailable
from components.core.records import Endpoint
from manifests.spec import LocalPorts, ServingSpec

HOST = "127.0.0.1"
_DRAIN_S = 10
_STOP_DEADLINE_S = _DRAIN_S + 5.0
_RELAY_DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """Servers as processes of this machine.

    Args:
        state: State directory.
        clock: Time.
        environment: Environment of the processes.
    """

    state: Path
    clock: Clock
    environment: Mapping[str, str]
    name: str = "local"

    def preflight(self, model: str, serving: ServingSpec, store: str) -> None:
        """Check that the model is not another store's here, and that its ports are free or held by its own relay."""
        known = self.store_of(model)
        if known not in {None, store}:
            raise Rejected(
                f"{model} is served here from another store",
                expected=f"the store it was first released from: {known}",
                got=store,
                fix="name another folder by --state, or give the model another name",
                reason="OTHER_STORE",
            )
        relay = daemon.find(self._home(model) / "relay.json")
        held = {relay.grpc_port, relay.rest_port} if relay else set()
        for field, port in (("grpc_port", serving.local.grpc_port), ("rest_port", serving.local.rest_port)):
            if port and port not in held:
                _require_free(port, field)

    def deploy(self, revision: Revision) -> Running:
        """Start a server of its own for the version, or find it running already."""
        with self._locked(revision.model):
            return self._deploy(revision)

    def stable(self, model: str) -> Running | None:
        """Return the version users reach: the relay runs, and forwards to a server that runs with the same bytes."""
        route = self._route(model)
        if route is None or self.endpoint(model) is None:
            return None
        found = self._running(model, int(str(route["version"])))
        whole = found is not None and (found.digest, found.endpoint.grpc) == (route["digest"], route["grpc"])
        return found if whole else None

    def running(self, model: str) -> tuple[Running, ...]:
        """Return the versions whose server runs."""
        return tuple(found for version in self._versions(model) if (found := self._running(model, version)))

    def models(self) -> tuple[str, ...]:
        """Return the models this target knows, in sorted order."""
        return tuple(sorted(path.name for path in (self.state / "serving").glob("*") if path.is_dir()))

    def endpoint(self, model: str) -> Endpoint | None:
        """Return the address users know, if the relay runs."""
        relay = daemon.find(self._home(model) / "relay.json")
        return _endpoint(relay) if relay else None

    def store_of(self, model: str) -> str | None:
        """Return the URI of the store whose versions of the model are served here; none if none ever was."""
        try:
            return (self._home(model) / "store").read_text()
        except FileNotFoundError:
            return None

    def promote(self, revision: Revision) -> Endpoint:
        """Point the relay at the version's server, then stop the server that was stable."""
        with self._locked(revision.model):
            running = self._deploy(revision)
            self._write_route(revision.model, running)
            relay = self._ensure_relay(revision.model, revision.serving.local)
            return _endpoint(relay)

    def remove(self, model: str, version: int) -> None:
        """Stop the version's server after its last answer and drop its bytes."""
        with self._locked(model):
            route = self._route(model)
            if route is not None and int(str(route["version"])) == version:
                raise Conflict(
                    f"{model} version {version} serves users and cannot be removed",
                    fix="promote another version first, or `slipway down` to stop serving",
                    reason="IS_STABLE",
                )
            daemon.stop(self._ready(model, version), deadline_s=_STOP_DEADLINE_S, clock=self.clock)
            shutil.rmtree(self._home(model) / str(version), ignore_errors=True)

    def down(self, model: str) -> tuple[int, ...]:
        """Stop the relay and every server of a model; return the versions that ran. Their bytes stay for ``up``."""
        with self._locked(model):
            stopped = tuple(found.version for found in self.running(model))
            daemon.stop(self._home(model) / "relay.json", deadline_s=_STOP_DEADLINE_S, clock=self.clock)
            for version in self._versions(model):
                daemon.stop(self._ready(model, version), deadline_s=_STOP_DEADLINE_S, clock=self.clock)
            return stopped

    def _deploy(self, revision: Revision) -> Running:
        model, version = revision.model, revision.version
        found = self._running(model, version)
        if found is not None and found.digest == revision.digest:
            return found
        home = self._home(model) / str(version)
        daemon.stop(self._ready(model, version), deadline_s=_STOP_DEADLINE_S, clock=self.clock)
        base = home / "model" / model
        atomic.write_text(self._home(model) / "store", revision.store)
        self._bring(revision, base / str(version))
        _write(home / "revision.json", {"version": version, "digest": revision.digest})
        started = self.clock.monotonic_s()
        config = home / "model.config"
        config.write_text(_model_config(model, base.resolve(), version))
        made = daemon.start(
            "components.serving.main",
            [
                "--port=0",
                "--rest_api_port=0",
                f"--model_config_file={config.resolve()}",
                "--file_system_poll_wait_seconds=0",
                "--max_num_load_retries=0",
                f"--slipway_host={HOST}",
                f"--slipway_drain_seconds={_DRAIN_S}",
                f"--slipway_ready_file={self._ready(model, version)}",
            ],
            ready=self._ready(model, version),
            log=home / "server.log",
            deadline_s=revision.serving.rollout.load_deadline_s,
            clock=self.clock,
            environment=self.environment,
            what=f"the server of {model} version {version}",
        )
        return Running(version, revision.digest, _endpoint(made), self.clock.monotonic_s() - started)

    def _bring(self, revision: Revision, directory: Path) -> None:
        if directory.is_dir() and digest.of_directory(directory).digest == revision.digest:
            return
        shutil.rmtree(directory, ignore_errors=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        revision.pull(directory)
        digest.require(directory, revision.digest, what=f"{revision.model} version {revision.version}")

    def _versions(self, model: str) -> list[int]:
        return sorted(int(path.name) for path in self._home(model).glob("[0-9]*") if path.name.isdigit())

    def _running(self, model: str, version: int) -> Running | None:
        home = self._home(model) / str(version)
        found = daemon.find(self._ready(model, version))
        try:
            data = json.loads((home / "revision.json").read_text())
        except (OSError, ValueError):
            return None
        return Running(version, Digest(data["digest"]), _endpoint(found), 0.0) if found else None

    def _ensure_relay(self, model: str, ports: LocalPorts) -> daemon.Daemon:
        home = self._home(model)
        ready, kept = home / "relay.json", home / "ports.json"
        wanted = {"grpc_port": ports.grpc_port, "rest_port": ports.rest_port}
        if kept.exists():
            before = json.loads(kept.read_text())
            wanted = {name: port or int(before[name]) for name, port in wanted.items()}
        running = daemon.find(ready)
        if running is not None:
            if all(port in {0, getattr(running, name)} for name, port in wanted.items()):
                return running
            daemon.stop(ready, deadline_s=_STOP_DEADLINE_S, clock=self.clock)
        made = daemon.start(
            "components.cluster.relay",
            [str(home / "route.json"), str(ready), HOST, str(wanted["grpc_port"]), str(wanted["rest_port"])],
            ready=ready,
            log=home / "relay.log",
            deadline_s=_RELAY_DEADLINE_S,
            clock=self.clock,
            environment=self.environment,
            what=f"the endpoint of {model}",
        )
        _write(kept, {"grpc_port": made.grpc_port, "rest_port": made.rest_port})
        return made

    def _route(self, model: str) -> dict[str, object] | None:
        try:
            route: dict[str, object] = json.loads((self._home(model) / "route.json").read_text())
        except FileNotFoundError:
            return None
        return route

    def _write_route(self, model: str, running: Running) -> None:
        address = running.endpoint
        _write(
            self._home(model) / "route.json",
            {
                "version": running.version,
                "digest": running.digest,
                "grpc": address.grpc,
                "rest": address.rest.removeprefix("http://"),
            },
        )

    def _home(self, model: str) -> Path:
        return (self.state / "serving" / model).resolve()

    def _ready(self, model: str, version: int) -> Path:
        return self._home(model) / str(version) / "server.json"

    @contextlib.contextmanager
    def _locked(self, model: str) -> Iterator[None]:
        home = self._home(model)
        home.mkdir(parents=True, exist_ok=True)
        with (home / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    f"{model}: another release is changing its servers now",
                    fix="wait for it to end, then run the same command again",
                    reason="LOCKED",
                ) from error
            yield


def _require_free(port: int, field: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Unavailable(
                f"serving.local.{field}: port {port} on {HOST} is taken",
                got=error.strerror or str(error),
                fix=f"free the port, or set serving.local.{field} to another one (0: any free port)",
                reason="PORT_BUSY",
            ) from error


def _model_config(model: str, base: Path, version: int) -> str:
    """Return TensorFlow Serving's model.config, pinned to one version, as a server on Kubernetes gets it."""
    path = json.dumps(str(base), ensure_ascii=False)
    return (
        f'model_config_list {{ config {{ name: "{model}" base_path: {path} model_platform: "tensorflow" '
        f"model_version_policy {{ specific {{ versions: {version} }} }} }} }}\n"
    )


def _endpoint(found: daemon.Daemon) -> Endpoint:
    return Endpoint(grpc=f"{HOST}:{found.grpc_port}", rest=f"http://{HOST}:{found.rest_port}")


def _write(path: Path, data: Mapping[str, object]) -> None:
    atomic.write_text(path, json.dumps(data))
