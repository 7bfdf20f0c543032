"""REST bodies of classify and regress: JSON objects to ``tf.Example`` (tensorflow/serving: util/json_tensor.cc)."""

from typing import Any, cast

from components.serving.json_requests import format_error, from_base64, is_base64, parse
from components.serving.status import invalid


def fill_examples(body: bytes, request: Any) -> None:  # noqa: ANN401 - a Classification- or RegressionRequest
    """Fill the examples and signature of a classify or regress request.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    parsed = parse(body)
    request.model_spec.signature_name = parsed.signature
    document = parsed.document
    listed = request.input.example_list
    if "context" in document:
        listed = request.input.example_list_with_context
        _fill_example(document["context"], listed.context)
    if "examples" not in document:
        raise format_error(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise format_error(document, "'examples' value is an empty array")
    for example in examples:
        _fill_example(example, listed.examples.add())


def _fill_example(value: object, example: Any) -> None:  # noqa: ANN401
    if not isinstance(value, dict):
        names = {bool: str(value), type(None): "Null", str: "String", list: "Array"}
        raise invalid(f"Example must be JSON object but got JSON {names.get(type(value), 'Number')}")
    for name, content in value.items():
        feature = example.features.feature[name]
        feature.SetInParent()
        for item in content if isinstance(content, list) else [content]:
            _add_to_feature(name, item, feature)


def _add_to_feature(name: str, item: object, feature: Any) -> None:  # noqa: ANN401
    if isinstance(item, bool):
        kind, value = "int64_list", cast("object", int(item))
    elif isinstance(item, int):
        if not -(2**63) <= item < 2**63:
            raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        kind, value = "int64_list", item
    elif isinstance(item, float):
        kind, value = "float_list", item
    elif isinstance(item, str):
        kind, value = "bytes_list", item.encode("utf-8", "surrogateescape")
    elif is_base64(item):
        kind, value = "bytes_list", from_base64(cast("dict[str, str]", item)["b64"])
    else:
        names = {type(None): "Null", dict: "Object", list: "Array"}
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {names[type(item)]}")
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {present.removesuffix('_list')}")
    getattr(feature, kind).value.append(value)
