"""``slipway predict``: one answer, of a model on disk or of a server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO
from urllib.parse import quote

import click
import numpy as np

from components.core.errors import Rejected
from components.core.process import Crashed, Limits, run_module
from components.core.signature import DEFAULT_SIGNATURE, Contract, Signature
from components.savedmodel.describe import describe
from components.savedmodel.files import DirectoryFiles, no_saved_model, tags_not_found, what_is_there
from components.savedmodel.tensors import Array
from components.serving import address, request_inputs
from components.serving.calls import CallFailed
from components.serving.requests import predict_request, predict_response
from pipelines.cli import Session
from pipelines.commands.show import parse_tags, printable
from pipelines.extras import require_tensorflow

_SERVE = frozenset({"serve"})
_SHOWN_VALUES = 1000
_LOCAL_NAME = "model"  # a request names its model; on disk there is only one

Answer = Callable[[dict[str, Array]], dict[str, Array]]


@dataclass(frozen=True, slots=True)
class Asked:
    """The words of the command line that say what is asked."""

    files: tuple[str, ...]
    expressions: tuple[str, ...]
    examples: tuple[str, ...]
    body: bytes | None

    def inputs(self, signature: Signature) -> dict[str, Array]:
        """Return them as arrays in the signature's dtypes."""
        given = [
            request_inputs.from_files(self.files),
            request_inputs.from_expressions(self.expressions),
            request_inputs.from_examples(self.examples),
        ]
        if self.body is not None:
            given.append(request_inputs.from_json(self.body, signature))
        return request_inputs.fit(request_inputs.joined(*given), signature)


@click.command("predict")
@click.argument("model")
@click.option("--inputs", multiple=True, metavar="NAME=FILE", help="A .npy file, or an array of one: f.npz[a].")
@click.option("--input-exprs", multiple=True, metavar="NAME=EXPR", help="An expression: 'x=np.ones((1, 3)) / 255'.")
@click.option("--input-examples", multiple=True, metavar="NAME=LIST", help="tf.train.Example: 'x=[{\"age\": [3.0]}]'.")
@click.option("--json", "body", type=click.File("rb"), help='A REST body in a file, or `-`: {"instances": [...]}.')
@click.option("--signature-def", default="", metavar="S", help=f"Signature.  [default: {DEFAULT_SIGNATURE}]")
@click.option("--tag-set", default=None, metavar="T", help="Meta graph of a directory.  [default: serve]")
@click.option("--outdir", type=click.Path(file_okay=False, path_type=Path), help="Folder for NAME.npy of each output.")
@click.option("--overwrite", is_flag=True, help="Replace files in --outdir.")
@click.option("--timeout-s", default=600.0, show_default=True, help="Seconds until there must be an answer.")
@click.pass_obj
def predict_command(
    session: Session,
    model: str,
    inputs: tuple[str, ...],
    input_exprs: tuple[str, ...],
    input_examples: tuple[str, ...],
    body: IO[bytes] | None,
    signature_def: str,
    tag_set: str | None,
    outdir: Path | None,
    timeout_s: float,
    *,
    overwrite: bool,
) -> None:
    """Ask MODEL once: a directory, http://HOST:PORT/v1/models/M[/versions/N], or grpc://HOST:PORT/M[/N].

    Options may be repeated, or join several inputs by `;`. Expressions hold numbers, text, lists, arithmetic,
    np.array, zeros, ones, full, arange, linspace, eye, .astype, .reshape, and np.random.default_rng(SEED) with random,
    normal, standard_normal, uniform and integers. Pickles are refused. A model you do not trust: `slipway scan` first.
    """
    asked = Asked(inputs, input_exprs, input_examples, None if body is None else body.read())
    key = signature_def or (request_inputs.signature_in_json(asked.body) if asked.body else "") or DEFAULT_SIGNATURE
    if address.is_address(model):
        outputs = _ask_server(model, asked, key, timeout_s, lambda found: _free(outdir, found, overwrite=overwrite))
    else:
        tags = None if tag_set is None else parse_tags(tag_set)
        path, tags, signature = _on_disk(model, tags, key)
        _free(outdir, signature, overwrite=overwrite)
        require_tensorflow("running a model on disk", without="ask a server: http://HOST:PORT/v1/models/M")
        outputs = _ask_model(path, tags, key, asked.inputs(signature), timeout_s, session.environment)
    for name, array in sorted(outputs.items()):
        click.echo(printable(f"Result for output key {name}:"))
        click.echo(_shown(array))
        if outdir is not None:
            click.echo(printable(f"Output {name} is saved to {_save(outdir, name, array)}"))


def _ask_server(
    where: str, asked: Asked, key: str, timeout_s: float, check: Callable[[Signature], None]
) -> dict[str, Array]:
    served = address.parse(where)
    client = served.connect()
    try:
        signature = _signature(client.metadata(served.model, served.version, timeout_s=timeout_s), key, where)
        check(signature)
        return client.predict(
            served.model, asked.inputs(signature), signature=key, version=served.version, timeout_s=timeout_s
        )
    except CallFailed as error:
        raise error.as_error(where) from error
    finally:
        client.close()


def _signature(contract: Contract, key: str, where: str) -> Signature:
    found = contract.signatures.get(key)
    if found is None:
        raise Rejected(
            f"{where} has no signature {key}",
            expected=f"one of {', '.join(contract.signatures) or 'none: the model has no signatures'}",
            got=key,
            reason="SIGNATURE_MISSING",
        )
    return found


def _on_disk(model: str, tags: frozenset[str] | None, key: str) -> tuple[Path, frozenset[str], Signature]:
    path = Path(model)
    if not path.is_dir():
        raise no_saved_model(model, what_is_there(path))
    graphs = describe(DirectoryFiles(path), tags=tags, brief=True).graphs
    chosen = graphs if len(graphs) == 1 else tuple(graph for graph in graphs if graph.tags == _SERVE)
    if not chosen:
        raise tags_not_found(model, _SERVE, [graph.tags for graph in graphs])
    graph = chosen[0]
    return path, graph.tags, _signature(Contract(graph.signatures, graph.tags), key, model)


def _ask_model(
    path: Path,
    tags: frozenset[str],
    key: str,
    inputs: Mapping[str, Array],
    timeout_s: float,
    environment: Mapping[str, str],
) -> dict[str, Array]:
    with TemporaryDirectory(prefix="slipway-") as folder:
        request, response = Path(folder, "request.binpb"), Path(folder, "response.binpb")
        request.write_bytes(predict_request(_LOCAL_NAME, inputs, key))
        asked = {
            "model": str(path.absolute()),
            "tags": sorted(tags),
            "request": str(request),
            "response": str(response),
        }
        try:
            run_module(
                "components.savedmodel.answer_once",
                asked,
                limits=Limits(deadline_s=timeout_s),
                env={"TF_CPP_MIN_LOG_LEVEL": "2", **environment},
            )
        except Crashed as error:
            raise Rejected(
                f"{path} ended the process it was loaded in",
                expected=f"an answer within {timeout_s:g} s",
                got=str(error),
                fix=f"look at it without loading it: slipway scan --no-load {path}",
                reason="PROBE_CRASHED",
            ) from error
        return predict_response(response.read_bytes())


def _file(outdir: Path, name: str) -> Path:
    """An output's name is its maker's choice: what could leave the folder is percent-encoded."""
    return (
        outdir / f"{quote(name, safe=' ').replace('.', '%2E') if name.startswith('.') else quote(name, safe=' ')}.npy"
    )


def _free(outdir: Path | None, signature: Signature, *, overwrite: bool) -> None:
    """Refuse before anything runs what could not be written afterwards."""
    if outdir is None or overwrite:
        return
    there = [str(file) for file in (_file(outdir, name) for name in signature.outputs) if file.exists()]
    if there:
        raise Rejected(
            f"{', '.join(there)}: there already",
            expected="no such file",
            fix="--overwrite replaces it",
            reason="FILE_EXISTS",
        )


def _save(outdir: Path, name: str, array: Array) -> Path:
    outdir.mkdir(parents=True, exist_ok=True)
    target = _file(outdir, name)
    temporary = target.with_name(f".{target.name}.tmp")
    with temporary.open("wb") as stream:
        np.save(stream, _storable(name, array), allow_pickle=False)
    temporary.replace(target)
    return target


def _storable(name: str, array: Array) -> Array:
    """Bytes of any length have no dtype that a file can hold without a pickle, but for those that end in no NUL."""
    if array.dtype.kind != "O":
        return array
    if any(item.endswith(b"\0") for item in array.flat):
        raise Rejected(
            f"output {name} cannot be saved: a string in it ends in a NUL byte, which .npy files drop",
            expected="strings that end in another byte",
            reason="OUTPUT_STRING",
        )
    return array.astype(np.bytes_) if array.size else np.zeros(array.shape, "S1")


def _shown(array: Array) -> str:
    with np.printoptions(threshold=_SHOWN_VALUES):
        return str(array) if array.dtype.kind != "O" or array.shape else repr(array[()])
