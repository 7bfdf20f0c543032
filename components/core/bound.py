"""Start another program that dies with its parent: ``--module components.core.bound PROGRAM [ARG ...]``.

The request to the kernel survives ``exec``, so that a trainer does not go on training for nobody after a ``kill -9``.
"""

import os
import sys

from components.core.process import die_with_parent


def main() -> None:
    """Become the program named by the arguments."""
    die_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the program the spec names, found on the PATH, without a shell


if __name__ == "__main__":
    main()
