"""``slipway serve``, ``up`` and ``down``: servers on this machine."""

import json
import os
import sys
from typing import NoReturn

import click

from components.cluster.local import LocalTarget
from components.core.errors import Rejected
from pipelines.cli import Session
from pipelines.open import local_target, open_known


@click.command(
    "serve", context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def serve_command(flags: tuple[str, ...]) -> NoReturn:
    """Serve models by TensorFlow Serving's protocol, with its own FLAGS; `slipway serve --help` lists them."""
    from components.serving.main import main  # noqa: PLC0415 - brings the server, which nothing else here needs

    code = main(list(flags))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of TensorFlow and grpc have nothing left to do; joining them delays the exit


@click.command("down")
@click.argument("model", default="")
@click.option("--json", "as_json", is_flag=True, help="Print what was stopped as JSON.")
@click.pass_obj
def down_command(session: Session, model: str, *, as_json: bool) -> None:
    """Stop the servers of MODEL on this machine, or of every model. Nothing is lost: `slipway up` serves again."""
    target = local_target(session)
    stopped = {name: list(target.down(name)) for name in _models(target, model)}
    if as_json:
        click.echo(json.dumps({"stopped": stopped}, indent=2))
        return
    ran = {name: found for name, found in stopped.items() if found}
    for name, found in ran.items():
        click.echo(f"stopped {name} version {', '.join(map(str, found))}")
    if not ran:
        click.echo("nothing was running")


@click.command("up")
@click.argument("model", default="")
@click.pass_obj
def up_command(session: Session, model: str) -> None:
    """Serve again the stable version of MODEL, or of every model this state folder knows."""
    from components.deploy import STABLE, reconcile  # noqa: PLC0415 - brings the store, which `down` does not need
    from components.store import versions  # noqa: PLC0415
    from manifests.spec import ServingSpec  # noqa: PLC0415

    target = local_target(session)
    served = False
    for name in _models(target, model):
        for store in open_known(session, ""):
            if store.uri != target.store_of(name) or versions.alias(store, name, STABLE) is None:
                continue
            found = reconcile(
                name,
                serving=ServingSpec(),
                store=store,
                target=target,
                progress=lambda text: click.echo(text, err=True),
            )
            address = target.endpoint(name)
            served = served or found is not None
            if found and address:
                click.echo(f"{name} version {found.version}: grpc {address.grpc}   {address.rest}/v1/models/{name}")
    if not served:
        click.echo("nothing to serve: no model that was released from here has a stable version")


def _models(target: LocalTarget, model: str) -> tuple[str, ...]:
    known = target.models()
    if model and model not in known:
        raise Rejected(
            f"no model {model} is served from {target.state}",
            expected=", ".join(known) or "a model that was released here",
            fix="name another one, or the state folder it was released with (--state)",
            reason="NO_MODEL",
        )
    return (model,) if model else known
