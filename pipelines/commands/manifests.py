"""``slipway render``: the Kubernetes manifests of one version, from the spec and a digest alone."""

import re
from pathlib import Path

import click

from components.core import specfile
from components.core.errors import Rejected
from manifests import bundle
from manifests.preflight import Unrenderable
from manifests.spec import ModelVersion
from pipelines.commands.options import environment_option, set_option, spec_argument

_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


@click.command("render")
@spec_argument
@click.option("--version", type=click.IntRange(min=1), required=True, help="Version number.")
@click.option("--digest", default="", help="Digest of the version: `sha256:…`.  [default: from --record]")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The version's record, as the step `publish` wrote it.",
)
@click.option("--role", type=click.Choice(["candidate", "stable"]), default="candidate", show_default=True)
@click.option(
    "--foundation",
    is_flag=True,
    help="Also write the Namespace and the ServiceAccount, which exist once for all versions.",
)
@click.option("-o", "--output", default="-", help="Folder for one file an object, or - for standard output.")
@environment_option
@set_option
def render_command(
    spec: Path,
    version: int,
    digest: str,
    record: Path | None,
    role: str,
    output: str,
    environment: str,
    sets: tuple[str, ...],
    *,
    foundation: bool,
) -> None:
    """Write the manifests that serve a version of SPEC. Asks neither the store nor a cluster.

    The role `candidate` gives the version no traffic of users; `stable` also points the model's Service at it.
    """
    loaded = specfile.load(spec, environment=environment, sets=sets)
    if digest and not _DIGEST.match(digest):
        raise Rejected(
            f"--digest {digest}: no digest",
            expected="sha256: and 64 hexadecimal digits",
            got=digest,
            reason="BAD_DIGEST",
        )
    wanted = ModelVersion(
        model=loaded.spec.model,
        version=version,
        digest=digest or _from_record(record, version),
        store_uri=loaded.spec.store.uri,
    )
    try:
        found = bundle.render(loaded.spec.serving, wanted, "stable" if role == "stable" else "candidate")
        found = (bundle.foundation(loaded.spec.serving) if foundation else ()) + found
    except Unrenderable as error:
        raise Rejected(f"{spec}: {error}", reason="NOT_RENDERABLE") from error
    if output == "-":
        click.echo(bundle.to_yaml(found), nl=False)
        return
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    for manifest in found:
        (folder / bundle.file_name(manifest)).write_text(bundle.to_yaml((manifest,)))
        click.echo(folder / bundle.file_name(manifest), err=True)


def _from_record(record: Path | None, version: int) -> str:
    if record is None:
        raise click.UsageError("give --digest sha256:…, or --record with the version's publish record")
    from components.core.records import PublishedVersion  # noqa: PLC0415 - with --digest no record is needed

    try:
        found = PublishedVersion.from_json(record.read_bytes())
    except OSError as error:
        raise Rejected(f"{record}: {error.strerror}", expected="a publish record", reason="RECORD") from error
    if found.version != version:
        raise Rejected(
            f"{record} is about another version",
            expected=f"version {version}",
            got=f"version {found.version}",
            reason="WRONG_VERSION",
        )
    return found.content.digest
