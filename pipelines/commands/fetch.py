"""``slipway fetch``: a model somebody else made, on this disk, verified and unpacked."""

import json
from pathlib import Path

import click
from pydantic import ValidationError

from components.core.clock import SystemClock
from components.core.errors import Rejected
from components.core.process import silent
from components.core.spec import Fetch
from pipelines.commands.destination import require_free
from pipelines.commands.options import json_option
from pipelines.commands.show import printable

_GIB = 2**30


@click.command("fetch")
@click.argument("uri")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--sha256", default=None, metavar="S", help="Digest the file must have; of a directory its manifest's.")
@click.option("--max-gib", default=20.0, show_default=True, help="GiB the model may have, unpacked.")
@click.option("--timeout-s", default=1800, show_default=True, help="Seconds the fetch may take, retries included.")
@click.option("--overwrite", is_flag=True, help="Replace DIR if it is there; it stays as it is if the fetch fails.")
@json_option
def fetch_command(
    uri: str, directory: Path, sha256: str | None, max_gib: float, timeout_s: int, *, overwrite: bool, as_json: bool
) -> None:
    """Bring the model at URI to the new directory DIR.

    URI is a path, file://, https:// or gs:// URI of a model directory, a model file, or an archive (.tar, .tar.gz,
    .zip), which is unpacked: names that lead out, links and bombs are refused. A broken download goes on where it
    broke. DIR is there whole or not at all. Nothing is loaded; `slipway scan DIR` judges what came.
    """
    from components.source.fetch import fetch  # noqa: PLC0415 - brings an HTTP client, which --help does without

    require_free(directory, overwrite=overwrite)
    fetched = fetch(
        _asked(uri, sha256, max_gib, timeout_s),
        base_dir=Path.cwd(),
        out_dir=directory,
        clock=SystemClock(),
        progress=silent if as_json else lambda text: click.echo(f"… {printable(text)}", err=True),
    )
    if as_json:
        told = {"schema_version": 1, "origin": fetched.origin, "sha256": fetched.sha256, "path": str(directory)}
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo(f"{printable(fetched.origin)}\n  to      {directory}\n  digest  {fetched.sha256}")
        click.echo(f"judge it before anything loads it: slipway scan {directory}", err=True)


def _asked(uri: str, sha256: str | None, max_gib: float, timeout_s: int) -> Fetch:
    try:
        return Fetch(uri=uri, sha256=sha256, max_bytes=int(max_gib * _GIB), timeout_s=timeout_s)
    except ValidationError as error:
        wrong = error.errors()[0]
        field = str(wrong["loc"][0])
        expected = {
            "uri": "a path, or a file://, https:// or gs:// URI",
            "sha256": "64 hexadecimal digits, with or without sha256: before them",
        }
        raise Rejected(
            f"{field} cannot be used",
            expected=expected.get(field, "a number above 0"),
            got=repr(wrong["input"]),
            reason="BAD_ARGUMENT",
        ) from error
