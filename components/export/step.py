"""The export step, seen from the command: recognise, let a child process write, put the result in place."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from components.core.errors import Rejected
from components.core.process import Crashed, Limits, Progress, run_module, silent
from components.core.signature import Contract
from components.core.spec import Export
from components.core.staging import staged
from components.export.formats import MAX_GRAPH_BYTES, Format, Found, recognise
from components.savedmodel.inspect import GRAPH_FILE

DEFAULT_LIMITS = Limits(deadline_s=900.0)


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was exported: the form it was found in, its signatures now, and how many warm-up requests it carries.

    ``notes`` tell what was left behind and what the gate let pass.
    """

    source_format: str
    contract: Contract
    warmup_records: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What the child process is asked. Paths as text."""

    format: str
    source: str
    target: str
    spec: Export
    allow_ops: tuple[str, ...] = ()


def export(
    source_dir: Path,
    out_dir: Path,
    spec: Export,
    *,
    allow_ops: tuple[str, ...] = (),
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress = silent,
) -> ExportResult:
    """Write the model in ``source_dir`` as a SavedModel into ``out_dir``.

    A SavedModel that already has the tags and signatures asked for is kept byte for byte, warm-up requests aside. The
    same source and spec give the same bytes.

    Args:
        source_dir: What the source step left: a directory, or a model's one file.
        out_dir: Directory to make; it is there whole or not at all.
        spec: Signatures, tags and warm-up.
        allow_ops: Ops by name that are allowed beyond our list (``validate.allow_ops``).
        limits: What the child process may use.
        progress: Is told what is being done.

    Raises:
        Rejected: The model or the spec is wrong; among others NO_MODEL, SEVERAL_MODELS, SIGNATURE_MISSING,
            SIGNATURE_DTYPE, SIGNATURE_SHAPE, TAGS_NOT_FOUND, KERAS_LAMBDA, KERAS_CUSTOM_LAYER, LOAD_FAILED,
            GRAPH_TOO_LARGE, EXPORT_CRASHED, a code of the static gate.
        Unavailable: The disk.
    """
    found = recognise(source_dir)
    _require_graph_fits(found)
    progress(f"exporting a model of the form {found.format}")
    with staged(out_dir) as folder:
        request = ExportRequest(found.format.value, str(found.path), str(folder), spec, allow_ops)
        try:
            reply = run_module(
                "components.export.child",
                TypeAdapter(ExportRequest).dump_python(request, mode="json"),
                limits=limits,
                progress=progress,
            )
        except Crashed as error:
            raise Rejected(
                f"{found.path.name} could not be exported: the process ended with {error.how}",
                expected="a model that TensorFlow can load",
                got=error.log,
                fix="load it with the TensorFlow release that wrote it, and save it anew",
                reason="EXPORT_CRASHED",
            ) from error
    return TypeAdapter(ExportResult).validate_python(reply)


def _require_graph_fits(found: Found) -> None:
    """A graph is one message, and no message can be larger; weights in a checkpoint can."""
    file = found.path / GRAPH_FILE if found.format is Format.SAVED_MODEL else found.path
    graphs = (Format.SAVED_MODEL, Format.META_GRAPH, Format.GRAPH_DEF)
    if found.format in graphs and file.is_file() and file.stat().st_size > MAX_GRAPH_BYTES:
        raise Rejected(
            f"the graph in {file.name} is too large",
            expected=f"at most {MAX_GRAPH_BYTES} bytes, which is the most a protobuf message can have",
            got=f"{file.stat().st_size} bytes",
            fix="keep the weights in variables, not in constants of the graph; TensorFlow's split format is disabled "
            "in the packages it publishes",
            reason="GRAPH_TOO_LARGE",
        )
