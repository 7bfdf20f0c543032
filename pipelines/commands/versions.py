"""``slipway pull``: published versions, verified."""

import json
from pathlib import Path

import click

from components.core.digest import Digest
from components.core.errors import Rejected
from components.store import versions
from components.store.open import open_store


@click.command("pull")
@click.argument("model_uri")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--version", type=click.IntRange(min=1), required=True, help="Version number.")
@click.option("--digest", default="", help="Digest the version must have: `sha256:…`.")
@click.option("--json", "as_json", is_flag=True, help="Print the version's manifest as JSON.")
def pull_command(model_uri: str, directory: Path, version: int, digest: str, *, as_json: bool) -> None:
    """Fill DIRECTORY with a version of MODEL_URI (STORE/MODEL), every byte verified, or leave nothing behind.

    This is what the init container of a server runs, and what a server on this machine is filled by.
    """
    store_uri, slash, model = model_uri.rstrip("/").rpartition("/")
    if not slash or not model:
        raise Rejected(
            f"{model_uri} names no model", expected="STORE/MODEL, such as gs://bucket/models/digits", reason="BAD_URI"
        )
    store = open_store(store_uri, base_dir=Path.cwd())
    wanted = Digest(digest) if digest else None
    found = versions.pull(
        store, model, version, directory, digest=wanted, progress=lambda text: click.echo(text, err=True)
    )
    if as_json:
        click.echo(json.dumps(json.loads(found.to_json()), indent=2))
    else:
        click.echo(f"{model} version {found.version}: {len(found.files)} files, {found.size} bytes, {found.digest}")
