"""Whether ``fingerprint.pb`` tells the truth. Imports tensorflow: only for child processes.

A sanity signal, not security: whoever changes a model can write a new fingerprint, a flipped weight changes none, and
tools that thaw or rewrite graphs leave the old one behind. So a wrong one is noted and rejects nothing; what a server
loads is proven by the digest of all files.
"""

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import fingerprint_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from components.core.validation import Finding, Severity

_FILE = "fingerprint.pb"
_HASHES = (
    "saved_model_checksum",
    "graph_def_program_hash",
    "signature_def_hash",
    "saved_object_graph_hash",
    "checkpoint_hash",
)


def findings(root: Path) -> Iterator[Finding]:
    """Yield FINGERPRINT_MISMATCH if the SavedModel in ``root`` has a fingerprint that is not its own."""
    if not (root / _FILE).is_file():
        return
    try:
        said = fingerprint_pb2.FingerprintDef.FromString((root / _FILE).read_bytes())
    except DecodeError:
        yield _finding("it is no fingerprint")
        return
    found = fingerprint_pb2.FingerprintDef.FromString(fingerprinting.CreateFingerprintDef(str(root)))
    if said.version.producer != found.version.producer:
        return  # another way to compute it
    if wrong := [name for name in _HASHES if getattr(said, name) != getattr(found, name)]:
        yield _finding(f"{', '.join(wrong)} changed after it was written")


def _finding(detail: str) -> Finding:
    return Finding(reason="FINGERPRINT_MISMATCH", where=_FILE, detail=detail, severity=Severity.NOTE)
