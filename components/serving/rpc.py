"""The gRPC protocol: TensorFlow Serving's services, and grpc.health, by generic handlers over our own messages."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from components.savedmodel.messages import message
from components.serving.health import Health
from components.serving.service import Service
from components.serving.status import ServingError

_PACKAGE = "tensorflow.serving"


def make_server(
    service: Service, threads: ThreadPoolExecutor, *, channel_arguments: str = "", health: Health | None = None
) -> Any:  # noqa: ANN401 - grpc has no types
    """Return a gRPC server that answers by ``service``; it has no port yet.

    Args:
        service: What answers.
        threads: Threads that answer.
        channel_arguments: ``name=value,…`` for gRPC.
        health: Answers grpc.health.v1.Health; nothing does if not given.
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
    server.add_generic_rpc_handlers(tuple(_handlers(service)))
    if health is not None:
        methods = {"Check": _unary(health.request, health.check), "Watch": health.watch_handler()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods),))
    return server


def _handlers(service: Service) -> list[Any]:
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
    return [
        grpc.method_handlers_generic_handler(f"{_PACKAGE}.PredictionService", prediction),
        grpc.method_handlers_generic_handler(f"{_PACKAGE}.ModelService", model),
    ]


class _NoSpec:
    name = ""


def _method(request_name: str, answer: Callable[[Any], Any]) -> Any:  # noqa: ANN401
    kind = message(f"{_PACKAGE}.{request_name}")
    return _unary(kind, answer)


def _unary(kind: Any, answer: Callable[[Any], Any]) -> Any:  # noqa: ANN401
    def handle(request: Any, context: Any) -> Any:  # noqa: ANN401
        left_s = context.time_remaining()
        if left_s is not None and left_s <= 0:  # it waited too long for a thread: nobody waits for the answer
            context.set_code(grpc.StatusCode.DEADLINE_EXCEEDED)
            return None
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
