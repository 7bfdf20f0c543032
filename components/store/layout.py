"""Where things lie in a store: the one place that knows key names.

========================== ==========================================================================
``MODEL/N/...``            the files of version N, as TensorFlow Serving reads them
``MODEL/.claims/N``        who may fill N, and with which bytes (created once, kept for ever)
``MODEL/.versions/N.json`` the manifest that commits N (created once)
``MODEL/.digests/HEX``     the number that the bytes of this digest have or are trying to get
``MODEL/.aliases/NAME``    which version is ``stable``; changed by compare-and-swap
``MODEL/.releases/ID/...`` evidence of one release
========================== ==========================================================================

TensorFlow Serving's file system monitor takes only names that are numbers for versions, so the dotted ones are unseen.
"""

import re

from components.core.digest import PREFIX, Digest
from components.core.errors import Rejected
from manifests.spec import MODEL_NAME

_MODEL = re.compile(MODEL_NAME)
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def files(model: str, version: int) -> str:
    """Return the prefix of a version's files, ending in ``/``."""
    return f"{_model(model)}/{version}/"


def claim(model: str, version: int) -> str:
    """Return the key of a version's claim."""
    return f"{_model(model)}/.claims/{version}"


def manifests(model: str) -> str:
    """Return the prefix of the manifests of all versions."""
    return f"{_model(model)}/.versions/"


def manifest(model: str, version: int) -> str:
    """Return the key of a version's manifest."""
    return f"{manifests(model)}{version}.json"


def number(model: str, digest: Digest) -> str:
    """Return the key of the number that some bytes have."""
    return f"{_model(model)}/.digests/{digest.removeprefix(PREFIX)}"


def alias(model: str, name: str) -> str:
    """Return the key of an alias."""
    return f"{_model(model)}/.aliases/{_part(name)}"


def releases(model: str) -> str:
    """Return the prefix of the evidence of all releases."""
    return f"{_model(model)}/.releases/"


def release(model: str, release_id: str) -> str:
    """Return the prefix of the evidence of one release."""
    return f"{releases(model)}{_part(release_id)}/"


def is_model(name: str) -> bool:
    """Whether a folder at the top of a store can be a model's."""
    return _MODEL.fullmatch(name) is not None


def _model(name: str) -> str:
    if not is_model(name):
        raise Rejected(
            f"{name!r} is not a model's name",
            expected="lower-case letters, digits and dashes, at most 40",
            got=repr(name),
            reason="MODEL_NAME",
        )
    return name


def _part(name: str) -> str:
    if not _PART.fullmatch(name):
        raise Rejected(
            f"{name!r} cannot be a name in a store",
            expected="letters, digits, dots, dashes and underscores, at most 128, starting with a letter or digit",
            got=repr(name),
            reason="BAD_NAME",
        )
    return name
