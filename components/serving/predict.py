"""Answers one predict request on a loaded model, with TensorFlow Serving's checks, their order and their texts.

Sources: tensorflow/serving, servables/tensorflow/predict_util.cc; tensorflow, cc/saved_model/util.cc.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from components.core.errors import Rejected
from components.core.signature import CLASSIFY_METHOD, DEFAULT_SIGNATURE, PREDICT_METHOD, REGRESS_METHOD, Signature
from components.savedmodel.tensors import Array, from_proto, short_name
from components.serving.status import CODES, ServingError, invalid


class Runnable(Protocol):
    """What ``components.savedmodel.load.Servable`` offers: the part that runs."""

    @property
    def defaults(self) -> Mapping[str, Mapping[str, Array]]:
        """Values of inputs that a request may leave out, by signature key and alias."""
        ...

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Run a signature."""
        ...

    def close(self) -> None:
        """Free the session."""
        ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded version.

    Args:
        runnable: Its session.
        signatures: Signatures by key.
        definitions: Its ``SignatureDefMap``, as metadata answers it.
        check_method_names: Whether a signature of another method is refused.
    """

    runnable: Runnable
    signatures: Mapping[str, Signature]
    definitions: Any
    check_method_names: bool = False

    def close(self) -> None:
        """Free the session."""
        self.runnable.close()


def predict(model: ServedModel, key: str, protos: Mapping[str, Any], output_filter: Sequence[str]) -> dict[str, Array]:
    """Answer a predict request whose inputs are ``TensorProto`` messages.

    Args:
        model: The loaded version.
        key: Signature key; empty means ``serving_default``.
        protos: Inputs by alias.
        output_filter: Output aliases wanted; all if empty.

    Raises:
        ServingError: Whatever the real server would refuse, and what TensorFlow itself does.
    """
    signature = find_signature(model, key)
    defaults = model.runnable.defaults.get(key or DEFAULT_SIGNATURE, {})
    _check_count(signature, protos, defaults)
    inputs = _inputs(signature, protos, defaults)
    _check_filter(signature, output_filter)
    _check_types(signature, inputs)
    return run(model, key or DEFAULT_SIGNATURE, inputs, list(output_filter) or None)


def find_signature(model: ServedModel, key: str) -> Signature:
    """Return a signature for Predict.

    Raises:
        ServingError: FAILED_PRECONDITION if there is none, INTERNAL if it may not be called by Predict.
    """
    found = model.signatures.get(key or DEFAULT_SIGNATURE)
    if found is None:
        raise ServingError("FAILED_PRECONDITION", f'Serving signature key "{key or DEFAULT_SIGNATURE}" not found.')
    methods = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
    if model.check_method_names and found.method_name not in methods:
        raise ServingError(
            "INTERNAL",
            f"Expected prediction signature method_name to be one of {{{', '.join(methods)}}}. "
            f"Was: {found.method_name}",
        )
    return found


def _check_count(signature: Signature, sent: Mapping[str, object], defaults: Mapping[str, object]) -> None:
    count, expected = len(sent), len(signature.inputs)
    if count > expected or (count < expected and not defaults):
        raise invalid(
            f"input size does not match signature: {count}!={expected} len({{{_join(sent)}}}) != "
            f"len({{{_join(signature.inputs)}}}). Sent extra: {{{_join(sent.keys() - signature.inputs.keys())}}}. "
            f"Missing but required: {{{_join(signature.inputs.keys() - sent.keys())}}}."
        )


def _inputs(signature: Signature, sent: Mapping[str, Any], defaults: Mapping[str, Array]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for alias, spec in signature.inputs.items():
        if alias in sent:
            found[alias] = _parse(alias, sent[alias])
        elif alias not in defaults:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {spec.name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {{{_join(sent)}}}, or default input alias set: "
                f"{_join(defaults)}"
            )
    if sent.keys() - found.keys():
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {_join(found)}, request input: {_join(sent)}"
        )
    return found


def _parse(alias: str, proto: Any) -> Array:  # noqa: ANN401 - a TensorProto
    try:
        return from_proto(proto)
    except Rejected as error:
        raise invalid(f"tensor parsing error: {alias}") from error


def _check_filter(signature: Signature, output_filter: Sequence[str]) -> None:
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_join(signature.outputs)}}}."
            )
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.add(alias)


def _check_types(signature: Signature, inputs: Mapping[str, Array]) -> None:
    """Refuse another dtype as the real session does, which sorts its feeds by tensor name (direct_session.cc).

    The callable of TensorFlow's Python API notices it later, inside the graph, with another text.
    """
    by_feed = sorted(inputs, key=lambda alias: signature.inputs[alias].name)
    for index, alias in enumerate(by_feed):
        sent, wanted = short_name(inputs[alias].dtype.name), short_name(signature.inputs[alias].dtype)
        if sent != wanted:
            raise invalid(f"from Session::Run: Expects arg[{index}] to be {wanted} but {sent} is provided")


def run(
    model: ServedModel, key: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
) -> dict[str, Array]:
    """Run a signature whose request was checked.

    Raises:
        ServingError: What TensorFlow refused, with its code; INTERNAL for what is nobody's input.
    """
    try:
        return model.runnable.run(key, inputs, outputs)
    except ServingError:  # of batching
        raise
    except Exception as error:
        raise _from_tensorflow(error) from error


def _from_tensorflow(error: Exception) -> ServingError:
    # tf.errors.OpError carries the number of its code; this module does not import tensorflow to know the class
    number = getattr(error, "error_code", None)
    if isinstance(number, int) and 0 < number < len(CODES):
        return ServingError(CODES[number], str(getattr(error, "message", error)))
    if isinstance(error, Rejected | TypeError | ValueError):
        return invalid(str(error))
    return ServingError("INTERNAL", f"{type(error).__name__}: {error}")


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
