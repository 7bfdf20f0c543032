"""The validate step, seen from the command: one limited child process, and what its end means."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter

from components.core import digest
from components.core.errors import Rejected
from components.core.process import Crashed, Limits, Progress, silent
from components.core.signature import Contract
from components.core.spec import Export, SignatureSpec, Validate
from components.core.validation import Evaluation, Finding, Severity, ValidationReport
from components.validate import sandbox


class Stage(StrEnum):
    """What the child process is at; a crash is the work of whatever it was at."""

    SCAN = "reading the graph without loading it"
    CONTRACT = "comparing the contract"
    SKEW = "comparing the graph's version with the server's"
    CANDIDATE = "loading and asking the candidate"
    EVALUATE = "running labelled data through the candidate"
    REFERENCE = "loading the source"
    PARITY = "comparing the candidate's answers with its source's"


@dataclass(frozen=True, slots=True)
class ValidateRequest:
    """What the child process is asked. Paths as text, empty for a file that the spec does not name."""

    source: str
    candidate: str
    tags: tuple[str, ...]
    required: Mapping[str, SignatureSpec]
    served: Contract | None
    served_version: int | None
    served_evaluation: Evaluation | None
    spec: Validate
    evaluation_data: str
    golden: str
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
    served_evaluation: Evaluation | None = None,
    environment: Mapping[str, str] | None = None,
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
        data_root: Directory that the paths of labelled data and golden requests are relative to.
        served_evaluation: How the version being served did, as its own record says; None if that says nothing.
        environment: Where the sandbox finds libraries and devices (:data:`sandbox.KEPT`); it takes over no more.
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
        served_evaluation=served_evaluation,
        spec=spec,
        evaluation_data=_file(
            data_root, spec.evaluate.data if spec.evaluate else "", "evaluate.data", "EVALUATION_DATA"
        ),
        golden=_file(data_root, spec.golden, "golden", "GOLDEN"),
        size_bytes=size,
    )
    limits = Limits(deadline_s=spec.timeout_s, cpu_s=_cpu_s(spec), memory_bytes=spec.limits.memory_bytes)
    try:
        answer = sandbox.run(
            "components.validate.child",
            TypeAdapter(ValidateRequest).dump_python(request, mode="json"),
            limits=limits,
            progress=follow,
            environment=environment,
        )
    except Crashed as error:
        raise _crashed(stage, error, spec) from error
    report = ValidationReport.model_validate(answer.reply)
    return report if answer.offline else _with_note(report, _ONLINE)


_ONLINE = Finding(
    reason="SANDBOX_NETWORK",
    where="sandbox",
    detail="this system does not let a process give up its network; the model ran with it",
    severity=Severity.NOTE,
)


def _with_note(report: ValidationReport, note: Finding) -> ValidationReport:
    return report.model_copy(update={"scan": report.scan.model_copy(update={"notes": (*report.scan.notes, note)})})


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


def _file(root: Path, name: str, field: str, reason: str) -> str:
    if not name:
        return ""
    if not (root / name).is_file():
        raise Rejected(
            f"{name} is not there",
            expected=f"the file that validate.{field} names",
            got=f"nothing at {root / name}",
            fix=f"correct validate.{field}, which is relative to the spec's folder",
            reason=reason,
        )
    return str(root / name)


def _crashed(stage: Stage, error: Crashed, spec: Validate) -> Rejected:
    """A process that died says something about the model that was in it at that time."""
    who, reason = {
        Stage.SCAN: ("the candidate's graph", "SCAN_CRASHED"),
        Stage.CONTRACT: ("the candidate's graph", "SCAN_CRASHED"),
        Stage.SKEW: ("the candidate's graph", "SCAN_CRASHED"),
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
