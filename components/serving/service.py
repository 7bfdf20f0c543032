"""What the server answers, whichever protocol asked: requests in, responses out, ServingError for what is refused."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from components.core.signature import DEFAULT_SIGNATURE
from components.savedmodel.messages import message
from components.savedmodel.tensors import Array, to_proto
from components.serving import examples, json_answers, json_examples, json_requests
from components.serving.configs import model_configs
from components.serving.lifecycle import Models
from components.serving.metrics import Metrics
from components.serving.predict import ServedModel, find_signature, predict, run
from components.serving.status import CODES, ServingError, invalid

log = logging.getLogger(__name__)
T = TypeVar("T")


class Service:
    """TensorFlow Serving's services over the models of a server. Safe to use from several threads.

    Args:
        models: The models.
        metrics: Where requests are counted.
        tensor_content: Whether answers carry ``tensor_content`` instead of typed fields.
    """

    def __init__(self, models: Models, metrics: Metrics, *, tensor_content: bool = False) -> None:
        self._models = models
        self._metrics = metrics
        self._tensor_content = tensor_content

    # -- PredictionService -----------------------------------------------------------------------------------------

    def predict(self, request: Any) -> Any:  # noqa: ANN401 - dynamic messages throughout
        """Answer a ``PredictRequest``."""
        spec = _spec(request)
        with self._use(spec) as (model, version), self._timed(spec.name, "Predict"):
            outputs = predict(model, spec.signature_name, request.inputs, request.output_filter)
        response = message("tensorflow.serving.PredictResponse")()
        _echo(response.model_spec, spec, version)
        for alias, array in outputs.items():
            response.outputs[alias].CopyFrom(self._proto(array))
        return response

    def _proto(self, array: Array) -> Any:  # noqa: ANN401
        return to_proto(array, typed_fields=not self._tensor_content)

    def classify(self, request: Any) -> Any:  # noqa: ANN401
        """Answer a ``ClassificationRequest``."""
        return self._on_examples("Classification", "Classify", examples.classify, request)

    def regress(self, request: Any) -> Any:  # noqa: ANN401
        """Answer a ``RegressionRequest``."""
        return self._on_examples("Regression", "Regress", examples.regress, request)

    def _on_examples(self, kind: str, api: str, answer: Callable[..., None], request: Any) -> Any:  # noqa: ANN401
        spec = _spec(request)
        response = message(f"tensorflow.serving.{kind}Response")()
        with self._use(spec) as (model, version), self._timed(spec.name, api):
            answer(model, spec.signature_name, request.input, response.result)
        _echo(response.model_spec, spec, version)
        return response

    def multi_inference(self, request: Any) -> Any:  # noqa: ANN401
        """Answer a ``MultiInferenceRequest``; the first task names the model."""
        if not request.tasks:
            raise invalid("Inference request does not contain any tasks")
        response = message("tensorflow.serving.MultiInferenceResponse")()
        with self._use(_spec(request.tasks[0])) as (model, version):
            examples.multi_inference(model, version, request, response)
        return response

    def metadata(self, request: Any) -> Any:  # noqa: ANN401
        """Answer a ``GetModelMetadataRequest``."""
        spec = _spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for entry in request.metadata_field:
            if entry != "signature_def":
                raise invalid(f"Metadata field {entry} is not supported")
        response = message("tensorflow.serving.GetModelMetadataResponse")()
        with self._use(spec) as (model, version):
            response.model_spec.name = spec.name
            response.model_spec.version.value = version
            response.metadata["signature_def"].Pack(model.definitions)
        return response

    # -- ModelService ----------------------------------------------------------------------------------------------

    def status(self, request: Any) -> Any:  # noqa: ANN401
        """Answer a ``GetModelStatusRequest``; a label in it is ignored, as the real server does."""
        spec = _spec(request)
        version = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
        response = message("tensorflow.serving.GetModelStatusResponse")()
        states = response.DESCRIPTOR.fields_by_name["model_version_status"].message_type.enum_types_by_name["State"]
        for status in self._models.statuses(spec.name, version):
            entry = response.model_version_status.add()
            entry.version = status.version
            entry.state = states.values_by_name[status.state].number
            entry.status.error_code = CODES.index(status.code)
            entry.status.error_message = status.message
        return response

    def reload(self, request: Any) -> Any:  # noqa: ANN401
        """Answer a ``ReloadConfigRequest``; returns when every new model serves."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        self._models.configure(model_configs(request.config))
        response = message("tensorflow.serving.ReloadConfigResponse")()
        response.status.error_code = 0
        return response

    # -- REST ------------------------------------------------------------------------------------------------------

    def rest_predict(self, spec: Any, body: bytes) -> str:  # noqa: ANN401
        """Answer a JSON predict request for a ``ModelSpec``; JSON errors come before an unknown model's."""
        parsed = json_requests.parse(body)
        with self._use(spec) as (model, _version):
            signature = model.signatures.get(parsed.signature or DEFAULT_SIGNATURE)
            if signature is None:
                key = parsed.signature or DEFAULT_SIGNATURE
                raise invalid(f'Serving signature name: "{key}" not found in signature def')
            inputs = json_requests.tensors(parsed, signature)
            find_signature(model, parsed.signature)
            with self._timed(spec.name, "Predict"):
                outputs = run(model, parsed.signature or DEFAULT_SIGNATURE, inputs)
        return json_answers.rows(outputs) if parsed.by_rows else json_answers.columns(outputs)

    def rest_classify(self, spec: Any, body: bytes) -> str:  # noqa: ANN401
        """Answer a JSON classify request."""
        request = message("tensorflow.serving.ClassificationRequest")(model_spec=spec)
        json_examples.fill_examples(body, request)
        return json_answers.classifications(self.classify(request).result)

    def rest_regress(self, spec: Any, body: bytes) -> str:  # noqa: ANN401
        """Answer a JSON regress request."""
        request = message("tensorflow.serving.RegressionRequest")(model_spec=spec)
        json_examples.fill_examples(body, request)
        return json_answers.regressions(self.regress(request).result)

    # -- shared ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _use(self, spec: Any) -> Iterator[tuple[ServedModel, int]]:  # noqa: ANN401
        choice = spec.WhichOneof("version_choice")
        version = spec.version.value if choice == "version" else None
        label = spec.version_label if choice == "version_label" else None
        with self._models.use(spec.name, version, label) as (loaded, number):
            yield cast("ServedModel", loaded), number

    @contextmanager
    def _timed(self, model: str, api: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._metrics.time_runtime(model, api, (time.perf_counter() - began) * 1e6)

    def counted(self, model: str, api: str, entrypoint: str, answer: Callable[[], T]) -> T:
        """Call ``answer``, count its outcome, and note its time if it succeeds.

        Raises:
            ServingError: Its own; INTERNAL for what is a defect of this server, which is logged.
        """
        began = time.perf_counter()
        try:
            found = answer()
        except ServingError as error:
            self._metrics.count_request(model, error.code)
            raise
        except RecursionError:
            self._metrics.count_request(model, "INVALID_ARGUMENT")
            raise invalid("the request is nested too deep") from None
        except Exception as error:
            log.exception("a request ended in a defect of this server")
            self._metrics.count_request(model, "INTERNAL")
            raise ServingError("INTERNAL", f"{type(error).__name__}: {error}") from error
        self._metrics.count_request(model, "OK")
        self._metrics.time_request(model, api, entrypoint, (time.perf_counter() - began) * 1e6)
        return found


def _spec(request: Any) -> Any:  # noqa: ANN401
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec


def _echo(into: Any, spec: Any, version: int) -> None:  # noqa: ANN401
    into.name = spec.name
    into.signature_name = spec.signature_name or DEFAULT_SIGNATURE
    into.version.value = version
