"""Reading a checkpoint's index without tensorflow, against TensorFlow's own reader."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.savedmodel import checkpoint_index
from components.savedmodel.checkpoint_index import OBJECT_GRAPH_KEY, CheckpointIndex, Entry
from components.savedmodel.messages import message
from components.savedmodel.wire import WireError

MAGIC = 0xDB4775248B80FB57


def parse(path: Path) -> CheckpointIndex:
    return checkpoint_index.parse(memoryview(path.with_suffix(".index").read_bytes()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keras_cnn", "module_two_signatures", "tf1_simple_save"])
def test_keys_dtypes_shapes_and_bytes_are_those_that_tensorflow_reads(saved_model, name):
    import tensorflow as tf

    prefix = saved_model(name) / "variables" / "variables"
    reader = tf.train.load_checkpoint(str(prefix))
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    found = parse(prefix)
    assert [entry.key for entry in found.entries] == sorted(shapes, key=str.encode)
    for entry in found.entries:
        assert (entry.dtype, list(entry.shape)) == (dtypes[entry.key].name, shapes[entry.key])
        if entry.key != OBJECT_GRAPH_KEY:
            assert entry.size == reader.get_tensor(entry.key).nbytes
    data = prefix.with_name("variables.data-00000-of-00001")
    assert sum(entry.size for entry in found.entries) == data.stat().st_size
    assert found.shards == 1


@pytest.mark.slow
def test_a_variable_saved_in_parts_is_one_variable_with_all_its_bytes(tmp_path):
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        part = v1.fixed_size_partitioner(3)
        v1.get_variable("rows", (9, 4), tf.float32, v1.ones_initializer(), partitioner=part)
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model"), write_meta_graph=False)
    (entry,) = parse(tmp_path / "model").entries
    assert (entry.key, entry.shape, entry.size, entry.slices) == ("rows", (9, 4), 9 * 4 * 4, 3)


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def block(rows: list[tuple[bytes, bytes]], *, share: bool = True) -> bytes:
    data, last = b"", b""
    for key, value in rows:
        shared = 0
        while share and shared < min(len(last), len(key)) and last[shared] == key[shared]:
            shared += 1
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return data + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def table(rows: list[tuple[bytes, bytes]], *, compression: int = 0, magic: int = MAGIC, blocks: int = 1) -> bytes:
    """A table as LevelDB writes it, with ``blocks`` handles to one block of rows."""
    trailer = bytes([compression]) + b"crc4"
    data = block(rows)
    handle = varint(0) + varint(len(data))
    index = block([(b"~%d" % number, handle) for number in range(blocks)], share=False)
    start = len(data) + len(trailer)
    footer = varint(0) + varint(0) + varint(start) + varint(len(index))
    body = data + trailer + index + b"\0crc4"
    return body + footer.ljust(40, b"\0") + magic.to_bytes(8, "little")


def entry(**fields: object) -> bytes:
    made = message("tensorflow.BundleEntryProto")(**fields)
    data: bytes = made.SerializeToString()
    return data


KEYS = st.text("ab/.é", min_size=1, max_size=8)


@given(st.dictionaries(KEYS, st.tuples(st.integers(0, 2**40), st.integers(0, 9)), max_size=20), st.integers(0, 9))
def test_a_table_is_read_as_it_was_written(rows, shards):
    header = message("tensorflow.BundleHeaderProto")(num_shards=shards).SerializeToString()
    ordered = sorted((key.encode(), entry(dtype=1, size=size, shard_id=shard)) for key, (size, shard) in rows.items())
    found = checkpoint_index.parse(memoryview(table([(b"", header), *ordered])))
    assert found.shards == shards
    assert found.entries == tuple(Entry(key, "float32", (), *rows[key]) for key in sorted(rows, key=str.encode))


ONE = [(b"a", entry(dtype=1, size=4))]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "less than a footer"),
        (b"x" * 100, "magic"),
        (table(ONE, magic=1), "magic"),
        (table(ONE, compression=1), "compression 1"),
        (table(ONE)[30:], "beyond the end|cut short|restarts"),
        (table([(b"\xff", entry())]), "UTF-8"),
        (table([(b"a", entry(size=-1))]), "negative"),
        (table([(b"", message("tensorflow.BundleHeaderProto")(endianness=1).SerializeToString())]), "big-endian"),
        (table([(b"a", b"\xff")]), "does not end"),
        (table([(b"k" * 60000, b"")] * 8, blocks=1000), "bytes of keys"),
    ],
    ids=["empty", "text", "magic", "compressed", "cut", "key", "negative", "endian", "entry", "keys-without-end"],
)
def test_a_file_that_is_no_index_is_refused_with_the_reason(data, said):
    with pytest.raises(WireError, match=said):
        checkpoint_index.parse(memoryview(data))


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_damaged_tables_raise_only_wire_errors(data):
    whole = bytearray(table([(b"", b""), (b"a/b", entry(dtype=1, size=4)), (b"a/c", entry(dtype=9, size=8))]))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        checkpoint_index.parse(memoryview(bytes(whole[-cut:])))
    except WireError:
        return
