"""fold_batch_norms: work the factors and offsets behind a convolution or a matrix product into its weights.

Matches ``Conv2D``, ``DepthwiseConv2dNative``, ``Conv3D`` and ``MatMul`` with constant weights, followed by any chain
of multiplications, divisions, additions and subtractions by one constant a channel (the decomposed batch norm that
Keras 3 writes, with or without a bias before it) and of ``FusedBatchNorm``, V2 and V3, in inference mode. Safe
because both are linear: ``(x·W + b)·s + t = x·(W·s) + (b·s + t)``; computed in float64, so that it costs one
rounding.

Refuses a chain in which another node takes an intermediate value, a chain without any factor, weights that are no
constants, layouts other than NHWC (channels must be last), types other than float32 and float64, and factors that are
not finite.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from components.optimize.outcome import Outcome
from components.optimize.passes.strip_unused import apply as strip
from components.savedmodel.graph import by_name, consumers, data_inputs, is_control, tensor
from components.savedmodel.rewrite import GraphRewrite, Value

_LINEAR = frozenset({"Conv2D", "DepthwiseConv2dNative", "Conv3D", "MatMul"})
_NORMS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
_FLOATS = {1: np.float32, 2: np.float64}  # DT_FLOAT, DT_DOUBLE
_RANKS = {"MatMul": 2, "Conv3D": 5}  # of the output; 4 otherwise

Wide = npt.NDArray[np.float64]


@dataclass
class _Chain:
    """What follows one linear op, as one factor and one offset a channel."""

    linear: Any
    channels: int
    scale: Wide
    offset: Wide
    last: Any
    length: int = 0
    scaled: bool = False
    shifted: bool = field(default=False)

    def multiply(self, factor: Wide) -> None:
        self.scale, self.offset, self.scaled = self.scale * factor, self.offset * factor, True

    def add(self, term: Wide) -> None:
        self.offset, self.shifted = self.offset + term, True


@dataclass(frozen=True)
class _Surroundings:
    graph: GraphRewrite
    nodes: Mapping[str, Any]
    users: Mapping[str, list[tuple[Any, int]]]
    roots: frozenset[str]

    def constant(self, name: str) -> Value | None:
        while (node := self.nodes.get(name)) is not None and node.op == "Identity":
            name = tensor(node.input[0])
        return self.graph.constant(name)


def apply(graph: GraphRewrite) -> Outcome:
    """Fold; fired counts the convolutions and products whose weights took up what follows them."""
    around = _Surroundings(graph, by_name(graph.graph), consumers(graph.graph.node), frozenset(graph.roots()))
    linear = [node for node in graph.graph.node if node.op in _LINEAR]
    folded: dict[tuple[str, bytes], str] = {}
    fired, reasons = 0, []
    for node in linear:
        with np.errstate(all="ignore"):  # a factor that is not finite is refused for the whole chain
            chain = _follow(node, around)
        if isinstance(chain, str):
            reasons.append(f"{node.op} {node.name}: {chain}")
        else:
            _rewrite(chain, around, folded)
            fired += 1
    strip(graph)
    return Outcome(fired, tuple(reasons[:8]) if linear else ("no convolution or matrix product in the main graph",))


def _follow(node: Any, around: _Surroundings) -> _Chain | str:  # noqa: ANN401
    dtype = _FLOATS.get(node.attr["T"].type)
    weights = around.constant(data_inputs(node)[1])
    if dtype is None or weights is None:
        return "its weights are no constants of float32 or float64"
    if "data_format" in node.attr and node.attr["data_format"].s not in (b"NHWC", b"NDHWC"):
        return "its channels are not last"
    channels = _channels(node, weights)
    chain = _Chain(node, channels, np.ones(channels), np.zeros(channels), node)
    while (following := _only_user(chain.last, around)) is not None and _take(following, chain, around):
        chain.last, chain.length = following, chain.length + 1
    if not chain.scaled:
        return "no factor follows it"
    if not (np.isfinite(chain.scale).all() and np.isfinite(chain.offset).all()):
        return "a factor behind it is not finite"
    return chain


def _channels(node: Any, weights: Value) -> int:  # noqa: ANN401
    if node.op == "DepthwiseConv2dNative":
        return int(weights.shape[2] * weights.shape[3])
    return int(weights.shape[0 if _transposed(node) else -1])


def _transposed(node: Any) -> bool:  # noqa: ANN401
    return node.op == "MatMul" and "transpose_b" in node.attr and bool(node.attr["transpose_b"].b)


def _only_user(node: Any, around: _Surroundings) -> Any:  # noqa: ANN401
    """Return the one node that takes the first output of ``node``, if nobody else wants any of its outputs."""
    extra = [f"{node.name}:{index}" for index in range(1, 6)] + [f"^{node.name}"]
    users = around.users.get(node.name, [])
    if node.name in around.roots or len(users) != 1 or any(around.users.get(name) for name in extra):
        return None
    return users[0][0]


def _take(node: Any, chain: _Chain, around: _Surroundings) -> bool:  # noqa: ANN401
    """Work ``node`` into the chain; return whether it could be."""
    if any(is_control(name) for name in node.input):
        return False
    inputs = data_inputs(node)
    at = inputs.index(chain.last.name) if chain.last.name in inputs else -1
    if node.op in _NORMS:
        return at == 0 and _take_norm(node, inputs, chain, around)
    if len(inputs) != 2 or (node.op in ("Sub", "RealDiv", "BiasAdd") and at != 0):
        return False
    value = around.constant(inputs[1 - at])
    term = None if value is None else _per_channel(value, chain, _RANKS.get(chain.linear.op, 4))
    if term is None:
        return False
    match node.op:
        case "Mul":
            chain.multiply(term)
        case "RealDiv":
            chain.multiply(1 / term)
        case "Add" | "AddV2":
            chain.add(term)
        case "Sub":
            chain.add(-term)
        case "BiasAdd" if node.attr["data_format"].s in (b"", b"NHWC"):
            chain.add(term)
        case _:
            return False
    return True


def _take_norm(node: Any, inputs: list[str], chain: _Chain, around: _Surroundings) -> bool:  # noqa: ANN401
    """Work a fused batch norm in: ``(x - mean) · gamma / sqrt(variance + epsilon) + beta``."""
    training = not ("is_training" in node.attr and not node.attr["is_training"].b)  # the default is true
    found = [around.constant(name) for name in inputs[1:]]
    channels_last = "data_format" not in node.attr or node.attr["data_format"].s in (b"NHWC", b"NDHWC")
    if training or not channels_last or any(value is None for value in found):
        return False
    gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in found)
    epsilon = node.attr["epsilon"].f if "epsilon" in node.attr else 1e-4
    factor = gamma / np.sqrt(variance + epsilon)
    chain.multiply(factor)
    chain.add(beta - mean * factor)
    return True


def _per_channel(value: Value, chain: _Chain, rank: int) -> Wide | None:
    wide = np.asarray(value, np.float64)
    if wide.size == 1 and wide.ndim <= rank:
        return np.full(chain.channels, wide.reshape(()))
    if wide.ndim > rank or wide.size != chain.channels or wide.shape[-1] != chain.channels:
        return None
    return wide.reshape(chain.channels)


def _rewrite(chain: _Chain, around: _Surroundings, folded: dict[tuple[str, bytes], str]) -> None:
    graph, node = around.graph, chain.linear
    source = data_inputs(node)[1]
    key = (source, chain.scale.tobytes())
    if key not in folded:
        weights = np.asarray(around.constant(source))
        scaled = (weights.astype(np.float64) * _aligned(node, weights, chain.scale)).astype(weights.dtype)
        folded[key] = graph.add_constant(f"{source.partition(':')[0]}/folded", scaled)
    node.input[1] = folded[key]
    last, dtype = chain.last, node.attr["T"].type
    last.attr.clear()
    last.attr["T"].type = dtype
    del last.input[:]
    last.input.append(node.name)
    if chain.shifted:
        last.op = "BiasAdd"
        last.input.append(graph.add_constant(f"{last.name}/bias", chain.offset.astype(_FLOATS[dtype])))
    else:
        last.op = "Identity"


def _aligned(node: Any, weights: Value, scale: Wide) -> Wide:  # noqa: ANN401
    if node.op == "DepthwiseConv2dNative":
        return scale.reshape(weights.shape[2:])
    return scale[:, None] if _transposed(node) else scale
