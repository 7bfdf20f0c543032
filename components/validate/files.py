"""Layer 1 of the static gate: the tree of files. Pure but for listing names."""

import re
import stat
from collections.abc import Iterator
from pathlib import Path

from components.core.validation import Finding
from components.savedmodel.inspect import GRAPH_FILE, TEXT_GRAPH_FILE

_KNOWN = re.compile(
    r"saved_model\.(pb|pbtxt)|fingerprint\.pb|keras_metadata\.pb|variables/variables\.(index|data-\d{5}-of-\d{5})"
    r"|variables/checkpoint|variables/saver\.pb|(assets|assets\.extra|debug)/.+"
    r"|tfhub_module\.pb|(README|LICENSE|NOTICE|CHANGELOG)[\w.\-]*"
)
"""What TensorFlow, its former releases, TF Hub and Keras write, and what people add for each other to read."""


def is_known(name: str) -> bool:
    """Return whether a file of that relative name is part of a SavedModel."""
    return _KNOWN.fullmatch(name) is not None


def findings(root: Path) -> Iterator[Finding]:
    """Yield what is wrong with the files of a SavedModel: links, special files, two graphs, names not on the list."""
    for path in sorted(root.rglob("*")):
        name, mode = path.relative_to(root).as_posix(), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield Finding(reason="SYMLINK", where=name, detail="a link can lead out of the model")
        elif not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            yield Finding(reason="SYMLINK", where=name, detail="neither file nor directory")
        elif stat.S_ISREG(mode) and not is_known(name):
            yield Finding(reason="FILE_UNKNOWN", where=name, detail="no part of a SavedModel")
    if (root / GRAPH_FILE).exists() and (root / TEXT_GRAPH_FILE).exists():
        yield Finding(
            reason="AMBIGUOUS_GRAPH_FILES",
            where=f"{GRAPH_FILE}, {TEXT_GRAPH_FILE}",
            detail="servers read one, people the other",
        )
