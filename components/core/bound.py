"""Run another program so that nothing of it is left: ``--module components.core.bound PROGRAM [ARG ...]``.

The program dies with the command that started it (the request to the kernel survives ``exec``), and what it left
running when it ended, even in a session of its own, is killed: this process adopts it (``PR_SET_CHILD_SUBREAPER``).
Linux; elsewhere the program merely runs.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from components.core.process import die_with_parent

_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Run the program named by the arguments; return its exit code, or die of the signal that it died of."""
    die_with_parent()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    program = subprocess.Popen(sys.argv[1:], preexec_fn=die_with_parent)  # noqa: PLW1509 - this process has one thread
    code = program.wait()
    while children := _children():
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.wait()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    return code


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
