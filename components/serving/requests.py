"""Values to TensorFlow Serving's messages and back: what both clients and the canary's prepared requests share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.core.signature import DEFAULT_SIGNATURE, Contract, Shape, Signature, TensorSpec
from components.savedmodel.messages import enum_name, message
from components.savedmodel.tensors import Array, dtype_name, from_proto, to_proto

_INIT_OP = "__saved_model_init_op"
"""A signature that TensorFlow 2 writes for its own initializer; no client calls it."""


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version of a served model.

    Args:
        version: Its number.
        state: ``START``, ``LOADING``, ``AVAILABLE``, ``UNLOADING`` or ``END``.
        code: gRPC status name of its last error; ``OK`` if there is none.
        message: That error's text.
    """

    version: int
    state: str
    code: str = "OK"
    message: str = ""


def predict_request(
    model: str, inputs: Mapping[str, npt.ArrayLike], signature: str = DEFAULT_SIGNATURE, version: int | None = None
) -> bytes:
    """Return a serialized ``PredictRequest``; the same values give the same bytes.

    Raises:
        Rejected: An input cannot be sent.
    """
    request = message("tensorflow.serving.PredictRequest")()
    name_model(request.model_spec, model, version)
    request.model_spec.signature_name = signature
    for alias, array in inputs.items():
        request.inputs[alias].CopyFrom(to_proto(np.asarray(array)))
    data: bytes = request.SerializeToString(deterministic=True)
    return data


def name_model(spec: Any, model: str, version: int | None) -> None:  # noqa: ANN401 - a dynamic message
    """Fill a ``ModelSpec``; no version means whatever the server calls its latest."""
    spec.name = model
    if version is not None:
        spec.version.value = version


def predict_response(data: bytes) -> dict[str, Array]:
    """Return the outputs of a serialized ``PredictResponse`` by alias."""
    response = message("tensorflow.serving.PredictResponse").FromString(data)
    return {alias: from_proto(response.outputs[alias]) for alias in sorted(response.outputs)}


def statuses(response: Any) -> list[VersionStatus]:  # noqa: ANN401
    """Return a ``GetModelStatusResponse`` as values, newest version first."""
    found = [
        VersionStatus(
            version=item.version,
            state=enum_name("tensorflow.serving.ModelVersionStatus.State", item.state),
            code=enum_name("tensorflow.error.Code", item.status.error_code),
            message=item.status.error_message,
        )
        for item in response.model_version_status
    ]
    return sorted(found, key=lambda status: -status.version)


def contract(signature_def_map: Any) -> Contract:  # noqa: ANN401
    """Return a ``SignatureDefMap`` as a contract; a server does not tell the tags, so they are the default ones."""
    definitions = signature_def_map.signature_def
    return Contract({key: _signature(definitions[key]) for key in sorted(definitions) if key != _INIT_OP})


def _signature(definition: Any) -> Signature:  # noqa: ANN401
    return Signature(
        inputs={alias: _tensor(definition.inputs[alias]) for alias in sorted(definition.inputs)},
        outputs={alias: _tensor(definition.outputs[alias]) for alias in sorted(definition.outputs)},
        method_name=definition.method_name,
    )


def _tensor(info: Any) -> TensorSpec:  # noqa: ANN401
    shape: Shape = None
    if not info.tensor_shape.unknown_rank:
        shape = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    return TensorSpec(dtype_name(info.dtype), shape, info.name)
