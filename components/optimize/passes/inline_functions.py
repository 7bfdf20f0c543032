"""inline_functions: put the bodies of called functions into the main graph, where the other passes can see them.

Matches ``PartitionedCall`` and ``StatefulPartitionedCall`` (grappler's ``function`` optimizer, which keeps the order
of side effects). Each signature output first gets an ``Identity`` of its own that also waits for the call, because a
call that is fetched directly, or whose side effects nobody waits for, could not be inlined. Refuses functions marked
``_noinline``, those of the saver, and the bodies of While, If and Case, which stay functions. Colocation with nodes
that inlining renamed is dropped: a loader rejects it.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from components.optimize.grappler import optimize
from components.optimize.outcome import Outcome
from components.optimize.passes.strip_unused import apply as strip
from components.savedmodel.graph import by_name, called, node_of, unique_name
from components.savedmodel.inspect import every_node
from components.savedmodel.rewrite import GraphRewrite

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def apply(graph: GraphRewrite) -> Outcome:
    """Inline calls; fired counts those of the main graph that are gone."""
    saving = set(graph.saver_nodes())
    before = _calls(graph) - saving
    if not before:
        return Outcome(0, ("no function is called from the main graph",))
    pin_outputs(graph)
    with _left_alone(graph, graph.saver_nodes()):
        optimize(graph, ["function"])
    strip(graph)
    drop_dangling_colocation(graph)
    after = _calls(graph)
    return Outcome(len(before - after), tuple(f"call {name} stays" for name in sorted(after & before)))


def _calls(graph: GraphRewrite) -> set[str]:
    return {node.name for node in graph.graph.node if node.op in _CALLS}


@contextlib.contextmanager
def _left_alone(graph: GraphRewrite, names: Iterable[str]) -> Iterator[None]:
    """Mark the functions that the named nodes call so that grappler does not inline them."""
    nodes = by_name(graph.graph)
    wanted = {function for name in names if name in nodes for function in called(nodes[name])}
    marked = {
        entry.signature.name
        for entry in graph.graph.library.function
        if entry.signature.name in wanted and "_noinline" not in entry.attr
    }
    for function in graph.graph.library.function:
        if function.signature.name in marked:
            function.attr["_noinline"].b = True
    yield
    for function in graph.graph.library.function:
        if function.signature.name in marked:
            del function.attr["_noinline"]


def pin_outputs(graph: GraphRewrite) -> None:
    """Give each signature output an ``Identity`` node of its own, named after signature and alias."""
    taken = set(by_name(graph.graph))
    for key, signature in sorted(graph.meta.signature_def.items()):
        for alias, info in sorted(signature.outputs.items()):
            if info.WhichOneof("encoding") == "name":
                _pin(graph, info, f"{key}/{alias}", taken)


def _pin(graph: GraphRewrite, info: Any, wanted: str, taken: set[str]) -> None:  # noqa: ANN401 - protobuf message
    name = unique_name(re.sub(r"[^A-Za-z0-9_./]", "_", wanted).lstrip("_./-") or "output", taken)
    taken.add(name)
    source = by_name(graph.graph)[node_of(info.name)]
    order = [f"^{source.name}"] if source.op in _CALLS else []
    pin = graph.graph.node.add(name=name, op="Identity", input=[info.name, *order])
    pin.attr["T"].type = info.dtype
    info.name = f"{name}:0"


def drop_dangling_colocation(graph: GraphRewrite) -> None:
    """Remove ``loc:@node`` of nodes that are not in the graph."""
    names = set(by_name(graph.graph))
    for node in every_node(graph.graph):
        if "_class" in node.attr:
            places = node.attr["_class"].list.s
            there = [place for place in places if node_of(place.decode().removeprefix("loc:@")) in names]
            del places[:]
            places.extend(there)
            if not there:
                del node.attr["_class"]
