"""``slipway show``: what a SavedModel is, without TensorFlow."""

import json
from collections.abc import Iterator, Mapping, Sequence

import click

from components.core.signature import Signature, TensorSpec
from components.savedmodel.describe import Description, GraphDescription, Variable, describe, signatures_missing
from components.savedmodel.files import tags_text
from components.savedmodel.locate import open_model
from components.savedmodel.object_graph import Function

_FORMATS = {"saved_model.pb": "binary", "saved_model.pbtxt": "text"}
_OPS_A_LINE = 6


@click.command("show")
@click.argument("model")
@click.option("--tag-set", default=None, metavar="T", help="Only the meta graph with exactly these tags: `serve,gpu`.")
@click.option("--signature-def", default="", metavar="S", help="Only this signature; the graph is not read.")
@click.option("--brief", is_flag=True, help="Only tags and signatures; neither graph nor variables are read.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def show_command(model: str, tag_set: str | None, signature_def: str, *, brief: bool, as_json: bool) -> None:
    """Tell all about the SavedModel in MODEL: a directory, or a URI such as gs://BUCKET/models/digits/3.

    Tag sets, signatures, callable functions, ops, variables, assets, warm-up requests, fingerprint, sizes. Does not
    import TensorFlow, and executes nothing: a model you do not trust can be looked at.
    """
    tags = None if tag_set is None else parse_tags(tag_set)
    with open_model(model) as files:
        found = describe(files, tags=tags, brief=brief or bool(signature_def))
    if signature_def:
        _show_signature(found, signature_def, as_json=as_json)
    elif as_json:
        click.echo(json.dumps(_description(found), indent=2))
    else:
        click.echo("\n".join(printable(line) for line in _lines(found)))  # one write, however many variables


def parse_tags(text: str) -> frozenset[str]:
    """Return a tag set written as ``serve,gpu``; empty text is the empty set, which TF1 Hub modules have."""
    return frozenset(tag.strip() for tag in text.split(",") if tag.strip())


def printable(line: str) -> str:
    """Return a line in which nothing, however a model's maker named it, drives the terminal."""
    if line.isprintable():
        return line
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in line
    )


def _show_signature(found: Description, key: str, *, as_json: bool) -> None:
    having = [graph for graph in found.graphs if key in graph.signatures]
    if not having:
        raise signatures_missing(found, key)
    if as_json:
        rows = [{"tags": sorted(graph.tags), key: _signature(graph.signatures[key])} for graph in having]
        click.echo(json.dumps({"schema_version": 1, "model": found.where, "signatures": rows}, indent=2))
        return
    for graph in having:
        click.echo(printable(f"meta graph {tags_text(graph.tags)}"))
        for line in _signature_lines(key, graph.signatures[key]):
            click.echo(printable(line))


def _lines(found: Description) -> Iterator[str]:
    total = sum(found.files.values())
    form = _FORMATS[found.graph_file]
    yield f"{found.where}: SavedModel, {form} ({found.graph_file}), {total:,} bytes in {len(found.files)} files"
    for graph in found.graphs:
        yield from _graph_lines(graph)
    if found.variables is not None:
        yield from _variable_lines(found.variables, found.shards or 0)
    for name in found.assets():
        yield f"asset  {name}  {found.files.get(f'assets/{name}', 0):,} bytes"
    if found.warmup_records is not None:
        yield f"warm-up requests  {found.warmup_records}"
    if mark := found.fingerprint:
        yield f"fingerprint  saved_model {mark.saved_model}  graph {mark.graph}  signatures {mark.signatures}"
        yield f"             objects {mark.objects}  checkpoint {mark.checkpoint}  uuid {mark.uuid}"


def _graph_lines(graph: GraphDescription) -> Iterator[str]:
    yield ""
    kind = "TensorFlow 2, with an object graph" if graph.has_object_graph else "TensorFlow 1, without an object graph"
    producer = f"; graph format {graph.graph_producer}" if graph.graph_producer is not None else ""
    yield f"meta graph {tags_text(graph.tags)}: {kind}; written by {graph.producer or 'an unknown release'}{producer}"
    for key, signature in graph.signatures.items():
        yield from _signature_lines(key, signature)
    for key, op in graph.initializers.items():
        yield f"  {key}  {op or 'no op'}"
    for function in graph.functions or ():
        yield from _function_lines(function)
    if graph.ops is not None:
        yield from _op_lines(graph.ops, graph.library_functions or 0)


def _signature_lines(key: str, signature: Signature) -> Iterator[str]:
    yield f"  signature {key}  {signature.method_name or '(no method name)'}"
    rows = [("input", alias, spec) for alias, spec in signature.inputs.items()]
    rows += [("output", alias, spec) for alias, spec in signature.outputs.items()]
    yield from _aligned([[side, alias, str(spec), spec.name] for side, alias, spec in rows], indent=4)


def _function_lines(function: Function) -> Iterator[str]:
    yield f"  function {function.name}"
    for option in function.options:
        told = ", ".join(f"{each.name}={each.text}" if each.name else each.text for each in option.arguments)
        yield f"    ({told}) -> {option.returns}"


def _op_lines(ops: Mapping[str, int], functions: int) -> Iterator[str]:
    yield f"  ops  {sum(ops.values()):,} nodes of {len(ops)} kinds, {functions} functions"
    told = [f"{op} {count}" for op, count in ops.items()]
    for at in range(0, len(told), _OPS_A_LINE):
        yield "    " + "  ".join(told[at : at + _OPS_A_LINE])


def _variable_lines(variables: Sequence[Variable], shards: int) -> Iterator[str]:
    yield ""
    if not variables:
        yield "variables  none: all weights are constants of the graph"
        return
    counts = [sum(each.trainable is kind for each in variables) for kind in (True, False, None)]
    told = ", ".join(f"{count} {what}" for count, what in zip(counts, _TRAINABLE.values(), strict=True) if count)
    total = sum(each.size for each in variables)
    yield f"variables  {len(variables)} tensors ({told}), {total:,} bytes in {shards} data files"
    rows = [
        [each.name, str(TensorSpec(each.dtype, each.shape)), f"{each.size:,} bytes", _TRAINABLE[each.trainable]]
        for each in variables
    ]
    yield from _aligned(rows, indent=2)


_TRAINABLE = {True: "trainable", False: "not trainable", None: "not said whether trainable"}


def _aligned(rows: list[list[str]], *, indent: int) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield (" " * indent + "  ".join(cells)).rstrip()


def _description(found: Description) -> dict[str, object]:
    variables = None if found.variables is None else [_variable(each) for each in found.variables]
    mark = found.fingerprint
    return {
        "schema_version": 1,
        "model": found.where,
        "format": _FORMATS[found.graph_file],
        "graph_file": found.graph_file,
        "total_bytes": sum(found.files.values()),
        "files": dict(found.files),
        "meta_graphs": [_graph(graph) for graph in found.graphs],
        "variables": variables,
        "variable_files": found.shards,
        "assets": {name: found.files.get(f"assets/{name}") for name in found.assets()},
        "warmup_records": found.warmup_records,
        "fingerprint": None if mark is None else {name: str(value) for name, value in mark._asdict().items()},
    }


def _graph(graph: GraphDescription) -> dict[str, object]:
    return {
        "tags": sorted(graph.tags),
        "tensorflow_version": graph.producer,
        "graph_producer": graph.graph_producer,
        "object_graph": graph.has_object_graph,
        "signatures": {key: _signature(signature) for key, signature in graph.signatures.items()},
        "initializers": dict(graph.initializers),
        "functions": None if graph.functions is None else {each.name: _options(each) for each in graph.functions},
        "ops": None if graph.ops is None else dict(graph.ops),
        "library_functions": graph.library_functions,
        "assets": list(graph.assets),
    }


def _signature(signature: Signature) -> dict[str, object]:
    return {
        "method_name": signature.method_name,
        "inputs": {alias: _spec(spec) for alias, spec in signature.inputs.items()},
        "outputs": {alias: _spec(spec) for alias, spec in signature.outputs.items()},
    }


def _spec(spec: TensorSpec) -> dict[str, object]:
    return {"dtype": spec.dtype, "shape": None if spec.shape is None else list(spec.shape), "name": spec.name}


def _options(function: Function) -> list[dict[str, object]]:
    return [
        {
            "concrete_function": option.concrete,
            "arguments": [
                {"text": each.text, "keyword": each.name, "tensor": None if each.tensor is None else _spec(each.tensor)}
                for each in option.arguments
            ],
            "returns": option.returns,
        }
        for option in function.options
    ]


def _variable(variable: Variable) -> dict[str, object]:
    return {
        "key": variable.key,
        "name": variable.name,
        "dtype": variable.dtype,
        "shape": list(variable.shape),
        "bytes": variable.size,
        "trainable": variable.trainable,
    }
