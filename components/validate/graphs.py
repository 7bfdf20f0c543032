"""A meta graph as calls and edges: what each function calls, what a server executes, where a tensor comes from.

Pure; works on ``MetaGraphDef`` messages, and never by recursion, whose depth would be the maker's choice.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

MAIN = ""
"""The scope of the main graph; every other scope is a function's name."""

MAX_EXPANSION = 1_000_000
_SATURATED = 10**12

Origin = tuple[str, str]
"""Where a value is made: (``node``, name in the main graph), (``object``, kind of the captured object), or
(``inside``, ``scope/node``) and (``unknown``, ...) for what cannot be an asset or a variable's file."""


@dataclass(frozen=True, slots=True)
class Call:
    """One place that calls a function: scope, node, and how many of the node's inputs come before the arguments."""

    scope: str
    node: Any
    skipped_inputs: int


class MetaGraph:
    """Read-only views of one ``MetaGraphDef``."""

    def __init__(self, meta: Any) -> None:  # noqa: ANN401 - a dynamic message
        self.meta = meta
        self.functions: Mapping[str, Any] = {f.signature.name: f for f in meta.graph_def.library.function}
        self.nodes: Mapping[str, Any] = {node.name: node for node in meta.graph_def.node}

    def nodes_of(self, scope: str) -> Iterable[Any]:
        """Return the nodes of the main graph or of a function."""
        nodes: Iterable[Any] = self.meta.graph_def.node if scope == MAIN else self.functions[scope].node_def
        return nodes

    @property
    def scopes(self) -> list[str]:
        """The main graph and all functions."""
        return [MAIN, *self.functions]

    def callees(self, node: Any) -> list[str]:  # noqa: ANN401 - a dynamic message
        """Return the functions a node names: in its attributes, or as its op."""
        found = [node.op] if node.op in self.functions else []
        for value in node.attr.values():
            kind = value.WhichOneof("value")
            if kind == "func":
                found.append(value.func.name)
            elif kind == "list":
                found.extend(function.name for function in value.list.func)
        return [name for name in found if name in self.functions]

    @cached_property
    def calls(self) -> Mapping[str, list[str]]:
        """For each scope the functions it calls, once for each place."""
        return {scope: [f for node in self.nodes_of(scope) for f in self.callees(node)] for scope in self.scopes}

    @cached_property
    def callers(self) -> Mapping[str, list[Call]]:
        """For each function the places that call it."""
        found: dict[str, list[Call]] = defaultdict(list)
        for scope in self.scopes:
            for node in self.nodes_of(scope):
                skipped = 1 if node.op in {"If", "StatelessIf", "Case", "StatelessCase"} else 0
                for name in self.callees(node):
                    found[name].append(Call(scope, node, skipped))
        return found

    def cycle(self) -> str:
        """Return a function that calls itself, directly or through others; empty if there is none."""
        return self._postorder()[1]

    def expansion(self) -> int:
        """Return how many nodes the largest scope has once every call is replaced by its function (acyclic only)."""
        size: dict[str, int] = {}
        order, _ = self._postorder()
        for scope in order:
            own = sum(1 for _ in self.nodes_of(scope))
            size[scope] = min(_SATURATED, own + sum(size[name] for name in self.calls[scope]))
        return max(size.values(), default=0)

    def _postorder(self) -> tuple[list[str], str]:
        """Scopes with callees first; and, in place of the rest, a function that was met within its own calls."""
        states: dict[str, int] = {}  # 1 entered, 2 left
        order: list[str] = []
        for start in self.scopes:
            pending = [(start, iter(self.calls[start]))] if start not in states else []
            states.setdefault(start, 1)
            while pending:
                scope, remaining = pending[-1]
                following = next(remaining, None)
                if following is None:
                    states[scope] = 2
                    order.append(scope)
                    pending.pop()
                elif states.get(following) == 1:
                    return order, following
                elif following not in states:
                    states[following] = 1
                    pending.append((following, iter(self.calls[following])))
        return order, ""

    def reach(self, roots: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Return the main graph's nodes needed for some tensors or ops, and the functions those call.

        Args:
            roots: Names such as ``y``, ``y:0`` or ``^y``.
        """
        pending, nodes, called = [node_name(root) for root in roots if root], set[str](), set[str]()
        while pending:
            name = pending.pop()
            if name not in nodes and name in self.nodes:
                nodes.add(name)
                pending.extend(map(node_name, self.nodes[name].input))
                called.update(self.callees(self.nodes[name]))
        return frozenset(nodes), self.closure(called)

    def closure(self, functions: Iterable[str]) -> frozenset[str]:
        """Return functions with all that they call."""
        pending, found = [name for name in functions if name in self.functions], set[str]()
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending.extend(self.calls[name])
        return frozenset(found)

    def origins(self, scope: str, tensor: str) -> set[Origin]:
        """Return every place a tensor's value can come from, through identities and calls."""
        pending, seen, found = [(scope, tensor)], set[tuple[str, str]](), set[Origin]()
        while pending:
            place = pending.pop()
            if place in seen:
                continue
            seen.add(place)
            before, origin = self._step(*place)
            pending.extend(before)
            found.update(origin)
        return found

    def _step(self, scope: str, tensor: str) -> tuple[list[tuple[str, str]], set[Origin]]:
        if scope != MAIN:
            arguments = [argument.name for argument in self.functions[scope].signature.input_arg]
            if tensor in arguments:
                return self._argument(scope, arguments.index(tensor), len(arguments))
        name = node_name(tensor)
        node = self.nodes.get(name) if scope == MAIN else self._inner[scope].get(name)
        if node is not None and node.op == "Identity" and node.input:
            return [(scope, node.input[0])], set()
        if node is not None and scope == MAIN and node.op == "ReadVariableOp" and self._assigned(node.input[0]):
            return [(MAIN, value) for value in self._assigned(node.input[0])], set()
        return [], {("node", name) if scope == MAIN else ("inside", f"{scope}/{name}")}

    def _assigned(self, handle: str) -> list[str]:
        """Return what the main graph assigns to a variable that nothing else can reach; empty if something can.

        TensorFlow 2 keeps each asset's path in such a variable.
        """
        name = node_name(handle)
        node = self.nodes.get(name)
        if node is None or node.op != "VarHandleOp" or self._sharing[node.attr["shared_name"].s] != 1:
            return []
        values: list[str] = []
        for user in self._users[name]:
            if user.op == "AssignVariableOp" and node_name(user.input[0]) == name != node_name(user.input[1]):
                values.append(user.input[1])
            elif user.op not in {"ReadVariableOp", "VarIsInitializedOp"}:
                return []
        return values

    @cached_property
    def _users(self) -> Mapping[str, list[Any]]:
        found: dict[str, list[Any]] = defaultdict(list)
        for node in self.meta.graph_def.node:
            for name in {node_name(tensor) for tensor in node.input if not tensor.startswith("^")}:
                found[name].append(node)
        return found

    @cached_property
    def _sharing(self) -> Mapping[bytes, int]:
        """How many handles there are by shared name, in all scopes; handles of one name are one variable."""
        return Counter(
            node.attr["shared_name"].s
            for scope in self.scopes
            for node in self.nodes_of(scope)
            if node.op == "VarHandleOp"
        )

    def _argument(self, scope: str, index: int, count: int) -> tuple[list[tuple[str, str]], set[Origin]]:
        before: list[tuple[str, str]] = []
        found: set[Origin] = set()
        for call in self.callers.get(scope, []):
            at = index + call.skipped_inputs
            if at < len(call.node.input):
                before.append((call.scope, call.node.input[at]))
            else:
                found.add(("unknown", f"{call.scope}/{call.node.name}"))
        objects = self.meta.object_graph_def
        if scope in objects.concrete_functions:
            bound = objects.concrete_functions[scope].bound_inputs
            at = index - (count - len(bound))
            kind = (
                objects.nodes[bound[at]].WhichOneof("kind")
                if at >= 0 and bound[at] < len(objects.nodes)
                else "argument"
            )
            found.add(("object", kind or "none"))
        return before, found

    @cached_property
    def _inner(self) -> Mapping[str, Mapping[str, Any]]:
        return {name: {node.name: node for node in function.node_def} for name, function in self.functions.items()}


def node_name(tensor: str) -> str:
    """Return the node of a tensor or control input: ``x`` of ``x:0``, ``^x`` and ``x:out:0``."""
    return tensor.removeprefix("^").split(":", 1)[0]
