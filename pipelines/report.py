"""One release as one HTML page, from its records alone: self-contained, no script, nothing loaded from anywhere."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from components.canary import plots
from components.core import records
from components.core.digest import short
from components.core.optimization import OptimizeReport
from components.core.records import AnyRecord, Outcome, Rejection, Release
from components.core.verdict import Phase
from pipelines.summary import as_size, ending, in_a_line
from pipelines.work import BUILDER

_TONE = {Outcome.PROMOTED: "good", Outcome.ROLLED_BACK: "bad", Outcome.REJECTED: "bad", Outcome.RUNNING: "wait"}
_RAIL_TONE = {
    Phase.PASSED.value: "good",
    Phase.HARMED.value: "bad",
    Phase.UNDECIDED.value: "wait",
    Phase.NOT_APPLICABLE.value: "soft",
}


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table of before and after; ``share`` is the bar's length in percent, at most 100."""

    what: str
    before: str
    after: str
    ratio: str
    share: float | None


def render(release: Release, spec: bytes | None) -> str:
    """Return the page.

    Args:
        release: The release; one that has not ended is fine.
        spec: Its resolved spec as JSON, if it was kept.
    """
    found = {each.step: each for each in release.records if not isinstance(each, Rejection)}
    last = release.records[-1] if release.records else None
    verdict = found.get(records.Step.CANARY)
    optimized = found.get(records.Step.OPTIMIZE)
    validated, exported = found.get(records.Step.VALIDATE), found.get(records.Step.EXPORT)
    judged = verdict if isinstance(verdict, records.Verdict) else None
    rewritten = optimized if isinstance(optimized, records.OptimizedModel) else None
    page = _environment().get_template("report.html.j2")
    return page.render(
        release=release,
        tone=_TONE[release.outcome],
        headline=_headline(last),
        reasons=_reasons(last),
        version=_version(found.values()),
        started=f"{release.records[0].stamp.started_at:%Y-%m-%d %H:%M:%S}" if last else "",
        chain=[_chain_row(each) for each in release.records],
        verdict=judged,
        sample=judged.judgement.sample if judged else None,
        rail_tone=_RAIL_TONE,
        plots=plots.figures(judged.judgement) if judged else {},
        optimized=rewritten,
        before_after=_before_after(rewritten.report) if rewritten else [],
        contract=getattr(validated or exported, "contract", None),
        validated=validated,
        evidence=[_evidence_row(each) for each in release.records],
        spec=json.dumps(json.loads(spec), indent=2) if spec else "(not kept)",
        builder=release.records[-1].stamp.builder if last else BUILDER,
    )


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("pipelines"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = _number
    made.filters["bytes"] = as_size
    return made


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}"


def _headline(last: AnyRecord | Rejection | None) -> str:
    if last is None:
        return "nothing is recorded yet"
    return ending(last) if isinstance(last, records.RolledBack) else in_a_line(last)


def _reasons(last: AnyRecord | Rejection | None) -> Sequence[str]:
    if isinstance(last, records.RolledBack):
        return last.reasons
    if isinstance(last, Rejection):
        return str(last.as_error()).splitlines()
    return ()


def _version(found: Iterable[AnyRecord]) -> int | None:
    return next((each.version for each in found if isinstance(each, records.PublishedVersion)), None)


def _chain_row(record: AnyRecord | Rejection) -> Mapping[str, str]:
    bad = isinstance(record, Rejection | records.RolledBack)
    return {
        "step": record.step.value,
        "line": in_a_line(record),
        "seconds": f"{record.stamp.duration_s:.1f}",
        "digest": "" if isinstance(record, Rejection) else short(record.digest),
        "tone": "bad" if bad else "good",
    }


def _evidence_row(record: AnyRecord | Rejection) -> Mapping[str, str]:
    if isinstance(record, Rejection):
        return {"step": record.step.value, "digest": "rejection", "parent": "", "content": ""}
    content = getattr(record, "content", "")
    return {
        "step": record.step.value,
        "digest": record.digest,
        "parent": record.parent or "–",
        "content": content if isinstance(content, str) else content.digest,
    }


def _before_after(report: OptimizeReport) -> list[_Row]:
    rows = [_row("Size on disk", report.size_before, report.size_after, as_size)]
    if report.nodes_before:
        rows.append(_row("Graph nodes", report.nodes_before, report.nodes_after, str))
    rows += [
        _timing_row(
            f"Latency, batch {each.batch_size}, warmed with {each.warmed_with}",
            f"{each.original_ms:.3f} ms",
            f"{each.optimized_ms:.3f} ms",
            each.ratio,
            f"{each.low:.3f} … {each.high:.3f}",
        )
        for each in report.timings
    ]
    if report.ready_ratio is not None:
        rows.append(_timing_row("Load to first answer", "", "", report.ready_ratio, ""))
    return rows


def _row(what: str, before: int, after: int, show: Callable[[int], str]) -> _Row:
    ratio = after / max(1, before)
    return _Row(what, show(before), show(after), f"{ratio:.3f}", min(100.0, ratio * 100))


def _timing_row(what: str, before: str, after: str, ratio: float, interval: str) -> _Row:
    shown = f"{ratio:.3f}" + (f" ({interval})" if interval else "")
    return _Row(what, before, after, shown, min(100.0, ratio * 100))
