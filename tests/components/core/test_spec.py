"""What the vocabulary of specs promises its users: every field explained, one schema for editors, values that stay."""

import typing
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from components.core.spec import ReleaseSpec, Source

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*/release.yaml"))


def models(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            for inner in inside(field.annotation):
                models(inner, seen)
    return seen


def inside(annotation: object) -> list[type[BaseModel]]:
    if typing.get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in typing.get_args(annotation) for found in inside(part)]


FIELDS = [
    pytest.param(field, id=f"{model.__name__}.{name}")
    for model in sorted(models(ReleaseSpec, set()), key=lambda each: each.__name__)
    for name, field in model.model_fields.items()
]


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_explained_with_its_default(field):
    text = field.description or ""
    assert text.endswith((".", "…"))
    default = field.get_default() if not field.is_required() else None
    if not field.is_required() and not isinstance(default, BaseModel):
        assert "efault" in text


def test_there_is_an_example_for_the_schema_to_accept():
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_schema_that_editors_use_accepts_what_the_parser_accepts(path):
    data = yaml.safe_load(path.read_text())
    ReleaseSpec.model_validate(data)
    jsonschema.validate(data, ReleaseSpec.model_json_schema(by_alias=True))


def test_the_schema_that_editors_use_refuses_an_unknown_field():
    data = yaml.safe_load(EXAMPLES[0].read_text())
    with pytest.raises(jsonschema.ValidationError, match="cannary"):
        jsonschema.validate({**data, "cannary": {}}, ReleaseSpec.model_json_schema(by_alias=True))


def test_a_spec_cannot_be_changed():
    source = Source.model_validate({"fetch": {"uri": "model"}})
    with pytest.raises(ValidationError):
        source.fetch = None  # type: ignore[misc]
