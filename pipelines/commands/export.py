"""``slipway export``: what a trainer left on disk, as a SavedModel that a server can load."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from components.core import digest, specfile
from components.core.errors import Rejected
from components.core.process import Limits, silent
from components.core.signature import Contract
from components.core.spec import Export, Port, SignatureSpec, Warmup
from pipelines.commands.destination import require_free
from pipelines.commands.options import environment_option, json_option, set_option
from pipelines.commands.show import printable
from pipelines.extras import require_tensorflow

SIGNATURE_FORM = "KEY:ALIAS[=SOURCE],...->ALIAS[=SOURCE],..."
_KEY = re.compile(r"[A-Za-z_][\w.\-/]*")


@click.command("export")
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.argument("target", metavar="DST", type=click.Path(path_type=Path))
@click.option("--spec", "spec_file", type=click.Path(path_type=Path), help="Release spec whose `export` section holds.")
@environment_option
@set_option
@click.option("--signature", "signatures", multiple=True, metavar=SIGNATURE_FORM, help="A signature; repeatable.")
@click.option("--tag-set", "tag_sets", multiple=True, metavar="T[,T]", help="Tags; each further one shares the graph.")
@click.option("--batch-size", "batch_sizes", multiple=True, type=click.IntRange(1), help="Rows of a warm-up request.")
@click.option("--no-warmup", is_flag=True, help="Write no warm-up requests.")
@click.option("--reusable", is_flag=True, help="Keep or make what Python can call and train further.")
@click.option("--up-to", default="", metavar="LAYER", help="Of a Keras model: the layer to end at.")
@click.option("--timeout-s", default=900.0, show_default=True, help="Seconds the export may take.")
@click.option("--overwrite", is_flag=True, help="Replace DST if it is there; it stays as it is if the export fails.")
@json_option
def export_command(
    source: Path,
    target: Path,
    spec_file: Path | None,
    environment: str,
    sets: tuple[str, ...],
    signatures: tuple[str, ...],
    tag_sets: tuple[str, ...],
    batch_sizes: tuple[int, ...],
    up_to: str,
    timeout_s: float,
    *,
    no_warmup: bool,
    reusable: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the model in SRC as a SavedModel into the new directory DST.

    SRC is a directory or file with a Keras model (.keras, .h5), a TF1 meta graph with its checkpoint, a frozen graph, a
    SavedModel or a TF1 Hub module. Without --spec or --signature the model's own signatures stay. For example:

    \b
      slipway export run/model.keras digits --signature 'serving_default:image->probabilities=dense_1'
      slipway export graph.pb detector --signature 'serving_default:x=input->boxes=post/boxes:0'
    """  # noqa: D301 - click's mark of lines to leave as they are
    from components.export import export  # noqa: PLC0415 - only once the arguments are right

    options = _options(signatures, tag_sets, batch_sizes, no_warmup=no_warmup, reusable=reusable, up_to=up_to)
    spec, allow_ops = _spec(spec_file, environment, sets, options)
    _require_apart(source, target)
    require_free(target, overwrite=overwrite)
    require_tensorflow("exporting a model", without="export it where TensorFlow is")
    result = export(
        source,
        target,
        spec,
        allow_ops=allow_ops,
        limits=Limits(deadline_s=timeout_s),
        progress=silent if as_json else lambda text: click.echo(f"… {printable(text)}", err=True),
    )
    manifest = digest.of_directory(target)
    if as_json:
        told = {
            "schema_version": 1,
            "path": str(target),
            "source_format": result.source_format,
            "warmup_records": result.warmup_records,
            "digest": manifest.digest,
            "size_bytes": manifest.size,
            "contract": _contract(result.contract),
            "notes": list(result.notes),
        }
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(
        f"{target}  from {result.source_format}, {manifest.size} bytes, {result.warmup_records} warm-up requests"
    )
    for key, signature in result.contract.signatures.items():
        sides = [", ".join(f"{a} {spec}" for a, spec in side.items()) for side in (signature.inputs, signature.outputs)]
        click.echo(printable(f"  {key}: {sides[0]} -> {sides[1]}"))
    for note in result.notes:
        click.echo(printable(f"{click.style('note', fg='yellow')}  {note}"), err=True)
    click.echo(f"  digest {manifest.digest}")


def _options(
    signatures: tuple[str, ...],
    tag_sets: tuple[str, ...],
    batch_sizes: tuple[int, ...],
    *,
    no_warmup: bool,
    reusable: bool,
    up_to: str,
) -> dict[str, object]:
    """What the command line says about the export; what it does not say is not there."""
    if no_warmup and batch_sizes:
        raise click.UsageError("--no-warmup and --batch-size contradict each other")
    sets = [tuple(tag for tag in text.split(",") if tag) for text in tag_sets]
    parsed = [parse_signature(text) for text in signatures]
    if len({key for key, _ in parsed}) < len(parsed):
        raise click.UsageError("--signature names one key twice")
    said: dict[str, object] = {}
    if parsed:
        said["signatures"] = dict(parsed)
    if sets:
        said["tags"], said["further_tag_sets"] = sets[0], tuple(sets[1:])
    if batch_sizes:
        said["warmup"] = Warmup(batch_sizes=batch_sizes)
    if no_warmup:
        said["warmup"] = None
    if reusable:
        said["reusable"] = True
    if up_to:
        said["up_to"] = up_to
    return said


def _spec(
    file: Path | None, environment: str, sets: tuple[str, ...], said: Mapping[str, object]
) -> tuple[Export, tuple[str, ...]]:
    """The export section of the release spec, with what the command line says instead; and the ops it allows."""
    if file is None and (environment or sets):
        raise click.UsageError("--environment and --set change a spec: give --spec, too")
    loaded = specfile.load(file, environment=environment, sets=sets).spec if file is not None else None
    base = loaded.export if loaded is not None else Export()
    try:
        spec = Export.model_validate({**{name: getattr(base, name) for name in Export.model_fields}, **said})
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(str(part) for part in wrong["loc"])
        raise Rejected(
            f"the export asked for cannot be: {where or 'options'}", got=wrong["msg"], reason="BAD_ARGUMENT"
        ) from error
    return spec, loaded.validation.allow_ops if loaded is not None else ()


def parse_signature(text: str) -> tuple[str, SignatureSpec]:
    """Return the key and the signature of ``KEY:ALIAS[=SOURCE],...->ALIAS[=SOURCE],...``.

    Raises:
        click.BadParameter: It is none.
    """
    key, colon, rest = text.partition(":")
    inputs, arrow, outputs = rest.partition("->")
    if not (colon and arrow and _KEY.fullmatch(key.strip())):
        raise click.BadParameter(f"{text!r}: expected {SIGNATURE_FORM}", param_hint="--signature")
    return key.strip(), SignatureSpec(inputs=_ports(text, inputs), outputs=_ports(text, outputs))


def _ports(text: str, side: str) -> dict[str, Port]:
    ports: dict[str, Port] = {}
    for item in side.split(","):
        alias, equals, source = (part.strip() for part in item.partition("="))
        if not alias or alias in ports or (equals and not source):
            raise click.BadParameter(f"{text!r}: {item.strip()!r} is no new ALIAS[=SOURCE]", param_hint="--signature")
        ports[alias] = Port(source=source)
    return ports


def _require_apart(source: Path, target: Path) -> None:
    inner, outer = target.resolve(), source.resolve()
    if inner == outer or (source.is_dir() and outer in inner.parents) or inner in outer.parents:
        raise Rejected(
            f"{target} and {source} lie within each other",
            expected="a place of its own for the export",
            got=str(target),
            reason="BAD_ARGUMENT",
        )
    if not source.exists():
        raise Rejected(
            f"{source} is not there", expected="a model's directory or file", got="nothing", reason="NO_FILE"
        )


def _contract(contract: Contract) -> object:
    return TypeAdapter(Contract).dump_python(contract, mode="json")
