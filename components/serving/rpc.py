"""The gRPC protocol: TensorFlow Serving's services, and grpc.health, by generic handlers over our own messages."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from components.savedmodel.messages import message
from components.serving.configs import declared_message
from components.serving.service import Service
from components.serving.status import ServingError

_PACKAGE = "tensorflow.serving"
_SERVING, _HEALTH_SERVICES = 1, frozenset({"", "ModelService", "PredictionService"})


def make_server(
    service: Service, threads: ThreadPoolExecutor, *, channel_arguments: str = "", health: bool = False
) -> Any:  # noqa: ANN401 - grpc has no types
    """Return a gRPC server that answers by ``service``; it has no port yet.

    Args:
        service: What answers.
        threads: Threads that answer.
        channel_arguments: ``name=value,…`` for gRPC.
        health: Whether grpc.health.v1.Health answers for ModelService and PredictionService.
    """
    options: list[tuple[str, int | str]] = [
        ("grpc.so_reuseport", 0),  # else a second server on the same port starts, and takes half of the requests
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    for argument in filter(None, channel_arguments.split(",")):
        name, _, value = argument.partition("=")
        options.append((name, int(value) if value.lstrip("-").isdigit() else value))
    server = grpc.server(threads, options=options)
    server.add_generic_rpc_handlers(tuple(_handlers(service, health=health)))
    return server


def _handlers(service: Service, *, health: bool) -> list[Any]:
    def counted(api: str, answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(request: Any) -> Any:  # noqa: ANN401
            spec = request.tasks[0].model_spec if api == "MultiInference" and request.tasks else None
            name = (spec if spec is not None else getattr(request, "model_spec", None) or _NoSpec).name
            return service.counted(name, api, "GRPC", lambda: answer(request))

        return call

    prediction = {
        "Predict": _method("PredictRequest", counted("Predict", service.predict)),
        "Classify": _method("ClassificationRequest", counted("Classify", service.classify)),
        "Regress": _method("RegressionRequest", counted("Regress", service.regress)),
        "MultiInference": _method("MultiInferenceRequest", counted("MultiInference", service.multi_inference)),
        "GetModelMetadata": _method("GetModelMetadataRequest", service.metadata),
    }
    model = {
        "GetModelStatus": _method("GetModelStatusRequest", service.status),
        "HandleReloadConfigRequest": _method("ReloadConfigRequest", service.reload),
    }
    found = [
        grpc.method_handlers_generic_handler(f"{_PACKAGE}.PredictionService", prediction),
        grpc.method_handlers_generic_handler(f"{_PACKAGE}.ModelService", model),
    ]
    if health:
        found.append(grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": _health_check()}))
    return found


class _NoSpec:
    name = ""


def _method(request_name: str, answer: Callable[[Any], Any]) -> Any:  # noqa: ANN401
    kind = message(f"{_PACKAGE}.{request_name}")
    return _unary(kind, answer)


def _unary(kind: Any, answer: Callable[[Any], Any]) -> Any:  # noqa: ANN401
    def handle(request: Any, context: Any) -> Any:  # noqa: ANN401
        try:
            return answer(request)
        except ServingError as error:
            context.set_code(_CODES[error.code])
            context.set_details(error.details)
            return None

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=kind.FromString,
        response_serializer=lambda found: b"" if found is None else found.SerializeToString(),
    )


_CODES = {code.name: code for code in grpc.StatusCode}


def _health_check() -> Any:  # noqa: ANN401
    def check(request: Any) -> Any:  # noqa: ANN401
        if request.service not in _HEALTH_SERVICES:
            raise ServingError("NOT_FOUND", "service name unknown")
        return declared_message("grpc.health.v1.HealthCheckResponse")(status=_SERVING)

    return _unary(declared_message("grpc.health.v1.HealthCheckRequest"), check)
