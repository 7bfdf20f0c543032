"""Signatures as plain data, and whether one set of them can stand in for another.

A client of TensorFlow Serving addresses aliases through a ``SignatureDef`` and never sees a tensor's name, so two
models are interchangeable exactly if their contracts are: signature keys, method names, and for each input and output
its alias, dtype and shape.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
DEFAULT_SIGNATURE = "serving_default"

Shape = tuple[int | None, ...] | None
"""Dimensions, ``None`` for one that is not known; ``None`` alone for an unknown rank."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """dtype (TensorFlow's lower-case name, such as ``float32`` or ``string``) and shape of one input or output."""

    dtype: str
    shape: Shape
    name: str = ""
    """The tensor's name in the graph, such as ``serving_default_x:0``; no part of the contract."""

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype}[?rank]"
        return f"{self.dtype}[{', '.join('?' if size is None else str(size) for size in self.shape)}]"


@dataclass(frozen=True, slots=True)
class Signature:
    """One ``SignatureDef``: inputs and outputs by alias, and the method a server offers it under."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = PREDICT_METHOD


@dataclass(frozen=True, slots=True)
class Contract:
    """All that a client may rely on: signatures by key, and the tag set they were exported under."""

    signatures: Mapping[str, Signature]
    tags: frozenset[str] = frozenset({"serve"})


class Compatibility(StrEnum):
    """How a new contract stands to an old one, from best to worst."""

    IDENTICAL = "identical"
    ADDITIVE = "additive"
    BREAKING = "breaking"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: where it is, what was there, what is there now, and whether an existing client breaks."""

    where: str
    old: str
    new: str
    breaking: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences between two contracts; the verdict follows from them."""

    changes: tuple[Change, ...]

    @property
    def compatibility(self) -> Compatibility:
        """BREAKING if any change is; ADDITIVE if there are changes, none breaking; else IDENTICAL."""
        if any(change.breaking for change in self.changes):
            return Compatibility.BREAKING
        return Compatibility.ADDITIVE if self.changes else Compatibility.IDENTICAL


def compare(old: Contract, new: Contract) -> Comparison:
    """Compare what clients rely on today with what a candidate offers.

    Breaking is whatever a client written against ``old`` can trip over: a signature, input or output that is gone; an
    additional input (a request without it fails); another dtype or method; an input that accepts less; an output that
    promises less. Additive is the rest: a new signature or output, an input that accepts more, an output that
    promises more.

    Args:
        old: The contract that is being served.
        new: The candidate's contract.
    """
    changes: list[Change] = []
    for key in sorted(old.signatures.keys() | new.signatures.keys()):
        before, after = old.signatures.get(key), new.signatures.get(key)
        if before is None:
            changes.append(Change(f"signature {key}", "absent", "added", breaking=False))
        elif after is None:
            changes.append(Change(f"signature {key}", "present", "removed", breaking=True))
        else:
            changes.extend(_compare_signature(key, before, after))
    for tag in sorted(old.tags ^ new.tags):
        gone = tag in old.tags
        changes.append(
            Change(f"tag {tag}", "present" if gone else "absent", "removed" if gone else "added", breaking=gone)
        )
    return Comparison(tuple(changes))


def _compare_signature(key: str, before: Signature, after: Signature) -> list[Change]:
    changes: list[Change] = []
    if before.method_name != after.method_name:
        changes.append(Change(f"{key}: method_name", before.method_name, after.method_name, breaking=True))
    for side, olds, news in (("input", before.inputs, after.inputs), ("output", before.outputs, after.outputs)):
        for alias in sorted(olds.keys() | news.keys()):
            where = f"{key}: {side} {alias}"
            old, new = olds.get(alias), news.get(alias)
            if old is None:
                changes.append(Change(where, "absent", str(new), breaking=side == "input"))
            elif new is None:
                changes.append(Change(where, str(old), "removed", breaking=True))
            elif old.dtype != new.dtype:
                changes.append(Change(where, str(old), str(new), breaking=True))
            elif old.shape != new.shape:
                wider, narrower = (new, old) if side == "input" else (old, new)
                changes.append(Change(where, str(old), str(new), breaking=not accepts(wider.shape, narrower.shape)))
    return changes


def accepts(wide: Shape, narrow: Shape) -> bool:
    """Return whether every tensor of shape ``narrow`` also has shape ``wide``."""
    if wide is None:
        return True
    if narrow is None or len(wide) != len(narrow):
        return False
    return all(w is None or w == n for w, n in zip(wide, narrow, strict=True))
