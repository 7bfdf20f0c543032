"""Tells all about a SavedModel, without tensorflow and without parsing what is not asked for.

Source of the format: tensorflow/core/protobuf/{saved_model,meta_graph}.proto and tensorflow/core/framework/
{graph,function,node_def}.proto; field numbers below are theirs.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec
from components.savedmodel import checkpoint_index, tfrecord
from components.savedmodel.dtypes import dtype_name
from components.savedmodel.files import (
    FINGERPRINT_FILE,
    GRAPH_FILE,
    SPLIT_GRAPH_FILE,
    TEXT_GRAPH_FILE,
    VARIABLES_INDEX,
    WARMUP_FILE,
    ModelFiles,
    corrupt,
    listed,
    no_saved_model,
    split,
    tags_not_found,
    tags_text,
)
from components.savedmodel.object_graph import Function, ObjectGraph, shape
from components.savedmodel.wire import (
    WireError,
    entries,
    fields,
    last_bytes,
    last_number,
    last_text,
    mapped,
    message,
    number,
    submessage,
    text,
    values,
)

INIT_SIGNATURES = frozenset({"__saved_model_init_op", "__saved_model_train_op"})
"""Entries of ``signature_def`` that are no signatures: they name the initializer and the training op."""

_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op", "saved_model_train_op")
"""Where TF1 names the same (tensorflow/cc/saved_model/constants.h)."""

_MAX_INDEX_BYTES = 2**30

T = TypeVar("T")


# Named tuples, not dataclasses: making a dozen of those costs 10 ms of every start, which is a sixth of `slipway show`.
class Variable(NamedTuple):
    """One tensor of the checkpoint. ``size`` is in bytes, as stored."""

    key: str
    """Name in the checkpoint."""
    name: str
    """Name in the program: the object graph's if it has one, else the key."""
    dtype: str
    shape: tuple[int, ...]
    size: int
    trainable: bool | None
    """None: nothing in the model says so, as of a slot of an optimizer."""


class GraphDescription(NamedTuple):
    """One meta graph. What was not asked for is None."""

    tags: frozenset[str]
    signatures: Mapping[str, Signature]
    initializers: Mapping[str, str]
    """What a server runs at load, and what training starts: the pseudo-signature or collection, and the op's name."""
    producer: str
    """TensorFlow's version that wrote it; empty if it does not say."""
    graph_producer: int | None
    """The version of the graph's own format (``versions.producer``)."""
    has_object_graph: bool
    functions: tuple[Function, ...] | None
    """Callable attributes of the object that TensorFlow 2 loads."""
    ops: Mapping[str, int] | None
    """How many nodes of each op, function bodies included, most frequent first."""
    library_functions: int | None
    assets: tuple[str, ...]
    """Names relative to ``assets/``."""


class Fingerprint(NamedTuple):
    """TensorFlow's hashes of the parts of the model, as unsigned 64-bit numbers."""

    saved_model: int
    graph: int
    signatures: int
    objects: int
    checkpoint: int
    uuid: str


class Description(NamedTuple):
    """A SavedModel. Sizes are in bytes; what was not asked for is None."""

    where: str
    graph_file: str
    graphs: tuple[GraphDescription, ...]
    fingerprint: Fingerprint | None
    variables: tuple[Variable, ...] | None
    shards: int | None
    warmup_records: int | None
    files: Mapping[str, int]

    def assets(self) -> tuple[str, ...]:
        """Names of all asset files that any meta graph declares, relative to ``assets/``."""
        return tuple(sorted({name for graph in self.graphs for name in graph.assets}))


def describe(files: ModelFiles, *, tags: frozenset[str] | None = None, brief: bool = False) -> Description:
    """Return what a SavedModel is.

    Args:
        files: Where it is.
        tags: The one meta graph that is wanted, by its exact tag set; all if None.
        brief: Only tags and signatures: neither graph nor variables are read.

    Raises:
        Rejected: NO_SAVED_MODEL, SPLIT_FORMAT, CORRUPT_PROTO, TAGS_NOT_FOUND, CORRUPT_VARIABLES or CORRUPT_WARMUP.
    """
    sizes = files.sizes()
    graph_file = _graph_file(files, sizes)
    with _readable(f"{files.name}/{graph_file}"):
        graphs = _chosen(files, _meta_graphs(files.local(graph_file)), tags)
        described = tuple(graph.describe(brief=brief) for graph in graphs)
        keep = None if brief or VARIABLES_INDEX not in sizes else _index(files, sizes[VARIABLES_INDEX])
        variables = None if keep is None else tuple(_variable(entry, graphs) for entry in _tensors(keep))
    return Description(
        where=files.name,
        graph_file=graph_file,
        graphs=described,
        fingerprint=None if brief or FINGERPRINT_FILE not in sizes else _fingerprint(files),
        variables=variables if keep is not None else None if brief else (),
        shards=None if keep is None else keep.shards,
        warmup_records=None if brief else _warmup_records(files, sizes),
        files=sizes,
    )


def _graph_file(files: ModelFiles, sizes: Mapping[str, int]) -> str:
    for name in (GRAPH_FILE, TEXT_GRAPH_FILE):
        if name in sizes:
            return name
    if SPLIT_GRAPH_FILE in sizes:
        raise split(files.name)
    raise no_saved_model(files.name, listed(list(sizes)) if sizes else "no files")


@contextmanager
def _readable(file: str, reason: str = "CORRUPT_PROTO") -> Iterator[None]:
    try:
        yield
    except WireError as error:
        raise corrupt(file, str(error), reason=reason) from error
    except RecursionError as error:  # composite tensors within composite tensors
        raise corrupt(file, "messages nested too deep", reason=reason) from error


def _chosen(files: ModelFiles, graphs: list["_MetaGraph"], tags: frozenset[str] | None) -> list["_MetaGraph"]:
    if not graphs:
        raise WireError("it holds no meta graph")
    chosen = graphs if tags is None else [graph for graph in graphs if graph.tags == tags][:1]
    if not chosen and tags is not None:
        raise tags_not_found(files.name, tags, [graph.tags for graph in graphs])
    return chosen


def _meta_graphs(file: Path) -> list["_MetaGraph"]:
    data = mapped(file) if file.name != TEXT_GRAPH_FILE else _from_text(file)
    return [_MetaGraph(message(value)) for value in values(data, 2)]


def _from_text(file: Path) -> memoryview:
    """Return the binary form of a text graph, which must be parsed whole in any case."""
    from google.protobuf import text_format  # noqa: PLC0415 - 30 ms that binary models, nearly all, should not pay

    from components.savedmodel.messages import message as message_class  # noqa: PLC0415

    model = message_class("tensorflow.SavedModel")()
    try:
        text_format.Parse(file.read_bytes(), model, descriptor_pool=model.DESCRIPTOR.file.pool)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(str(error) or type(error).__name__) from error
    return memoryview(model.SerializeToString())


class _MetaGraph:
    """The parts of one ``MetaGraphDef``, found in one pass that steps over their content."""

    def __init__(self, data: memoryview) -> None:
        self._parts: dict[int, list[memoryview]] = {}
        for field, value in fields(data):
            self._parts.setdefault(field, []).append(message(value))
        self.tags = frozenset(text(tag) for info in self._all(1) for tag in values(info, 4))
        self.objects = ObjectGraph(self._one(7))

    def _all(self, field: int) -> list[memoryview]:
        return self._parts.get(field, [])

    def _one(self, field: int) -> memoryview:
        found = self._all(field)
        return found[0] if len(found) == 1 else memoryview(b"".join(found))

    def describe(self, *, brief: bool) -> GraphDescription:
        signatures = self._map(5, _signature)
        ops, functions = (None, None) if brief else _ops(self._all(2))
        return GraphDescription(
            tags=self.tags,
            signatures={key: each for key, each in signatures.items() if key not in INIT_SIGNATURES},
            initializers=self._initializers(signatures),
            producer=last_text(self._one(1), 5),
            graph_producer=None if brief else self._graph_producer(),
            has_object_graph=bool(self.objects),
            functions=None if brief else self.objects.functions() if self.objects else (),
            ops=ops,
            library_functions=functions,
            assets=tuple(self._assets()),
        )

    def _map(self, field: int, decode: Callable[[memoryview], T]) -> dict[str, T]:
        found: dict[str, T] = {}
        for entry in self._all(field):
            found[last_text(entry, 1)] = decode(submessage(entry, 2))
        return dict(sorted(found.items()))

    def _collections(self) -> dict[str, memoryview]:
        return self._map(4, lambda data: data)

    def _initializers(self, signatures: Mapping[str, Signature]) -> dict[str, str]:
        named = {
            key: ", ".join(info.name for info in signatures[key].outputs.values())
            for key in sorted(INIT_SIGNATURES & signatures.keys())
        }
        collections = self._collections()
        for key in _INIT_COLLECTIONS:
            if key in collections:
                named[key] = ", ".join(text(name) for name in values(submessage(collections[key], 1), 1))
        return named

    def _assets(self) -> list[str]:
        """A server looks into the collection only where the field is empty (cc/saved_model/loader_util.cc)."""
        packed = submessage(self._collections().get("saved_model_assets", memoryview(b"")), 5)
        found = self._all(6) or [submessage(message(any_), 2) for any_ in values(packed, 1)]
        return sorted({last_text(asset, 2) for asset in found})

    def _graph_producer(self) -> int:
        return last_number(submessage(self._one(2), 4), 1)

    def trainable(self) -> frozenset[str]:
        """The variables that a TF1 graph lists as trainable (``VariableDef.variable_name``), without their output."""
        packed = submessage(self._collections().get("trainable_variables", memoryview(b"")), 2)
        names = (last_text(message(value), 1) for value in values(packed, 1))
        return frozenset(name.removesuffix(":0") for name in names)

    def lists_variables(self) -> bool:
        """Whether a TF1 graph says at all which variables are trainable."""
        return "trainable_variables" in self._collections()


def _signature(data: memoryview) -> Signature:
    return Signature(entries(data, 1, _tensor), entries(data, 2, _tensor), last_text(data, 3))


def _tensor(data: memoryview) -> TensorSpec:
    """A ``TensorInfo``; of a sparse or composite tensor the name is those of its parts."""
    dtype, name, known = 0, "", memoryview(b"")
    for field, value in fields(data):
        match field:
            case 1:
                name = text(value)
            case 2:
                dtype = number(value)
            case 3:
                known = message(value)
            case 4:
                name = ", ".join(last_text(message(value), part) for part in (1, 2, 3))
            case 5:
                name = ", ".join(_tensor(message(part)).name for part in values(message(value), 2))
            case _:
                pass
    return TensorSpec(dtype_name(dtype), shape(known), name)


def _ops(graphs: list[memoryview]) -> tuple[dict[str, int], int]:
    """Count the ops of a ``GraphDef``, and its functions."""
    found = list[bytes]()
    functions = 0
    for field, value in chain.from_iterable(fields(graph) for graph in graphs):
        if field == 1:
            found.append(bytes(last_bytes(message(value), 2)))
        elif field == 2:
            for function in values(message(value), 1):
                functions += 1
                found += [bytes(last_bytes(message(node), 2)) for node in values(message(function), 3)]
    ordered = sorted(Counter(found).items(), key=lambda item: (-item[1], item[0]))
    return {op.decode(errors="replace"): count for op, count in ordered}, functions


def _index(files: ModelFiles, size: int) -> checkpoint_index.CheckpointIndex:
    where = f"{files.name}/{VARIABLES_INDEX}"
    if size > _MAX_INDEX_BYTES:
        raise corrupt(where, f"{size} bytes", reason="CORRUPT_VARIABLES")
    with _readable(where, "CORRUPT_VARIABLES"):
        return checkpoint_index.parse(mapped(files.local(VARIABLES_INDEX)))


def _tensors(index: checkpoint_index.CheckpointIndex) -> Iterator[checkpoint_index.Entry]:
    return (entry for entry in index.entries if entry.key != checkpoint_index.OBJECT_GRAPH_KEY)


def _variable(entry: checkpoint_index.Entry, graphs: list[_MetaGraph]) -> Variable:
    name, trainable = entry.key, None
    for graph in graphs:
        if saved := graph.objects.variable_at(entry.key):
            name, trainable = saved.name or entry.key, saved.trainable
        elif not graph.objects and graph.lists_variables():
            trainable = bool(trainable) or entry.key in graph.trainable()
    return Variable(entry.key, name, entry.dtype, entry.shape, entry.size, trainable)


def _fingerprint(files: ModelFiles) -> Fingerprint:
    where = f"{files.name}/{FINGERPRINT_FILE}"
    with _readable(where):
        data = mapped(files.local(FINGERPRINT_FILE))
        return Fingerprint(
            saved_model=last_number(data, 1),
            graph=last_number(data, 2),
            signatures=last_number(data, 3),
            objects=last_number(data, 4),
            checkpoint=last_number(data, 5),
            uuid=last_text(data, 7),
        )


def _warmup_records(files: ModelFiles, sizes: Mapping[str, int]) -> int:
    return tfrecord.count(files.local(WARMUP_FILE)) if WARMUP_FILE in sizes else 0


def signatures_missing(found: Description, key: str) -> Rejected:
    """Return the error of asking for a signature that is not there, with those that are."""
    there = [f"{', '.join(graph.signatures) or 'none'} in {tags_text(graph.tags)}" for graph in found.graphs]
    return Rejected(
        f"{found.where} has no signature {key}",
        expected=f"one of {'; '.join(there)}",
        got=key,
        fix="name one of these signatures",
        reason="SIGNATURE_MISSING",
    )
