"""Child processes: TensorFlow work, user code and untrusted models never run inside the command itself.

A child of ours is one module with a ``main`` that answers one JSON request with one JSON reply. It dies with its
parent, is held to limits, and whatever happens to it (an error, a signal, silence) reaches the parent as one of the
four families of errors. The contract between both sides is two files and lines of progress on standard output.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import IO, cast

from components.core.errors import FAMILIES, Bug, Rejected, SlipwayError, Unavailable

ENTRY = Path(__file__).resolve().parents[2] / "slipway.py"
PROGRESS = "progress: "
_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 12
_FOLDER = "slipway-child-"
_FRESH_S = 60.0  # a folder this young may not have been locked yet by the process that makes it
_PIPE_BYTES = 65536
_PIPE_POLL_S = 0.2

Progress = Callable[[str], None]
"""Is told, in a few words, what is being done now."""


def silent(_message: str) -> None:
    """A Progress that tells nobody."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use.

    Args:
        deadline_s: Wall-clock seconds until it is killed.
        cpu_s: Processor seconds until the kernel kills it; none if not given.
        memory_bytes: Private writable memory (``RLIMIT_DATA``); none if not given.
    """

    deadline_s: float
    cpu_s: int | None = None
    memory_bytes: int | None = None


class Crashed(Exception):
    """A child ended by a signal or its deadline, without a reply.

    Args:
        how: ``SIGSEGV``, ``no end within its deadline of 60 s`` …
        log: The last lines it wrote to standard error.
    """

    def __init__(self, how: str, log: str) -> None:
        super().__init__(how)
        self.how = how
        self.log = log

    def __str__(self) -> str:
        return f"{self.how}\n{self.log}" if self.log else self.how


def run_module(
    module: str,
    request: object,
    *,
    limits: Limits,
    progress: Progress = silent,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> dict[str, object]:
    """Run a module of ours in a child process and return its reply.

    Args:
        module: Dotted name of a module whose ``main`` calls :func:`answer`.
        request: What the child is asked, as JSON-able data.
        limits: What it may use.
        progress: Is told each line of progress.
        env: Environment of the child; the parent's if not given.
        log: File that keeps the child's standard error; a temporary one if not given.

    Raises:
        SlipwayError: The child's own error, of the family it had there; a Bug if it ended without a word.
        Crashed: It ended by a signal or its deadline.
    """
    with _folder() as folder:
        asked, replied = Path(folder, "request.json"), Path(folder, "reply.json")
        asked.write_text(json.dumps(request))
        log = log or Path(folder, "stderr.log")
        command = [sys.executable, "-P", str(ENTRY), "--module", module, str(asked), str(replied), _as_json(limits)]
        code = run_command(command, limits=limits, progress=progress, env=env, log=log)
        if not replied.exists() and code < 0:
            raise Crashed(_describe(code), tail(log))
        if not replied.exists():
            raise Bug(f"{module} ended with exit code {code} and without a reply", got=tail(log))
        return _reply(json.loads(replied.read_text()))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Make a temporary folder; remove it on the way out, and those that killed processes have left."""
    for leftover in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.lstat().st_mtime > _FRESH_S:
                with _held(leftover):
                    shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_FOLDER) as name, _held(Path(name)):
        yield Path(name)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the lock that says somebody uses ``folder``; the kernel lets go of it when that process ends.

    Raises:
        OSError: Somebody else holds it.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _as_json(limits: Limits) -> str:
    return json.dumps({"cpu_s": limits.cpu_s, "memory_bytes": limits.memory_bytes})


def _reply(data: dict[str, object]) -> dict[str, object]:
    if "error" not in data:
        return cast("dict[str, object]", data["reply"])
    error = cast("dict[str, str]", data["error"])
    raise FAMILIES[error["family"]](
        error["what"], expected=error["expected"], got=error["got"], fix=error["fix"], reason=error["reason"]
    )


def run_command(
    command: Sequence[str],
    *,
    limits: Limits,
    log: Path,
    progress: Progress = silent,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    secrets: Sequence[str] = (),
) -> int:
    """Run a command in a process group of its own and return its exit code (negative: the signal that ended it).

    What it prints goes to ``log``, line by line, but for lines of progress. The whole group is killed at the deadline,
    and on any way out of this function.

    Args:
        command: Program and arguments.
        limits: What it may use; only the deadline is enforced here.
        log: File that is appended to.
        progress: Is told each line of progress.
        env: Environment; this process's if not given.
        cwd: Working directory; this process's if not given.
        secrets: Values that are blotted out of everything it prints.

    Raises:
        Crashed: The deadline passed.
        Rejected: There is no such program.
    """
    reading, writing = os.pipe()
    with log.open("ab") as written:
        pipe = _Pipe(reading, written, progress, tuple(secret.encode() for secret in secrets if secret))
        try:
            child = subprocess.Popen(
                command,
                stdout=writing,
                stderr=writing,
                stdin=subprocess.DEVNULL,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            os.close(reading)
            raise Rejected(
                f"cannot start {command[0]}: {error.strerror}",
                expected="a program on the PATH, or a path to one",
                got=" ".join(command),
                reason="NO_PROGRAM",
            ) from error
        finally:
            os.close(writing)
        with _killed_on_exit(child, pipe):
            try:
                return child.wait(timeout=limits.deadline_s)
            except subprocess.TimeoutExpired:
                raise Crashed(f"no end within its deadline of {limits.deadline_s:g} s", tail(log)) from None


@contextlib.contextmanager
def _killed_on_exit(child: subprocess.Popen[bytes], pipe: "_Pipe") -> Iterator[None]:
    pipe.start()
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        pipe.finish()


class _Pipe(Thread):
    """Passes on what a child prints.

    A process that the child left behind may hold the other end open for ever, so the end of the pipe is not waited for:
    when the child has ended, what it wrote by then is read, and that is all.
    """

    def __init__(self, descriptor: int, log: IO[bytes], progress: Progress, secrets: tuple[bytes, ...]) -> None:
        super().__init__(daemon=True)
        self._descriptor = descriptor
        self._log = log
        self._progress = progress
        self._secrets = secrets
        self._ended = Event()

    def run(self) -> None:
        """Read lines until the end of the pipe, or until the child has ended and nothing more is there."""
        rest = b""
        while True:
            last = self._ended.is_set()
            ready, _, _ = select.select([self._descriptor], [], [], 0 if last else _PIPE_POLL_S)
            data = os.read(self._descriptor, _PIPE_BYTES) if ready else b""
            *lines, rest = (rest + data).splitlines(keepends=True) or [b""]
            if rest.endswith(b"\n") or len(rest) > _PIPE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._pass_on(line)
            if (ready and not data) or (last and not ready):
                self._pass_on(rest)
                return

    def finish(self) -> None:
        """Let it read what is there, then close the pipe."""
        self._ended.set()
        self.join()
        os.close(self._descriptor)

    def _pass_on(self, raw: bytes) -> None:
        for secret in self._secrets:
            raw = raw.replace(secret, b"***")
        line = raw.decode(errors="replace").rstrip()
        if line.startswith(PROGRESS):
            self._progress(line.removeprefix(PROGRESS))
        elif raw:
            with contextlib.suppress(OSError, ValueError):
                self._log.write(raw)
                self._log.flush()


def _describe(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last ``lines`` lines of a log that say something, without reading more than its last 64 KiB."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 65536))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however that ends (Linux; elsewhere does nothing)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def answer(handler: Callable[[dict[str, object], Progress], object]) -> None:
    """The child's side: read the request, apply limits, call ``handler``, write the reply or the error, and exit.

    Args:
        handler: Takes the request and a Progress; returns JSON-able data; raises SlipwayError for what is wrong.
    """
    die_with_parent()
    asked, replied, limits = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    _limit(limits["cpu_s"], limits["memory_bytes"])
    try:
        reply: dict[str, object] = {"reply": handler(json.loads(asked.read_text()), _tell)}
    except SlipwayError as error:
        reply = {"error": _error_data(error)}
    except MemoryError:
        reply = {
            "error": _error_data(
                Rejected("out of memory", got=f"limit {limits['memory_bytes']} bytes", reason="OUT_OF_MEMORY")
            )
        }
    except OSError as error:
        reply = {"error": _error_data(from_os_error(error))}
    except Exception as error:  # noqa: BLE001 - the boundary: what is not ours is told to the parent as a bug
        traceback.print_exc()
        reply = {"error": _error_data(Bug(f"{type(error).__name__}: {error}"))}
    temporary = replied.with_suffix(".tmp")
    temporary.write_text(json.dumps(reply))
    temporary.replace(replied)
    sys.stdout.flush()
    os._exit(0)  # TensorFlow's threads have nothing left to do; joining them costs up to a second


def _tell(message: str) -> None:
    print(PROGRESS + message, flush=True)


def _limit(cpu_s: int | None, memory_bytes: int | None) -> None:
    if cpu_s is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _error_data(error: SlipwayError) -> dict[str, str]:
    return {
        "family": error.family,
        "what": error.what,
        "expected": error.expected,
        "got": error.got,
        "fix": error.fix,
        "reason": error.reason,
    }


def from_os_error(error: OSError) -> SlipwayError:
    """Turn what the operating system refused (no space, read-only, no permission) into an error a person can act on."""
    where = f"{error.filename}: " if error.filename else ""
    return Unavailable(
        f"{where}{error.strerror or error}",
        expected="a file system with room that this user may write to",
        got=type(error).__name__,
        fix="make room or give permission, then run the same command again: finished steps are kept",
        reason="DISK",
    )
