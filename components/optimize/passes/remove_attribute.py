"""remove_attribute: delete attributes that only training tools or placement read.

Matches ``_class`` (colocation), ``_output_shapes`` and the like on every node and function. Safe because attributes
that begin with an underscore are hints and none of these changes a result; colocation with a node that another pass
removed would even make the loader reject the model. Refuses attributes without an underscore: those define the op.
"""

from components.core.errors import Rejected
from components.optimize.outcome import Outcome
from components.savedmodel.inspect import every_node
from components.savedmodel.rewrite import GraphRewrite

DEFAULT = ("_class", "_output_shapes", "_user_specified_name", "_has_manual_control_dependencies")


def apply(graph: GraphRewrite, *, attribute_name: tuple[str, ...] = DEFAULT) -> Outcome:
    """Delete the attributes; fired counts them.

    Raises:
        Rejected: MALFORMED_PASS: an attribute that defines the op.
    """
    for name in attribute_name:
        if not name.startswith("_"):
            raise Rejected(
                f"remove_attribute: {name} defines what an op does",
                expected="an attribute whose name begins with an underscore",
                got=name,
                reason="MALFORMED_PASS",
            )
    fired = 0
    for owner in (*every_node(graph.graph), *graph.graph.library.function):
        for name in attribute_name:
            if name in owner.attr:
                del owner.attr[name]
                fired += 1
    return Outcome(fired, () if fired else ("no node has these attributes",))
