"""Classify, Regress and MultiInference: requests of ``tf.Example`` on signatures of those methods.

Sources: tensorflow/serving, servables/tensorflow/{classifier,regressor,multi_inference,util}.cc.
"""

from typing import Any

import numpy as np

from components.core.signature import CLASSIFY_METHOD, DEFAULT_SIGNATURE, REGRESS_METHOD, Signature
from components.savedmodel.messages import message
from components.savedmodel.tensors import Array, dtype_number
from components.serving.predict import ServedModel, run
from components.serving.status import ServingError, invalid

_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"


def classify(model: ServedModel, key: str, examples: Any, result: Any) -> None:  # noqa: ANN401 - dynamic messages
    """Fill a ``ClassificationResult`` from an ``Input``.

    Raises:
        ServingError: The signature, the examples or the answer's shape are refused.
    """
    signature = _signature(model, key, CLASSIFY_METHOD)
    _check_classification(signature)
    inputs = _serialized(examples)
    outputs = run(model, key or DEFAULT_SIGNATURE, {_INPUTS: inputs}, _present(signature))
    _fill_classification(outputs, len(inputs), result)


def regress(model: ServedModel, key: str, examples: Any, result: Any) -> None:  # noqa: ANN401
    """Fill a ``RegressionResult`` from an ``Input``.

    Raises:
        ServingError: The signature, the examples or the answer's shape are refused.
    """
    signature = _signature(model, key, REGRESS_METHOD)
    _check_regression(signature)
    inputs = _serialized(examples)
    outputs = run(model, key or DEFAULT_SIGNATURE, {_INPUTS: inputs}, [_OUTPUTS])
    _fill_regression(outputs[_OUTPUTS], len(inputs), result)


def multi_inference(model: ServedModel, version: int, request: Any, response: Any) -> None:  # noqa: ANN401
    """Fill a ``MultiInferenceResponse``: several classify and regress signatures of one model on the same examples.

    Raises:
        ServingError: As for the single methods, for tasks of different models, or for a signature asked twice.
    """
    _check_tasks(model, request)
    for task in request.tasks:
        result = response.results.add()
        key = task.model_spec.signature_name
        if task.method_name == CLASSIFY_METHOD:
            classify(model, key, request.input, result.classification_result)
        else:
            regress(model, key, request.input, result.regression_result)
        result.model_spec.name = task.model_spec.name
        result.model_spec.signature_name = key or DEFAULT_SIGNATURE
        result.model_spec.version.value = version


def _check_tasks(model: ServedModel, request: Any) -> None:  # noqa: ANN401
    names: set[str] = set()
    keys: set[str] = set()
    for task in request.tasks:
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        names.add(task.model_spec.name)
        if len(names) > 1:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        key = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if key in keys:
            raise invalid(f"Duplicate evaluation of signature: {key}")
        keys.add(key)
        if key not in model.signatures:
            raise invalid(f"Requested signature not found in model graph: {key}")
        if task.method_name == CLASSIFY_METHOD:
            _check_classification(model.signatures[key])
        elif task.method_name == REGRESS_METHOD:
            _check_regression(model.signatures[key])
        else:
            raise ServingError("UNIMPLEMENTED", f"Unsupported signature method_name: {task.method_name}")


def _signature(model: ServedModel, key: str, method: str) -> Signature:
    found = model.signatures.get(key or DEFAULT_SIGNATURE)
    if found is None:
        raise invalid(f"No signature was found with the name: {key or DEFAULT_SIGNATURE}")
    if model.check_method_names and found.method_name != method:
        kind = "classification" if method == CLASSIFY_METHOD else "regression"
        raise invalid(f"Expected {kind} signature method_name to be {method}. Was: {found.method_name}")
    return found


def _check_classification(signature: Signature) -> None:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {signature}")
    if not _present(signature):
        raise invalid(
            f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or "{_SCORES}". '
            f"Signature was: {signature}"
        )


def _present(signature: Signature) -> list[str]:
    return [alias for alias in (_CLASSES, _SCORES) if alias in signature.outputs]


def _check_regression(signature: Signature) -> None:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if _INPUTS not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {signature}")
    if _OUTPUTS not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {signature}")


def _serialized(examples: Any) -> Array:  # noqa: ANN401 - an Input
    """Return the examples as a vector of bytes; a context is put before each (InputToSerializedExampleTensor)."""
    kind = examples.WhichOneof("kind")
    context = b""
    found = []
    if kind is not None:
        listed = getattr(examples, kind)
        if kind == "example_list_with_context":
            context = listed.context.SerializeToString(deterministic=True)
        found = [context + example.SerializeToString(deterministic=True) for example in listed.examples]
    if not found:
        raise invalid("Input is empty.")
    array = np.empty(len(found), object)
    array[:] = found
    return array


def _fill_classification(outputs: dict[str, Array], count: int, result: Any) -> None:  # noqa: ANN401
    for alias, array in outputs.items():
        right = array.dtype == (object if alias == _CLASSES else np.float32)
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        if not right:
            wanted = "DT_STRING" if alias == _CLASSES else "DT_FLOAT"
            raise invalid(f"Expected {alias} Tensor of {wanted}. Got: {_data_type(array)}")
        if array.shape[0] != count:
            raise invalid(f"Expected {alias} output batch size of {count}. Got: {array.shape[0]}")
    widths = {array.shape[1] for array in outputs.values()}
    if len(widths) > 1:
        sizes = " vs. ".join(str(outputs[alias].shape[1]) for alias in (_CLASSES, _SCORES))
        raise invalid(f"Tensors class and score should match in dim_size(1). Got {sizes}")
    classes, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    for row in range(count):
        classifications = result.classifications.add()
        for column in range(next(iter(widths))):
            entry = classifications.classes.add()
            if classes is not None:
                entry.label = classes[row, column]
            if scores is not None:
                entry.score = scores[row, column]


def _fill_regression(array: Array, count: int, result: Any) -> None:  # noqa: ANN401
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got " + _shape(array)
        )
    if array.shape[0] != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {array.shape[0]}")
    if array.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_data_type(array)}")
    for value in array.ravel().tolist():
        result.regressions.add().value = value


def _shape(array: Array) -> str:
    return f"[{','.join(str(size) for size in array.shape)}]"


def _data_type(array: Array) -> str:
    name = "string" if array.dtype == object else array.dtype.name
    enum = message("tensorflow.TensorProto").DESCRIPTOR.fields_by_name["dtype"].enum_type
    return str(enum.values_by_number[dtype_number(name)].name)
