"""``slipway compile``: the release as a pipeline of Kubeflow or Argo."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from components.core import specfile
from components.core.errors import Rejected
from components.core.release import identify
from pipelines.commands.options import environment_option, set_option, spec_argument
from pipelines.plan import Plan, plan

_PACKAGES = {"kubeflow": "kfp", "argo": "hera"}


@click.command("compile")
@spec_argument
@click.option("--engine", type=click.Choice(list(_PACKAGES)), required=True, help="Which engine is to run it.")
@click.option("-o", "--output", default="-", metavar="FILE", help="File to write, or - for standard output.")
@click.option(
    "--components",
    type=click.Path(file_okay=False, path_type=Path),
    help="Kubeflow: folder for each step as a component of its own, to use in other pipelines.",
)
@environment_option
@set_option
def compile_command(
    spec: Path, engine: str, output: str, components: Path | None, environment: str, sets: tuple[str, ...]
) -> None:
    """Write the release of SPEC as a pipeline: KFP v2 IR, or an Argo WorkflowTemplate and CronWorkflow.

    Digests of the declared inputs are computed here, so compile where the inputs are. Each of the pipeline's parameters
    (spec, identity, base_dir, target, state) has a default and can be overridden when it is submitted.
    """
    if components is not None and engine != "kubeflow":
        raise click.UsageError("--components is for --engine kubeflow")
    loaded = specfile.load(spec, environment=environment, sets=sets)
    wanted = plan(loaded.spec, identify(loaded.spec, loaded.base_dir))
    text = _kubeflow(wanted, components) if engine == "kubeflow" else _argo(wanted)
    if output == "-":
        click.echo(text, nl=False)
        return
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@contextmanager
def _installed(engine: str) -> Iterator[None]:
    """Tell a missing extra from a broken one."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != _PACKAGES[engine]:
            raise
        raise Rejected(
            f"--engine {engine} needs the package {_PACKAGES[engine]}, which is not installed here",
            expected=f"the extra `{engine}`",
            got=str(error),
            fix=f"pip install 'slipway[{engine}]'",
            reason="ENGINE_NOT_INSTALLED",
        ) from error


def _argo(wanted: Plan) -> str:
    with _installed("argo"):
        from pipelines import argo  # noqa: PLC0415 - an extra, and slow to import
    return argo.to_yaml(wanted)


def _kubeflow(wanted: Plan, components: Path | None) -> str:
    with _installed("kubeflow"):
        from pipelines import kubeflow  # noqa: PLC0415 - an extra, and slow to import
    if components is not None:
        components.mkdir(parents=True, exist_ok=True)
        for node in (*wanted.nodes, wanted.exit):
            (components / f"{node.name}.yaml").write_text(kubeflow.component(node))
    if note := kubeflow.recurring(wanted):
        click.echo(note, err=True)
    return kubeflow.to_ir(wanted)
