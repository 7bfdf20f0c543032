"""Loads one SavedModel or two, runs labelled data through them and ends. Only for child processes."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from components.core.process import Progress, answer
from components.core.spec import Evaluate
from components.core.validation import Evaluation


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """What the child is asked. Paths as text; ``against`` is empty if there is nothing to compare with."""

    model: str
    tags: tuple[str, ...]
    against: str
    against_tags: tuple[str, ...]
    data: str
    spec: Evaluate


def handle(data: dict[str, object], progress: Progress) -> object:
    """Answer one :class:`EvaluateRequest` with an :class:`Evaluation`; a missed limit is part of the answer."""
    request = TypeAdapter(EvaluateRequest).validate_python(data)
    other = None
    if request.against:
        progress("running labelled data through the other model")
        # Recorded, not judged: the limits are those of the candidate.
        plain = request.spec.model_copy(
            update={"metrics": _recorded(request.spec), "slices": _recorded_slices(request)}
        )
        other = _evaluated(request.against, request.against_tags, plain, request.data, None)
    progress("running labelled data through the model")
    return _evaluated(request.model, request.tags, request.spec, request.data, other).model_dump(mode="json")


def _recorded(spec: Evaluate) -> dict[str, object]:
    return {name: limit.model_copy(update=_NO_LIMIT) for name, limit in spec.metrics.items()}


def _recorded_slices(request: EvaluateRequest) -> tuple[object, ...]:
    return tuple(
        part.model_copy(update={"metrics": {n: each.model_copy(update=_NO_LIMIT) for n, each in part.metrics.items()}})
        for part in request.spec.slices
    )


def _evaluated(model: str, tags: tuple[str, ...], spec: Evaluate, data: str, served: Evaluation | None) -> Evaluation:
    from components.savedmodel.load import load  # noqa: PLC0415 - tensorflow comes only once the request is understood
    from components.validate.evaluate import evaluate  # noqa: PLC0415

    servable = load(Path(model), frozenset(tags))
    try:
        # The other model has no version number; 0 only says that there is one.
        return evaluate(servable, spec, Path(data), served=served, served_version=None if served is None else 0)
    finally:
        servable.close()


_NO_LIMIT: dict[str, object] = {"minimum": None, "maximum": None, "max_regression": None, "confidence": None}


if __name__ == "__main__":
    answer(handle)
