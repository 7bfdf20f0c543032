"""Where a model may run before anybody trusts it: a limited child process without network and without credentials.

The environment holds nothing but what is listed here. The network is given up as far as the kernel lets a process do
that (unshare(2)); with its own user namespace the child cannot read its parent's environment either (ptrace(2), "ptrace
access mode checking"). Whether that worked is told, and belongs into the record.
"""

import ctypes
import importlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from components.core.process import Limits, Progress, answer, run_module, silent

KEPT = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
"""What a sandbox takes over from outside, if it is given: where libraries and devices are."""

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # linux/sched.h


@dataclass(frozen=True, slots=True)
class Answer:
    """What the child answered, and whether the kernel let it give up the network."""

    reply: dict[str, object]
    offline: bool


def run(
    module: str,
    request: object,
    *,
    limits: Limits,
    progress: Progress = silent,
    environment: Mapping[str, str] | None = None,
) -> Answer:
    """Run a module's ``handle(request, progress)`` in the sandbox.

    Args:
        module: Its full name; it is imported once the network is gone, and so may import tensorflow at its top.
        request: JSON-able data.
        limits: What it may use.
        progress: Is told each line of progress.
        environment: Where the names of :data:`KEPT` are taken from; nowhere if not given.

    Raises:
        SlipwayError: The child's own.
        Crashed: It ended by a signal or its deadline.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-home-") as home:
        said = run_module(
            "components.validate.sandbox",
            {"module": module, "request": request},
            limits=limits,
            progress=progress,
            env=_environment(Path(home), environment or {}),
        )
    return Answer(cast("dict[str, object]", said["reply"]), bool(said["offline"]))


def _environment(home: Path, outside: Mapping[str, str]) -> dict[str, str]:
    kept = {name: outside[name] for name in KEPT if name in outside}
    own = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(home), "TMPDIR": tempfile.gettempdir()}
    return {**kept, **own, "TF_CPP_MIN_LOG_LEVEL": "2"}


def give_up_network() -> bool:
    """Move this process into a network of its own, without interfaces; return whether the kernel allowed it (Linux).

    Must be called while there is one thread only: a user namespace is not for others (unshare(2)).
    """
    user, group = os.getuid(), os.getgid()
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
            return bool(libc.unshare(_NEW_NETWORK) == 0)  # root may, where user namespaces are forbidden
        # Without a map no file could be written any more: the files of an unknown user have no owner.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except (OSError, AttributeError):
        return False
    return True


def handle(data: dict[str, object], progress: Progress) -> object:
    """The child's side of :func:`run`."""
    offline = give_up_network()
    # Only now: numpy and tensorflow start threads, and what they import may already look around.
    reply = importlib.import_module(str(data["module"])).handle(data["request"], progress)
    return {"offline": offline, "reply": reply}


if __name__ == "__main__":
    answer(handle)
