"""Binds the aliases that a spec asks for to what a model has, or says what it has instead. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec, accepts
from components.core.spec import Port, SignatureSpec

Side = Literal["input", "output"]
Lookup = Callable[[str], TensorSpec | None]


@dataclass(frozen=True, slots=True)
class Bound:
    """A signature with its sources: for each alias the model's own name of it and its dtype and shape."""

    inputs: Mapping[str, tuple[str, TensorSpec]]
    outputs: Mapping[str, tuple[str, TensorSpec]]


def nothing_else(_name: str) -> None:
    """A Lookup for models whose inputs and outputs are all there is."""


def bind(key: str, wanted: SignatureSpec, model: Signature, lookup: Lookup = nothing_else) -> Bound:
    """Bind one signature.

    Args:
        key: The signature's key, for messages.
        wanted: Aliases with their sources and expectations.
        model: What the model has under its own names.
        lookup: Finds a tensor that is neither input nor output of ``model`` by its name.

    Raises:
        Rejected: SIGNATURE_MISSING (no such source), SIGNATURE_DTYPE or SIGNATURE_SHAPE.
    """
    return Bound(
        inputs=_bind_side(key, "input", wanted.inputs, model.inputs, lookup),
        outputs=_bind_side(key, "output", wanted.outputs, model.outputs, lookup),
    )


def require_all_inputs(key: str, bound: Bound, model: Signature) -> None:
    """Check that every input of the model is fed.

    Raises:
        Rejected: SIGNATURE_MISSING.
    """
    missing = sorted(model.inputs.keys() - {source for source, _ in bound.inputs.values()})
    if missing:
        raise Rejected(
            f"signature {key} does not feed {', '.join(missing)}",
            expected=f"an alias for each input of the model: {_listed(model.inputs)}",
            got=", ".join(bound.inputs),
            fix=f"add export.signatures.{key}.inputs.{missing[0]}",
            reason="SIGNATURE_MISSING",
        )


def _bind_side(
    key: str, side: Side, ports: Mapping[str, Port], has: Mapping[str, TensorSpec], lookup: Lookup
) -> dict[str, tuple[str, TensorSpec]]:
    bound: dict[str, tuple[str, TensorSpec]] = {}
    for alias, port in ports.items():
        source = port.source or (alias if alias in has or len(has) != 1 or len(ports) != 1 else next(iter(has)))
        found = has.get(source) or lookup(source)
        if found is None:
            raise Rejected(
                f"signature {key}: {side} {alias}: the model has no {side} {source}",
                expected=f"one of {_listed(has)}",
                got=source,
                fix=f"say which one it is in export.signatures.{key}.{side}s.{alias}.source",
                reason="SIGNATURE_MISSING",
            )
        _expect(key, side, alias, port, found)
        bound[alias] = (source, found)
    return bound


def _listed(has: Mapping[str, TensorSpec]) -> str:
    return ", ".join(f"{name} ({spec})" for name, spec in has.items()) or "none: the model names none"


def _expect(key: str, side: Side, alias: str, port: Port, found: TensorSpec) -> None:
    where = f"signature {key}: {side} {alias}"
    if port.dtype and port.dtype != found.dtype:
        raise Rejected(f"{where} has another dtype", expected=port.dtype, got=str(found), reason="SIGNATURE_DTYPE")
    wide, narrow = (found.shape, port.shape) if side == "input" else (port.shape, found.shape)
    if port.shape is not None and not accepts(wide, narrow):
        raise Rejected(
            f"{where} has another shape",
            expected=str(TensorSpec(found.dtype, port.shape)),
            got=str(found),
            fix="an input may accept more than expected, an output may promise more, never less",
            reason="SIGNATURE_SHAPE",
        )
