"""Loads a SavedModel and runs its signatures as TensorFlow Serving does. Imports tensorflow: only for child processes.

TensorFlow Serving feeds and fetches the tensors that ``signature_def`` names in a session that the loader made
(``servables/tensorflow/predict_util.cc``). ``tf.saved_model.load`` instead calls functions of the object graph, which
can be other functions. ``Session.run`` refuses feeds whose shape is not the placeholder's, which the server does not,
so execution goes through the C API's Session::Run, a private part of the pinned tensorflow range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf import text_format

from components.core.errors import Rejected
from components.core.signature import Contract, Signature
from components.savedmodel.inspect import contract_of

Arrays = Mapping[str, npt.NDArray[np.generic]]
_Ends = tuple[list[Any], list[Any]]


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session is made. 0 leaves a number to TensorFlow.

    Args:
        config: A ``ConfigProto`` in text format; what follows replaces its own.
        intra_op_threads: Threads within an op.
        inter_op_threads: Threads between ops.
        gpu_memory_fraction: Share of a GPU's memory.
    """

    config: str = ""
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    gpu_memory_fraction: float = 0.0

    def proto(self) -> Any:  # noqa: ANN401 - a ConfigProto
        """Return it as TensorFlow takes it.

        Raises:
            Rejected: SESSION_CONFIG: ``config`` is no ConfigProto.
        """
        made = tf.compat.v1.ConfigProto()
        try:
            text_format.Parse(self.config, made)
        except text_format.ParseError as error:
            raise Rejected(
                "not a session's configuration", expected="a ConfigProto in protobuf's text format", got=str(error),
                reason="SESSION_CONFIG",
            ) from error  # fmt: skip
        made.intra_op_parallelism_threads = self.intra_op_threads
        made.inter_op_parallelism_threads = self.inter_op_threads
        made.gpu_options.per_process_gpu_memory_fraction = self.gpu_memory_fraction
        return made


def load(path: Path, tags: frozenset[str], *, options: SessionOptions | None = None) -> "Servable":
    """Load the meta graph with exactly these tags, its variables, tables and assets.

    Args:
        path: Directory of the SavedModel.
        tags: Tag set of the meta graph.
        options: How the session is made; as TensorFlow decides if not given.

    Raises:
        Rejected: LOAD_FAILED, with TensorFlow's message.
    """
    config = (options or SessionOptions()).proto()
    session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
    try:
        with session.graph.as_default():
            # The deprecation is of the Python function; the loader behind it is the one the server uses.
            meta_graph = tf.compat.v1.saved_model.load(session, sorted(tags), str(path))
    except Exception as error:
        session.close()
        raise Rejected(
            f"{path} cannot be loaded",
            expected="a SavedModel that TensorFlow's session loader accepts",
            got=f"{type(error).__name__}: {str(error)[:2000]}",
            fix="export the model again",
            reason="LOAD_FAILED",
        ) from error
    return Servable(session, meta_graph)


class Servable:
    """A loaded model. Safe to run from several threads; not to be used after :meth:`close`."""

    def __init__(self, session: Any, meta_graph: Any) -> None:  # noqa: ANN401 - objects of tensorflow
        self._session = session
        self._ends: dict[tuple[tuple[str, ...], tuple[str, ...]], _Ends] = {}
        self.contract: Contract = contract_of(meta_graph)
        """The signatures, without the initializer's pseudo-signatures."""
        self.defaults: Mapping[str, Arrays] = {
            key: {alias: tf.make_ndarray(value) for alias, value in definition.defaults.items()}
            for key, definition in meta_graph.signature_def.items()
        }
        """Values of inputs that a request may leave out, by signature key and alias."""

    def run(
        self, signature: str, inputs: Arrays, outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[np.generic]]:
        """Answer one request.

        Args:
            signature: Key of the signature.
            inputs: An array for each input alias, but for those with a default; strings as ``np.object_`` arrays
                of bytes. Shapes are not compared with the signature's: what the graph's ops accept is accepted.
            outputs: The output aliases wanted; all if not given.

        Returns:
            An array for each wanted alias.

        Raises:
            Rejected: SIGNATURE_MISSING, INPUT_MISSING, INPUT_UNKNOWN, OUTPUT_UNKNOWN or ENCODING_UNSUPPORTED.
            tf.errors.OpError: What TensorFlow itself found wrong, with its code.
        """
        wanted = self._signature(signature)
        aliases = list(wanted.outputs) if outputs is None else list(outputs)
        values = {**self.defaults.get(signature, {}), **inputs}
        _refuse("INPUT_MISSING", signature, wanted.inputs.keys() - values.keys(), wanted.inputs)
        _refuse("INPUT_UNKNOWN", signature, values.keys() - wanted.inputs.keys(), wanted.inputs)
        _refuse("OUTPUT_UNKNOWN", signature, set(aliases) - wanted.outputs.keys(), wanted.outputs)
        feeds = tuple(wanted.inputs[alias].name for alias in wanted.inputs)
        fetches = tuple(wanted.outputs[alias].name for alias in aliases)
        if "" in feeds or "" in fetches:
            raise Rejected(
                f"signature {signature} has a sparse or composite tensor",
                expected="dense tensors, which alone can be fed by name",
                fix="export a signature that takes and returns the components",
                reason="ENCODING_UNSUPPORTED",
            )
        fed, fetched = self._resolve(feeds, fetches)
        feed = {end: np.asarray(values[alias]) for end, alias in zip(fed, wanted.inputs, strict=True)}
        answers = self._session._call_tf_sessionrun(None, feed, fetched, [], None)  # noqa: SLF001 - see the docstring
        return dict(zip(aliases, answers, strict=True))

    def _signature(self, key: str) -> Signature:
        found = self.contract.signatures.get(key)
        if found is None:
            raise Rejected(
                f"the model has no signature {key}",
                expected=f"one of {', '.join(self.contract.signatures) or 'none: the model has no signatures'}",
                got=key,
                reason="SIGNATURE_MISSING",
            )
        return found

    def _resolve(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> _Ends:
        if (ends := self._ends.get((feeds, fetches))) is None:
            fed, fetched = (
                [self._session.graph.as_graph_element(name)._as_tf_output() for name in names]  # noqa: SLF001
                for names in (feeds, fetches)
            )
            ends = self._ends.setdefault((feeds, fetches), (fed, fetched))
        return ends

    def close(self) -> None:
        """Free the session with its variables and tables."""
        self._session.close()


_WRONG = {
    "INPUT_MISSING": "inputs are missing",
    "INPUT_UNKNOWN": "there are no such inputs",
    "OUTPUT_UNKNOWN": "there are no such outputs",
}


def _refuse(reason: str, signature: str, wrong: set[str], known: Mapping[str, object]) -> None:
    if wrong:
        raise Rejected(
            f"signature {signature}: {_WRONG[reason]}: {', '.join(sorted(wrong))}",
            expected=", ".join(known) or "none",
            got=", ".join(sorted(wrong)),
            reason=reason,
        )
