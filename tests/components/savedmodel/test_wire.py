"""The wire decoder against Google's own, and against bytes that nobody wrote."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.savedmodel import wire
from components.savedmodel.dtypes import dtype_name
from components.savedmodel.messages import message, pool
from components.savedmodel.wire import WireError

NUMBERS = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"))


@given(TEXT, st.lists(st.binary(max_size=300)), st.lists(NUMBERS), st.floats(width=32, allow_nan=False))
def test_every_kind_of_field_is_read_as_protobuf_wrote_it(method, blobs, sizes, score):
    feature = message("tensorflow.Feature")()
    feature.bytes_list.value.extend(blobs)
    view = memoryview(feature.SerializeToString())
    assert [bytes(value) for value in wire.values(wire.submessage(view, 1), 1)] == blobs
    shape = message("tensorflow.TensorShapeProto")()
    for size in sizes:
        shape.dim.add(size=size)
    dims = [wire.message(dim) for dim in wire.values(memoryview(shape.SerializeToString()), 2)]
    assert [next((wire.signed(size) for size in wire.values(dim, 1)), 0) for dim in dims] == sizes
    signature = message("tensorflow.SignatureDef")(method_name=method)
    assert wire.last_text(memoryview(signature.SerializeToString()), 3) == method
    entry = message("tensorflow.BundleEntryProto")(crc32c=7, offset=5)
    assert wire.last_number(memoryview(entry.SerializeToString()), 6) == 7


@given(NUMBERS)
def test_zigzag_numbers_are_those_that_protobuf_wrote(value):
    structured = message("tensorflow.StructuredValue")(int64_value=value)
    (found,) = wire.values(memoryview(structured.SerializeToString()), 12)
    assert wire.zigzag(found) == value


@given(TEXT, TEXT, st.lists(st.tuples(st.integers(1, 40), st.binary(max_size=200))))
def test_the_fast_way_to_the_last_field_finds_what_the_general_way_finds(name, op, attributes):
    node = message("tensorflow.NodeDef")(name=name, op=op)
    tail = b"".join(_field(number, data) for number, data in attributes)
    view = memoryview(node.SerializeToString() + tail)
    general = [wire.message(value) for value in wire.values(view, 2)]
    assert bytes(wire.last_bytes(view, 2)) == (bytes(general[-1]) if general else b"")


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | wire.BYTES) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_raise_only_wire_errors(data):
    view = memoryview(data)
    for read in (
        lambda: list(wire.fields(view)),
        lambda: wire.last_text(view, 2),
        lambda: wire.last_bytes(view, 1),
        lambda: wire.last_number(view, 1),
        lambda: wire.entries(view, 1, bytes),
    ):
        try:
            read()
        except WireError:
            continue


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x0a\x05abc", "wants 5 bytes, 3 are left"),
        (b"\x0a", "does not end"),
        (b"\x09\x01\x02", "cut short"),
        (b"\x08" + b"\xff" * 11, "does not end"),
        (b"\x02\x00", "field number 0"),
        (b"\x0b", "wire type 3"),
        (b"\x0f", "wire type 7"),
    ],
)
def test_what_is_wrong_is_said(data, said):
    with pytest.raises(WireError, match=said):
        list(wire.fields(memoryview(data)))


def test_a_number_is_no_message_and_a_message_no_number():
    with pytest.raises(WireError):
        wire.message(5)
    with pytest.raises(WireError):
        wire.number(memoryview(b""))
    with pytest.raises(WireError, match="UTF-8"):
        wire.text(memoryview(b"\xff"))


def test_of_a_map_key_that_comes_twice_the_last_counts():
    graph = message("tensorflow.MetaGraphDef")()
    graph.signature_def["s"].method_name = "first"
    twice = graph.SerializeToString()
    graph.signature_def["s"].method_name = "last"
    twice += graph.SerializeToString()
    assert message("tensorflow.MetaGraphDef").FromString(twice).signature_def["s"].method_name == "last"
    assert wire.entries(memoryview(twice), 5, lambda data: wire.last_text(data, 3)) == {"s": "last"}


def test_an_empty_file_is_an_empty_message(tmp_path):
    (tmp_path / "empty").touch()
    assert list(wire.fields(wire.mapped(tmp_path / "empty"))) == []


def test_every_data_type_of_the_pinned_release_has_its_name():
    for number, value in pool().FindEnumTypeByName("tensorflow.DataType").values_by_number.items():
        name = dtype_name(number)
        expected = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16"}
        plain = value.name.removesuffix("_REF")
        assert name.removesuffix("_ref") == expected.get(plain, plain.removeprefix("DT_").lower())
        assert name.endswith("_ref") == value.name.endswith("_REF")
    assert dtype_name(77) == "77"
