"""The ``slipway`` command: parses, calls, prints. The only place that reads the environment.

Commands are imported when they are used, and what needs TensorFlow, a cluster or an engine is imported later still, so
that ``slipway --help`` answers at once.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn, cast

import click

from components.core.errors import EXIT_BAD_ARGUMENTS, EXIT_INTERRUPTED, EXIT_TERMINATED, Bug, SlipwayError
from components.core.version import VERSION

DEFAULT_STATE = ".slipway"

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("run", "Release a model: train or fetch, export, optimize, validate, publish, canary, promote."),
    "plan": ("run", "Print what a run would do, what it would skip, and why."),
    "status": ("status", "Print releases and what is served, from the records."),
    "report": ("status", "Write a release's evidence as one HTML page."),
    "compile": ("engines", "Write the release as a Kubeflow or an Argo pipeline."),
    "render": ("manifests", "Write the Kubernetes manifests of one version."),
    "fetch": ("fetch", "Bring a model somebody else made to a directory, verified and unpacked safely."),
    "export": ("export", "Write whatever a trainer left as a SavedModel with explicit signatures."),
    "show": ("show", "Tell all about a SavedModel, without TensorFlow."),
    "diff": ("diff", "Tell what clients of one model would notice of another."),
    "scan": ("scan", "Judge whether a model is safe to load, and load it where it can do no harm."),
    "evaluate": ("evaluate", "Tell how well a model answers labelled data."),
    "predict": ("predict", "Ask a model or a server for one answer."),
    "pull": ("versions", "Bring a published version to a directory, every byte verified."),
    "serve": ("serve", "Serve models by TensorFlow Serving's protocol and flags."),
    "up": ("serve", "Serve again, on this machine, what `slipway down` stopped."),
    "down": ("serve", "Stop what serves on this machine."),
    "spec": ("spec", "Explain and check release specs."),
    "step": ("step", "Do one step of a release, as an engine does."),
}


@dataclass(frozen=True, slots=True)
class Session:
    """What the command line and the environment say about this call."""

    state: Path
    environment: Mapping[str, str]
    debug: bool


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"pipelines.commands.{COMMANDS[cmd_name][0]}")
        return cast("click.Command", getattr(module, f"{cmd_name}_command"))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - only for the one who mistyped

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise click.UsageError(f"There is no command `{args[0]}`.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Folder for unfinished work and local servers.  [default: $SLIPWAY_STATE or {DEFAULT_STATE}]",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(VERSION, prog_name="slipway")
@click.pass_context
def cli(ctx: click.Context, state: Path | None, *, debug: bool) -> None:
    """Slipway takes one TensorFlow model from trained to serving, proven and promoted.

    One YAML file says what is wanted; `slipway run` does it on this machine, `slipway compile` on Kubeflow or Argo.

    Exit codes: 0 done, 2 bad arguments, 10 rejected, 20 unavailable (try again), 30 conflict (try again), 40 rolled
    back, 70 a bug of ours, 130 interrupted, 143 terminated.
    """
    environment = dict(os.environ)
    folder = state or Path(environment.get("SLIPWAY_STATE") or DEFAULT_STATE)
    ctx.obj = Session(state=folder, environment=environment, debug=debug)


class _Terminated(BaseException):
    """The process was asked to end (SIGTERM); unwinds like an interrupt, so that children end and files are tidied."""


def _on_term(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated


def main(arguments: Sequence[str] | None = None) -> int:  # noqa: PLR0911 - one return a way to end
    """Run the command and return its exit code; nothing but messages meant for people leaves this function."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    signal.signal(signal.SIGTERM, _on_term)
    try:
        code = cli.main(args=words, prog_name="slipway", standalone_mode=False)
        with unread_is_fine():
            sys.stdout.flush()
        return int(code or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return EXIT_BAD_ARGUMENTS
    except SlipwayError as error:
        return _tell(error, debug=debug, as_json="--json" in words)
    except (KeyboardInterrupt, click.Abort):
        click.echo("\ninterrupted; run the same command again to go on where it stopped", err=True)
        return EXIT_INTERRUPTED
    except _Terminated:
        click.echo("terminated; run the same command again to go on where it stopped", err=True)
        return EXIT_TERMINATED
    except BrokenPipeError:
        _stop_printing()
        return 0
    except OSError as error:
        from components.core.process import from_os_error  # noqa: PLC0415 - only where the disk refused

        return _tell(from_os_error(error), debug=debug, as_json="--json" in words)
    except Exception as error:  # noqa: BLE001 - the last frame: what is not ours is told as a bug, without a raw traceback
        bug = Bug(f"{type(error).__name__}: {error}", fix="run again with --debug and report what it shows")
        return _tell(bug, debug=debug, as_json="--json" in words)


@contextlib.contextmanager
def unread_is_fine() -> Iterator[None]:
    """Print to a reader that may have gone (``slipway … | head``): what was done keeps its exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _stop_printing()


def _stop_printing() -> None:
    """Let everything printed from now on go nowhere, so that nothing complains at the interpreter's end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(error: SlipwayError, *, debug: bool, as_json: bool) -> int:
    import json  # noqa: PLC0415 - only where something went wrong
    import traceback  # noqa: PLC0415

    if debug:
        traceback.print_exc()
    if as_json:
        said = {"family": error.family, "reason": error.reason, "what": error.what, "expected": error.expected}
        said |= {"got": error.got, "fix": error.fix, "exit_code": str(error.exit_code)}
        click.echo(json.dumps({"error": said}, indent=2))
    click.echo(f"{click.style(error.family.lower(), fg='red', bold=True)}: {error}", err=True)
    return error.exit_code
