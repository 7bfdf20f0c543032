import pytest

from components.core.errors import Rejected
from components.export.formats import Format, recognise
from components.savedmodel.messages import message


def graph_def() -> bytes:
    graph = message("tensorflow.GraphDef")()
    graph.node.add(name="x", op="Placeholder")
    data: bytes = graph.SerializeToString()
    return data


@pytest.mark.parametrize(
    ("files", "form", "where"),
    [
        ({"saved_model.pb": b""}, Format.SAVED_MODEL, "."),
        ({"saved_model.pbtxt": b""}, Format.SAVED_MODEL, "."),
        ({"mobilenet/1/saved_model.pb": b"", "mobilenet/README.md": b""}, Format.SAVED_MODEL, "mobilenet/1"),
        ({"model.keras": b"", "history.json": b"{}", "logs/events": b""}, Format.KERAS, "model.keras"),
        ({"model.h5": b"", "model.weights.h5": b""}, Format.HDF5, "model.h5"),
        ({"frozen.pb": graph_def(), "labels.pb": b"not a graph"}, Format.GRAPH_DEF, "frozen.pb"),
        ({"m.ckpt-7.meta": b"", "m.ckpt-7.index": b""}, Format.META_GRAPH, "m.ckpt-7.meta"),
        (
            {
                "m.ckpt-7.meta": b"",
                "m.ckpt-7.index": b"",
                "m.ckpt-10.meta": b"",
                "m.ckpt-10.index": b"",
                "checkpoint": b'model_checkpoint_path: "/train/m.ckpt-10"\n',
            },
            Format.META_GRAPH,
            "m.ckpt-10.meta",
        ),
        ({"best.keras": b"", "old/model.keras": b""}, Format.KERAS, "best.keras"),
    ],
)
def test_what_lies_on_disk_is_recognised(tmp_path, files, form, where):
    write(tmp_path, files)
    found = recognise(tmp_path)

    assert (found.format, found.path) == (form, tmp_path / where)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "NO_MODEL"),
        ({"history.json": b"{}", "weights.npz": b""}, "NO_MODEL"),
        ({"model.weights.h5": b""}, "NO_MODEL"),
        ({"model.ckpt.meta": b""}, "NO_MODEL"),
        ({"a/b/c/d/saved_model.pb": b""}, "NO_MODEL"),
        ({"a.keras": b"", "b.keras": b""}, "SEVERAL_MODELS"),
        ({"1/saved_model.pb": b"", "2/saved_model.pb": b""}, "SEVERAL_MODELS"),
    ],
)
def test_a_directory_without_exactly_one_model_is_refused_with_what_is_there(tmp_path, files, reason):
    write(tmp_path, files)
    with pytest.raises(Rejected) as caught:
        recognise(tmp_path)

    assert caught.value.reason == reason
    assert all(name.removesuffix("/saved_model.pb") in caught.value.got for name in list(files)[:1])


def write(folder, files) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
