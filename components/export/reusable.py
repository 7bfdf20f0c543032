"""Reusable SavedModels: TF Hub's interface, by which Python loads a model to call it and train it further.

Interface: https://www.tensorflow.org/hub/reusable_saved_models.
"""

from pathlib import Path
from typing import Any

from components.core.errors import Rejected

MARK = Path("assets.extra", "slipway.reusable")
"""Tells later steps, and whoever gets the model, to keep its object graph whole."""

_MARK_TEXT = "Made to be reused from Python: do not rewrite its graph, which would lose its objects.\n"
INTERFACE = ("__call__", "variables", "trainable_variables", "regularization_losses")


def mark(root: Path) -> None:
    """Mark the SavedModel in ``root``; its graph stays as it is."""
    (root / MARK).parent.mkdir(exist_ok=True)
    (root / MARK).write_text(_MARK_TEXT)


def is_marked(root: Path) -> bool:
    """Return whether the SavedModel in ``root`` is to be kept reusable."""
    return (root / MARK).is_file()


def require(graph: Any, source: Path) -> None:  # noqa: ANN401 - a MetaGraphDef
    """Check that a model's object graph has the interface.

    Raises:
        Rejected: REUSABLE.
    """
    nodes = graph.object_graph_def.nodes
    has = {child.local_name for child in nodes[0].children} if nodes else set()
    if missing := [name for name in INTERFACE if name not in has]:
        raise Rejected(
            f"{source.name} is not reusable",
            expected=f"an object with {', '.join(INTERFACE)}",
            got=f"no {', '.join(missing)}" if nodes else "a TF1 model, which has no objects",
            fix="write it with these attributes (tensorflow.org/hub/reusable_saved_models), or unset export.reusable",
            reason="REUSABLE",
        )
