"""``slipway evaluate``: how well a model answers labelled data, in the terms that the validate step judges by."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import click
from pydantic import TypeAdapter, ValidationError

from components.core import specfile
from components.core.errors import Rejected
from components.core.process import Crashed, Limits, run_module, silent
from components.core.signature import DEFAULT_SIGNATURE, Contract
from components.core.spec import Evaluate, Metric, MetricLimit, SliceSpec
from components.core.validation import Evaluation, described
from components.savedmodel.describe import describe
from components.savedmodel.files import DirectoryFiles, no_saved_model, tags_not_found, what_is_there
from components.validate.evaluate_once import EvaluateRequest
from pipelines.cli import Session
from pipelines.commands.options import environment_option, json_option, set_option
from pipelines.commands.show import parse_tags, printable
from pipelines.extras import require_tensorflow

EXIT_REJECTED = Rejected.exit_code
METRIC_FORM = "NAME[:K][>=MIN][<=MAX][~LOSS]"
_METRIC = re.compile(
    r"(?P<name>[a-z_]+)(:(?P<k>\d+))?(>=(?P<minimum>[^<>~]+))?(<=(?P<maximum>[^<>~]+))?(~(?P<max_regression>[^<>~]+))?"
)
_SERVE = frozenset({"serve"})


@click.command("evaluate")
@click.argument("model", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("data", metavar="DATA", type=click.Path(path_type=Path))
@click.option(
    "--spec", "spec_file", type=click.Path(path_type=Path), help="Release spec whose validate.evaluate holds."
)
@environment_option
@set_option
@click.option(
    "--metric", "metrics", multiple=True, metavar=METRIC_FORM, help="A metric; repeatable.  [default: accuracy]"
)
@click.option("--confidence", type=click.FloatRange(0.5, 1, min_open=True, max_open=True), help="Of every limit.")
@click.option("--slice", "slices", multiple=True, metavar="COLUMN", help="Measure each value of COLUMN; repeatable.")
@click.option("--minimum-count", default=30, show_default=True, type=click.IntRange(1), help="Examples a slice needs.")
@click.option("--against", type=click.Path(path_type=Path), help="Another model, which ~LOSS compares with.")
@click.option("--output", default="", metavar="NAME", help="Output alias.  [default: the only one]")
@click.option("--labels", default="", metavar="NAME", help="Name of the labels in DATA.  [default: labels]")
@click.option("--signature-def", default="", metavar="S", help=f"Signature.  [default: {DEFAULT_SIGNATURE}]")
@click.option("--tag-set", default=None, metavar="T", help="Meta graph.  [default: serve]")
@click.option("--timeout-s", default=900.0, show_default=True, help="Seconds it may take.")
@json_option
@click.pass_obj
def evaluate_command(
    session: Session,
    model: Path,
    data: Path,
    spec_file: Path | None,
    environment: str,
    sets: tuple[str, ...],
    metrics: tuple[str, ...],
    confidence: float | None,
    slices: tuple[str, ...],
    minimum_count: int,
    against: Path | None,
    output: str,
    labels: str,
    signature_def: str,
    tag_set: str | None,
    timeout_s: float,
    *,
    as_json: bool,
) -> None:
    r"""Run the labelled file DATA through the SavedModel in DIR; exit 10 if a limit is not kept.

    DATA is .npz, .tfrecord (tf.train.Example), .jsonl or .csv. Metrics: accuracy, top_k, auc, log_loss, mae, rmse,
    mean_iou. `~LOSS` is how much worse than the model of --against it may be. Without --spec, for example:

    \b
      slipway evaluate digits holdout.npz --metric 'accuracy>=0.95' --metric 'log_loss<=0.2' --confidence 0.95
      slipway evaluate new holdout.csv --against old --metric 'top_k:3>=0.9~0.01' --slice region
    """
    require_tensorflow("evaluating a model", without="evaluate it where TensorFlow is")
    if not data.is_file():
        raise Rejected(f"{data} is not there", expected="a labelled file", reason="EVALUATION_DATA")
    tags, contract = _contract(model, None if tag_set is None else parse_tags(tag_set))
    said = _said(metrics, confidence, slices, minimum_count)
    said |= {
        name: value for name, value in {"labels": labels, "signature": signature_def, "output": output}.items() if value
    }
    spec = _spec(spec_file, environment, sets, {**said, "data": str(data)}, contract)
    _require_other(spec, against)
    request = EvaluateRequest(
        model=str(model.absolute()),
        tags=tuple(sorted(tags)),
        against=str(against.absolute()) if against else "",
        against_tags=tuple(sorted(_contract(against, None)[0])) if against else (),
        data=str(data.absolute()),
        spec=spec,
    )
    found = _run(request, timeout_s, session.environment, quiet=as_json)
    click.echo(json.dumps(_as_json(model, found), indent=2) if as_json else "\n".join(_lines(found)))
    if found.failed:
        click.get_current_context().exit(EXIT_REJECTED)


def _require_other(spec: Evaluate, against: Path | None) -> None:
    """A comparison without another model, or another model without a comparison, is a slip of whoever asks."""
    limits = [*spec.metrics.values(), *(limit for part in spec.slices for limit in part.metrics.values())]
    relative = any(limit.max_regression is not None for limit in limits)
    if relative and against is None:
        raise click.UsageError("~LOSS and max_regression compare with another model: give --against")
    if against is not None and not relative:
        raise click.UsageError("--against is compared with by ~LOSS or max_regression alone: give a metric one")


def parse_metric(text: str, confidence: float | None) -> tuple[str, MetricLimit]:
    """Return the name and limits of ``NAME[:K][>=MIN][<=MAX][~LOSS]``.

    Raises:
        click.BadParameter: It is none.
    """
    match = _METRIC.fullmatch("".join(text.split()))
    known: tuple[str, ...] = get_args(Metric)
    if match is None or match["name"] not in known:
        hint = f"{text!r}: expected {METRIC_FORM} with one of {', '.join(known)}"
        raise click.BadParameter(hint, param_hint="--metric")
    limits = {name: value for name, value in match.groupdict().items() if value is not None and name != "name"}
    if limits.keys() - {"k"} and confidence is not None:
        limits["confidence"] = str(confidence)
    try:
        return match["name"], MetricLimit.model_validate(limits)
    except ValidationError as error:
        raise click.BadParameter(f"{text!r}: {error.errors()[0]['msg']}", param_hint="--metric") from error


def _said(
    metrics: tuple[str, ...], confidence: float | None, slices: tuple[str, ...], minimum_count: int
) -> dict[str, object]:
    """What the command line says of the evaluation; what it does not say is not there."""
    said: dict[str, object] = {}
    if metrics:
        said["metrics"] = dict(parse_metric(text, confidence) for text in metrics)
    elif confidence is not None:
        raise click.UsageError("--confidence is of limits: give --metric, too")
    if slices:
        said["slices"] = tuple(SliceSpec(by=name, minimum_count=minimum_count) for name in slices)
    return said


def _spec(
    file: Path | None, environment: str, sets: tuple[str, ...], said: Mapping[str, object], contract: Contract
) -> Evaluate:
    if file is None and (environment or sets):
        raise click.UsageError("--environment and --set change a spec: give --spec, too")
    base: dict[str, object] = {}
    if file is not None:
        loaded = specfile.load(file, environment=environment, sets=sets).spec.validation.evaluate
        if loaded is None:
            raise Rejected(f"{file} asks for no evaluation", expected="validate.evaluate", reason="BAD_ARGUMENT")
        base = {name: getattr(loaded, name) for name in Evaluate.model_fields}
    merged = {**base, **said}
    if "output" not in merged:
        merged["output"] = _only_output(contract, str(merged.get("signature", DEFAULT_SIGNATURE)))
    return Evaluate.model_validate(merged)


def _only_output(contract: Contract, key: str) -> str:
    signature = contract.signatures.get(key)
    if signature is None or len(signature.outputs) != 1:
        got = ", ".join(signature.outputs if signature is not None else contract.signatures) or "none"
        what = f"signature {key} has several outputs" if signature is not None else f"the model has no signature {key}"
        raise Rejected(
            what, expected="--output and --signature-def that say which", got=got, reason="SIGNATURE_MISSING"
        )
    return next(iter(signature.outputs))


def _contract(path: Path, tags: frozenset[str] | None) -> tuple[frozenset[str], Contract]:
    """Return the tags and signatures of the meta graph that is meant: the only one, or that for serving."""
    if not path.is_dir():
        raise no_saved_model(str(path), what_is_there(path))
    graphs = describe(DirectoryFiles(path), tags=tags, brief=True).graphs
    chosen = graphs if len(graphs) == 1 else tuple(graph for graph in graphs if graph.tags == _SERVE)
    if not chosen:
        raise tags_not_found(str(path), _SERVE, [graph.tags for graph in graphs])
    return chosen[0].tags, Contract(chosen[0].signatures, chosen[0].tags)


def _run(request: EvaluateRequest, timeout_s: float, environment: Mapping[str, str], *, quiet: bool) -> Evaluation:
    try:
        reply = run_module(
            "components.validate.evaluate_once",
            TypeAdapter(EvaluateRequest).dump_python(request, mode="json"),
            limits=Limits(deadline_s=timeout_s),
            progress=silent if quiet else lambda text: click.echo(f"… {printable(text)}", err=True),
            env={"TF_CPP_MIN_LOG_LEVEL": "2", **environment},
        )
    except Crashed as error:
        raise Rejected(
            f"{request.model} ended the process it was loaded in",
            expected=f"answers within {timeout_s:g} s",
            got=str(error),
            fix=f"look at it without loading it: slipway scan --no-load {request.model}",
            reason="PROBE_CRASHED",
        ) from error
    return Evaluation.model_validate(reply)


def _lines(found: Evaluation) -> list[str]:
    lines = [_line(described(result), passed=result.passed) for result in found.metrics]
    for part in found.slices:
        where = printable(f"{part.by} = {part.value}")
        if part.skipped:
            lines.append(f"        {where}: not judged: {printable(part.skipped)}")
        lines += [_line(f"{where}: {described(result)}", passed=result.passed) for result in part.metrics]
    lines += [f"{click.style('note', fg='yellow')}    {printable(note)}" for note in found.notes]
    return lines


def _line(text: str, *, passed: bool) -> str:
    return f"{click.style('kept  ', fg='green') if passed else click.style('missed', fg='red')}  {text}"


def _as_json(model: Path, found: Evaluation) -> dict[str, object]:
    told = {"schema_version": 1, "model": str(model), "accepted": not found.failed, "failed": list(found.failed)}
    return told | found.model_dump(mode="json")
