"""What optimizing is worth: ratios to the untouched SavedModel, for the small models of the tests.

Run ``python -P slipway.py --module benchmarks.optimize [NAME ...]``. Every model is optimized as a release would do it
and timed in interleaved pairs; the table shows what the report of each says. Models built for the purpose (MobileNetV2
and up) and other tools beside ours belong here too, once the passes aim at them.
"""

import sys
import tempfile
from pathlib import Path

from components.core.optimization import OptimizeReport
from components.core.spec import Measure, Optimize
from components.optimize.pipeline import optimize
from tests.models import BUILDERS, build

_ROW = "{:22} {:>9} {:>6} {:>6} {:>22} {:>22} {:>6}"


def main(names: list[str]) -> int:
    """Print one row a model."""
    print(_ROW.format("model", "chosen", "size", "nodes", "b1 ratio [95 %]", "b32 ratio [95 %]", "ready"))
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        for name in names or sorted(BUILDERS):
            source = build(name, Path(folder, name, "source"))
            report = optimize(source, Path(folder, name, "out"), Optimize(measure=Measure(pairs=200)))
            print(_row(name, report), flush=True)
    return 0


def _row(name: str, report: OptimizeReport) -> str:
    latency = [_worst(report, rows) for rows in (1, 32)]
    size, nodes = report.size_after / report.size_before, report.nodes_after / max(1, report.nodes_before)
    ready = "-" if report.ready_ratio is None else f"{report.ready_ratio:.2f}"
    return _ROW.format(name, report.chosen, f"{size:.2f}", f"{nodes:.2f}", *latency, ready)


def _worst(report: OptimizeReport, rows: int) -> str:
    found = [timing for timing in report.timings if timing.batch_size == rows]
    if not found:
        return "-"
    worst = max(found, key=lambda timing: timing.ratio)
    return f"{worst.ratio:.3f} [{worst.low:.3f}, {worst.high:.3f}]"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
