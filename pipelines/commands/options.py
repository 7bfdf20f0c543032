"""Arguments and options that several commands share."""

from pathlib import Path

import click

spec_argument = click.argument("spec", type=click.Path(path_type=Path))
environment_option = click.option(
    "--environment", default="", metavar="NAME", help="Overlay beside the spec: SPEC.NAME.yaml."
)
set_option = click.option("--set", "sets", multiple=True, metavar="PATH=VALUE", help="Override one field; repeatable.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
