"""From a YAML file, overlays and ``--set`` to a ReleaseSpec, or to every mistake at once with its file and line.

The merge is plain: mappings merge key by key, everything else replaces. Where a value came from is kept beside it, so
that a message can name the file and line of exactly the text that is wrong.
"""

import difflib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from components.core.errors import Rejected
from components.core.spec import CRON, SHA256, SOURCE_URI, STORE_URI, ReleaseSpec
from manifests.spec import (
    DNS_LABEL,
    GOOGLE_ACCOUNT,
    IMAGE_BY_DIGEST,
    LABEL_VALUE,
    MIG_PARTITION,
    MODEL_NAME,
    QUANTITY,
)

Plain = dict[str, "Plain"] | list["Plain"] | str | int | float | bool | None
Where = tuple[str | int, ...]

_MAX_NODES = 100_000
_PATTERNS = {
    MODEL_NAME: "must be lower-case letters, digits and dashes, at most 40",
    DNS_LABEL: "must be lower-case letters, digits and dashes, at most 63",
    IMAGE_BY_DIGEST: "must be an image by digest, such as registry/name@sha256:… (64 hexadecimal digits)",
    LABEL_VALUE: "must be a Kubernetes label value: letters, digits, dashes, dots, at most 63",
    MIG_PARTITION: "must be a MIG partition, such as 1g.10gb",
    GOOGLE_ACCOUNT: "must be a Google service account, such as name@project.iam.gserviceaccount.com",
    QUANTITY: "must be a Kubernetes quantity, such as 500m or 2Gi",
    SHA256: "must be 64 hexadecimal digits",
    CRON: "must have five fields: minute hour day-of-month month day-of-week",
    STORE_URI: "must be a path, file://PATH or gs://BUCKET/PREFIX",
    SOURCE_URI: "must be a path, file://, https:// or gs:// URI",
}
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """A spec and the folder its relative paths start from."""

    spec: ReleaseSpec
    base_dir: Path
    path: Path


@dataclass(slots=True)
class _Document:
    data: Plain
    places: dict[Where, str]


def load(path: Path, *, environment: str = "", sets: Sequence[str] = ()) -> LoadedSpec:
    """Read a release spec.

    Args:
        path: The YAML file.
        environment: Name of an overlay beside it: ``release.prod.yaml`` for ``release.yaml`` and ``prod``.
        sets: ``path=value`` overrides, applied last; the value is YAML.

    Raises:
        Rejected: Something is wrong; the message lists every mistake.
    """
    document = _read(path)
    if environment:
        overlay = path.with_name(f"{path.stem}.{environment}{path.suffix}")
        document = _merge(document, _read(overlay, why=f"the overlay of environment {environment}"))
    for text in sets:
        document = _override(document, _parse_set(text, document.data))
    return LoadedSpec(spec=_validate(document, path), base_dir=path.resolve().parent, path=path)


def from_json(text: str, *, where: str) -> ReleaseSpec:
    """Return the spec that :func:`to_json` wrote, as engines hand it from step to step.

    Raises:
        Rejected: It is no spec.
    """
    try:
        data = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader; JSON is YAML
    except yaml.YAMLError as error:
        raise Rejected(f"{where} is not JSON", got=str(error), reason="SPEC_SYNTAX") from error
    return _validate(_Document(data, {(): where}), Path(where))


def to_json(spec: ReleaseSpec) -> str:
    """Return the resolved spec as one line of JSON, without fields at their defaults."""
    return spec.model_dump_json(by_alias=True, exclude_defaults=False, exclude_none=False)


def _read(path: Path, *, why: str = "a release spec") -> _Document:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(
            f"{path}: cannot be read as {why}",
            expected="a YAML file in UTF-8",
            got=getattr(error, "strerror", None) or str(error),
            fix=_similar_file(path),
            reason="SPEC_MISSING",
        ) from error
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        document = _Document(None, {})
        document.data = _plain(loader, node, (), str(path), document.places) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Rejected(
            f"{path}{line}: this is not YAML", got=error.problem or str(error), reason="SPEC_SYNTAX"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise Rejected(f"{path}: this is not YAML", got=str(error).splitlines()[0], reason="SPEC_SYNTAX") from error
    finally:
        loader.dispose()
    if not isinstance(document.data, dict):
        raise Rejected(
            f"{path}: no release spec",
            expected="a mapping that starts with `apiVersion: slipway.dev/v1`",
            got="nothing" if document.data is None else type(document.data).__name__,
            reason="SPEC_SYNTAX",
        )
    return document


def _similar_file(path: Path) -> str:
    if path.exists():
        return ""
    here = sorted(entry.name for entry in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, here, n=1)
    return f"did you mean {path.parent / near[0]}?" if near else "name a file that exists"


def _plain(loader: typing.Any, node: yaml.Node, where: Where, file: str, places: dict[Where, str]) -> Plain:  # noqa: ANN401
    if len(places) > _MAX_NODES:
        raise ValueError(f"more than {_MAX_NODES} values: aliases that multiply?")
    places[where] = f"{file}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        mapping: dict[str, Plain] = {}
        for key_node, value_node in node.value:
            key = str(loader.construct_object(key_node))
            if key in mapping:
                raise yaml.MarkedYAMLError(problem=f"`{key}` stands here twice", problem_mark=key_node.start_mark)
            mapping[key] = _plain(loader, value_node, (*where, key), file, places)
            places[*where, key] = f"{file}:{key_node.start_mark.line + 1}"
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*where, index), file, places) for index, item in enumerate(node.value)]
    return typing.cast("Plain", loader.construct_object(node))


def _merge(below: _Document, above: _Document) -> _Document:
    return _Document(_merged(below.data, above.data), {**below.places, **above.places})


def _override(below: _Document, above: _Document) -> _Document:
    """Merge one ``--set``: only the value itself comes from it, the mappings around it stay where they were."""
    value = max(above.places, key=len)
    return _Document(_merged(below.data, above.data), {**above.places, **below.places, value: above.places[value]})


def _merged(below: Plain, above: Plain) -> Plain:
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}
    return above


def _parse_set(text: str, below: Plain) -> _Document:
    path, equals, value = text.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise Rejected(
            f"--set {text}: not an override", expected="path=value, such as canary.budgets.churn=0.1", reason="BAD_SET"
        )
    try:
        data: Plain = yaml.load(value, Loader=_LOADER)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise Rejected(f"--set {text}: the value is not YAML", got=value, reason="BAD_SET") from error
    places: dict[Where, str] = {tuple(keys[: depth + 1]): f"--set {path}" for depth in range(len(keys))}
    for depth in range(len(keys), 0, -1):
        data = _with_item(_at(below, keys[: depth - 1]), keys[depth - 1], data, text)
    return _Document(data, places)


def _at(data: Plain, keys: Sequence[str]) -> Plain:
    for key in keys:
        if isinstance(data, list):
            data = data[int(key)] if key.isdigit() and int(key) < len(data) else None
        else:
            data = data.get(key) if isinstance(data, dict) else None
    return data


def _with_item(container: Plain, key: str, value: Plain, text: str) -> Plain:
    if not isinstance(container, list):
        return {key: value}
    if not key.isdigit() or int(key) >= len(container):
        raise Rejected(f"--set {text}: no item {key}", expected=f"0 to {len(container) - 1}", reason="BAD_SET")
    return [*container[: int(key)], _merged(container[int(key)], value), *container[int(key) + 1 :]]


def _validate(document: _Document, path: Path) -> ReleaseSpec:
    try:
        return ReleaseSpec.model_validate(document.data)
    except ValidationError as error:
        lines = list(dict.fromkeys(_explain(detail, document) for detail in error.errors(include_url=False)))
    count = f"{len(lines)} mistake{'s' if len(lines) > 1 else ''}"
    raise Rejected(
        "\n".join([f"{path}: {count} in the spec", *(f"  {line}" for line in lines)]),
        fix="`slipway spec schema` prints every field; docs/spec.md explains them",
        reason="SPEC_INVALID",
    )


def _explain(detail: ErrorDetails, document: _Document) -> str:
    where = _existing(tuple(detail["loc"]), document.data)
    place = next((document.places[where[:n]] for n in range(len(where), -1, -1) if where[:n] in document.places), "")
    field = ".".join(str(part) for part in where) or "the spec"
    kind, found = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return f"{place}: {field}: unknown field{_suggest(where)}"
    if kind == "missing":
        missing = ".".join(str(part) for part in detail["loc"])
        return f"{place}: {missing}: required, and not there"
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        message = _PATTERNS.get((detail.get("ctx") or {}).get("pattern", ""), message)
    if message[:2].istitle():
        message = message[0].lower() + message[1:]
    shown = "" if isinstance(found, dict | BaseModel) or "env" in where else f", found {found!r}"
    return f"{place}: {field}: {message}{shown}"


def _existing(loc: Where, data: Plain) -> Where:
    """Return the longest prefix of ``loc`` that is there in the data: pydantic adds names of union members."""
    for depth, part in enumerate(loc):
        if isinstance(data, dict) and part in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return loc[:depth]
    return loc


def _suggest(where: Where) -> str:
    names = list(_fields_at(where[:-1]))
    near = difflib.get_close_matches(str(where[-1]), names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; known here: {', '.join(names)}" if names else ""


def _fields_at(where: Where) -> Mapping[str, object]:
    """Return the fields of the model that stands at ``where`` in the spec, by the name used in YAML."""
    here: object = ReleaseSpec
    for part in where:
        model = _model_in(here)
        if model is None:
            continue
        fields = _fields_of(model)
        if part not in fields:
            return {}
        here = fields[str(part)]
    model = _model_in(here)
    return _fields_of(model) if model else {}


def _fields_of(model: type[BaseModel]) -> dict[str, object]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model inside ``Model``, ``Model | None``, ``dict[str, Model]`` or ``tuple[Model, ...]``."""
    if typing.get_origin(annotation) is None and isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)
