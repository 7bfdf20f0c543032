"""``slipway status`` and ``slipway report``: what the records say."""

import json
from pathlib import Path

import click

from components.cluster.local import LocalTarget
from components.core import atomic
from components.core.errors import Rejected
from components.store import evidence
from pipelines import ledger
from pipelines.cli import Session
from pipelines.commands.options import json_option
from pipelines.ledger import ModelRow, ReleaseRow
from pipelines.open import local_target, open_known
from pipelines.summary import in_a_line

store_option = click.option("--store", default="", help="URI of a store.  [default: every store used from here]")


@click.command("status")
@click.argument("model", default="")
@store_option
@click.option("--live", is_flag=True, help="Also look at the servers of this machine.")
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="Releases a model.")
@json_option
@click.pass_obj
def status_command(session: Session, model: str, store: str, limit: int, *, live: bool, as_json: bool) -> None:
    """Print the releases of MODEL, or of every model, and what is stable. Reads only records unless --live."""
    rows = [row for each in open_known(session, store) for row in ledger.models(each) if model in {"", row.model}]
    if model and not rows:
        raise Rejected(f"no store here knows a model {model}", fix="--store names another store", reason="NO_MODEL")
    target = local_target(session)
    running = _running(target, rows) if live else {}
    if as_json:
        found = [{**_as_json(row, limit), **(_live_json(target, row, running) if live else {})} for row in rows]
        click.echo(json.dumps({"schema_version": 1, "models": found}, indent=2))
        return
    if not rows:
        click.echo("no releases yet: `slipway run SPEC` makes one")
    for row in rows:
        _print(row, limit)
        for server in running.get(row.model, []):
            click.echo(f"    running   version {server['version']}  grpc {server['grpc']}  {server['rest']}")
        address = target.endpoint(row.model) if live else None
        if address is not None:
            click.echo(f"    endpoint  grpc {address.grpc}  {address.rest}/v1/models/{row.model}")
        if live and not running[row.model]:
            click.echo("    running   nothing")


def _live_json(target: LocalTarget, row: ModelRow, running: dict[str, list[dict[str, object]]]) -> dict[str, object]:
    address = target.endpoint(row.model)
    return {"live": running[row.model], "endpoint": address.model_dump() if address else None}


def _running(target: LocalTarget, rows: list[ModelRow]) -> dict[str, list[dict[str, object]]]:
    return {
        row.model: [
            {"version": each.version, "grpc": each.endpoint.grpc, "rest": each.endpoint.rest}
            for each in target.running(row.model)
        ]
        for row in rows
    }


def _as_json(row: ModelRow, limit: int) -> dict[str, object]:
    stable = row.stable
    return {
        "store": row.store.uri,
        "model": row.model,
        "stable": None
        if stable is None
        else {"version": stable.version, "release": stable.release, "since": stable.set_at.isoformat()},
        "releases": [_release_json(each) for each in row.releases[:limit]],
    }


def _release_json(row: ReleaseRow) -> dict[str, object]:
    return {
        "id": row.release.id,
        "outcome": row.release.outcome.value,
        "version": row.version,
        "started_at": row.started_at.isoformat() if row.started_at else None,
        "steps": [
            {"step": each.step.value, "kind": each.kind, "seconds": each.stamp.duration_s, "summary": in_a_line(each)}
            for each in row.release.records
        ],
    }


def _print(row: ModelRow, limit: int) -> None:
    stable = (
        f"stable is version {row.stable.version} since {row.stable.set_at:%Y-%m-%d %H:%M} UTC"
        if row.stable
        else "no stable version"
    )
    click.echo(f"{click.style(row.model, bold=True)}  {stable}  ({row.store.uri})")
    for each in row.releases[:limit]:
        when = f"{each.started_at:%Y-%m-%d %H:%M}" if each.started_at else "not begun       "
        said = in_a_line(each.last) if each.last else ""
        click.echo(f"    {each.release.id}  {when}  {each.release.outcome:<11}  {said}")
    if len(row.releases) > limit:
        click.echo(f"    … {len(row.releases) - limit} earlier ones; --limit shows more")


@click.command("report")
@click.argument("release")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="HTML file.")
@store_option
@click.pass_obj
def report_command(session: Session, release: str, output: Path, store: str) -> None:
    """Write the evidence of RELEASE (an id, its beginning, or `latest`) as one self-contained HTML page."""
    from pipelines.report import render  # noqa: PLC0415 - brings jinja2 and the plots, which `status` does not need

    row = ledger.find(open_known(session, store), release)
    spec = evidence.spec(row.store, row.release.model, row.release.id)
    atomic.write_text(output, render(row.release, spec))
    click.echo(f"{output}: {row.release.model} release {row.release.id}, {row.release.outcome}")
