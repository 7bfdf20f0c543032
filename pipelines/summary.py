"""Each record in one line, for progress, status and report."""

from components.core import records
from components.core.digest import short
from components.core.records import AnyRecord, Rejection


def in_a_line(record: AnyRecord | Rejection) -> str:  # noqa: PLR0911 - one return a kind
    """Return what a person wants to know first about a record."""
    match record:
        case records.SourceModel():
            return f"{as_size(record.content.size)} by {record.how}, {short(record.content.digest)}"
        case records.ExportedModel():
            keys = ", ".join(sorted(record.contract.signatures))
            return f"{record.source_format} to SavedModel: {keys}; {record.warmup_records} warm-up request(s)"
        case records.OptimizedModel():
            return _optimized(record)
        case records.ValidatedModel():
            return _validated(record)
        case records.PublishedVersion():
            again = " (the same bytes as before)" if record.reused else ""
            return f"version {record.version}, {as_size(record.content.size)}, {short(record.content.digest)}{again}"
        case records.Rollout():
            beside = f"beside stable version {record.stable_version}" if record.stable else "no stable version yet"
            return f"version {record.version} answers after {record.ready_s:.1f} s, {beside}"
        case records.Verdict():
            judgement = record.judgement
            return f"{judgement.decision}: {judgement.reasons[0]}"
        case records.Promoted():
            before = f", was version {record.previous_version}" if record.previous_version else ""
            return f"version {record.version} serves users{before}"
        case records.RolledBack():
            return f"{ending(record)}: {record.reasons[0]}"
        case Rejection():
            return f"rejected by {record.step}: {record.what.splitlines()[0]}"


def ending(record: records.RolledBack) -> str:
    """Return what a rollback left."""
    kept = f"version {record.stable_version} goes on serving" if record.stable_version else "nothing is served"
    return f"version {record.version} rolled back, {kept}"


def _optimized(record: records.OptimizedModel) -> str:
    report = record.report
    if report.chosen == "original":
        return f"the export goes on: {report.why}"
    fired = sum(1 for each in report.passes if each.fired and not each.undone)
    fastest = min((timing.ratio for timing in report.timings), default=None)
    latency = f", {fastest:.2f}x its latency" if fastest is not None else ""
    return f"{fired} passes fired, {report.size_after / max(1, report.size_before):.2f}x the size{latency}"


def _validated(record: records.ValidatedModel) -> str:
    report = record.report
    against = report.contract.served_version
    contract = f"contract {report.contract.compatibility} to version {against}" if against else "first contract"
    metrics = ", ".join(
        f"{each.metric} {each.value:.4f}" for each in (report.evaluation.metrics if report.evaluation else ())
    )
    return f"{contract}; {len(report.parity.rows)} output(s) agree{'; ' + metrics if metrics else ''}"


def as_size(size: int) -> str:
    """Return bytes as people read them: ``1.4 MiB``."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} GiB"
