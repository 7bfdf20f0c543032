"""gRPC: codes, texts and formats (tensorflow/serving: predict_util.cc, get_model_status_impl.cc, server_core.cc)."""

from collections.abc import Callable

import grpc
import ml_dtypes
import numpy as np
import pytest

from components.savedmodel.messages import message
from components.savedmodel.tensors import to_proto
from components.serving.client import CallFailed, GrpcClient, RestClient

pytestmark = pytest.mark.slow

X = np.array([1, 2, 5], np.float32)
PREDICTION, MODEL = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"


@pytest.fixture(scope="session")
def call(addresses: tuple[str, str]):
    """Return a function (service, method, request) -> response of the kind named."""
    with grpc.insecure_channel(addresses[1]) as channel:

        def run(service: str, method: str, request, kind: str) -> object:
            answer = channel.unary_unary(f"/{service}/{method}")(request.SerializeToString(), timeout=30)
            return message(f"tensorflow.serving.{kind}").FromString(answer)

        yield run


def refused(act: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises((CallFailed, grpc.RpcError)) as caught:
        act()
    error = caught.value
    return (error.code, error.message) if isinstance(error, CallFailed) else (error.code().name, error.details())


def predict_request(**fields: object):
    request = message("tensorflow.serving.PredictRequest")()
    request.model_spec.name = "half_plus_two"
    request.model_spec.version.value = 1
    for alias, value in fields.items():
        request.inputs[alias].CopyFrom(value if hasattr(value, "DESCRIPTOR") else to_proto(value))
    return request


def test_predict_echoes_the_resolved_model_and_answers_typed_fields(call):
    request = predict_request(x=X)
    request.model_spec.ClearField("version")
    response = call(PREDICTION, "Predict", request, "PredictResponse")
    spec = response.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("half_plus_two", "serving_default", 2)
    assert list(response.outputs["y"].float_val) == [3.5, 4.0, 5.5]
    assert not response.outputs["y"].tensor_content


def test_a_label_chooses_its_version(call):
    request = predict_request(x=X)
    request.model_spec.version_label = "stable"
    assert call(PREDICTION, "Predict", request, "PredictResponse").model_spec.version.value == 1
    request.model_spec.version_label = "beta"
    expected = ("INVALID_ARGUMENT", "Unrecognized servable version label: beta")
    assert refused(lambda: call(PREDICTION, "Predict", request, "PredictResponse")) == expected


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.5, -2.5]], np.float32),
        np.array([1.5], np.float64),
        np.array([-128, 127], np.int8),
        np.array([-32768], np.int16),
        np.array(-5, np.int32),
        np.array([2**63 - 1], np.int64),
        np.array([255], np.uint8),
        np.array([65535], np.uint16),
        np.array([2**32 - 1], np.uint32),
        np.array([2**64 - 1], np.uint64),
        np.array([True, False]),
        np.array([1.5, -0.25], np.float16),
        np.array([1.5, -0.25], ml_dtypes.bfloat16),
        np.array([1 + 2j], np.complex64),
        np.array([1 + 2j], np.complex128),
        np.array([[b"a", b"\xff\x00"]], object),
        np.zeros((0, 3), np.float32),
    ],
    ids=lambda array: array.dtype.name,
)
def test_every_dtype_comes_back_as_it_went(grpc_client: GrpcClient, array: np.ndarray):
    name = "string" if array.dtype == object else array.dtype.name
    outputs = grpc_client.predict("kinds", {"x": array}, signature=f"echo_{name}")
    assert outputs["y"].dtype == array.dtype
    assert outputs["y"].shape == array.shape
    assert outputs["y"].tolist() == array.tolist()


@pytest.mark.parametrize(
    ("model", "inputs", "options", "code", "text"),
    [
        ("", {"x": X}, {}, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        ("nobody", {"x": X}, {}, "NOT_FOUND", "Servable not found for request: Latest(nobody)"),
        (
            "half_plus_two",
            {"x": X},
            {"version": 9},
            "NOT_FOUND",
            "Servable not found for request: Specific(half_plus_two, 9)",
        ),
        ("half_plus_two", {"x": X}, {"signature": "s"}, "FAILED_PRECONDITION", 'Serving signature key "s" not found.'),
        (
            "half_plus_two",
            {},
            {},
            "INVALID_ARGUMENT",
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
        ),
        (
            "half_plus_two",
            {"x": X, "z": X},
            {},
            "INVALID_ARGUMENT",
            "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but",
        ),
        (
            "half_plus_two",
            {"x": X.astype(np.float64)},
            {},
            "INVALID_ARGUMENT",
            "Expects arg[0] to be float but double is provided",
        ),
        (
            "half_plus_two",
            {"z": X},
            {},
            "INVALID_ARGUMENT",
            "Signature input alias: x(feed name: x:0) not found in request and no default value provided.",
        ),
    ],
)
def test_a_wrong_predict_request_is_told(grpc_client: GrpcClient, model, inputs, options, code, text):
    found = refused(lambda: grpc_client.predict(model, inputs, **options))
    assert found[0] == code
    assert text in found[1]


def test_a_request_without_a_model_is_told(call):
    for method, request, kind in (
        ("Predict", "PredictRequest", "PredictResponse"),
        ("Classify", "ClassificationRequest", "ClassificationResponse"),
        ("GetModelMetadata", "GetModelMetadataRequest", "GetModelMetadataResponse"),
    ):
        empty = message(f"tensorflow.serving.{request}")()
        assert refused(lambda: call(PREDICTION, method, empty, kind)) == ("INVALID_ARGUMENT", "Missing ModelSpec")  # noqa: B023


def test_bytes_that_disagree_with_the_shape_are_told(call):
    tensor = to_proto(X)
    tensor.tensor_content = tensor.tensor_content[:-1]
    expected = ("INVALID_ARGUMENT", "tensor parsing error: x")
    assert refused(lambda: call(PREDICTION, "Predict", predict_request(x=tensor), "PredictResponse")) == expected


def test_one_typed_value_fills_the_whole_shape(call):
    tensor = message("tensorflow.TensorProto")(dtype=1, float_val=[4.0])
    tensor.tensor_shape.dim.add().size = 3
    response = call(PREDICTION, "Predict", predict_request(x=tensor), "PredictResponse")
    assert list(response.outputs["y"].float_val) == [4.0, 4.0, 4.0]


def test_an_output_filter_chooses_and_is_checked(call):
    request = message("tensorflow.serving.PredictRequest")()
    request.model_spec.name, request.model_spec.signature_name = "kinds", "pair"
    request.inputs["a"].CopyFrom(to_proto(np.float32([1])))
    request.inputs["b"].CopyFrom(to_proto(np.int64([2])))
    request.output_filter.append("sum")
    assert list(call(PREDICTION, "Predict", request, "PredictResponse").outputs) == ["sum"]
    request.output_filter.append("sum")
    assert (
        refused(lambda: call(PREDICTION, "Predict", request, "PredictResponse"))[1]
        == "duplicate output tensor alias: sum"
    )
    request.output_filter[1] = "z"
    text = "output tensor alias not found in signature: z Outputs expected to be in the set {b,sum}."
    assert refused(lambda: call(PREDICTION, "Predict", request, "PredictResponse")) == ("INVALID_ARGUMENT", text)


def test_a_signature_without_inputs_can_be_called(grpc_client: GrpcClient):
    assert grpc_client.predict("kinds", {}, signature="nothing")["y"].tolist() == [1.0]


def test_long_details_are_cut(grpc_client: GrpcClient):
    code, text = refused(lambda: grpc_client.predict("half_plus_two", {"x": X}, signature="s" * 2000))
    assert code == "FAILED_PRECONDITION"
    assert text.endswith("...TRUNCATED")
    assert len(text) == 1024 + len("...TRUNCATED")


def test_both_protocols_answer_the_same(grpc_client: GrpcClient, rest_client: RestClient):
    by_grpc = grpc_client.predict("kinds", {"a": X, "b": np.int64([1, 2, 3])}, signature="pair")
    by_rest = rest_client.predict("kinds", {"a": X, "b": np.int64([1, 2, 3])}, signature="pair")
    assert by_grpc.keys() == by_rest.keys()
    for alias, array in by_grpc.items():
        assert array.dtype == by_rest[alias].dtype
        assert array.tolist() == by_rest[alias].tolist()
    texts = {"s": np.array([b"a", "ü".encode()], object)}
    assert rest_client.predict("kinds", texts, signature="texts")["raw_bytes"].tolist() == [b"a", "ü".encode()]
    assert grpc_client.metadata("kinds") == rest_client.metadata("kinds")
    assert grpc_client.status("half_plus_two") == rest_client.status("half_plus_two")


def test_metadata_is_checked(call):
    request = message("tensorflow.serving.GetModelMetadataRequest")()
    request.model_spec.name = "half_plus_two"
    ask = lambda: call(PREDICTION, "GetModelMetadata", request, "GetModelMetadataResponse")  # noqa: E731
    assert refused(ask)[1] == "GetModelMetadataRequest must specify at least one metadata_field"
    request.metadata_field.append("graph")
    assert refused(ask) == ("INVALID_ARGUMENT", "Metadata field graph is not supported")


def test_status_of_what_is_not_there_is_not_found(grpc_client: GrpcClient):
    assert refused(lambda: grpc_client.status("nobody")) == ("NOT_FOUND", "Could not find any versions of model nobody")
    expected = ("NOT_FOUND", "Could not find version 9 of model half_plus_two")
    assert refused(lambda: grpc_client.status("half_plus_two", 9)) == expected


def examples_request(kind: str, signature: str, *values: float):
    request = message(f"tensorflow.serving.{kind}")()
    request.model_spec.name, request.model_spec.signature_name = "half_plus_two", signature
    request.model_spec.version.value = 1
    for value in values:
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(value)
    return request


def test_classify_and_regress_answer_examples(call):
    classified = call(
        PREDICTION,
        "Classify",
        examples_request("ClassificationRequest", "classify_x_to_y", 1.0, 2.0),
        "ClassificationResponse",
    )
    assert [(c.classes[0].label, c.classes[0].score) for c in classified.result.classifications] == [
        ("half", 2.5),
        ("half", 3.0),
    ]
    regressed = call(
        PREDICTION, "Regress", examples_request("RegressionRequest", "regress_x_to_y", 1.0), "RegressionResponse"
    )
    assert [r.value for r in regressed.result.regressions] == [2.5]
    assert regressed.model_spec.version.value == 1


def test_wrong_examples_are_told(call):
    ask = lambda signature, *values: refused(  # noqa: E731
        lambda: call(
            PREDICTION, "Regress", examples_request("RegressionRequest", signature, *values), "RegressionResponse"
        )
    )
    assert ask("regress_x_to_y") == ("INVALID_ARGUMENT", "Input is empty.")
    assert ask("s", 1.0) == ("INVALID_ARGUMENT", "No signature was found with the name: s")
    assert ask("serving_default", 1.0)[1].startswith("No regression inputs found in SignatureDef")


def test_multi_inference_answers_each_task_and_refuses_a_mixture(call):
    request = message("tensorflow.serving.MultiInferenceRequest")()
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(1.0)
    for signature, method in (("regress_x_to_y", "regress"), ("classify_x_to_y", "classify")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "half_plus_two", signature
        task.model_spec.version.value = 1
    ask = lambda: call(PREDICTION, "MultiInference", request, "MultiInferenceResponse")  # noqa: E731
    results = ask().results
    assert results[0].regression_result.regressions[0].value == 2.5
    assert results[1].classification_result.classifications[0].classes[0].label == "half"
    request.tasks[1].model_spec.signature_name = "regress_x_to_y"
    assert refused(ask) == ("INVALID_ARGUMENT", "Duplicate evaluation of signature: regress_x_to_y")
    request.tasks[1].model_spec.name = "kinds"
    assert refused(ask)[1] == "All ModelSpecs in a MultiInferenceRequest must access the same model name."
    request.tasks[1].model_spec.name, request.tasks[1].model_spec.signature_name = "half_plus_two", "serving_default"
    request.tasks[1].method_name = "tensorflow/serving/predict"
    assert refused(ask) == ("UNIMPLEMENTED", "Unsupported signature method_name: tensorflow/serving/predict")


def test_a_reload_without_a_list_is_refused(call):
    request = message("tensorflow.serving.ReloadConfigRequest")()
    found = refused(lambda: call(MODEL, "HandleReloadConfigRequest", request, "ReloadConfigResponse"))
    assert found[0] == "INVALID_ARGUMENT"
    assert found[1].startswith("ServerModelConfig type not supported by HandleReloadConfigRequest.")


def test_a_prepared_request_and_a_future_answer_as_predict_does(grpc_client: GrpcClient):
    prepared = grpc_client.prepare("half_plus_two", {"x": X}, version=1)
    assert prepared == grpc_client.prepare("half_plus_two", {"x": X}, version=1)
    assert grpc_client.call(prepared)["y"].tolist() == [2.5, 3.0, 4.5]
    assert grpc_client.predict_async("half_plus_two", {"x": X}, version=1).result(30)["y"].tolist() == [2.5, 3.0, 4.5]
    failed = grpc_client.predict_async("nobody", {"x": X}).exception(30)
    assert isinstance(failed, CallFailed)
    assert failed.code == "NOT_FOUND"


def test_a_deadline_is_kept(grpc_client: GrpcClient):
    code, _ = refused(
        lambda: grpc_client.predict("kinds", {"rounds": np.int32(3000)}, signature="slow", timeout_s=0.05)
    )
    assert code == "DEADLINE_EXCEEDED"


def test_an_input_with_a_default_may_be_left_out_and_one_without_may_not(grpc_client: GrpcClient):
    a, b = np.float32([1, 2]), np.int64([5, 6])
    assert grpc_client.predict("kinds", {"a": a}, signature="defaulted")["sum"].tolist() == [11.0, 12.0]
    assert grpc_client.predict("kinds", {"a": a, "b": b}, signature="defaulted")["sum"].tolist() == [6.0, 8.0]
    with pytest.raises(CallFailed) as caught:
        grpc_client.predict("kinds", {"b": b}, signature="defaulted")
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.message.startswith("Signature input alias: a(feed name: ")
    assert "not found in request and no default value provided" in caught.value.message


def test_the_metadata_tells_the_defaults(call):
    request = message("tensorflow.serving.GetModelMetadataRequest")()
    request.model_spec.name = "kinds"
    request.metadata_field.append("signature_def")
    response = call(PREDICTION, "GetModelMetadata", request, "GetModelMetadataResponse")
    definitions = message("tensorflow.serving.SignatureDefMap").FromString(response.metadata["signature_def"].value)
    assert list(definitions.signature_def["defaulted"].defaults["b"].int64_val) == [10]
