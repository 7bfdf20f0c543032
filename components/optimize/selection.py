"""Which passes run: profiles by name, and the Graph Transform Tool's own way of writing passes with arguments.

A pass is a module of ``components.optimize.passes`` with a function ``apply``; its name is the module's. This file
knows only names, so that a wrong one is refused before tensorflow is imported.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import Rejected
from components.core.spec import Optimize

EXACT = (
    "strip_unused",
    "inline_functions",
    "freeze_variables",
    "remove_attribute",
    "remove_device",
    "fold_constants",
    "remove_nodes",
    "fold_batch_norms",
    "merge_duplicate_nodes",
    "strip_unused",
    "thaw_constants",
    "sort_by_execution_order",
)
PROFILES: Mapping[str, tuple[str, ...]] = {"exact": EXACT, "none": ()}

RUNNING = "pass "
"""How the line of progress begins by which a worker tells the pass that is running now."""

_CALL = re.compile(r"^\s*(?P<name>\w+)\s*(?:\((?P<arguments>[^()]*)\))?\s*$")


@dataclass(frozen=True, slots=True)
class Selected:
    """One pass and its arguments; one may be given several times, as in ``remove_nodes(op=Identity, op=Abs)``."""

    name: str
    arguments: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        if not self.arguments:
            return self.name
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.arguments)})"


def available() -> tuple[str, ...]:
    """Return the names of all passes, sorted."""
    folder = Path(__file__).with_name("passes")
    return tuple(sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")))


def select(spec: Optimize) -> tuple[Selected, ...]:
    """Return the passes that the spec asks for, in order.

    Raises:
        Rejected: UNKNOWN_PASS or MALFORMED_PASS.
    """
    return tuple(parse(text) for text in spec.passes or PROFILES[spec.profile])


def parse(text: str) -> Selected:
    """Parse ``name`` or ``name(key=value, …)``.

    Raises:
        Rejected: UNKNOWN_PASS or MALFORMED_PASS.
    """
    match = _CALL.match(text)
    pieces = [piece.strip() for piece in (match["arguments"] or "").split(",") if piece.strip()] if match else []
    if match is None or not all("=" in piece for piece in pieces):
        raise Rejected(
            f"optimize.passes: {text!r} is no pass",
            expected="name or name(key=value, …)",
            got=text,
            reason="MALFORMED_PASS",
        )
    name, known = match["name"], available()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise Rejected(
            f"optimize.passes: there is no pass {name}",
            expected=f"one of {', '.join(known)}",
            got=name,
            fix=f"write {near[0]}" if near else "",
            reason="UNKNOWN_PASS",
        )
    pairs = (piece.partition("=") for piece in pieces)
    return Selected(name, tuple((key.strip(), value.strip().strip("\"'")) for key, _, value in pairs))
