"""Loads a SavedModel, answers one predict request and ends. Imports tensorflow: only for child processes.

Request and response are files that hold the messages a server would be sent and would answer, so that strings and every
dtype survive.
"""

from pathlib import Path
from typing import TypedDict, cast

import tensorflow as tf

from components.core.errors import Rejected
from components.core.process import Progress, answer
from components.savedmodel.load import load
from components.savedmodel.messages import message
from components.savedmodel.tensors import from_proto, to_proto


class Asked(TypedDict):
    """What the child is asked. Paths as text; the response's file is made."""

    model: str
    tags: list[str]
    request: str
    response: str


def handle(data: dict[str, object], progress: Progress) -> object:
    """Run one ``PredictRequest`` and write its ``PredictResponse``."""
    asked = cast("Asked", data)
    request = message("tensorflow.serving.PredictRequest").FromString(Path(asked["request"]).read_bytes())
    key = request.model_spec.signature_name
    progress("loading the model")
    servable = load(Path(asked["model"]), frozenset(asked["tags"]))
    try:
        outputs = servable.run(key, {alias: from_proto(request.inputs[alias]) for alias in request.inputs})
    except tf.errors.OpError as error:
        raise Rejected(
            f"signature {key} refuses the request",
            expected="inputs that the model's ops accept",
            got=f"{type(error).__name__}: {(error.message or '')[:2000]}",
            reason="SIGNATURE_FAILS",
        ) from error
    finally:
        servable.close()
    response = message("tensorflow.serving.PredictResponse")()
    for alias, array in outputs.items():
        response.outputs[alias].CopyFrom(to_proto(array))
    Path(asked["response"]).write_bytes(response.SerializeToString())
    return None


if __name__ == "__main__":
    answer(handle)
