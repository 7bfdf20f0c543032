"""Writes ``fingerprint.pb``, the hashes by which TensorFlow tells SavedModels apart: equal models get equal files.

TensorFlow puts a random identifier into each fingerprint it makes; here it is derived from the content instead.
Imports tensorflow: only for child processes.
"""

import hashlib
from pathlib import Path

from tensorflow.core.protobuf import fingerprint_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

FINGERPRINT_FILE = "fingerprint.pb"


def write_fingerprint(path: Path) -> None:
    """Write the fingerprint of the SavedModel in ``path``, replacing an older one."""
    target = path / FINGERPRINT_FILE
    target.unlink(missing_ok=True)
    found = fingerprint_pb2.FingerprintDef.FromString(fingerprinting.CreateFingerprintDef(str(path)))
    found.uuid = ""
    # 64 bits as a decimal number, which is how TensorFlow writes its random ones
    found.uuid = str(int.from_bytes(hashlib.sha256(found.SerializeToString(deterministic=True)).digest()[:8], "big"))
    target.write_bytes(found.SerializeToString(deterministic=True))
