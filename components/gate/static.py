"""The reading half of ``slipway scan``, in a limited child process: archives, files, configurations, graphs.

Nothing is loaded and tensorflow is not imported; what reads hostile bytes may still be killed by them, and then only
this process is.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.core.errors import Rejected
from components.core.process import Progress, answer
from components.core.validation import Finding, Scan, Severity
from components.export.formats import Format, Found, recognise
from components.export.keras_config import require_safe_archive, require_safe_config
from components.gate.findings import Layer, LayerFinding, StaticReply, StaticRequest, finding_of
from components.source.archives import MODEL_SUFFIXES, kind_of, unpack
from components.validate import files
from components.validate.scan import scan

_HDF5 = (".h5", ".hdf5")
_MAX_OBJECTS = 1_000_000


def handle(data: dict[str, object], progress: Progress) -> object:
    """Answer one :class:`StaticRequest` with a :class:`StaticReply`."""
    request = StaticRequest.model_validate(data)
    path, folder = Path(request.path), Path(request.folder)
    findings: list[LayerFinding] = []
    try:
        progress("looking at the files")
        found = _model_in(path, folder, request.max_bytes)
    except Rejected as error:
        return StaticReply(findings=(finding_of(Layer.ARCHIVE, error),)).model_dump(mode="json")
    progress(f"reading a model of the form {found.format}")
    notes: tuple[LayerFinding, ...] = ()
    scanned: Scan | None = None
    if found.format is Format.SAVED_MODEL:
        judged = files.findings(found.path)
        findings += [_told(Layer.FILES, each) for each in judged if each.severity is Severity.REJECT]
        if not findings:
            try:
                scanned = scan(found.path)
                notes = tuple(_told(Layer.GRAPH, each) for each in scanned.notes)
            except Rejected as error:
                findings.append(finding_of(Layer.GRAPH, error))
    else:
        findings += list(_keras_findings(found, folder))
    reply = StaticReply(
        format=found.format.value, model=str(found.path), findings=tuple(findings), notes=notes, scan=scanned
    )
    return reply.model_dump(mode="json")


def _told(layer: Layer, each: Finding) -> LayerFinding:
    return LayerFinding(layer=layer, reason=each.reason, where=each.where, detail=each.detail)


def _model_in(path: Path, folder: Path, max_bytes: int) -> Found:
    """Return the one model in a directory, an archive (unpacked into ``folder``) or a Keras file."""
    if path.is_dir():
        return _supported(recognise(path))
    if path.name.lower().endswith(MODEL_SUFFIXES):
        return _supported(_file(path))
    kind = kind_of(path, path.name)
    if kind is None:
        raise _unsupported(path)
    target = folder / "unpacked"
    target.mkdir()
    unpack(path, target, kind=kind, max_bytes=max_bytes)
    return _supported(recognise(target))


def _file(path: Path) -> Found:
    suffix = path.suffix.lower()
    if suffix == ".keras":
        return Found(Format.KERAS, path)
    if suffix in _HDF5:
        return Found(Format.HDF5, path)
    raise _unsupported(path)


def _supported(found: Found) -> Found:
    if found.format not in (Format.SAVED_MODEL, Format.KERAS, Format.HDF5):
        raise _unsupported(found.path)
    return found


def _unsupported(path: Path) -> Rejected:
    return Rejected(
        f"{path.name} is nothing that can be judged",
        expected="a SavedModel directory, an archive of one (.tar, .tar.gz, .zip), a .keras or an .h5 file",
        got=path.suffix or "no suffix",
        fix="a frozen graph or a checkpoint: export it as a SavedModel, then scan that",
        reason="FORMAT_UNSUPPORTED",
    )


def _keras_findings(found: Found, folder: Path) -> Iterator[LayerFinding]:
    try:
        if found.format is Format.KERAS:
            members = folder / "keras"
            members.mkdir()
            unpack(found.path, members, kind="zip", max_bytes=2**40)
            require_safe_archive(found.path)
            weights = sorted(file for file in members.rglob("*") if file.suffix.lower() in _HDF5)
        else:
            weights = [found.path]
    except Rejected as error:
        yield finding_of(Layer.ARCHIVE if error.reason.startswith("ARCHIVE") else Layer.GRAPH, error)
        return
    for file in weights:
        yield from _hdf5_findings(file, with_config=found.format is Format.HDF5)


def _hdf5_findings(file: Path, *, with_config: bool) -> Iterator[LayerFinding]:
    import h5py  # noqa: PLC0415 - only where there is such a file

    try:
        with h5py.File(file, "r") as opened:
            yield from _links(h5py, opened, file.name)
            config = opened.attrs.get("model_config")
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        what = Rejected(f"{file.name} is no HDF5 file", got=str(error)[:500], reason="KERAS_FILE")
        yield finding_of(Layer.GRAPH, what)
        return
    if with_config:
        try:
            require_safe_config(file, config if isinstance(config, str | bytes) else b"")
        except Rejected as error:
            yield finding_of(Layer.GRAPH, error)


def _links(h5py: Any, opened: Any, name: str) -> Iterator[LayerFinding]:  # noqa: ANN401 - h5py has no types
    """Links and storage outside the file, which would read any other file of the machine that loads it."""
    pending, seen = [opened], {h5py.h5o.get_info(opened.id).addr}
    while pending:
        group = pending.pop()
        for key in group:
            where = f"{name}:{group.name.rstrip('/')}/{key}"
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield _outside(where, f"a link to {link.filename}")
            if not isinstance(link, h5py.HardLink):
                continue
            member = group[key]
            address = h5py.h5o.get_info(member.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > _MAX_OBJECTS:
                yield LayerFinding(layer=Layer.GRAPH, reason="KERAS_FILE", where=name, detail="too many objects")
                return
            if isinstance(member, h5py.Group):
                pending.append(member)
            elif isinstance(member, h5py.Dataset) and (member.external or member.is_virtual):
                yield _outside(where, "values kept in another file")


def _outside(where: str, detail: str) -> LayerFinding:
    return LayerFinding(layer=Layer.GRAPH, reason="H5_EXTERNAL", where=where, detail=detail)


if __name__ == "__main__":
    answer(handle)
