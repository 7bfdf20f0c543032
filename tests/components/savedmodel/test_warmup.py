"""The warm-up file: its format, its limits, its damage."""

from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.core.errors import Rejected
from components.savedmodel.warmup import FILE, MAX_RECORDS, WarmupRecord, crc32c, masked_crc, read, read_logs, write

arrays = hnp.arrays(
    st.sampled_from(["float32", "int64", "bool"]), hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)
)
records = st.lists(
    st.builds(WarmupRecord, st.text(min_size=1, max_size=5), st.dictionaries(st.text(max_size=4), arrays, max_size=3)),
    max_size=4,
)
ONE = WarmupRecord("serving_default", {"x": np.float32([1, 2])})


def same(left: WarmupRecord, right: WarmupRecord) -> bool:
    return (
        left.signature == right.signature
        and left.inputs.keys() == right.inputs.keys()
        and all(
            array.dtype == right.inputs[alias].dtype
            and array.shape == right.inputs[alias].shape
            and array.tobytes() == right.inputs[alias].tobytes()
            for alias, array in left.inputs.items()
        )
    )


@given(found=records)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_come_back_as_they_were_written(tmp_path: Path, found: list[WarmupRecord]):
    write(tmp_path, "model", found)
    back = read(tmp_path)
    assert len(back) == len(found)
    assert all(map(same, back, found))


def test_the_same_records_give_the_same_bytes_whatever_the_order_of_inputs(tmp_path: Path):
    inputs = {f"input_{number}": np.int64([number]) for number in range(40)}  # enough for a hash map to show its order
    backwards = dict(reversed(inputs.items()))
    first = write(tmp_path / "a", "m", [WarmupRecord("s", inputs)]).read_bytes()
    second = write(tmp_path / "b", "m", [WarmupRecord("s", backwards)]).read_bytes()
    assert first == second


@given(data=st.binary(max_size=200))
def test_our_checksum_is_googles(data: bytes):
    assert crc32c(data) == google_crc32c.value(data)


def test_the_checksum_has_the_value_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283
    assert masked_crc(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_no_file_is_no_records(tmp_path: Path):
    assert read(tmp_path) == []


def test_a_thousand_records_are_the_limit(tmp_path: Path):
    data = write(tmp_path, "m", [ONE] * MAX_RECORDS).read_bytes()
    assert len(read(tmp_path)) == MAX_RECORDS
    with pytest.raises(Rejected):
        write(tmp_path, "m", [ONE] * (MAX_RECORDS + 1))
    (tmp_path / FILE).write_bytes(data + data[: len(data) // MAX_RECORDS])
    with pytest.raises(Rejected) as caught:
        list(read_logs(tmp_path))
    assert caught.value.reason == "WARMUP_TOO_MANY"


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_is_refused(tmp_path: Path, at: int, bit: int):
    path = write(tmp_path, "m", [ONE, ONE])
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(Rejected) as caught:
        read(tmp_path)
    assert caught.value.reason == "WARMUP_DAMAGED"


@pytest.mark.parametrize("missing", [1, 5, 30])
def test_a_cut_file_is_refused(tmp_path: Path, missing: int):
    path = write(tmp_path, "m", [ONE])
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(Rejected):
        read(tmp_path)
