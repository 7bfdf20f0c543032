"""The validate step, seen from the command: one limited child process, and what its end means."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter

from components.core import digest
from components.core.errors import Rejected
from components.core.process import Crashed, Limits, Progress, run_module, silent
from components.core.signature import Contract
from components.core.spec import Export, SignatureSpec, Validate
from components.core.validation import ValidationReport


class Stage(StrEnum):
    """What the child process is at; a crash is the work of whatever it was at."""

    SCAN = "reading the graph without loading it"
    CONTRACT = "comparing the contract"
    CANDIDATE = "loading and asking the candidate"
    EVALUATE = "running labelled data through the candidate"
    REFERENCE = "loading the source"
    PARITY = "comparing the candidate's answers with its source's"


@dataclass(frozen=True, slots=True)
class ValidateRequest:
    """What the child process is asked. Paths as text; ``evaluation_data`` is empty if nothing is evaluated."""

    source: str
    candidate: str
    tags: tuple[str, ...]
    required: Mapping[str, SignatureSpec]
    served: Contract | None
    served_version: int | None
    spec: Validate
    evaluation_data: str
    size_bytes: int


def validate(
    *,
    source_dir: Path,
    candidate_dir: Path,
    served: Contract | None,
    served_version: int | None,
    spec: Validate,
    export: Export,
    data_root: Path,
    progress: Progress = silent,
) -> ValidationReport:
    """Judge a candidate by every gate: size, graph, contract, a sandboxed run, labelled data, its source's answers.

    Args:
        source_dir: The exported model, whose answers are the reference.
        candidate_dir: The model that would be published.
        served: The contract of what is being served; None for a first release.
        served_version: Its version.
        spec: Gates and limits.
        export: Its tags choose the meta graph; its signatures are demanded if ``spec.contract`` names none.
        data_root: Directory that the path of labelled data is relative to.
        progress: Is told each stage.

    Raises:
        Rejected: The candidate is refused; ``reason`` says by which gate.
        Unavailable: The disk.
    """
    stage = Stage.SCAN

    def follow(message: str) -> None:
        nonlocal stage
        stage = Stage(message) if message in set(Stage) else stage
        progress(message)

    size = digest.of_directory(candidate_dir).size
    _require_size(size, spec.limits.size_bytes)
    request = ValidateRequest(
        source=str(source_dir),
        candidate=str(candidate_dir),
        tags=export.tags,
        required=spec.contract.signatures or export.signatures,
        served=served,
        served_version=served_version,
        spec=spec,
        evaluation_data=str(_evaluation_data(spec, data_root)),
        size_bytes=size,
    )
    limits = Limits(deadline_s=spec.timeout_s, cpu_s=_cpu_s(spec), memory_bytes=spec.limits.memory_bytes)
    try:
        reply = run_module(
            "components.validate.child",
            TypeAdapter(ValidateRequest).dump_python(request, mode="json"),
            limits=limits,
            progress=follow,
        )
    except Crashed as error:
        raise _crashed(stage, error, spec) from error
    return ValidationReport.model_validate(reply)


def _cpu_s(spec: Validate) -> int:
    """Processor seconds, over all threads: what eight busy cores use until the deadline."""
    return spec.timeout_s * 8


def _require_size(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise Rejected(
            "the version is too large",
            expected=f"at most {limit} bytes (validate.limits.size_bytes)",
            got=f"{size} bytes",
            fix="make the model smaller, or raise the limit",
            reason="SIZE",
        )


def _evaluation_data(spec: Validate, data_root: Path) -> Path | str:
    if spec.evaluate is None:
        return ""
    data = data_root / spec.evaluate.data
    if not data.is_file():
        raise Rejected(
            f"{spec.evaluate.data} is not there",
            expected="a .npz file with inputs and labels",
            got=f"nothing at {data}",
            fix="correct validate.evaluate.data, which is relative to the spec's folder",
            reason="EVALUATION_DATA",
        )
    return data


def _crashed(stage: Stage, error: Crashed, spec: Validate) -> Rejected:
    """A process that died says something about the model that was in it at that time."""
    who, reason = {
        Stage.SCAN: ("the candidate's graph", "SCAN_CRASHED"),
        Stage.CONTRACT: ("the candidate's graph", "SCAN_CRASHED"),
        Stage.REFERENCE: ("the exported source", "REFERENCE_CRASHED"),
        Stage.PARITY: ("the exported source", "REFERENCE_CRASHED"),
    }.get(stage, ("the candidate", "PROBE_CRASHED"))
    return Rejected(
        f"{who} ended the process it was tried in, while {stage}",
        expected=f"an end within {spec.timeout_s} s and {spec.limits.memory_bytes} bytes of memory",
        got=f"{error.how}; its last words: {error.log or 'none'}",
        fix="a server would have ended the same way; raise validate.limits only if the model needs more",
        reason=reason,
    )
