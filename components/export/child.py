"""The export step's child process: writes the SavedModel and its warm-up requests. Imports tensorflow."""

from pathlib import Path

from pydantic import TypeAdapter

from components.core.errors import Rejected
from components.core.process import Progress, answer
from components.core.signature import PREDICT_METHOD
from components.core.spec import Export, Warmup
from components.export import graph_def, keras_model, meta_graph, reusable, saved_model
from components.export.formats import Format
from components.export.step import ExportRequest, ExportResult
from components.savedmodel import warmup
from components.savedmodel.fingerprint import write_fingerprint
from components.savedmodel.load import Servable, load
from components.savedmodel.replay import answerable, has_batch_dimension, replay_warmup
from components.validate.scan import scan

_MODEL_NAME = "model"  # servers do not check the name in warm-up requests; a fixed one keeps equal models equal


def handle(data: dict[str, object], progress: Progress) -> object:
    """Answer one :class:`ExportRequest` with an :class:`ExportResult`."""
    request = TypeAdapter(ExportRequest).validate_python(data)
    source, target = Path(request.source), Path(request.target)
    notes: list[str] = []
    changed = _write(Format(request.format), source, target, request.spec, request.allow_ops, notes.append)
    if request.spec.reusable:
        reusable.mark(target)
    notes += [f"{note.reason}: {note.where}: {note.detail}" for note in scan(target, allow_ops=request.allow_ops).notes]
    progress("loading the exported model")
    servable = load(target, frozenset(request.spec.tags))
    records = _warm_up(servable, target, request.spec.warmup, progress, keep=not changed)
    result = ExportResult(request.format, servable.contract, records, tuple(notes))
    return TypeAdapter(ExportResult).dump_python(result, mode="json")


def _write(form: Format, source: Path, target: Path, spec: Export, allow_ops: tuple[str, ...], note: Progress) -> bool:
    """Write the SavedModel; return whether it differs from its source."""
    if form not in (Format.KERAS, Format.HDF5):
        _require_no_keras_options(source, spec, form)
    match form:
        case Format.SAVED_MODEL:
            changed = saved_model.write(source, target, spec, allow_ops, note)
        case Format.KERAS | Format.HDF5:
            changed = keras_model.write(source, target, spec)
        case Format.META_GRAPH:
            changed = meta_graph.write(source, target, spec, allow_ops)
        case Format.GRAPH_DEF:
            changed = graph_def.write(source, target, spec, allow_ops)
    if changed:
        write_fingerprint(target)
    return changed


def _require_no_keras_options(source: Path, spec: Export, form: Format) -> None:
    asked = ["up_to"] if spec.up_to else []
    asked += ["reusable"] if spec.reusable and form is not Format.SAVED_MODEL else []
    if asked:
        raise Rejected(
            f"{source.name} cannot be exported with {' and '.join(asked)}",
            expected="a Keras model (.keras or .h5)",
            got=f"a model of the form {form}",
            fix=f"unset export.{asked[0]}",
            reason="REUSABLE" if "reusable" in asked else "KERAS_LAYER",
        )


def _warm_up(servable: Servable, target: Path, spec: Warmup | None, progress: Progress, *, keep: bool) -> int:
    """Write warm-up requests that the model is known to answer; those it came with are kept if it was not changed."""
    file = target / warmup.FILE
    if spec is None or not keep:
        file.unlink(missing_ok=True)
    if spec is None:
        _remove_if_empty(file.parent)
        return 0
    if file.is_file():
        return replay_warmup(servable, target)
    records = _generate(servable, spec, progress)
    if records:
        warmup.write(target, _MODEL_NAME, records)
    return len(records)


def _generate(servable: Servable, spec: Warmup, progress: Progress) -> list[warmup.WarmupRecord]:
    records: list[warmup.WarmupRecord] = []
    for key, signature in servable.contract.signatures.items():
        if signature.method_name != PREDICT_METHOD:
            continue
        sizes = spec.batch_sizes if has_batch_dimension(signature) else spec.batch_sizes[:1]
        for batch_size in sizes:
            inputs, got = answerable(servable, key, batch_size=batch_size, seed=spec.seed)
            if inputs is None:
                progress(f"no warm-up request for {key} with {batch_size} rows: {got}")
            else:
                records.append(warmup.WarmupRecord(key, inputs))
    return records


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


if __name__ == "__main__":
    answer(handle)
