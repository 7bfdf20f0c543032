"""``slipway diff``: what clients of one model would notice of another."""

import json
from collections.abc import Mapping

import click

from components.core.errors import Rejected
from components.core.signature import Change, Comparison, Compatibility, Contract, compare
from components.savedmodel.describe import describe
from components.savedmodel.files import tags_not_found, tags_text
from components.savedmodel.locate import open_model
from pipelines.commands.show import parse_tags, printable

EXIT_BREAKING = Rejected.exit_code
_COLOURS = {Compatibility.IDENTICAL: "green", Compatibility.ADDITIVE: "yellow", Compatibility.BREAKING: "red"}
_SERVE = frozenset({"serve"})

Contracts = Mapping[frozenset[str], Contract]


@click.command("diff")
@click.argument("old")
@click.argument("new")
@click.option("--tag-set", default=None, metavar="T", help="Only the meta graphs with exactly these tags.")
@click.option("--timeout-s", default=30.0, show_default=True, help="Seconds a server has to answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def diff_command(old: str, new: str, tag_set: str | None, timeout_s: float, *, as_json: bool) -> None:
    """Tell what a client written against OLD would notice of NEW; exit 10 if it would break.

    Each is a directory, a URI of a version such as gs://BUCKET/models/digits/3, or a running server's
    http://HOST:PORT/v1/models/M[/versions/N] (or grpc://), which tells what is being served now.
    """
    tags = None if tag_set is None else parse_tags(tag_set)
    before, after = (_contracts(where, tags, timeout_s) for where in (old, new))
    found = compare_models(_alike(before, after, tags), _alike(after, before, tags))
    if as_json:
        click.echo(json.dumps(_as_json(old, new, found), indent=2))
    else:
        _print(found)
    if found.compatibility is Compatibility.BREAKING:
        click.get_current_context().exit(EXIT_BREAKING)


def compare_models(old: Contracts, new: Contracts) -> Comparison:
    """Compare two models, meta graph by meta graph; models with one each are compared whatever their tags are."""
    if len(old) == len(new) == 1:
        return compare(*old.values(), *new.values())
    changes: list[Change] = []
    for tags in sorted(old.keys() | new.keys(), key=sorted):
        before, after = old.get(tags), new.get(tags)
        if before is None:
            changes.append(Change(f"meta graph {tags_text(tags)}", "absent", "added", breaking=False))
        elif after is None:
            changes.append(Change(f"meta graph {tags_text(tags)}", "present", "removed", breaking=True))
        else:
            for change in compare(before, after).changes:
                where = f"{tags_text(tags)} {change.where}"
                changes.append(Change(where, change.old, change.new, breaking=change.breaking))
    return Comparison(tuple(changes))


def _contracts(where: str, tags: frozenset[str] | None, timeout_s: float) -> Contracts | Contract:
    """The contracts of a model by tag set; a server tells that of the one meta graph it serves, without its tags."""
    if not where.startswith(("http://", "https://", "grpc://")):
        with open_model(where) as files:
            found = describe(files, tags=tags, brief=True)
        return {graph.tags: Contract(graph.signatures, graph.tags) for graph in found.graphs}
    from components.serving import address  # noqa: PLC0415 - brings the clients, which directories do not need
    from components.serving.calls import CallFailed  # noqa: PLC0415

    served = address.parse(where)
    client = served.connect()
    try:
        return client.metadata(served.model, served.version, timeout_s=timeout_s)
    except CallFailed as error:
        raise error.as_error(where) from error
    finally:
        client.close()


def _alike(mine: Contracts | Contract, other: Contracts | Contract, tags: frozenset[str] | None) -> Contracts:
    """Give what a server serves the tags of the meta graph it is compared with; of several, that for serving."""
    if not isinstance(mine, Contract):
        return {_serving(mine, tags): mine[_serving(mine, tags)]} if isinstance(other, Contract) else mine
    if isinstance(other, Contract):
        return {_SERVE: mine}
    chosen = _serving(other, tags)
    return {chosen: Contract(mine.signatures, chosen)}


def _serving(contracts: Contracts, tags: frozenset[str] | None) -> frozenset[str]:
    if tags is not None:
        return tags
    if len(contracts) == 1:
        return next(iter(contracts))
    if _SERVE in contracts:
        return _SERVE
    raise tags_not_found("the model that is compared with a server", _SERVE, list(contracts))


def _print(found: Comparison) -> None:
    for change in found.changes:
        verdict = Compatibility.BREAKING if change.breaking else Compatibility.ADDITIVE
        told = click.style(f"{verdict:<9}", fg=_COLOURS[verdict])
        click.echo(f"{told} {printable(f'{change.where}: {change.old} -> {change.new}')}")
    breaking = sum(change.breaking for change in found.changes)
    told = f": {len(found.changes)} changes, {breaking} of them breaking" if found.changes else ""
    click.echo(f"{click.style(found.compatibility, fg=_COLOURS[found.compatibility], bold=True)}{told}")


def _as_json(old: str, new: str, found: Comparison) -> dict[str, object]:
    return {
        "schema_version": 1,
        "old": old,
        "new": new,
        "compatibility": found.compatibility,
        "changes": [
            {"where": change.where, "old": change.old, "new": change.new, "breaking": change.breaking}
            for change in found.changes
        ],
    }
