"""Recognises what lies on disk, by names and first bytes, without importing tensorflow."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from google.protobuf.message import DecodeError

from components.core.errors import Rejected
from components.savedmodel.inspect import GRAPH_FILE, TEXT_GRAPH_FILE
from components.savedmodel.messages import message

SUPPORTED = (
    "a SavedModel directory, a Keras 3 file (.keras), a legacy Keras file (.h5), "
    "a TF1 meta graph with its checkpoint (.meta, .index), or a frozen GraphDef (.pb)"
)
MAX_GRAPH_BYTES = 2**31 - 1
_MAX_DEPTH = 3  # an archive often has a folder of its own, and that a version's


class Format(StrEnum):
    """The forms of a model that can be exported."""

    SAVED_MODEL = "saved-model"
    KERAS = "keras-v3"
    HDF5 = "keras-h5"
    META_GRAPH = "tf1-checkpoint"
    GRAPH_DEF = "graph-def"


@dataclass(frozen=True, slots=True)
class Found:
    """A model: its form, and the directory (SavedModel) or file (all others) it is in."""

    format: Format
    path: Path


def recognise(source_dir: Path) -> Found:
    """Return the one model in a directory, looking into folders only while there is nothing at the level above.

    Args:
        source_dir: The directory, or the one file that is the model (of a checkpoint: its meta graph).

    Raises:
        Rejected: NO_MODEL or SEVERAL_MODELS.
    """
    if source_dir.is_file():
        return _recognise_file(source_dir)
    level = [source_dir]
    for _ in range(_MAX_DEPTH):
        found = [model for folder in level for model in _models_in(folder)]
        if len(found) > 1:
            raise _several(source_dir, found)
        if found:
            return found[0]
        level = [entry for folder in level for entry in sorted(folder.iterdir()) if _is_folder(entry)]
    raise _none(source_dir)


def _recognise_file(file: Path) -> Found:
    if file.name in (GRAPH_FILE, TEXT_GRAPH_FILE):
        return Found(Format.SAVED_MODEL, file.parent)
    found = [model for model in _models_in(file.parent, only=file) if model.path == file]
    if not found:
        raise Rejected(
            f"{file.name} is no model that can be exported",
            expected=SUPPORTED,
            got="a meta graph without its checkpoint" if file.suffix == ".meta" else file.suffix or "no suffix",
            fix="an archive is unpacked by slipway fetch",
            reason="NO_MODEL",
        )
    return found[0]


def _is_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.is_symlink() and not entry.name.startswith(".")


def _models_in(folder: Path, only: Path | None = None) -> Iterator[Found]:
    """The models in a folder; with ``only``, those of that file whatever lies beside it."""
    if not folder.is_dir():
        return
    if only is None and ((folder / GRAPH_FILE).is_file() or (folder / TEXT_GRAPH_FILE).is_file()):
        yield Found(Format.SAVED_MODEL, folder)
        return
    for file in [only] if only else sorted(entry for entry in folder.iterdir() if entry.is_file()):
        if file.suffix == ".keras":
            yield Found(Format.KERAS, file)
        elif file.suffix in {".h5", ".hdf5"} and not file.name.endswith(".weights.h5"):
            yield Found(Format.HDF5, file)
        elif file.suffix == ".pb" and _is_graph_def(file):
            yield Found(Format.GRAPH_DEF, file)
    yield from _meta_graphs([only] if only else sorted(folder.glob("*")), folder)


def _meta_graphs(files: list[Path], folder: Path) -> Iterator[Found]:
    """The meta graphs whose checkpoint is there; of several steps of one training, the one ``checkpoint`` names."""
    metas = [file for file in files if file.suffix == ".meta" and file.with_suffix(".index").is_file()]
    latest = _latest(folder / "checkpoint")
    chosen = [file for file in metas if file.stem == latest] if len(metas) > 1 and latest else metas
    for file in chosen or metas:
        yield Found(Format.META_GRAPH, file)


def _latest(state: Path) -> str:
    """Return the name in the first line of a ``checkpoint`` file: ``model_checkpoint_path: "model.ckpt-100"``."""
    if not state.is_file():
        return ""
    first = state.read_text(errors="replace").splitlines()[:1]
    return Path(first[0].partition(":")[2].strip().strip('"')).name if first else ""


def _is_graph_def(file: Path) -> bool:
    if file.stat().st_size > MAX_GRAPH_BYTES:
        return True  # nothing but a graph with its weights in it gets that large; it is refused with its size
    graph = message("tensorflow.GraphDef")()
    try:
        graph.ParseFromString(file.read_bytes())
    except DecodeError:
        return False
    return bool(graph.node) and all(node.name and node.op for node in graph.node)


def _several(source_dir: Path, found: list[Found]) -> Rejected:
    return Rejected(
        f"{source_dir} holds more than one model",
        expected="one model",
        got=", ".join(f"{model.path.relative_to(source_dir)} ({model.format})" for model in found[:8]),
        fix="let the source write only the model that is to be released",
        reason="SEVERAL_MODELS",
    )


def _none(source_dir: Path) -> Rejected:
    names = sorted(str(file.relative_to(source_dir)) for file in source_dir.rglob("*") if file.is_file())
    return Rejected(
        f"{source_dir} holds no model that can be exported",
        expected=SUPPORTED,
        got=", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "no files",
        fix="let the source write its model, for example with model.save(OUTPUT + '/model.keras')",
        reason="NO_MODEL",
    )
