"""The files of a SavedModel: their names, and what lies in a directory or in a store. Imports nothing heavy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from components.core.errors import Rejected

GRAPH_FILE = "saved_model.pb"
TEXT_GRAPH_FILE = "saved_model.pbtxt"
SPLIT_GRAPH_FILE = "saved_model.cpb"
FINGERPRINT_FILE = "fingerprint.pb"
VARIABLES_INDEX = "variables/variables.index"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
KERAS_METADATA_FILE = "keras_metadata.pb"


class ModelFiles(Protocol):
    """The files of one SavedModel, wherever they are."""

    @property
    def name(self) -> str:
        """Where they are, as the user wrote it."""
        ...

    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file by its relative POSIX path, sorted."""
        ...

    def local(self, path: str) -> Path:
        """Return a file on this machine with the content of ``path``, which is one of :meth:`sizes`."""
        ...


class DirectoryFiles:
    """The files of a directory on this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def name(self) -> str:
        """The directory."""
        return str(self._directory)

    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file; links are followed, and a broken one counts nothing."""
        found = {
            path.relative_to(self._directory).as_posix(): path.stat().st_size
            for path in self._directory.rglob("*")
            if path.is_file()
        }
        return dict(sorted(found.items()))

    def local(self, path: str) -> Path:
        """The file itself."""
        return self._directory / path


def what_is_there(path: Path) -> str:
    """Return a few words about a place where a model was expected."""
    if not path.is_dir():
        return "no such directory" if not path.exists() else "a file"
    names = sorted(entry.name for entry in path.iterdir())
    return listed(names) if names else "an empty directory"


def listed(names: list[str]) -> str:
    """Return at most eight names in a row."""
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")


def no_saved_model(where: str, got: str) -> Rejected:
    """Return the error of reading a model where none is."""
    return Rejected(
        f"{where} is no SavedModel",
        expected=f"a directory with {GRAPH_FILE} or {TEXT_GRAPH_FILE}",
        got=got,
        fix="name the directory that tf.saved_model.save or model.export wrote",
        reason="NO_SAVED_MODEL",
    )


def corrupt(file: str | Path, why: str, *, reason: str = "CORRUPT_PROTO") -> Rejected:
    """Return the error of a file of a model that cannot be decoded."""
    return Rejected(
        f"{file} cannot be read as part of a SavedModel",
        expected="the file that TensorFlow wrote",
        got=why,
        fix="copy or export the model again",
        reason=reason,
    )


def split(where: str) -> Rejected:
    """Return the error of a model in TensorFlow's split format."""
    return Rejected(
        f"{where} is in the split format ({SPLIT_GRAPH_FILE}), which released TensorFlow cannot read",
        expected=f"{GRAPH_FILE} below 2 GB, with the weights in variables/",
        got=SPLIT_GRAPH_FILE,
        fix="export without experimental_image_format, and keep weights in variables instead of constants",
        reason="SPLIT_FORMAT",
    )


def tags_text(tags: frozenset[str]) -> str:
    """Return a tag set as people read it: ``{gpu, serve}``."""
    return "{" + ", ".join(sorted(tags)) + "}"


def tags_not_found(where: str, tags: frozenset[str], there: list[frozenset[str]]) -> Rejected:
    """Return the error of asking for a meta graph that is not there, with those that are."""
    return Rejected(
        f"{where} has no meta graph with the tags {tags_text(tags)}",
        expected=f"one of {', '.join(map(tags_text, there))}" if there else "a SavedModel with at least one meta graph",
        got=tags_text(tags),
        fix="name one of these tag sets, or export the model with the tags that are asked for",
        reason="TAGS_NOT_FOUND",
    )
