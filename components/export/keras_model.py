"""A Keras model, ``.keras`` or legacy ``.h5``: its inference function with the aliases asked for.

Imports keras with tensorflow: only for child processes.
"""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import keras
import tensorflow as tf

from components.core.errors import Rejected
from components.core.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from components.core.spec import Export, Port, SignatureSpec
from components.export.keras_config import require_safe_archive, require_safe_config
from components.export.saved_model import set_tags
from components.export.signatures import Bound, bind, require_all_inputs


def write(source: Path, target: Path, spec: Export) -> bool:
    """Write the model in ``source`` as a SavedModel for inference: no optimizer, no training function.

    Raises:
        Rejected: KERAS_LAMBDA, KERAS_UNSAFE_MODULE, KERAS_CUSTOM_LAYER, KERAS_FILE, H5_EXTERNAL, KERAS_INPUTS, or a
            signature that the model cannot give.
    """
    model = _load(source)
    if spec.up_to:
        model = _piece(source, model, spec.up_to)
    has = _ports(source, model)
    wanted = dict(spec.signatures) or {DEFAULT_SIGNATURE: _own_aliases(has)}
    functions = {}
    for key, signature in wanted.items():
        bound = bind(key, signature, has)
        require_all_inputs(key, bound, has)
        functions[key] = _inference(model, has, bound)
    root = _reusable(model, has) if spec.reusable else _servable(model, functions.values())
    tf.saved_model.save(root, str(target), signatures=functions)
    set_tags(target, spec)
    return True


def _piece(source: Path, model: Any, name: str) -> Any:  # noqa: ANN401 - objects of keras
    """The model from its inputs to one of its layers."""
    names = [layer.name for layer in model.layers]
    if name not in names or not getattr(model, "inputs", None):
        raise Rejected(
            f"{source.name} has no layer {name}",
            expected=f"one of {', '.join(names)}",
            got=name,
            fix="correct export.up_to",
            reason="KERAS_LAYER",
        )
    return keras.Model(model.inputs, model.get_layer(name).output)


def _servable(model: Any, functions: Iterable[Any]) -> Any:  # noqa: ANN401 - objects of keras and tensorflow
    root = tf.Module()
    root.model = model  # leads to its lookup tables; to its variables Keras leaves the way to whoever exports
    root.captured_variables = _captured(model, functions)
    return root


def _reusable(model: Any, has: Signature) -> Any:  # noqa: ANN401 - objects of keras and tensorflow
    """An object with TF Hub's interface: ``__call__`` with and without training, variables, losses; no optimizer."""
    structure = keras.tree.pack_sequence_as(
        _functional(model)._inputs_struct,  # noqa: SLF001 - see _functional
        [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in has.inputs.items()],
    )
    root = tf.train.Checkpoint()  # tracks attributes as tf.Module does, which has a property named variables
    root.model = model
    root.variables = [variable.value for variable in model.variables]
    root.trainable_variables = [variable.value for variable in model.trainable_variables]
    call = tf.function(lambda inputs, training=False: model(inputs, training=training), autograph=False)
    for training in (True, False):
        call.get_concrete_function(structure, training=training)
    root.__call__ = call
    root.regularization_losses = [_loss(regularizer, variable) for regularizer, variable in _regularized(model)]
    return root


def _regularized(model: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401 - objects of keras
    return [
        (variable.regularizer, variable) for variable in model.trainable_variables if variable.regularizer is not None
    ]


def _loss(regularizer: Any, variable: Any) -> Any:  # noqa: ANN401 - objects of keras and tensorflow
    return tf.function(lambda: regularizer(variable.value), input_signature=[], autograph=False)


def _captured(model: Any, functions: Iterable[Any]) -> list[Any]:  # noqa: ANN401 - objects of keras and tensorflow
    """The variables that functions use, in the model's order: a graph keeps them in none, and the bytes follow it."""
    used = {id(variable): variable for function in functions for variable in function.graph.variables}
    ordered = [variable.value for variable in model.variables if id(variable.value) in used]
    rest = used.keys() - {id(variable) for variable in ordered}
    return ordered + sorted((used[identity] for identity in rest), key=lambda variable: str(variable.name))


def _load(source: Path) -> Any:  # noqa: ANN401 - an object of keras
    if keras.backend.backend() != "tensorflow":
        raise Rejected(
            "Keras is set to another backend",
            expected="tensorflow",
            got=keras.backend.backend(),
            fix="unset KERAS_BACKEND and remove `backend` from ~/.keras/keras.json",
            reason="KERAS_BACKEND",
        )
    if source.suffix == ".keras":
        require_safe_archive(source)
        _require_no_external_weights(source)
    else:
        _require_safe_hdf5(source)
    try:
        return keras.saving.load_model(source, compile=False, safe_mode=True)
    except Exception as error:
        text = str(error)
        custom = "registered_name" in text or "Unknown layer" in text or "custom_objects" in text
        raise Rejected(
            f"{source.name} cannot be loaded by Keras {keras.__version__}",
            expected="a model of Keras's own layers",
            got=f"{type(error).__name__}: {text[:2000]}",
            fix="a model with layers of your own: write a SavedModel with model.export(...) in the training code"
            if custom
            else "save the model again with the Keras release that Slipway has",
            reason="KERAS_CUSTOM_LAYER" if custom else "LOAD_FAILED",
        ) from error


def _require_no_external_weights(source: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        for name in archive.namelist():
            if name.endswith(".h5"):
                with h5py.File(io.BytesIO(archive.read(name)), "r") as weights:
                    _require_no_links(source, weights)


def _require_safe_hdf5(source: Path) -> None:
    try:
        with h5py.File(source, "r") as file:
            _require_no_links(source, file)
            config = file.attrs.get("model_config")
    except OSError as error:
        raise Rejected(f"{source.name} is no HDF5 file", got=str(error), reason="KERAS_FILE") from error
    if config is None:
        raise Rejected(
            f"{source.name} holds weights but no model",
            expected="an HDF5 file with the attribute model_config",
            got="none",
            fix="save the whole model: model.save('model.keras')",
            reason="KERAS_FILE",
        )
    require_safe_config(source, config)


def _require_no_links(source: Path, group: Any) -> None:  # noqa: ANN401 - an object of h5py
    """Refuse links and storage outside the file, which would read any other file of this machine."""
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            raise _external(source, f"{group.name}/{name}")
        member = group[name]
        if isinstance(member, h5py.Group):
            _require_no_links(source, member)
        elif member.external or member.is_virtual:
            raise _external(source, member.name)


def _external(source: Path, where: str) -> Rejected:
    return Rejected(
        f"{source.name}: {where} lies in another file",
        expected="weights inside the file",
        got="an external link",
        fix="save the model again with model.save",
        reason="H5_EXTERNAL",
    )


def _ports(source: Path, model: Any) -> Signature:  # noqa: ANN401 - an object of keras
    """Return the model's inputs and outputs under its own names."""
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise Rejected(
            f"{source.name} does not say what its inputs are",
            expected="a Functional or Sequential model with an Input",
            got=type(model).__name__,
            fix="add keras.Input(shape=...), or write a SavedModel with model.export(...)",
            reason="KERAS_INPUTS",
        )
    for tensor in (*model.inputs, *model.outputs):
        if getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False):
            raise Rejected(
                f"{source.name}: {tensor.name} is no dense tensor",
                expected="dense inputs and outputs, which alone have a name to feed",
                fix="take and return the components",
                reason="ENCODING_UNSUPPORTED",
            )
    inputs = {tensor.name: _spec(tensor) for tensor in model.inputs}
    outputs = dict(zip(_output_names(model), map(_spec, model.outputs), strict=True))
    return Signature(inputs, outputs)


def _output_names(model: Any) -> list[str]:  # noqa: ANN401 - an object of keras
    """The keys of a model that returns a dict; else the names of the layers that make the outputs, told apart."""
    paths = keras.tree.flatten_with_path(_functional(model)._outputs_struct)  # noqa: SLF001 - see _functional
    names: list[str] = []
    for path, tensor in paths:
        keyed = ".".join(part for part in path if isinstance(part, str))
        name = keyed or tensor._keras_history.operation.name  # noqa: SLF001 - as Functional.output_names does
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def _functional(model: Any) -> Any:  # noqa: ANN401 - objects of keras
    """The graph of layers with its structures, which no public name leads to (Sequential wraps it once more)."""
    return getattr(model, "_functional", None) or model


def _inference(model: Any, has: Signature, bound: Bound) -> Any:  # noqa: ANN401 - objects of keras and tensorflow
    """Trace the model with training=False under the signature's aliases."""
    alias_of = {source: alias for alias, (source, _) in bound.inputs.items()}
    structure = _functional(model)._inputs_struct  # noqa: SLF001 - see _functional

    def serve(**fed: Any) -> dict[str, Any]:  # noqa: ANN401 - tensors
        inputs = keras.tree.pack_sequence_as(structure, [fed[alias_of[name]] for name in has.inputs])
        answers = dict(zip(has.outputs, keras.tree.flatten(model(inputs, training=False)), strict=True))
        return {alias: answers[source] for alias, (source, _) in bound.outputs.items()}

    specs = {alias: tf.TensorSpec(spec.shape, spec.dtype, name=alias) for alias, (_, spec) in bound.inputs.items()}
    return tf.function(serve, autograph=False).get_concrete_function(**specs)


def _spec(tensor: Any) -> TensorSpec:  # noqa: ANN401 - a KerasTensor
    return TensorSpec(str(tensor.dtype), tuple(tensor.shape), tensor.name)


def _own_aliases(has: Signature) -> SignatureSpec:
    return SignatureSpec(
        inputs={name: Port(source=name) for name in has.inputs},
        outputs={name: Port(source=name) for name in has.outputs},
    )
