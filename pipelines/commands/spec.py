"""``slipway spec``: the vocabulary of release specs."""

import json
from pathlib import Path

import click

from components.core import specfile
from components.core.spec import ReleaseSpec
from pipelines.commands.options import environment_option, set_option, spec_argument


@click.group("spec")
def spec_command() -> None:
    """Explain and check release specs."""


@spec_command.command("schema")
def schema_command() -> None:
    """Print the JSON Schema, from which editors complete and check.

    With the YAML language server, put this first in a spec: `# yaml-language-server: $schema=release.schema.json`
    """
    click.echo(json.dumps(ReleaseSpec.model_json_schema(by_alias=True), indent=2))


@spec_command.command("check")
@spec_argument
@environment_option
@set_option
def check_command(spec: Path, environment: str, sets: tuple[str, ...]) -> None:
    """Check a SPEC and print it as resolved: with overlay, overrides and defaults."""
    loaded = specfile.load(spec, environment=environment, sets=sets)
    click.echo(json.dumps(json.loads(specfile.to_json(loaded.spec)), indent=2))
