"""Reads a SavedModel as messages, without importing tensorflow: for whoever goes on to look into its graph.

What only tells about a model (``slipway show``) reads it by ``describe.py``, which parses no graph.

The source of the format is ``tensorflow/core/protobuf/saved_model.proto`` and ``meta_graph.proto``; what a server makes
of it is ``tensorflow/cc/saved_model/loader.cc``: ``saved_model.pb`` is preferred to ``saved_model.pbtxt``, and a meta
graph is chosen by its exact set of tags.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from components.core.signature import Contract, Shape, Signature, TensorSpec
from components.savedmodel import tfrecord
from components.savedmodel.describe import INIT_SIGNATURES
from components.savedmodel.dtypes import dtype_name
from components.savedmodel.files import (
    GRAPH_FILE,
    SPLIT_GRAPH_FILE,
    TEXT_GRAPH_FILE,
    WARMUP_FILE,
    corrupt,
    no_saved_model,
    split,
    tags_not_found,
    what_is_there,
)
from components.savedmodel.messages import message

__all__ = [
    "GRAPH_FILE",
    "INIT_SIGNATURES",
    "TEXT_GRAPH_FILE",
    "WARMUP_FILE",
    "SavedModelInfo",
    "contract",
    "contract_of",
    "count_warmup_records",
    "dtype_name",
    "every_node",
    "meta_graph",
    "read",
    "read_proto",
    "warmup_records",
]


@dataclass(frozen=True, slots=True)
class SavedModelInfo:
    """All that can be said of a SavedModel by reading it. Sizes are in bytes."""

    format: str
    """``binary`` or ``text``."""
    contracts: Mapping[frozenset[str], Contract]
    """The signatures of each meta graph, by its tag set."""
    assets: tuple[str, ...]
    """Names of the asset files that any meta graph declares, relative to ``assets/``."""
    ops: Mapping[str, int]
    """How many nodes of each op, function bodies included, over all meta graphs; ordered by name."""
    variables_bytes: int
    warmup_records: int
    total_bytes: int
    producer: str
    """TensorFlow's version that wrote the first meta graph."""
    has_object_graph: bool

    @property
    def tag_sets(self) -> tuple[frozenset[str], ...]:
        """The tag sets in the order of the file."""
        return tuple(self.contracts)

    @property
    def nodes(self) -> int:
        """Nodes of all graphs and function bodies."""
        return sum(self.ops.values())


def read(path: Path) -> SavedModelInfo:
    """Return what the SavedModel in the directory ``path`` is.

    Raises:
        Rejected: NO_SAVED_MODEL, CORRUPT_PROTO or CORRUPT_WARMUP.
    """
    model = read_proto(path)
    graphs = list(model.meta_graphs)
    ops = Counter(node.op for graph in graphs for node in every_node(graph.graph_def))
    assets = sorted({asset.filename for graph in graphs for asset in graph.asset_file_def})
    files = [file for file in path.rglob("*") if file.is_file()]
    return SavedModelInfo(
        format="binary" if (path / GRAPH_FILE).is_file() else "text",
        contracts={frozenset(graph.meta_info_def.tags): contract_of(graph) for graph in graphs},
        assets=tuple(assets),
        ops=dict(sorted(ops.items())),
        variables_bytes=sum(file.stat().st_size for file in files if file.parent == path / "variables"),
        warmup_records=count_warmup_records(path),
        total_bytes=sum(file.stat().st_size for file in files),
        producer=graphs[0].meta_info_def.tensorflow_version if graphs else "",
        has_object_graph=any(graph.HasField("object_graph_def") and graph.object_graph_def.nodes for graph in graphs),
    )


def contract(path: Path, tags: frozenset[str]) -> Contract:
    """Return what clients may rely on in the meta graph with exactly these tags.

    Raises:
        Rejected: NO_SAVED_MODEL, CORRUPT_PROTO, or TAGS_NOT_FOUND (with the tag sets there are).
    """
    return contract_of(meta_graph(read_proto(path), tags, path))


def meta_graph(model: Any, tags: frozenset[str], path: Path) -> Any:  # noqa: ANN401 - dynamic messages
    """Return the ``MetaGraphDef`` of ``model`` whose tag set is exactly ``tags``, as a server chooses it.

    Raises:
        Rejected: TAGS_NOT_FOUND.
    """
    for graph in model.meta_graphs:
        if frozenset(graph.meta_info_def.tags) == tags:
            return graph
    raise tags_not_found(str(path), tags, [frozenset(graph.meta_info_def.tags) for graph in model.meta_graphs])


def read_proto(path: Path) -> Any:  # noqa: ANN401 - a dynamic message
    """Return the parsed ``tensorflow.SavedModel`` of the directory ``path``.

    Raises:
        Rejected: NO_SAVED_MODEL, SPLIT_FORMAT or CORRUPT_PROTO.
    """
    model = message("tensorflow.SavedModel")()
    binary, text = path / GRAPH_FILE, path / TEXT_GRAPH_FILE
    try:
        if binary.is_file():
            model.ParseFromString(binary.read_bytes())
        elif text.is_file():
            text_format.Parse(text.read_bytes(), model, descriptor_pool=model.DESCRIPTOR.file.pool)
        elif (path / SPLIT_GRAPH_FILE).is_file():
            raise split(str(path))
        else:
            raise no_saved_model(str(path), what_is_there(path))
    except (DecodeError, text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise corrupt(binary if binary.is_file() else text, str(error)) from error
    if not model.meta_graphs:
        raise corrupt(binary if binary.is_file() else text, "it holds no meta graph")
    return model


def contract_of(graph: Any) -> Contract:  # noqa: ANN401 - a dynamic message, or tensorflow's own of the same name
    """Return the signatures of a ``MetaGraphDef``, sorted by key, without the pseudo-signatures of the initializer."""
    signatures = {
        key: Signature(
            inputs=_tensors(graph.signature_def[key].inputs),
            outputs=_tensors(graph.signature_def[key].outputs),
            method_name=graph.signature_def[key].method_name,
        )
        for key in sorted(graph.signature_def)
        if key not in INIT_SIGNATURES
    }
    return Contract(signatures=signatures, tags=frozenset(graph.meta_info_def.tags))


def _tensors(infos: Any) -> dict[str, TensorSpec]:  # noqa: ANN401 - a protobuf map
    return {alias: _tensor(infos[alias]) for alias in sorted(infos)}


def _tensor(info: Any) -> TensorSpec:  # noqa: ANN401 - a dynamic message
    name = info.name if info.WhichOneof("encoding") == "name" else ""
    return TensorSpec(dtype=dtype_name(info.dtype), shape=_shape(info.tensor_shape), name=name)


def _shape(proto: Any) -> Shape:  # noqa: ANN401 - a dynamic message
    if proto.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in proto.dim)


def every_node(graph_def: Any) -> list[Any]:  # noqa: ANN401 - a dynamic message
    """Return the nodes of a ``GraphDef`` and of all its function bodies."""
    return [*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)]


def count_warmup_records(path: Path) -> int:
    """Return how many warm-up requests lie beside the model; 0 without the file.

    Raises:
        Rejected: CORRUPT_WARMUP.
    """
    file = path / WARMUP_FILE
    return tfrecord.count(file) if file.is_file() else 0


def warmup_records(path: Path) -> Iterator[bytes]:
    """Yield the warm-up requests beside the model, each a serialized ``tensorflow.serving.PredictionLog``.

    Only the framing of the TFRecord file is checked; checksums are the server's business.

    Raises:
        Rejected: CORRUPT_WARMUP: a record is cut short, which would fail every load of the version.
    """
    file = path / WARMUP_FILE
    if file.is_file():
        yield from tfrecord.records(file)
