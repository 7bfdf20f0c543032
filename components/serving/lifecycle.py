"""Versions come and go: polling folders, loading, serving, unloading, labels.

Follows tensorflow/serving's core/aspired_versions_manager.cc, basic_manager.cc and model_servers/server_core.cc, with
two differences: loads run beside polling, so that a load that is being retried does not stop everything else; and with
``--file_system_poll_wait_seconds=0`` a reload looks once more, where the real server would wait for ever.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from components.serving.configs import ModelConfig
from components.serving.requests import VersionStatus
from components.serving.status import ServingError, invalid
from components.serving.versions import aspired, next_actions

log = logging.getLogger(__name__)


class Loaded(Protocol):
    """A version that can be served."""

    def close(self) -> None:
        """Free what it holds; nobody uses it any more."""
        ...


Loader = Callable[[str, int, Path], Loaded]
"""Loads a version of a model from a folder, or raises ServingError."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When to look and when to try again. Seconds.

    Args:
        poll_s: Between looks at the folders; 0: once.
        retries: Further tries to load a version.
        retry_s: Between them.
        load_threads: Versions that load at once.
    """

    poll_s: float = 1.0
    retries: int = 5
    retry_s: float = 60.0
    load_threads: int = 1


@dataclass(slots=True)
class _Version:
    number: int
    path: Path
    state: str = "START"
    code: str = "OK"
    message: str = ""
    loaded: Loaded | None = None
    users: int = 0
    wanted: bool = True
    given_up: threading.Event = field(default_factory=threading.Event)

    @property
    def status(self) -> VersionStatus:
        return VersionStatus(self.number, self.state, self.code, self.message)


class Models:
    """All versions of all models. Safe to use from several threads.

    Args:
        load: Makes a version servable.
        timing: When to look and to try again.
        labels_before_versions: Whether an unused label may point to a version that is not available yet.
    """

    def __init__(self, load: Loader, timing: Timing, *, labels_before_versions: bool = False) -> None:
        self._load = load
        self._timing = timing
        self._labels_before_versions = labels_before_versions
        self._changed = threading.Condition()
        self._configs: tuple[ModelConfig, ...] = ()
        self._versions: dict[str, dict[int, _Version]] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._reloading = threading.Lock()
        self._look = threading.Event()
        self._closed = False
        self._loads = ThreadPoolExecutor(max(1, timing.load_threads), "load")
        self._unloads = ThreadPoolExecutor(1, "unload")
        self._poller = threading.Thread(target=self._poll_forever, name="poll", daemon=True)

    # -- configuration -------------------------------------------------------------------------------------------

    def configure(self, configs: Sequence[ModelConfig]) -> None:
        """Replace the whole configuration and wait until every new model serves a version.

        As in ``ServerCore::ReloadConfig``, labels are set before versions are looked for: a label may only point to a
        version that is available already. Where it does not, nothing is loaded though the configuration was taken.

        Raises:
            ServingError: FAILED_PRECONDITION for a label, INVALID_ARGUMENT for a changed platform, UNKNOWN if a new
                model did not become available, CANCELLED if the server ends meanwhile.
        """
        with self._reloading:
            old = {config.name for config in self._configs}
            self._configs = tuple(configs)
            self._set_labels()
            names = {config.name for config in configs}
            with self._changed:
                for name in old - names:
                    self._want(name, {})
            if not self._poller.is_alive():
                self._poller.start()
            self._look.set()
            self._await(names - old)

    def _set_labels(self) -> None:
        made: dict[str, dict[str, int]] = {}
        with self._changed:
            for config in self._configs:
                for label, number in config.labels.items():
                    known = self._versions.get(config.name, {}).get(number)
                    bound = self._labels.get(config.name, {}).get(label)
                    free = self._labels_before_versions and bound in (None, number)
                    if not free and (known is None or known.state != "AVAILABLE"):
                        raise ServingError(
                            "FAILED_PRECONDITION",
                            f"Request to assign label to version {number} of model {config.name}, "
                            "which is not currently available for inference",
                        )
                    made.setdefault(config.name, {})[label] = number
            self._labels = made

    def _await(self, names: set[str]) -> None:
        """Wait until each model serves, or all versions wanted of it have ended (WaitUntilModelsAvailable)."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or all(self._decided(name) for name in names))
            if self._closed:
                raise ServingError("CANCELLED", "the server is shutting down")
            failed = [name for name in sorted(names) if not self._serves(name)]
            if failed:
                parts = [self._failure(entry, name) for name in failed for entry in self._versions[name].values()]
                raise ServingError("UNKNOWN", f"{len(parts)} model(s) did not become available: {{{''.join(parts)}}}")

    def _decided(self, name: str) -> bool:
        entries = [entry for entry in self._versions.get(name, {}).values() if entry.wanted]
        return self._serves(name) or (bool(entries) and all(entry.state == "END" for entry in entries))

    def _serves(self, name: str) -> bool:
        return any(entry.state == "AVAILABLE" for entry in self._versions.get(name, {}).values())

    @staticmethod
    def _failure(entry: _Version, name: str) -> str:
        why = f" due to error: {entry.code}: {entry.message}" if entry.code != "OK" else ""
        return f"{{{{name: {name} version: {entry.number}}}{why}}}, "

    # -- polling -------------------------------------------------------------------------------------------------

    def _poll_forever(self) -> None:
        while not self._closed:
            self._look.wait(self._timing.poll_s if self._timing.poll_s > 0 else None)
            self._look.clear()
            if not self._closed:
                self._poll()

    def _poll(self) -> None:
        configs = self._configs
        found: dict[str, dict[int, Path]] = {}
        for config in configs:
            try:
                children = [child.name for child in config.base_path.iterdir()]
            except OSError as error:
                # one missing folder ends the whole poll, for every model: PollFileSystemForConfig returns at once
                log.error(  # noqa: TRY400 - the operating system's reason is all there is to say
                    "Could not find base path %s for servable %s with error %s", config.base_path, config.name, error
                )
                return
            versions = aspired(config.policy, children)
            found[config.name] = {number: config.base_path / child for number, child in versions.items()}
        with self._changed:
            if configs is self._configs:  # else a reload came between, and looks again
                for name, versions_by_number in found.items():
                    self._want(name, versions_by_number)

    def _want(self, name: str, wanted: Mapping[int, Path]) -> None:
        entries = self._versions.setdefault(name, {})
        for entry in entries.values():
            if entry.wanted and entry.number not in wanted:
                entry.wanted = False
                entry.given_up.set()
        for number, path in wanted.items():
            known = entries.get(number)
            if known is None or (not known.wanted and known.state == "END"):
                entries[number] = _Version(number, path)
            elif not known.wanted and known.state in ("LOADING", "AVAILABLE"):
                known.wanted = True
                known.given_up.clear()
        self._advance(name)

    def _advance(self, name: str) -> None:
        entries = self._versions[name]
        wanted = [entry.number for entry in entries.values() if entry.wanted]
        actions = next_actions(wanted, {entry.number: entry.state for entry in entries.values()})
        for number in actions.load:
            entries[number].state = "LOADING"
            self._loads.submit(self._load_version, name, entries[number])
        for number in actions.unload:
            entries[number].state = "UNLOADING"
            self._unloads.submit(self._unload_version, name, entries[number])
        self._changed.notify_all()

    # -- loading and unloading -----------------------------------------------------------------------------------

    def _load_version(self, name: str, entry: _Version) -> None:
        failure: ServingError | None = None
        for tried in range(self._timing.retries + 1):
            if self._closed or entry.given_up.is_set():
                break
            if tried and entry.given_up.wait(max(0.0, self._timing.retry_s)):
                break
            try:
                loaded = self._load(name, entry.number, entry.path)
            except ServingError as error:
                failure = error
                log.error("%s version %d does not load: %s", name, entry.number, error)  # noqa: TRY400 - told in full
            else:
                with self._changed:
                    entry.loaded, entry.state = loaded, "AVAILABLE"
                    self._advance(name)
                log.info("Successfully loaded servable version {name: %s version: %d}", name, entry.number)
                return
        with self._changed:
            entry.state = "END"
            if failure is not None:
                entry.code, entry.message = failure.code, failure.message
            self._advance(name)

    def _unload_version(self, name: str, entry: _Version) -> None:
        with self._changed:
            self._changed.wait_for(lambda: entry.users == 0 or self._closed)
            loaded, entry.loaded = entry.loaded, None
        if loaded is not None and not self._closed:
            loaded.close()
        with self._changed:
            entry.state = "END"
            self._advance(name)
        log.info("Done unloading servable version {name: %s version: %d}", name, entry.number)

    # -- requests ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def use(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[tuple[Loaded, int]]:
        """Hold a version while a request runs: it is not unloaded before.

        Args:
            name: Model.
            version: Its version; the highest available one if neither this nor a label is given.
            label: Label of the version.

        Raises:
            ServingError: NOT_FOUND, or INVALID_ARGUMENT for an empty name or unknown label.
        """
        with self._changed:
            entry = self._find(name, version, label)
            entry.users += 1
            loaded = entry.loaded
        assert loaded is not None  # noqa: S101 - an AVAILABLE version has its model
        try:
            yield loaded, entry.number
        finally:
            with self._changed:
                entry.users -= 1
                if entry.users == 0 and entry.state == "UNLOADING":
                    self._changed.notify_all()

    def _find(self, name: str, version: int | None, label: str | None) -> _Version:
        if not name:
            raise invalid("ModelSpec has no name specified.")
        if label is not None:
            version = self._labels.get(name, {}).get(label)
            if version is None:
                raise invalid(f"Unrecognized servable version label: {label}")
        entries = self._versions.get(name, {})
        serving = [entry for entry in entries.values() if entry.state == "AVAILABLE"]
        if version is not None:
            serving = [entry for entry in serving if entry.number == version]
        if not serving:
            asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise ServingError("NOT_FOUND", f"Servable not found for request: {asked}")
        return max(serving, key=lambda entry: entry.number)

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Return the state of one version or of all ever known, newest first (get_model_status_impl.cc).

        Raises:
            ServingError: NOT_FOUND.
        """
        with self._changed:
            entries = self._versions.get(name, {})
            if version is not None:
                if version not in entries:
                    raise ServingError("NOT_FOUND", f"Could not find version {version} of model {name}")
                return [entries[version].status]
            if not entries:
                raise ServingError("NOT_FOUND", f"Could not find any versions of model {name}")
            return [entries[number].status for number in sorted(entries, reverse=True)]

    def close(self) -> None:
        """Stop polling and loading; wake whoever waits. Loaded models end with the process."""
        with self._changed:
            self._closed = True
            for entries in self._versions.values():
                for entry in entries.values():
                    entry.given_up.set()
            self._changed.notify_all()
        self._look.set()
        self._loads.shutdown(wait=False, cancel_futures=True)
        self._unloads.shutdown(wait=False, cancel_futures=True)
