"""The client of TensorFlow Serving's gRPC protocol."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from components.core.clock import Clock, SystemClock
from components.core.errors import Rejected, SlipwayError
from components.core.signature import DEFAULT_SIGNATURE, Contract
from components.savedmodel.messages import enum_name, message, pool
from components.savedmodel.tensors import Array
from components.serving.calls import DEFAULT_TIMEOUT_S, CallFailed, Inputs, Prepared, T, persist
from components.serving.requests import VersionStatus, contract, name_model, predict_request, predict_response, statuses

PREDICT = "/tensorflow.serving.PredictionService/Predict"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    # a server that has just been started is tried again soon, not after gRPC's default of up to two minutes
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class GrpcClient:
    """The gRPC protocol (prediction_service.proto, model_service.proto).

    Args:
        address: ``host:port``, or ``unix:PATH`` of a socket.
        root_certificates: PEM bytes; plain-text HTTP/2 (h2c) if not given.
        client_certificate: PEM bytes of our own key and certificate, where the server asks for them.
        retries: Further tries after UNAVAILABLE, within the call's deadline.
        clock: Time between tries.
    """

    def __init__(
        self,
        address: str,
        *,
        root_certificates: bytes | None = None,
        client_certificate: tuple[bytes, bytes] | None = None,
        retries: int = 0,
        clock: Clock | None = None,
    ) -> None:
        import grpc  # noqa: PLC0415 - 50 ms that commands which ask no server should not pay

        self._grpc = grpc
        if root_certificates is None:
            self._channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
        else:
            tls = grpc.ssl_channel_credentials(root_certificates, *(client_certificate or ()))
            self._channel = grpc.secure_channel(address, tls, options=_CHANNEL_OPTIONS)
        self._methods = {name: self._channel.unary_unary(name) for name in (PREDICT, _METADATA, _STATUS, _RELOAD)}
        self._retries = retries
        self._clock = clock or SystemClock()

    def _ask(self, method: str, body: bytes, timeout_s: float) -> bytes:
        def attempt(left_s: float) -> bytes:
            try:
                answer: bytes = self._methods[method](body, timeout=left_s)
            except self._grpc.RpcError as error:
                raise _from_rpc(error) from None
            return answer

        return persist(attempt, timeout_s=timeout_s, retries=self._retries, clock=self._clock)

    def predict(
        self,
        model: str,
        inputs: Inputs,
        *,
        signature: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> dict[str, Array]:
        """Return the outputs by alias; strings are object arrays of bytes.

        Raises:
            CallFailed: The server refused or did not answer in time.
            Rejected: An input cannot be encoded.
        """
        return self.call(self.prepare(model, inputs, signature=signature, version=version), timeout_s=timeout_s)

    def predict_async(
        self,
        model: str,
        inputs: Inputs,
        *,
        signature: str = DEFAULT_SIGNATURE,
        version: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> "Future[dict[str, Array]]":
        """Send a request without waiting; the future holds the outputs or CallFailed. Never retried."""
        prepared = self.prepare(model, inputs, signature=signature, version=version)
        return self._later(prepared, timeout_s, predict_response)

    def send_async(self, prepared: Prepared, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> "Future[bytes]":
        """Send a prepared request without waiting; the future holds the raw answer or CallFailed. Never retried."""
        return self._later(prepared, timeout_s, bytes)

    def _later(self, prepared: Prepared, timeout_s: float, decode: Callable[[bytes], T]) -> "Future[T]":
        promised: Future[T] = Future()
        promised.set_running_or_notify_cancel()

        def settle(call: Any) -> None:  # noqa: ANN401 - grpc has no types
            try:
                promised.set_result(decode(call.result()))
            except self._grpc.FutureCancelledError:
                promised.set_exception(CallFailed("CANCELLED", "the client was closed"))
            except self._grpc.RpcError as error:
                promised.set_exception(_from_rpc(error))
            except SlipwayError as error:
                promised.set_exception(error)

        self._methods[prepared.target].future(prepared.body, timeout=timeout_s).add_done_callback(settle)
        return promised

    def prepare(
        self, model: str, inputs: Inputs, *, signature: str = DEFAULT_SIGNATURE, version: int | None = None
    ) -> Prepared:
        """Encode a predict request."""
        return Prepared(PREDICT, predict_request(model, inputs, signature, version))

    def send(self, prepared: Prepared, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> bytes:
        """Send a prepared request and return the serialized ``PredictResponse``."""
        return self._ask(prepared.target, prepared.body, timeout_s)

    def decode(self, prepared: Prepared, answer: bytes) -> dict[str, Array]:  # noqa: ARG002 - gRPC answers carry it all
        """Decode a serialized ``PredictResponse``."""
        return predict_response(answer)

    def call(self, prepared: Prepared, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> dict[str, Array]:
        """Send a prepared request and decode the answer."""
        return self.decode(prepared, self.send(prepared, timeout_s=timeout_s))

    def status(
        self, model: str, version: int | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> list[VersionStatus]:
        """Return the state of one version, or of all the server knows, newest first."""
        request = message("tensorflow.serving.GetModelStatusRequest")()
        name_model(request.model_spec, model, version)
        answer = self._ask(_STATUS, request.SerializeToString(), timeout_s)
        return statuses(message("tensorflow.serving.GetModelStatusResponse").FromString(answer))

    def metadata(self, model: str, version: int | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Contract:
        """Return the signatures of a version; only an AVAILABLE one answers."""
        request = message("tensorflow.serving.GetModelMetadataRequest")()
        name_model(request.model_spec, model, version)
        request.metadata_field.append("signature_def")
        answer = self._ask(_METADATA, request.SerializeToString(), timeout_s)
        response = message("tensorflow.serving.GetModelMetadataResponse").FromString(answer)
        packed = response.metadata["signature_def"].value
        return contract(message("tensorflow.serving.SignatureDefMap").FromString(packed))

    def reload(self, model_config: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Replace the server's whole model configuration, and wait until it is served.

        Args:
            model_config: A ``ModelServerConfig`` in text format; models missing from it are unloaded.
            timeout_s: Seconds until the configuration must be served.

        Raises:
            CallFailed: The server refuses it, or a model did not become available.
            Rejected: The text is no ``ModelServerConfig``.
        """
        from google.protobuf import text_format  # noqa: PLC0415 - only who reloads needs the parser

        request = message("tensorflow.serving.ReloadConfigRequest")()
        try:
            text_format.Parse(model_config, request.config, descriptor_pool=pool())
        except text_format.ParseError as error:
            raise Rejected("not a ModelServerConfig in text format", got=str(error), reason="MODEL_CONFIG") from error
        answer = self._ask(_RELOAD, request.SerializeToString(), timeout_s)
        status = message("tensorflow.serving.ReloadConfigResponse").FromString(answer).status
        if status.error_code:
            raise CallFailed(enum_name("tensorflow.error.Code", status.error_code), status.error_message)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _from_rpc(error: Any) -> CallFailed:  # noqa: ANN401
    return CallFailed(error.code().name, error.details() or "")
