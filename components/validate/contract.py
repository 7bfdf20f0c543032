"""What clients rely on: the spec's own demands, and what is being served now. Pure."""

from collections.abc import Mapping

from components.core.errors import Rejected
from components.core.signature import Compatibility, Contract, Signature, accepts, compare
from components.core.spec import Port, SignatureSpec
from components.core.validation import ContractCheck


def check(
    candidate: Contract,
    *,
    required: Mapping[str, SignatureSpec],
    served: Contract | None,
    served_version: int | None,
    waiver: str,
) -> ContractCheck:
    """Judge a candidate's contract.

    Args:
        candidate: What it offers.
        required: Signatures that must be there with these aliases.
        served: What is being served; None for a first release.
        served_version: Its version.
        waiver: Why a breaking change is right; empty if none was given.

    Raises:
        Rejected: SIGNATURE_MISSING, SIGNATURE_MISMATCH or CONTRACT_BREAKING.
    """
    if not candidate.signatures:
        raise Rejected(
            "the model has no signatures",
            expected="at least one signature that a client can ask",
            got="none",
            fix="name them in export.signatures",
            reason="SIGNATURE_MISSING",
        )
    for key, signature in required.items():
        _require(key, signature, candidate)
    changes = compare(served, candidate).changes if served is not None else ()
    breaking = [change for change in changes if change.breaking]
    if breaking and not waiver:
        raise Rejected(
            f"clients of version {served_version} would break",
            expected="every signature, input and output they use, as it was",
            got="; ".join(f"{change.where}: {change.old} -> {change.new}" for change in breaking),
            fix="keep the contract, or say why in validate.contract.breaking_change_waiver",
            reason="CONTRACT_BREAKING",
        )
    compatibility = compare(served, candidate).compatibility if served is not None else Compatibility.IDENTICAL
    return ContractCheck(
        served_version=served_version if served is not None else None,
        compatibility=compatibility,
        changes=changes,
        waiver=waiver if breaking else "",
        required=tuple(sorted(required)),
    )


def _require(key: str, wanted: SignatureSpec, candidate: Contract) -> None:
    found = candidate.signatures.get(key)
    if found is None:
        raise Rejected(
            f"the model has no signature {key}",
            expected=f"signature {key}",
            got=", ".join(candidate.signatures),
            reason="SIGNATURE_MISSING",
        )
    wrong = [*_inputs(wanted, found), *_outputs(wanted, found)]
    if wrong:
        raise Rejected(
            f"signature {key} is not what the spec's contract demands",
            expected="; ".join(f"{where}: {expected}" for where, expected, _ in wrong),
            got="; ".join(f"{where}: {got}" for where, _, got in wrong),
            fix="export the model with these aliases, dtypes and shapes, or correct validate.contract",
            reason="SIGNATURE_MISMATCH",
        )


def _inputs(wanted: SignatureSpec, found: Signature) -> list[tuple[str, str, str]]:
    """An input more than the spec names is as wrong as one less: a client who knows the spec does not send it."""
    wrong = [
        (f"input {alias}", "absent", str(spec)) for alias, spec in found.inputs.items() if alias not in wanted.inputs
    ]
    for alias, port in wanted.inputs.items():
        spec = found.inputs.get(alias)
        if spec is None:
            wrong.append((f"input {alias}", _text(port), "absent"))
        elif _other_dtype(port, spec.dtype) or (port.shape is not None and not accepts(spec.shape, port.shape)):
            wrong.append((f"input {alias}", _text(port), str(spec)))
    return wrong


def _outputs(wanted: SignatureSpec, found: Signature) -> list[tuple[str, str, str]]:
    wrong = []
    for alias, port in wanted.outputs.items():
        spec = found.outputs.get(alias)
        if spec is None:
            wrong.append((f"output {alias}", _text(port), "absent"))
        elif _other_dtype(port, spec.dtype) or (port.shape is not None and not accepts(port.shape, spec.shape)):
            wrong.append((f"output {alias}", _text(port), str(spec)))
    return wrong


def _other_dtype(port: Port, dtype: str) -> bool:
    return bool(port.dtype) and port.dtype != dtype


def _text(port: Port) -> str:
    shape = "any shape" if port.shape is None else f"[{', '.join('?' if n is None else str(n) for n in port.shape)}]"
    return f"{port.dtype or 'any dtype'} {shape}"
