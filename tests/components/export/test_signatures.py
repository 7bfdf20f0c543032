import pytest

from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec
from components.core.spec import Port, SignatureSpec
from components.export.signatures import bind, require_all_inputs

MODEL = Signature(
    inputs={"keras_tensor": TensorSpec("float32", (None, 4), "x:0")},
    outputs={"dense": TensorSpec("float32", (None, 3), "y:0"), "logits": TensorSpec("float32", (None, None), "z:0")},
)


def bound(model: Signature = MODEL, **outputs: Port):
    wanted = SignatureSpec(inputs={"x": Port()}, outputs=outputs or {"dense": Port()})
    return bind("serving_default", wanted, model)


def test_the_only_input_needs_no_name():
    assert bound().inputs["x"][0] == "keras_tensor"


def test_an_alias_may_be_another_name_for_an_output():
    assert bound(probabilities=Port(source="dense")).outputs["probabilities"] == ("dense", MODEL.outputs["dense"])


def test_one_of_several_must_be_named_and_the_message_lists_them():
    with pytest.raises(Rejected, match=r"dense \(float32\[\?, 3\]\), logits") as caught:
        bound(probabilities=Port())
    assert caught.value.reason == "SIGNATURE_MISSING"
    assert "export.signatures.serving_default.outputs.probabilities.source" in caught.value.fix


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        (Port(source="dense", dtype="float64"), "SIGNATURE_DTYPE"),
        (Port(source="dense", shape=(None, 4)), "SIGNATURE_SHAPE"),
        (Port(source="logits", shape=(None, 3)), "SIGNATURE_SHAPE"),
    ],
)
def test_an_output_that_promises_less_than_expected_is_refused(port, reason):
    with pytest.raises(Rejected) as caught:
        bound(y=port)
    assert caught.value.reason == reason


def test_an_output_may_promise_more_and_an_input_accept_more_than_expected():
    wanted = SignatureSpec(inputs={"x": Port(shape=(1, 4))}, outputs={"dense": Port(shape=(None, None))})

    assert bind("serving_default", wanted, MODEL).outputs.keys() == {"dense"}


def test_an_input_that_accepts_less_than_expected_is_refused():
    wanted = SignatureSpec(inputs={"x": Port(shape=(None, None))}, outputs={"dense": Port()})
    with pytest.raises(Rejected):
        bind("serving_default", wanted, MODEL)


def test_every_input_of_the_model_must_be_fed():
    two = Signature({"a": MODEL.inputs["keras_tensor"], "b": MODEL.inputs["keras_tensor"]}, MODEL.outputs)
    wanted = SignatureSpec(inputs={"a": Port()}, outputs={"dense": Port()})
    with pytest.raises(Rejected, match="does not feed b"):
        require_all_inputs("serving_default", bind("serving_default", wanted, two), two)
