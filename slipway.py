"""The one uniquely named top-level module: it puts Slipway's own packages first and starts them.

Slipway's import packages are called ``components``, ``manifests`` and ``pipelines``, names that a user's project may
well use too. Two ways lead in here, and both move this file's folder to the front of ``sys.path`` before anything of
ours is imported, so that neither the working directory nor ``PYTHONPATH`` can shadow us:

* the console script ``slipway`` (``slipway:main``);
* ``python -P slipway.py --module NAME [ARG ...]``, by which a step starts a child process of our own code.
"""

import sys
from pathlib import Path

_HOME = str(Path(__file__).resolve().parent)


def _put_ourselves_first() -> None:
    sys.path[:] = [_HOME, *(entry for entry in sys.path if entry not in ("", _HOME))]


def main() -> None:
    """Run the ``slipway`` command and exit with its code."""
    _put_ourselves_first()
    from pipelines.cli import main as command  # noqa: PLC0415 - only now is the path our own

    sys.exit(command())


def _run_module() -> None:
    import runpy  # noqa: PLC0415 - needed by child processes only

    _put_ourselves_first()
    del sys.argv[1]
    sys.argv[0] = sys.argv.pop(1)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=False)


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--module":
        _run_module()
    else:
        main()
