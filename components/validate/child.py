"""The validate step's child process: every gate that touches the candidate. Held to the spec's limits."""

from pathlib import Path

from pydantic import TypeAdapter

from components.core.process import Progress, answer
from components.core.validation import SizeCheck, ValidationReport
from components.savedmodel.inspect import contract as contract_of
from components.validate import contract
from components.validate.scan import scan
from components.validate.step import Stage, ValidateRequest


def handle(data: dict[str, object], progress: Progress) -> object:
    """Answer one :class:`ValidateRequest` with a :class:`ValidationReport`."""
    request = TypeAdapter(ValidateRequest).validate_python(data)
    candidate, spec = Path(request.candidate), request.spec
    tags = frozenset(request.tags)
    progress(Stage.SCAN)
    scanned = scan(candidate)
    progress(Stage.CONTRACT)
    checked = contract.check(
        contract_of(candidate, tags),
        required=request.required,
        served=request.served,
        served_version=request.served_version,
        waiver=spec.contract.breaking_change_waiver or "",
    )
    progress(Stage.CANDIDATE)
    # Only now may tensorflow, and with it the candidate, come into this process.
    from components.savedmodel.load import load  # noqa: PLC0415
    from components.validate.evaluate import evaluate  # noqa: PLC0415
    from components.validate.parity import compare  # noqa: PLC0415
    from components.validate.probe import probe  # noqa: PLC0415

    servable, probed, cases = probe(candidate, tags, spec.limits)
    evaluation = None
    if spec.evaluate is not None:
        progress(Stage.EVALUATE)
        evaluation = evaluate(servable, spec.evaluate, Path(request.evaluation_data))
    servable.close()
    progress(Stage.REFERENCE)
    reference = load(Path(request.source), tags)
    progress(Stage.PARITY)
    report = ValidationReport(
        size=SizeCheck(size_bytes=request.size_bytes, limit_bytes=spec.limits.size_bytes),
        scan=scanned,
        contract=checked,
        probe=probed,
        parity=compare(cases, reference, spec.tolerance),
        evaluation=evaluation,
    )
    return report.model_dump(mode="json")


if __name__ == "__main__":
    answer(handle)
