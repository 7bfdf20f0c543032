"""Optimizes a SavedModel, or says why the original goes on. Imports no tensorflow: the work is a child process.

TensorFlow's graph optimizer and runtime end their process on some graphs. That costs the pass that was running, never
the release: the parent asks again without it, and in the end the original is what it was.
"""

import shutil
from pathlib import Path

from components.core.clock import SystemClock
from components.core.errors import Rejected
from components.core.optimization import OptimizeReport
from components.core.process import Crashed, Limits, Progress, run_module, silent
from components.core.spec import Optimize
from components.optimize.selection import RUNNING, select
from components.savedmodel.inspect import read

WORKER = "components.optimize.worker"
_CRASHES = 3


def optimize(source_dir: Path, out_dir: Path, spec: Optimize, *, progress: Progress = silent) -> OptimizeReport:
    """Write the better one of a SavedModel and its optimized form into ``out_dir``.

    Args:
        source_dir: The exported SavedModel; it is only read.
        out_dir: Directory to make; must not exist or be empty. Holds the chosen model; the original byte for byte
            where that is chosen.
        spec: Passes, tolerance, timing, deadline.
        progress: Is told each pass.

    Raises:
        Rejected: NO_SAVED_MODEL or CORRUPT_PROTO; UNKNOWN_PASS or MALFORMED_PASS; OUTPUT_EXISTS; NOT_OPTIMIZED: the
            spec requires an optimized model and the original would have gone on.
    """
    passes = tuple(str(selected) for selected in select(spec))
    info = read(source_dir)
    _require_empty(out_dir)
    candidate = out_dir.with_name(f"{out_dir.name}.candidate")
    shutil.rmtree(candidate, ignore_errors=True)
    try:
        if passes:
            report = _ask(source_dir, candidate, spec, passes, progress, info.total_bytes)
        else:
            report = _original(spec, info.total_bytes, "the spec asks for no optimization")
        report = report.model_copy(update={"nodes_before": info.nodes}) if report.chosen == "optimized" else report
        if spec.required and report.chosen == "original":
            raise Rejected(
                "no optimized model",
                expected="an optimized model: the spec says optimize.required",
                got=f"the original: {report.why}",
                fix="set optimize.required to false, or choose passes that apply to this model",
                reason="NOT_OPTIMIZED",
            )
        if report.chosen == "original":
            shutil.copytree(source_dir, candidate, dirs_exist_ok=False)
        candidate.rename(out_dir)
    finally:
        shutil.rmtree(candidate, ignore_errors=True)
    return report


def _require_empty(out_dir: Path) -> None:
    if out_dir.exists():
        if not out_dir.is_dir() or any(out_dir.iterdir()):
            raise Rejected(
                f"{out_dir} is there already",
                expected="a directory to be made",
                got="something that would be overwritten",
                fix="remove it",
                reason="OUTPUT_EXISTS",
            )
        out_dir.rmdir()
    out_dir.parent.mkdir(parents=True, exist_ok=True)


def _ask(
    source: Path, candidate: Path, spec: Optimize, passes: tuple[str, ...], progress: Progress, size: int
) -> OptimizeReport:
    """Ask the child; where it crashes, ask again without the pass it crashed in, within the same deadline."""
    clock, lost = SystemClock(), dict[str, str]()
    deadline_s = clock.monotonic_s() + spec.timeout_s
    for _ in range(_CRASHES):
        running = _Running(progress)
        request = {
            "source": str(source.resolve()),
            "out": str(candidate.resolve()),
            "profile": "passes" if spec.passes else spec.profile,
            "passes": passes,
            "lost": lost,
            "tolerance": spec.tolerance.model_dump(mode="json"),
            "measure": spec.measure.model_dump(mode="json"),
        }
        limits = Limits(deadline_s=max(1.0, deadline_s - clock.monotonic_s()))
        try:
            reply = run_module(WORKER, request, limits=limits, progress=running)
        except Crashed as crash:
            shutil.rmtree(candidate, ignore_errors=True)
            if not running.current or clock.monotonic_s() >= deadline_s:
                return _original(spec, size, f"the optimizer ended with {crash.how} while {running.last or 'starting'}")
            lost[running.current] = f"undone: TensorFlow ended with {crash.how}"
        else:
            return OptimizeReport.model_validate(reply)
    return _original(spec, size, f"the optimizer crashed {_CRASHES} times: {'; '.join(lost)}")


class _Running:
    """Passes progress on and remembers which pass is running."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.current = ""
        self.last = ""

    def __call__(self, message: str) -> None:
        self.last = message
        self.current = message.removeprefix(RUNNING) if message.startswith(RUNNING) else ""
        self._progress(message)


def _original(spec: Optimize, size: int, why: str) -> OptimizeReport:
    return OptimizeReport(
        profile="passes" if spec.passes else spec.profile,
        chosen="original",
        why=why,
        size_before=size,
        size_after=size,
    )
