"""Reads what a SavedModel is, without importing tensorflow: tag sets, signatures, ops, assets, sizes.

The source of the format is ``tensorflow/core/protobuf/saved_model.proto`` and ``meta_graph.proto``; what a server makes
of it is ``tensorflow/cc/saved_model/loader.cc``: ``saved_model.pb`` is preferred to ``saved_model.pbtxt``, and a meta
graph is chosen by its exact set of tags.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from components.core.errors import Rejected
from components.core.signature import Contract, Shape, Signature, TensorSpec
from components.savedmodel.messages import enum_name, message

GRAPH_FILE = "saved_model.pb"
TEXT_GRAPH_FILE = "saved_model.pbtxt"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"

INIT_SIGNATURES = frozenset({"__saved_model_init_op", "__saved_model_train_op"})
"""Entries of ``signature_def`` that are no signatures: they name the initializer and the training op."""

_DTYPES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16"}
_RECORD_HEADER, _RECORD_FOOTER = 12, 4  # TFRecord: uint64 length and its crc32, the data, its crc32


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
    there = [_tags_text(frozenset(graph.meta_info_def.tags)) for graph in model.meta_graphs]
    raise Rejected(
        f"{path} has no meta graph with the tags {_tags_text(tags)}",
        expected=f"one of {', '.join(there)}" if there else "a SavedModel with at least one meta graph",
        got=_tags_text(tags),
        fix="name one of these tag sets, or export the model with the tags that are asked for",
        reason="TAGS_NOT_FOUND",
    )


def _tags_text(tags: frozenset[str]) -> str:
    return "{" + ", ".join(sorted(tags)) + "}"


def read_proto(path: Path) -> Any:  # noqa: ANN401 - a dynamic message
    """Return the parsed ``tensorflow.SavedModel`` of the directory ``path``.

    Raises:
        Rejected: NO_SAVED_MODEL or CORRUPT_PROTO.
    """
    model = message("tensorflow.SavedModel")()
    binary, text = path / GRAPH_FILE, path / TEXT_GRAPH_FILE
    try:
        if binary.is_file():
            model.ParseFromString(binary.read_bytes())
        elif text.is_file():
            text_format.Parse(text.read_bytes(), model, descriptor_pool=model.DESCRIPTOR.file.pool)
        else:
            raise Rejected(
                f"{path} is no SavedModel",
                expected=f"a directory with {GRAPH_FILE} or {TEXT_GRAPH_FILE}",
                got=_what_is_there(path),
                fix="name the directory that tf.saved_model.save or model.export wrote",
                reason="NO_SAVED_MODEL",
            )
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise _corrupt(binary if binary.is_file() else text, str(error)) from error
    if not model.meta_graphs:
        raise _corrupt(binary if binary.is_file() else text, "it holds no meta graph")
    return model


def _what_is_there(path: Path) -> str:
    if not path.is_dir():
        return "no such directory" if not path.exists() else "a file"
    names = sorted(entry.name for entry in path.iterdir())
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "an empty directory"


def _corrupt(file: Path, why: str) -> Rejected:
    return Rejected(
        f"{file} cannot be read as a SavedModel",
        expected="a tensorflow.SavedModel message",
        got=why,
        fix="copy or export the model again",
        reason="CORRUPT_PROTO",
    )


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


def dtype_name(number: int) -> str:
    """Return TensorFlow's lower-case name of a ``DataType`` number: ``float32`` for 1, ``string`` for 7."""
    name = enum_name("tensorflow.DataType", number)
    return _DTYPES.get(name, name.removeprefix("DT_").lower())


def every_node(graph_def: Any) -> list[Any]:  # noqa: ANN401 - a dynamic message
    """Return the nodes of a ``GraphDef`` and of all its function bodies."""
    return [*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)]


def count_warmup_records(path: Path) -> int:
    """Return how many warm-up requests lie beside the model; 0 without the file.

    Raises:
        Rejected: CORRUPT_WARMUP.
    """
    return sum(1 for _ in warmup_records(path))


def warmup_records(path: Path) -> Iterator[bytes]:
    """Yield the warm-up requests beside the model, each a serialized ``tensorflow.serving.PredictionLog``.

    Only the framing of the TFRecord file is checked; checksums are the server's business.

    Raises:
        Rejected: CORRUPT_WARMUP: a record is cut short, which would fail every load of the version.
    """
    file = path / WARMUP_FILE
    if not file.is_file():
        return
    size = file.stat().st_size
    with file.open("rb") as stream:
        while stream.tell() < size:
            at, header = stream.tell(), stream.read(_RECORD_HEADER)
            length = int.from_bytes(header[:8], "little")
            if at + _RECORD_HEADER + length + _RECORD_FOOTER > size:
                raise Rejected(
                    f"{file}: the record at byte {at} is cut short",
                    expected="a TFRecord file of PredictionLog messages",
                    got=f"{size} bytes",
                    fix="write the warm-up requests again: a server refuses a version whose warm-up cannot be read",
                    reason="CORRUPT_WARMUP",
                )
            yield stream.read(length)
            stream.seek(_RECORD_FOOTER, os.SEEK_CUR)
