"""``slipway scan``: is a model safe to load? Told by reading it, then by loading it where it can do no harm."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from pydantic import TypeAdapter

from components.core.errors import Bug, Rejected
from components.core.process import Crashed, Limits, Progress, run_module, silent
from components.core.spec import Export
from components.core.validation import Probe, Scan
from components.gate.findings import (
    Layer,
    LayerFinding,
    ProbeReply,
    ProbeRequest,
    StaticReply,
    StaticRequest,
    finding_of,
)
from components.savedmodel.describe import describe
from components.savedmodel.files import DirectoryFiles
from pipelines.cli import Session
from pipelines.commands.show import parse_tags, printable
from pipelines.extras import require_tensorflow

EXIT_REJECTED = Rejected.exit_code
STATIC_LIMITS = Limits(deadline_s=300, cpu_s=300, memory_bytes=8 * 2**30)
_GIB = 2**30
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
"""What of the environment a model may see: no credentials, and no way to them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found; the model is accepted if that is nothing."""

    path: str
    format: str
    findings: tuple[LayerFinding, ...]
    notes: tuple[LayerFinding, ...]
    scan: Scan | None
    probes: tuple[Probe, ...]
    not_run: Mapping[Layer, str]
    """Layers that were not reached or not asked for, each with its reason."""

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against the model."""
        return not self.findings


@click.command("scan")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--tag-set", default=None, metavar="T", help="Load only the meta graph with exactly these tags.")
@click.option("--no-load", is_flag=True, help="Only read (L0 to L3): in seconds less, and without TensorFlow.")
@click.option("--max-gib", default=64.0, show_default=True, help="GiB an archive may unpack to.")
@click.option("--memory-gib", default=8.0, show_default=True, help="GiB of memory a model may use.")
@click.option("--timeout-s", default=300.0, show_default=True, help="Seconds a model may take to load and answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.pass_obj
def scan_command(
    session: Session,
    path: Path,
    tag_set: str | None,
    max_gib: float,
    memory_gib: float,
    timeout_s: float,
    *,
    no_load: bool,
    as_json: bool,
) -> None:
    """Judge the model in PATH: a SavedModel directory, an archive (.tar, .tar.gz, .zip), a .keras or an .h5 file.

    A model is a program. Four layers, each only if those before found nothing: the archive's members (L0), the tree of
    files (L1), graphs and configurations, read but not loaded (L2, L3), and a run in a process without network and
    credentials (L4). Exit 0: accepted; 10: rejected, with a stable reason code for every finding.
    """
    limits = Limits(deadline_s=timeout_s, cpu_s=int(timeout_s * 8) + 1, memory_bytes=int(memory_gib * _GIB))
    gate = _Gate(
        limits=limits,
        max_bytes=int(max_gib * _GIB),
        tags=None if tag_set is None else parse_tags(tag_set),
        load=not no_load,
        environment=session.environment,
        progress=silent if as_json else lambda text: click.echo(f"… {printable(text)}", err=True),
    )
    verdict = gate.judge(path)
    if as_json:
        click.echo(json.dumps(_as_json(verdict), indent=2))
    else:
        _print(verdict)
    if not verdict.accepted:
        click.get_current_context().exit(EXIT_REJECTED)


@dataclass(frozen=True, slots=True)
class _Gate:
    """The layers, and what they may use."""

    limits: Limits
    max_bytes: int
    tags: frozenset[str] | None
    load: bool
    environment: Mapping[str, str]
    progress: Progress

    def judge(self, path: Path) -> Verdict:
        """Return what all layers say.

        Raises:
            Rejected: NO_FILE: there is nothing to judge.
            Unavailable: The disk.
        """
        if not path.is_dir() and not path.is_file():
            got = "a special file" if path.exists() else "nothing"
            raise Rejected(f"{path} is not there", expected="a directory or a file", got=got, reason="NO_FILE")
        if self.load:
            require_tensorflow("loading a model", without="--no-load only reads it")
        with TemporaryDirectory(prefix="slipway-scan-") as name:
            folder = Path(name)
            static = self._read(path, folder / "static")
            if static.findings:
                reached = [Layer(each.layer) for each in static.findings]
                why = "an earlier layer refused the model"
                later = {layer: why for layer in Layer if all(layer > other for other in reached)}
                return self._verdict(path, static, static.findings, later)
            if not self.load:
                return self._verdict(path, static, (), {Layer.LOAD: "--no-load was given"})
            if static.format == "saved-model":
                return self._probed(path, static, Path(static.model), folder / "home")
            return self._exported(path, static, folder)

    def _verdict(
        self,
        path: Path,
        static: StaticReply,
        findings: Sequence[LayerFinding],
        not_run: Mapping[Layer, str],
        *,
        notes: Sequence[LayerFinding] = (),
        probes: tuple[Probe, ...] = (),
    ) -> Verdict:
        every_note = (*static.notes, *notes)
        return Verdict(str(path), static.format, tuple(findings), every_note, static.scan, probes, not_run)

    def _read(self, path: Path, folder: Path) -> StaticReply:
        folder.mkdir()
        request = StaticRequest(path=str(path.absolute()), folder=str(folder), max_bytes=self.max_bytes)
        try:
            return StaticReply.model_validate(
                run_module(
                    "components.gate.static",
                    request.model_dump(mode="json"),
                    limits=STATIC_LIMITS,
                    progress=self.progress,
                    env=self._environment(folder),
                )
            )
        except (Crashed, Bug) as error:
            how = error.how if isinstance(error, Crashed) else error.what
            return StaticReply(
                findings=(
                    LayerFinding(
                        layer=Layer.GRAPH, reason="SCAN_CRASHED", where=str(path), detail=f"reading it ended with {how}"
                    ),
                )
            )
        except Rejected as error:
            return StaticReply(findings=(finding_of(Layer.GRAPH, error),))

    def _probed(self, path: Path, static: StaticReply, model: Path, home: Path) -> Verdict:
        home.mkdir()
        request = ProbeRequest(model=str(model), tag_sets=tuple(tuple(sorted(tags)) for tags in self._tag_sets(model)))
        try:
            found = self._run("components.gate.probe", request.model_dump(mode="json"), home)
        except (Crashed, Bug) as error:
            return self._verdict(path, static, [_crashed(path, error)], {})
        except Rejected as error:
            return self._verdict(path, static, [finding_of(Layer.LOAD, error)], {})
        reply = ProbeReply.model_validate(found)
        notes = [] if reply.offline else [_ONLINE]
        return self._verdict(path, static, (), {}, notes=notes, probes=reply.probes)

    def _tag_sets(self, model: Path) -> list[frozenset[str]]:
        """The meta graphs a server may be told to load: those for serving; without any, all of them."""
        graphs = describe(DirectoryFiles(model), tags=self.tags, brief=True).graphs
        serving = [graph.tags for graph in graphs if "serve" in graph.tags]
        return serving or [graph.tags for graph in graphs]

    def _exported(self, path: Path, static: StaticReply, folder: Path) -> Verdict:
        """A Keras file shows its graph only once it is exported, which a limited child does with Keras's safe mode."""
        from components.export.step import ExportRequest  # noqa: PLC0415 - only for Keras files

        model, home = folder / "model", folder / "export-home"
        home.mkdir()
        model.mkdir()
        request = ExportRequest(static.format, str(Path(static.model).absolute()), str(model), Export(warmup=None))
        asked = TypeAdapter(ExportRequest).dump_python(request, mode="json")
        try:
            self._run("components.gate.export", asked, home)
        except (Crashed, Bug) as error:
            return self._verdict(path, static, [_crashed(path, error)], {})
        except Rejected as error:
            return self._verdict(path, static, [finding_of(Layer.LOAD, error)], {})
        inner = self._read(model, folder / "exported")
        if inner.findings:
            return self._verdict(path, static, inner.findings, {})
        probed = self._probed(path, inner, model, folder / "home")
        return Verdict(
            str(path),
            static.format,
            probed.findings,
            (*static.notes, *probed.notes),
            inner.scan,
            probed.probes,
            probed.not_run,
        )

    def _run(self, module: str, request: object, home: Path) -> dict[str, object]:
        return run_module(module, request, limits=self.limits, progress=self.progress, env=self._environment(home))

    def _environment(self, home: Path) -> dict[str, str]:
        kept = {name: self.environment[name] for name in _KEPT if name in self.environment}
        return {**kept, "HOME": str(home), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}


def _crashed(path: Path, error: Crashed | Bug) -> LayerFinding:
    """What makes a process stumble is not let through: a model that nobody made by accident can."""
    how = error.how if isinstance(error, Crashed) else error.what
    detail = f"the process that loaded it ended with {how}: a server would, too"
    return LayerFinding(layer=Layer.LOAD, reason="PROBE_CRASHED", where=str(path), detail=detail)


_ONLINE = LayerFinding(
    layer=Layer.LOAD,
    reason="SANDBOX_NETWORK",
    where="sandbox",
    detail="this system does not let a process give up its network; the model ran with it",
)


def _print(verdict: Verdict) -> None:
    for finding in verdict.findings:
        click.echo(f"{click.style('reject', fg='red')}  {printable(_told(finding))}")
    for note in verdict.notes:
        click.echo(f"{click.style('note', fg='yellow')}    {printable(_told(note))}")
    for layer, why in verdict.not_run.items():
        click.echo(f"not run {layer}: {why}")
    if verdict.scan is not None:
        graph = verdict.scan
        click.echo(f"read    {graph.ops} nodes of {graph.distinct_ops} kinds, {graph.functions} functions")
    for probe in verdict.probes:
        answered = ", ".join(probe.answered) or "no signature to ask"
        seconds = f"loaded in {probe.load_s:.2f} s, first answer after {probe.first_answer_s:.2f} s"
        click.echo(printable(f"ran     {seconds}, {probe.warmup_records} warm-up requests; answered: {answered}"))
    word = click.style("accepted", fg="green", bold=True) if verdict.accepted else click.style("rejected", fg="red")
    click.echo(f"{word}  {verdict.path}" + (f" ({verdict.format})" if verdict.format else ""))


def _told(finding: LayerFinding) -> str:
    detail = re.sub(r"\s*\n\s*", "; ", finding.detail)
    return f"{finding.reason}  {finding.where}" + (f": {detail}" if detail else "") + f"  [{finding.layer}]"


def _as_json(verdict: Verdict) -> dict[str, object]:
    return {
        "schema_version": 1,
        "path": verdict.path,
        "verdict": "accept" if verdict.accepted else "reject",
        "format": verdict.format,
        "findings": [finding.model_dump(mode="json") for finding in verdict.findings],
        "notes": [note.model_dump(mode="json") for note in verdict.notes],
        "not_run": dict(verdict.not_run),
        "graph": None if verdict.scan is None else verdict.scan.model_dump(mode="json"),
        "probes": [probe.model_dump(mode="json") for probe in verdict.probes],
    }
