"""Makes a version servable: loads it, reads its signatures, replays its warm-up requests. Imports TensorFlow late."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import Rejected
from components.core.signature import Signature
from components.savedmodel import inspect, warmup
from components.savedmodel.messages import message
from components.serving.batching import Batcher
from components.serving.configs import PER_MODEL_BATCHING_FILE
from components.serving.examples import classify, multi_inference, regress
from components.serving.metrics import Metrics
from components.serving.predict import Runnable, ServedModel, predict
from components.serving.status import CODES, ServingError, invalid

if TYPE_CHECKING:  # it imports tensorflow, which takes seconds
    from components.savedmodel.load import SessionOptions


@dataclass(frozen=True, slots=True)
class Loading:
    """How versions are loaded. An instance is a ``lifecycle.Loader``.

    Args:
        tags: Tag set of the meta graph.
        metrics: Where warm-up's time is noted.
        warm_up: Whether warm-up requests are replayed.
        iterations: Times each of them is.
        session: Returns how sessions are made; called when TensorFlow is there.
        batcher: What puts requests together; each runs by itself if None.
        check_method_names: Whether a signature may be called by its own method only.
    """

    tags: frozenset[str]
    metrics: Metrics
    warm_up: bool = True
    iterations: int = 1
    session: "Callable[[], SessionOptions] | None" = None
    batcher: Batcher | None = None
    check_method_names: bool = False

    def __call__(self, name: str, version: int, path: Path) -> ServedModel:  # noqa: ARG002 - part of a Loader
        """Load a version from its folder.

        Raises:
            ServingError: It cannot be loaded, or one of its warm-up requests fails.
        """
        _check_folder(path)
        model = self._load(path)
        try:
            if self.warm_up:
                self._replay(model, path)
        except ServingError:
            model.close()
            raise
        if gc.isenabled():  # it is not before the first load: importing TensorFlow left no garbage worth half a second
            gc.collect()
        # A loaded graph is hundreds of thousands of objects that will never be garbage; walking over them again and
        # again made parsing requests several times as slow.
        gc.freeze()
        gc.enable()
        return model

    def _load(self, path: Path) -> ServedModel:
        from components.savedmodel.load import load  # noqa: PLC0415 - imports tensorflow, which takes seconds

        try:
            servable = load(path, self.tags, options=self.session() if self.session is not None else None)
            graph = inspect.meta_graph(inspect.read_proto(path), self.tags, path)
        except Rejected as error:
            raise _load_error(path, self.tags, error) from error
        signatures = servable.contract.signatures
        definitions = message("tensorflow.serving.SignatureDefMap")()
        for key in graph.signature_def:
            definitions.signature_def[key].CopyFrom(graph.signature_def[key])
        return ServedModel(self._batched(servable, signatures, path), signatures, definitions, self.check_method_names)

    def _batched(self, runnable: Runnable, signatures: Mapping[str, Signature], path: Path) -> Runnable:
        if self.batcher is None:
            return runnable
        try:
            return self.batcher.around(runnable, signatures, path)
        except Rejected as error:
            runnable.close()
            raise invalid(f"Can't parse {path / PER_MODEL_BATCHING_FILE} as text proto: {error.got}") from error
        except ServingError:
            runnable.close()
            raise

    def _replay(self, model: ServedModel, path: Path) -> None:
        """Replay every record; a damaged file, a failing record or more than 1,000 fail the load."""
        if not (path / warmup.FILE).is_file():
            return
        began = time.perf_counter()
        failure: ServingError | None = None
        try:
            for record in warmup.read_logs(path):
                for _ in range(self.iterations):
                    _replay_one(model, record)
        except Rejected as error:
            failure = _warmup_error(error)
            raise failure from error
        except ServingError as error:
            failure = error
            raise
        finally:
            status = "OK" if failure is None else str(failure)
            self.metrics.time_warmup(str(path), status, (time.perf_counter() - began) * 1e6)


def _replay_one(model: ServedModel, record: Any) -> None:  # noqa: ANN401 - a PredictionLog
    kind = record.WhichOneof("log_type")
    replay = _REPLAYS.get(kind)
    if replay is not None:
        replay(model, getattr(record, kind).request)
    elif kind is not None:
        number = record.DESCRIPTOR.fields_by_name[kind].number
        raise ServingError("UNIMPLEMENTED", f"Unsupported log_type for warmup: {number}")


def _predict(model: ServedModel, request: Any) -> None:  # noqa: ANN401
    predict(model, request.model_spec.signature_name, request.inputs, request.output_filter)


def _classify(model: ServedModel, request: Any) -> None:  # noqa: ANN401
    result = message("tensorflow.serving.ClassificationResult")()
    classify(model, request.model_spec.signature_name, request.input, result)


def _regress(model: ServedModel, request: Any) -> None:  # noqa: ANN401
    result = message("tensorflow.serving.RegressionResult")()
    regress(model, request.model_spec.signature_name, request.input, result)


def _multi(model: ServedModel, request: Any) -> None:  # noqa: ANN401
    multi_inference(model, 0, request, message("tensorflow.serving.MultiInferenceResponse")())


_REPLAYS: dict[str | None, Callable[[ServedModel, Any], None]] = {
    "predict_log": _predict,
    "classify_log": _classify,
    "regress_log": _regress,
    "multi_inference_log": _multi,
}


def _check_folder(path: Path) -> None:
    if not any((path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        raise ServingError(
            "NOT_FOUND",
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}. Check that the "
            "directory exists and that you have the right permissions for accessing it.",
        )


def _load_error(path: Path, tags: frozenset[str], error: Rejected) -> ServingError:
    cause = error.__cause__
    number = getattr(cause, "error_code", None)
    if isinstance(number, int) and 0 < number < len(CODES):
        return ServingError(CODES[number], str(getattr(cause, "message", cause)))
    if isinstance(cause, RuntimeError) or error.reason == "TAGS_NOT_FOUND":
        return ServingError(
            "NOT_FOUND",
            f"Could not find meta graph def matching supplied tags: {{ {' '.join(sorted(tags))} }}. To inspect "
            "available tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`",
        )
    if isinstance(cause, OSError):
        return ServingError("DATA_LOSS", f"Can't parse {path}/saved_model.pb as binary proto")
    return ServingError("INTERNAL", f"{error.what}: {error.got}")


def _warmup_error(error: Rejected) -> ServingError:
    if error.reason == "WARMUP_TOO_MANY":
        return invalid(error.what)
    if "PredictionLog" in error.got:
        return invalid(f"Failed to parse warmup record: {error.what}: {error.got}")
    return ServingError(
        "DATA_LOSS", f"{error.what}: {error.got}. Please verify your warmup data is in TFRecord format."
    )
