"""Background processes on this machine that outlive the command which started them, and are found again by the next.

Each is known by a ready file that it writes itself once it answers: its process id and ports. A process id can be given
to another process after a reboot, so a process counts as ours only while its command line names that file.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.core.clock import Clock
from components.core.errors import EXIT_OK, Rejected, SlipwayError, Unavailable
from components.core.process import ENTRY, tail

_POLL_S = 0.05
_STRAY_DEADLINE_S = 2.0


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process that answers."""

    pid: int
    grpc_port: int
    rest_port: int


def start(
    module: str,
    arguments: Sequence[str],
    *,
    ready: Path,
    log: Path,
    deadline_s: float,
    clock: Clock,
    environment: Mapping[str, str],
    what: str,
) -> Daemon:
    """Start a module of ours as a background process and wait until it wrote its ready file.

    Args:
        module: Module with a ``main``.
        arguments: Its arguments; they must name ``ready``, by which the process is known later.
        ready: File it writes as JSON with ``pid``, ``grpc_port`` and ``rest_port``.
        log: File for all it prints.
        deadline_s: Seconds it may take.
        clock: Time.
        environment: Its environment.
        what: What it is, for messages, such as ``the server of digits version 2``.

    Raises:
        Rejected: It ended before it was ready.
        Unavailable: It says that it cannot run now (exit code 20), or was not ready in time.
    """
    stop(ready, deadline_s=_STRAY_DEADLINE_S, clock=clock)  # one that a killed command had only just started
    pid = _spawn([sys.executable, "-P", str(ENTRY), "--module", module, *arguments], log, environment)
    until = clock.monotonic_s() + deadline_s
    try:
        while clock.monotonic_s() < until:
            if (found := find(ready)) is not None:
                return found
            if (code := _reap(pid)) is not None:
                raise _ended(code, what, log)
            clock.sleep(_POLL_S)
        raise Unavailable(
            f"{what} did not answer within {deadline_s:g} s",
            got=tail(log),
            fix=f"read {log}; raise serving.rollout.load_deadline_s if it only needs longer",
            reason="NOT_READY",
        )
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        ready.unlink(missing_ok=True)
        raise


def _spawn(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
    """Start a process that is nobody's to wait for: in a session of its own, all it prints in ``log``."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawn(
        command[0],
        list(command),
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _reap(pid: int) -> int | None:
    """Return the exit code (negative: the signal) of a child that has ended, none while it runs."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if found else None


def _ended(code: int, what: str, log: Path) -> SlipwayError:
    kind = Unavailable if code == Unavailable.exit_code else Rejected
    how = f"exit code {code}" if code >= EXIT_OK else signal.Signals(-code).name
    return kind(
        f"{what} ended before it answered ({how})",
        got=tail(log),
        fix=f"the whole output is in {log}",
        reason="SERVER_ENDED",
    )


def find(ready: Path) -> Daemon | None:
    """Return the process that wrote ``ready``, if it still runs."""
    try:
        data = json.loads(ready.read_text())
        daemon = Daemon(int(data["pid"]), int(data["grpc_port"]), int(data["rest_port"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return daemon if _is_ours(daemon.pid, ready) else None


def stop(ready: Path, *, deadline_s: float, clock: Clock) -> bool:
    """Ask every process that names ``ready`` to end, kill it at the deadline, and return whether there was one.

    A command that was killed may have left a process that has not written its ready file yet; it is found as well.
    """
    running = _naming(ready)
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    until = clock.monotonic_s() + deadline_s
    while running and clock.monotonic_s() < until and any(_is_ours(pid, ready) for pid in running):
        clock.sleep(_POLL_S)
    for pid in running:
        if _is_ours(pid, ready):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    ready.unlink(missing_ok=True)
    return bool(running)


def _is_ours(pid: int, ready: Path) -> bool:
    _reap(pid)  # an ended child of this very process would otherwise look alive
    return any(found == pid for found in _naming(ready, [pid]))


def _naming(ready: Path, candidates: Sequence[int] | None = None) -> list[int]:
    """Return the processes, of ``candidates`` or of all, whose command line names ``ready``; never this one."""
    mine = os.getpid()
    return [pid for pid, words in _commands(candidates) if pid != mine and _is_server_of(words, str(ready).encode())]


def _is_server_of(words: Sequence[bytes], ready: bytes) -> bool:
    """Whether a command line is one that :func:`start` makes: ours, and with the file as an argument of its own."""
    named = any(word == ready or word.endswith(b"=" + ready) for word in words)
    return named and b"--module" in words and any(word.endswith(b"slipway.py") for word in words)


def _commands(candidates: Sequence[int] | None) -> Iterator[tuple[int, list[bytes]]]:
    if Path("/proc/self/cmdline").exists():
        for pid in candidates or [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
            with contextlib.suppress(OSError):
                yield pid, Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return
    selected = [option for pid in candidates or () for option in ("-p", str(pid))] or ["-ax"]
    shown = subprocess.run(["ps", "-ww", "-o", "pid=,command=", *selected], capture_output=True, check=False).stdout
    for line in shown.splitlines():
        pid_text, _, command = line.strip().partition(b" ")
        yield int(pid_text), command.split()
