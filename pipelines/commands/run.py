"""``slipway run`` and ``slipway plan``: the release on this machine."""

import json
import sys
from pathlib import Path

import click

from components.core import records, specfile
from components.core.clock import SystemClock
from components.core.records import AnyRecord
from pipelines.cli import DEFAULT_STATE, Session, unread_is_fine
from pipelines.commands.options import environment_option, json_option, set_option, spec_argument
from pipelines.finish import EXIT_CODES
from pipelines.local import Ended, LocalRunner
from pipelines.open import local_target, remember_store, store_of
from pipelines.steps import STEPS, StepDef
from pipelines.summary import ending, in_a_line


class Terminal:
    """Tells a person, on standard error, how a run goes."""

    def start(self, release: str, model: str) -> None:
        """Say which release this is."""
        click.echo(f"{click.style(model, bold=True)} release {release}", err=True)

    def begin(self, step: StepDef, number: int) -> None:
        """Say which step begins."""
        click.echo(f"[{number}/{len(STEPS)}] {click.style(step.name, bold=True)}: {step.does}", err=True)

    def note(self, text: str) -> None:
        """Say what happens within it."""
        for line in text.splitlines():
            click.echo(click.style(f"      {line}", dim=True), err=True)

    def done(self, step: StepDef, record: AnyRecord, *, kept: bool) -> None:
        """Say what came of it."""
        good = not isinstance(record, records.RolledBack)
        mark = click.style("ok" if good else "!!", fg="green" if good else "red")
        took = "kept" if kept else f"{record.stamp.duration_s:.1f} s"
        name = f"{step.name} " if kept else ""
        click.echo(f"   {mark} {name}{took}: {in_a_line(record)}", err=True)


class Quiet:
    """Tells nobody."""

    def start(self, release: str, model: str) -> None:
        """Say nothing."""

    def begin(self, step: StepDef, number: int) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def done(self, step: StepDef, record: AnyRecord, *, kept: bool) -> None:
        """Say nothing."""


@click.command("run")
@spec_argument
@environment_option
@set_option
@click.option("--new", is_flag=True, help="Release anew even if nothing changed since the last time.")
@click.option("--quiet", is_flag=True, help="No progress.")
@json_option
@click.pass_obj
def run_command(
    session: Session, spec: Path, environment: str, sets: tuple[str, ...], *, new: bool, quiet: bool, as_json: bool
) -> int:
    """Release a model by its SPEC, on this machine.

    Stopped at any moment and run again, it goes on at the first unfinished step. Run again after the end with nothing
    changed, it does nothing and exits as the release did.
    """
    loaded = specfile.load(spec, environment=environment, sets=sets)
    store = store_of(loaded)
    runner = LocalRunner(
        state=session.state.resolve(),
        store=store,
        target=local_target(session),
        clock=SystemClock(),
        environment=session.environment,
        reporter=Quiet() if quiet else Terminal(),
    )
    remember_store(session, store.uri)
    ended = runner.run(loaded, new=new)
    with unread_is_fine():
        if as_json:
            click.echo(json.dumps(_as_json(ended, store.uri), indent=2))
        else:
            _tell(ended, store.uri, session)
    return EXIT_CODES[ended.release.outcome]


def _as_json(ended: Ended, store: str) -> dict[str, object]:
    release = ended.release
    return {
        "release": release.id,
        "model": release.model,
        "outcome": release.outcome.value,
        "noop": ended.noop,
        "exit_code": EXIT_CODES[release.outcome],
        "record": record_uri(store, release),
        "steps": {each.step.value: in_a_line(each) for each in release.records},
    }


def record_uri(store: str, release: records.Release) -> str:
    """Return where the release's evidence is."""
    return f"{store}/{release.model}/.releases/{release.id}/release.json"


def _tell(ended: Ended, store: str, session: Session) -> None:
    release = ended.release
    last = release.records[-1] if release.records else None
    if ended.noop:
        click.echo(f"nothing to do: release {release.id} of {release.model} has ended ({release.outcome}),")
        click.echo("and neither its spec nor its inputs have changed since; --new releases it again all the same")
    good = release.outcome is records.Outcome.PROMOTED
    click.echo(click.style(release.outcome.value.upper(), fg="green" if good else "red", bold=True), nl=False)
    said = ending(last) if isinstance(last, records.RolledBack) else in_a_line(last) if last else ""
    click.echo(f"  {said}")
    if isinstance(last, records.RolledBack):
        for reason in last.reasons:
            click.echo(f"  because {reason}")
    if isinstance(last, records.Rejection):
        click.echo(f"{last.as_error()}")
    click.echo(f"  record    {record_uri(store, release)}")
    state = "" if str(session.state) == DEFAULT_STATE else f"--state {session.state} "
    click.echo(f"  report    slipway {state}report {release.id} -o report.html")
    if isinstance(last, records.Promoted):
        click.echo(f"  endpoint  grpc {last.endpoint.grpc}   {last.endpoint.rest}/v1/models/{release.model}")
    sys.stdout.flush()


@click.command("plan")
@spec_argument
@environment_option
@set_option
@json_option
@click.pass_obj
def plan_command(session: Session, spec: Path, environment: str, sets: tuple[str, ...], *, as_json: bool) -> None:
    """Print what `slipway run SPEC` would do now, what it would skip, and why. Changes nothing."""
    loaded = specfile.load(spec, environment=environment, sets=sets)
    runner = LocalRunner(
        state=session.state.resolve(),
        store=store_of(loaded),
        target=local_target(session),
        clock=SystemClock(),
        environment=session.environment,
        reporter=Quiet(),
    )
    rows = runner.preview(loaded)
    if as_json:
        plain = [{"step": step.name, "runs": runs, "why": why} for step, runs, why in rows]
        click.echo(json.dumps({"model": loaded.spec.model, "steps": plain}, indent=2))
        return
    click.echo(f"{loaded.spec.model} from {spec}, into {loaded.spec.store.uri}")
    reasons = {why for _, _, why in rows}
    if len(reasons) == 1:
        click.echo(f"  nothing to do: {reasons.pop()}")
        return
    for step, runs, why in rows:
        click.echo(f"  {'run ' if runs else 'skip'}  {step.name:<9} {why}")
