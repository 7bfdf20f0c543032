"""REST: paths, bodies, formats, codes and texts (tensorflow/serving: http_rest_api_handler.cc, json_tensor.cc)."""

import json
import math

import pytest

pytestmark = pytest.mark.slow

HALF = "/v1/models/half_plus_two"
KINDS = "/v1/models/kinds"


def test_the_documented_example_answers_its_predictions(ask):
    answer = ask("POST", f"{HALF}/versions/1:predict", '{"instances": [1.0, 2.0, 5.0]}')
    assert (answer.status, answer.body) == (200, {"predictions": [2.5, 3.0, 4.5]})
    assert answer.content_type == "application/json"


def test_columns_answer_outputs(ask):
    answer = ask("POST", f"{HALF}/versions/1:predict", '{"inputs": [[1.0], [2.0]]}')
    assert answer.body == {"outputs": [[2.5], [3.0]]}


def test_no_version_means_the_highest(ask):
    assert ask("POST", f"{HALF}:predict", '{"instances": [1.0]}').body == {"predictions": [3.5]}


@pytest.mark.parametrize(("label", "expected"), [("stable", 2.5), ("canary", 3.5)])
def test_a_label_chooses_its_version(ask, label: str, expected: float):
    assert ask("POST", f"{HALF}/labels/{label}:predict", '{"instances": [1.0]}').body == {"predictions": [expected]}


def test_paths_are_compared_without_case_and_names_are_decoded(ask):
    assert ask("POST", "/V1/MODELS/half%5Fplus%5Ftwo/Versions/1:PREDICT", '{"instances": [1.0]}').status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("POST", "/v1/models/half_plus_two", 400, "Malformed request: POST /v1/models/half_plus_two"),
        ("GET", "/v1/models/half_plus_two:predict", 400, "Malformed request: GET /v1/models/half_plus_two:predict"),
        ("PUT", "/v1/models/half_plus_two", 400, "Malformed request: PUT /v1/models/half_plus_two"),
        ("GET", "/v1/nonsense", 400, "Malformed request: GET /v1/nonsense"),
        ("GET", "/v1/models/nobody", 404, "Could not find any versions of model nobody"),
        ("GET", f"{HALF}/versions/9", 404, "Could not find version 9 of model half_plus_two"),
        ("GET", f"{HALF}/versions/9/metadata", 404, "Servable not found for request: Specific(half_plus_two, 9)"),
        (
            "GET",
            f"{HALF}/versions/9223372036854775808",
            400,
            "Failed to convert version: 9223372036854775808 to numeric.",
        ),
    ],
)
def test_a_wrong_path_is_told(ask, method: str, path: str, status: int, error: str):
    answer = ask(method, path)
    assert (answer.status, answer.error) == (status, error)


def test_outside_of_v1_there_is_nothing(ask):
    answer = ask("GET", "/v2/models/half_plus_two")
    assert answer.status == 404
    assert answer.body is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("{", "JSON Parse error: "),
        ("[1]", "Is not object"),
        ('{"signature_name": 5, "instances": [1.0]}', "'signature_name' key must be a string value."),
        ('{"instances": [1.0], "inputs": [1.0]}', "expecting only one of 'inputs' or 'instances'"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"instances": []}', "No values in 'instances' array"),
        ('{"instances": 1.0}', "Expecting 'instances' to be an list/array"),
        ('{"inputs": {"z": [1.0]}}', "Missing named input: x in 'inputs' object."),
        ('{"instances": [{"z": 1.0}]}', "does not have named input: z"),
        ('{"instances": [{"x": 1.0}, 2.0]}', "Expecting object but got list at item 1 of input list"),
        ('{"instances": [1.0, {"x": 2.0}]}', "Expecting value/list but got object at item 1 of input list"),
        ('{"instances": ["1.0"]}', 'JSON Value: "1.0" Type: String is not of expected type: float'),
        ('{"instances": [true]}', "JSON Value: true Type: True is not of expected type: float"),
        ('{"instances": [null]}', "JSON Value: null Type: Null is not of expected type: float"),
        ('{"instances": [[1.0], [1.0, 2.0]]}', "Expecting tensor size: 1 but got: 2"),
        ('{"instances": [[[1.0, 2.0]], [[1.0], [2.0]]]}', "Expecting shape [1,2] but got: [2,1]"),
        ('{"inputs": [[1.0], 2.0]}', "found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ('{"inputs": [1.0, [2.0]]}', "Encountered list at unexpected level: 1 expected < 1"),
        ('{"inputs": [[1.0], [2.0, 3.0]]}', "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ('{"signature_name": "s", "instances": [1.0]}', 'Serving signature name: "s" not found in signature def'),
    ],
)
def test_a_wrong_body_is_told(ask, body: str, error: str):
    answer = ask("POST", f"{HALF}:predict", body)
    assert answer.status == 400
    assert error in answer.error


def test_an_error_in_a_row_says_which_row(ask):
    error = ask("POST", f"{HALF}:predict", '{"instances": [1.0, "a"]}').error
    assert error.startswith("Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: ")


def test_wrong_json_is_told_before_an_unknown_model(ask):
    assert ask("POST", "/v1/models/nobody:predict", "").status == 400
    answer = ask("POST", "/v1/models/nobody:predict", '{"instances": [1.0]}')
    assert (answer.status, answer.error) == (404, "Servable not found for request: Latest(nobody)")


def test_an_unknown_label_is_an_invalid_argument(ask):
    answer = ask("POST", f"{HALF}/labels/beta:predict", '{"instances": [1.0]}')
    assert (answer.status, answer.error) == (400, "Unrecognized servable version label: beta")


def test_what_follows_the_json_value_and_other_keys_are_ignored(ask):
    assert ask("POST", f"{HALF}:predict", '{"instances": [1.0], "more": 1} and more').status == 200


def test_not_a_number_and_infinities_travel_both_ways(ask):
    body = '{"signature_name": "echo_float32", "inputs": [NaN, Infinity, -Infinity, Inf]}'
    answer = ask("POST", f"{KINDS}:predict", body)
    assert math.isnan(answer.body["outputs"][0])
    assert answer.body["outputs"][1:] == [math.inf, -math.inf, math.inf]
    assert "NaN" in answer.text
    assert "-Infinity" in answer.text


def test_floats_are_written_short_and_whole_ones_with_a_point(ask):
    body = '{"signature_name": "echo_float32", "inputs": [0.2, 1, 9000000, 0.333333343, 16777217]}'
    written = ask("POST", f"{KINDS}:predict", body).text
    for text in ("0.2,", "1.0,", "9e+06", "0.333333343", "16777216.0"):
        assert text in written


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float64", [1.5, -2.25]),
        ("int8", [-128, 127]),
        ("int16", [-32768, 32767]),
        ("int32", [-(2**31), 2**31 - 1]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint8", [0, 255]),
        ("uint32", [0, 2**32 - 1]),
        ("uint64", [0, 2**64 - 1]),
        ("bool", [True, False]),
        ("string", ["text", "ünï", ""]),
    ],
)
def test_every_dtype_of_rest_comes_back_as_it_went(ask, dtype: str, values: list[object]):
    body = json.dumps({"signature_name": f"echo_{dtype}", "inputs": values})
    assert ask("POST", f"{KINDS}:predict", body).body == {"outputs": values}


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int32", "5.0"),
        ("int32", "2147483648"),
        ("int64", "1.5"),
        ("uint32", "-1"),
        ("bool", "1"),
        ("string", "1"),
    ],
)
def test_a_value_of_another_kind_is_refused(ask, dtype: str, value: str):
    answer = ask("POST", f"{KINDS}:predict", f'{{"signature_name": "echo_{dtype}", "inputs": [{value}]}}')
    assert answer.status == 400
    assert f"is not of expected type: {dtype}" in answer.error


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint16", "complex64"])
def test_a_dtype_that_json_cannot_carry_is_unimplemented_in_columns_and_invalid_in_rows(ask, dtype: str):
    columns = ask("POST", f"{KINDS}:predict", f'{{"signature_name": "echo_{dtype}", "inputs": [1]}}')
    rows = ask("POST", f"{KINDS}:predict", f'{{"signature_name": "echo_{dtype}", "instances": [1]}}')
    assert (columns.status, rows.status) == (501, 400)
    assert "Conversion of JSON Value: 1 to type: " in columns.error


def test_bytes_are_base64_in_and_out_by_their_name(ask):
    body = '{"signature_name": "texts", "instances": [{"b64": "aGk="}, {"b64": "/w=="}]}'
    answer = ask("POST", f"{KINDS}:predict", '{"signature_name": "texts", "instances": [{"b64": "aGk="}]}')
    assert answer.body == {"predictions": [{"text": "hi", "raw_bytes": {"b64": "aGk="}}]}
    assert ask("POST", f"{KINDS}:predict", body.replace("/w==", "!")).error.endswith("Unable to base64 decode")


def test_several_inputs_are_objects_of_exactly_their_names(ask):
    body = '{"signature_name": "pair", "instances": [{"a": 1.0, "b": 2}, {"a": 3.0, "b": 4}]}'
    assert ask("POST", f"{KINDS}:predict", body).body == {"predictions": [{"sum": 3.0, "b": 2}, {"sum": 7.0, "b": 4}]}
    columns = '{"signature_name": "pair", "inputs": {"a": [1.0], "b": [2], "ignored": 1}}'
    assert ask("POST", f"{KINDS}:predict", columns).body == {"outputs": {"sum": [3.0], "b": [2]}}
    missing = ask("POST", f"{KINDS}:predict", '{"signature_name": "pair", "instances": [{"a": 1.0}]}')
    assert "keys must be equal to: a,b" in missing.error
    plain = ask("POST", f"{KINDS}:predict", '{"signature_name": "pair", "instances": [1.0]}')
    assert plain.error.startswith("instances is a plain list, but expecting list of objects")


def test_rows_need_outputs_with_one_batch_size(ask):
    scalar = ask("POST", f"{KINDS}:predict", '{"signature_name": "total", "instances": [1.0, 2.0]}')
    assert (scalar.status, scalar.error) == (400, "Tensor name: y has no shape information ")
    uneven = ask("POST", f"{KINDS}:predict", '{"signature_name": "uneven", "instances": [1.0, 2.0]}')
    assert uneven.status == 400
    assert "has inconsistent batch size: " in uneven.error
    columns = ask("POST", f"{KINDS}:predict", '{"signature_name": "total", "inputs": [1.0, 2.0]}')
    assert columns.body == {"outputs": 3.0}


def test_a_signature_without_inputs_cannot_be_called(ask):
    answer = ask("POST", f"{KINDS}:predict", '{"signature_name": "nothing", "inputs": {}}')
    assert (answer.status, answer.error) == (400, "Failed to get input map for signature: nothing")


def test_an_op_that_refuses_the_shape_is_an_invalid_argument(ask):
    answer = ask("POST", f"{KINDS}:predict", '{"signature_name": "matrix", "inputs": [[1.0, 2.0, 3.0]]}')
    assert answer.status == 400


def test_tables_and_assets_are_served(ask):
    answer = ask("POST", f"{KINDS}:predict", '{"signature_name": "lookup", "instances": ["two", "zero", "many"]}')
    assert answer.body == {"predictions": [2, 0, -1]}


def test_classify_answers_labels_with_scores(ask):
    body = '{"signature_name": "classify_x_to_y", "examples": [{"x": 1.0}, {"x": [2.0]}]}'
    assert ask("POST", f"{HALF}/versions/1:classify", body).body == {"results": [[["half", 2.5]], [["half", 3.0]]]}


def test_regress_answers_values_and_a_context_is_merged(ask):
    body = '{"signature_name": "regress_x_to_y", "context": {"x": 4.0}, "examples": [{}, {"x": 2.0}]}'
    assert ask("POST", f"{HALF}/versions/1:regress", body).body == {"results": [4.0, 3.0]}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"signature_name": "regress_x_to_y"}', "key 'examples' is expected and was not found"),
        ('{"signature_name": "s", "examples": [{"x": 1.0}]}', "No signature was found with the name: s"),
        ('{"examples": [{"x": [1.0, "a"]}]}', "Unexpected element type in feature: x expecting type: float"),
        ('{"examples": [{"x": null}]}', "Feature: x has element with unexpected JSON type: Null"),
        ('{"examples": [5]}', "Example must be JSON object but got JSON Number"),
    ],
)
def test_wrong_examples_are_told(ask, body: str, error: str):
    answer = ask("POST", f"{HALF}:regress", body)
    assert answer.status == 400
    assert error in answer.error


def test_status_lists_versions_descending_as_strings(ask):
    expected = [
        {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        for version in ("2", "1")
    ]
    assert ask("GET", HALF).body == {"model_version_status": expected}
    assert ask("GET", f"{HALF}/versions/1").body == {"model_version_status": expected[1:]}
    assert ask("GET", f"{HALF}/labels/anything").body == {"model_version_status": expected}


def test_metadata_describes_every_signature(ask):
    body = ask("GET", f"{HALF}/versions/1/metadata").body
    assert body["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "1"}
    definitions = body["metadata"]["signature_def"]["signature_def"]
    assert definitions.keys() >= {"serving_default", "classify_x_to_y", "regress_x_to_y"}
    x = definitions["serving_default"]["inputs"]["x"]
    assert (x["dtype"], x["name"]) == ("DT_FLOAT", "x:0")
    assert [dim["size"] for dim in x["tensor_shape"]["dim"]] == ["-1", "1"]


def test_a_preflight_needs_an_origin(ask):
    assert ask("OPTIONS", f"{HALF}:predict", origin="https://example.org").status == 200
    assert ask("OPTIONS", f"{HALF}:predict").status == 400


def test_metrics_count_requests_by_model_and_status(ask):
    ask("POST", f"{HALF}:predict", '{"instances": [1.0]}')
    ask("POST", f"{HALF}:predict", "")
    page = ask("GET", "/monitoring/prometheus/metrics").text
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert ':tensorflow:serving:request_count{model_name="half_plus_two",status="OK"} ' in page
    assert ':tensorflow:serving:request_count{model_name="half_plus_two",status="INVALID_ARGUMENT"} ' in page
    latency = ':tensorflow:serving:request_latency_bucket{model_name="half_plus_two",API="predict",entrypoint="REST",'
    assert f'{latency}le="10"}} ' in page
    assert f'{latency}le="+Inf"}} ' in page


def test_depth_does_not_hurt_the_server(ask):
    for depth in (100, 100_000):
        assert ask("POST", f"{HALF}:predict", '{"instances": ' + "[" * depth + "]" * depth + "}").status == 400
    assert ask("POST", f"{HALF}:predict", '{"instances": [1.0]}').status == 200
