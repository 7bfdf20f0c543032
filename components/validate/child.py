"""The validate step's child process: every gate that touches the candidate. Held to the spec's limits."""

from pathlib import Path

from pydantic import TypeAdapter

from components.core.process import Progress
from components.core.validation import SizeCheck, ValidationReport
from components.savedmodel.inspect import contract_of, every_node, meta_graph, read_proto
from components.validate import contract, skew
from components.validate.scan import scan
from components.validate.step import Stage, ValidateRequest


def handle(data: dict[str, object], progress: Progress) -> object:
    """Answer one :class:`ValidateRequest` with a :class:`ValidationReport`."""
    request = TypeAdapter(ValidateRequest).validate_python(data)
    candidate, spec = Path(request.candidate), request.spec
    tags = frozenset(request.tags)
    progress(Stage.SCAN)
    scanned = scan(candidate, allow_ops=spec.allow_ops)
    progress(Stage.CONTRACT)
    graph = meta_graph(read_proto(candidate), tags, candidate)
    checked = contract.check(
        contract_of(graph),
        required=request.required,
        served=request.served,
        served_version=request.served_version,
        waiver=spec.contract.breaking_change_waiver or "",
    )
    progress(Stage.SKEW)
    versions = graph.graph_def.versions
    skewed = skew.check(
        producer=versions.producer,
        min_consumer=versions.min_consumer,
        bad_consumers=list(versions.bad_consumers),
        producer_release=graph.meta_info_def.tensorflow_version,
        serving_version=spec.serving_version,
        waiver=spec.newer_producer_waiver or "",
        ops={node.op for node in every_node(graph.graph_def)},
    )
    del graph, versions  # as large as the graph itself
    progress(Stage.CANDIDATE)
    # Only now may tensorflow, and with it the candidate, come into this process.
    from components.savedmodel.load import load  # noqa: PLC0415
    from components.validate import fingerprint  # noqa: PLC0415
    from components.validate.evaluate import evaluate, require_kept  # noqa: PLC0415
    from components.validate.parity import compare  # noqa: PLC0415
    from components.validate.probe import ask_edges, ask_golden, probe  # noqa: PLC0415

    golden = Path(request.golden) if request.golden else None
    servable, probed, cases = probe(candidate, tags, spec.limits, batch_sizes=spec.batch_sizes)
    cases += ask_golden(servable, golden) if golden is not None else []
    cases += ask_edges(servable)
    evaluation = None
    if spec.evaluate is not None:
        progress(Stage.EVALUATE)
        evaluation = require_kept(
            evaluate(
                servable,
                spec.evaluate,
                Path(request.evaluation_data),
                served=request.served_evaluation,
                served_version=request.served_version,
            )
        )
    servable.close()
    progress(Stage.REFERENCE)
    reference = load(Path(request.source), tags)
    progress(Stage.PARITY)
    report = ValidationReport(
        size=SizeCheck(size_bytes=request.size_bytes, limit_bytes=spec.limits.size_bytes),
        scan=scanned.model_copy(update={"notes": (*scanned.notes, *fingerprint.findings(candidate))}),
        contract=checked,
        probe=probed,
        parity=compare(cases, reference, spec, golden=golden),
        evaluation=evaluation,
        skew=skewed,
    )
    return report.model_dump(mode="json")
