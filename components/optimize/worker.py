"""The child process that optimizes one SavedModel: passes, proof, timing. Imports tensorflow.

Run by ``components.optimize.pipeline``. Grappler and the runtime can end this process; the lines of progress tell the
parent which pass was running then.
"""

import importlib
import inspect as signatures
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

from pydantic import BaseModel
from tensorflow.python.framework import op_def_registry

from components.core.errors import Rejected, SlipwayError
from components.core.optimization import OptimizeReport, OutputParity, PassReport
from components.core.process import Progress, answer
from components.core.spec import Measure, Tolerance
from components.export.reusable import is_marked
from components.optimize.choose import choose, doubt_about
from components.optimize.measure import Measured, hardware, measure
from components.optimize.outcome import Outcome
from components.optimize.parity import Evidence, collect, differences
from components.optimize.selection import RUNNING, Selected, parse
from components.savedmodel.inspect import every_node
from components.savedmodel.rewrite import GraphRewrite, read, write


class Request(BaseModel):
    """What the parent asks for."""

    source: Path
    out: Path
    profile: str
    passes: tuple[str, ...]
    lost: dict[str, str]
    """Passes not to run again, and what happened when they did."""
    tolerance: Tolerance
    measure: Measure


class GraphPass(Protocol):
    """What a pass's module offers as ``apply``."""

    def __call__(self, graph: GraphRewrite, **arguments: tuple[str, ...]) -> Outcome:
        """Change the graph in place."""
        ...


@dataclass(frozen=True, slots=True)
class _Step:
    """One pass to run, or, with a reason, not to."""

    selected: Selected
    dropped: str = ""


def handle(data: dict[str, object], progress: Progress) -> object:
    """Optimize as ``data`` (a :class:`Request`) says; the optimized model, if it is chosen, lies in ``out``."""
    request = Request.model_validate(data)
    progress("reading")
    graphs = read(request.source)
    if reason := _kept_whole(request.source) or untouchable(graphs):
        return _kept(request, graphs, reason)
    steps = [_Step(parse(text), request.lost.get(str(parse(text)), "")) for text in request.passes]
    progress("asking the original")
    evidence = collect(request.source, request.measure.batch_sizes)
    passes, parity, optimized = _prove(request, steps, evidence, progress)
    measured = Measured((), None)
    if any(entry.fired and not entry.undone for entry in passes) and not doubt_about(parity):
        measured = measure(request.source, request.out, _served(evidence), request.measure, progress)
    chosen, why = choose(passes, parity, measured.timings)
    if chosen == "original":
        shutil.rmtree(request.out, ignore_errors=True)
    sizes = _size(request.source), _size(request.out if chosen == "optimized" else request.source)
    nodes = sum(graph.nodes for graph in graphs), sum(graph.nodes for graph in optimized)
    return OptimizeReport(
        profile=request.profile,
        chosen=chosen,
        why=why,
        passes=tuple(passes),
        parity=parity,
        timings=measured.timings,
        ready_ratio=measured.ready_ratio,
        size_before=sizes[0],
        size_after=sizes[1],
        nodes_before=nodes[0],
        nodes_after=nodes[1] if chosen == "optimized" else nodes[0],
        hardware=hardware(),
    ).model_dump(mode="json")


def _kept_whole(source: Path) -> str:
    return "the model is to stay reusable from Python; a rewritten graph has no objects" if is_marked(source) else ""


def untouchable(graphs: Sequence[GraphRewrite]) -> str:
    """Return why a model cannot be optimized at all; empty if it can."""
    if not any(graph.meta.signature_def for graph in graphs):
        return "the model has no signature: nothing says what it computes"
    for graph in graphs:
        functions = {function.signature.name for function in graph.graph.library.function}
        used = {node.op for node in every_node(graph.graph)} - functions
        if unknown := sorted(op for op in used if op_def_registry.get(op) is None):
            return f"the model uses ops that TensorFlow does not know: {', '.join(unknown)}"
    return ""


def _kept(request: Request, graphs: Sequence[GraphRewrite], why: str) -> object:
    size, nodes = _size(request.source), sum(graph.nodes for graph in graphs)
    return OptimizeReport(
        profile=request.profile,
        chosen="original",
        why=why,
        size_before=size,
        size_after=size,
        nodes_before=nodes,
        nodes_after=nodes,
        hardware=hardware(),
    ).model_dump(mode="json")


def _prove(
    request: Request, steps: list[_Step], evidence: Evidence, progress: Progress
) -> tuple[list[PassReport], tuple[OutputParity, ...], list[GraphRewrite]]:
    """Run the passes, drop those whose result cannot be loaded or answers otherwise, and keep the rest."""
    while True:
        graphs, passes = _run(request.source, steps, progress)
        if not any(entry.fired and not entry.undone for entry in passes):
            return passes, (), graphs
        progress("comparing")
        problem, parity = _check(graphs, request, evidence)
        standing = [index for index, step in enumerate(steps) if not step.dropped]
        unproven = any(not entry.requests for entry in parity)
        if not problem or unproven or not standing:
            return passes, parity, graphs
        steps = _without_culprit(request, steps, standing, evidence, progress)


def _without_culprit(
    request: Request, steps: list[_Step], standing: list[int], evidence: Evidence, progress: Progress
) -> list[_Step]:
    """Return the steps without the first one after which the model is no longer right."""
    for index in standing:
        progress(f"looking for the pass that broke the model: up to {steps[index].selected}")
        graphs, _ = _run(request.source, steps[: index + 1], progress)
        problem, _ = _check(graphs, request, evidence)
        if problem:
            culprit = replace(steps[index], dropped=f"undone: {problem}")
            return [*steps[:index], culprit, *steps[index + 1 :]]
    # Only all of them together fail: the last one is where it shows.
    culprit = replace(steps[standing[-1]], dropped="undone: the model is right only without it")
    return [*steps[: standing[-1]], culprit, *steps[standing[-1] + 1 :]]


def _check(
    graphs: Sequence[GraphRewrite], request: Request, evidence: Evidence
) -> tuple[str, tuple[OutputParity, ...]]:
    shutil.rmtree(request.out, ignore_errors=True)
    try:
        write(graphs, request.out)
        parity = differences(evidence, request.out, request.tolerance)
    except (SlipwayError, ValueError) as error:
        return f"{error.what}: {error.got}" if isinstance(error, SlipwayError) else str(error), ()
    return doubt_about(parity), parity


def _run(source: Path, steps: Sequence[_Step], progress: Progress) -> tuple[list[GraphRewrite], list[PassReport]]:
    graphs, reports = read(source), []
    for step in steps:
        if step.dropped:
            nodes, size = _totals(graphs)
            reports.append(_report(step, Outcome(0, (step.dropped,)), (nodes, size), (nodes, size), 0.0, undone=True))
            continue
        progress(f"{RUNNING}{step.selected}")
        graphs, report = _apply(graphs, step)
        reports.append(report)
    return graphs, reports


def _apply(graphs: list[GraphRewrite], step: _Step) -> tuple[list[GraphRewrite], PassReport]:
    apply = _function(step.selected)
    arguments = _arguments(step.selected, apply)
    before, started = _totals(graphs), time.perf_counter()
    changed = [graph.copy() for graph in graphs]
    try:
        outcomes = [apply(graph, **arguments) for graph in changed]
    except Rejected:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a pass trips over costs that pass, never the release
        failed = Outcome(0, (f"undone: {type(error).__name__}: {str(error)[:300]}",))
        return graphs, _report(step, failed, before, before, time.perf_counter() - started, undone=True)
    reasons = dict.fromkeys(reason for outcome in outcomes for reason in outcome.skipped)
    total = Outcome(sum(outcome.fired for outcome in outcomes), tuple(reasons))
    return changed, _report(step, total, before, _totals(changed), time.perf_counter() - started)


def _function(selected: Selected) -> GraphPass:
    module = importlib.import_module(f"components.optimize.passes.{selected.name}")
    return cast("GraphPass", module.apply)


def _arguments(selected: Selected, apply: GraphPass) -> dict[str, tuple[str, ...]]:
    known = list(signatures.signature(apply).parameters)[1:]
    given: dict[str, tuple[str, ...]] = {}
    for key, value in selected.arguments:
        if key not in known:
            raise Rejected(
                f"optimize.passes: {selected.name} has no argument {key}",
                expected=f"one of {', '.join(known)}" if known else "no argument",
                got=str(selected),
                reason="MALFORMED_PASS",
            )
        given[key] = (*given.get(key, ()), value)
    return given


def _totals(graphs: Sequence[GraphRewrite]) -> tuple[int, int]:
    return sum(graph.nodes for graph in graphs), sum(graph.bytes for graph in graphs)


def _report(
    step: _Step,
    outcome: Outcome,
    before: tuple[int, int],
    after: tuple[int, int],
    seconds: float,
    *,
    undone: bool = False,
) -> PassReport:
    return PassReport(
        name=str(step.selected),
        fired=outcome.fired,
        nodes_before=before[0],
        nodes_after=after[0],
        bytes_before=before[1],
        bytes_after=after[1],
        seconds=round(seconds, 4),
        skipped=outcome.skipped,
        undone=undone,
    )


def _served(evidence: Evidence) -> frozenset[str]:
    """Return the tag set a server loads unless told otherwise, if there is one."""
    sets = [tags for tags, contract in evidence.contracts.items() if contract.signatures]
    return frozenset({"serve"}) if frozenset({"serve"}) in sets else sets[0]


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


if __name__ == "__main__":
    answer(handle)
