"""Warm-up requests that travel inside a SavedModel, in the file TensorFlow Serving replays at load.

The file is a TFRecord of ``tensorflow.serving.PredictionLog`` at ``assets.extra/tf_serving_warmup_requests``
(tensorflow/serving: servables/tensorflow/saved_model_warmup_util.cc). A server runs every record before it calls the
version available, and fails the load if one fails or if there are more than 1,000.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from components.core.errors import Rejected
from components.savedmodel.messages import message
from components.savedmodel.tensors import Array, from_proto, to_proto

FILE = Path("assets.extra", "tf_serving_warmup_requests")
"""Where the records lie within a version's directory."""

MAX_RECORDS = 1000
"""More than this many make TensorFlow Serving refuse the version."""


@dataclass(frozen=True, slots=True)
class WarmupRecord:
    """One predict request: the signature's key, and its inputs by alias."""

    signature: str
    inputs: Mapping[str, Array]


def write(version_dir: Path, model: str, records: Sequence[WarmupRecord]) -> Path:
    """Write warm-up requests into a version's directory and return the file; the same records give the same bytes.

    Args:
        version_dir: The SavedModel's directory.
        model: Name that the requests carry; servers do not check it.
        records: At most 1,000 requests.

    Raises:
        Rejected: There are more, or an input cannot be sent.
    """
    if len(records) > MAX_RECORDS:
        raise Rejected(
            "too many warm-up records", expected=f"at most {MAX_RECORDS}", got=str(len(records)), reason="WARMUP"
        )
    target = version_dir / FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"".join(_frame(_log(model, record)) for record in records))
    return target


def _log(model: str, record: WarmupRecord) -> bytes:
    log = message("tensorflow.serving.PredictionLog")()
    request = log.predict_log.request
    request.model_spec.name = model
    request.model_spec.signature_name = record.signature
    for alias, array in record.inputs.items():
        request.inputs[alias].CopyFrom(to_proto(np.asarray(array)))
    data: bytes = log.SerializeToString(deterministic=True)
    return data


def read(version_dir: Path) -> list[WarmupRecord]:
    """Return the predict requests of a version's directory; none where there is no file.

    Raises:
        Rejected: The file is damaged, holds more than 1,000 records, or one that is no predict request.
    """
    records = []
    for number, log in enumerate(read_logs(version_dir), start=1):
        kind = log.WhichOneof("log_type")
        if kind != "predict_log":
            raise _damaged(version_dir / FILE, f"record {number} is a {kind or 'record without a request'}")
        request = log.predict_log.request
        inputs = {alias: from_proto(request.inputs[alias]) for alias in sorted(request.inputs)}
        records.append(WarmupRecord(request.model_spec.signature_name or "serving_default", inputs))
    return records


def read_logs(version_dir: Path) -> Iterator[Any]:
    """Yield each record of a version's warm-up file as a ``PredictionLog`` of whatever kind.

    Raises:
        Rejected: The file is damaged, or holds more than 1,000 records.
    """
    path = version_dir / FILE
    if not path.is_file():
        return
    for number, payload in enumerate(_unframe(path), start=1):
        if number > MAX_RECORDS:
            raise Rejected(
                f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}",
                expected=f"at most {MAX_RECORDS} records",
                reason="WARMUP_TOO_MANY",
            )
        try:
            yield message("tensorflow.serving.PredictionLog").FromString(payload)
        except DecodeError as error:
            raise _damaged(path, f"record {number} is no PredictionLog") from error


def _frame(payload: bytes) -> bytes:
    """One TFRecord: length, its checksum, payload, its checksum (tensorflow/core/lib/io/record_writer.h)."""
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", masked_crc(length)) + payload + struct.pack("<I", masked_crc(payload))


def _unframe(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    at = 0
    while at < len(data):
        header = data[at : at + 12]
        if len(header) < 12 or struct.unpack("<I", header[8:])[0] != masked_crc(header[:8]):
            raise _damaged(path, f"no record begins at byte {at}")
        end = at + 12 + struct.unpack("<Q", header[:8])[0]
        payload, tail = data[at + 12 : end], data[end : end + 4]
        if len(tail) < 4 or struct.unpack("<I", tail)[0] != masked_crc(payload):
            raise _damaged(path, f"the record at byte {at} is cut off or changed")
        yield payload
        at = end + 4


def masked_crc(data: bytes) -> int:
    """Return the CRC-32C of data, rotated and offset as TFRecord stores it (tensorflow/core/lib/hash/crc32c.h)."""
    crc = _crc32c()(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _crc32c() -> Callable[[bytes], int]:
    try:
        import google_crc32c  # noqa: PLC0415 - comes with google-cloud-storage; without it our own does, slowly
    except ImportError:
        return crc32c
    value: Callable[[bytes], int] = google_crc32c.value
    return value


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli, RFC 3720 appendix B.4) of data, by table, about 10 MB a second."""
    crc, table = 0xFFFFFFFF, _table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    return tuple(_entry(byte) for byte in range(256))


def _entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


def _damaged(path: Path, got: str) -> Rejected:
    return Rejected(
        f"{path}: not readable as warm-up requests",
        expected="a TFRecord of tensorflow.serving.PredictionLog",
        got=got,
        fix="write the file again, or remove it",
        reason="WARMUP_DAMAGED",
    )
