"""``slipway fetch`` and ``slipway export`` as a person calls them: what they print, and what they leave."""

import json
from pathlib import Path

import click
import pytest

from pipelines.cli import main
from pipelines.commands.export import parse_signature


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"graph")
    return tmp_path / "model"


def test_fetch_tells_where_and_which_and_replaces_nothing_unasked(model, tmp_path, capsys):
    assert main(["fetch", str(model), str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == str(tmp_path / "out")

    assert main(["fetch", str(model), str(tmp_path / "out"), "--json"]) == 10
    assert json.loads(capsys.readouterr().out)["error"]["reason"] == "FILE_EXISTS"
    assert main(["fetch", str(model), str(tmp_path / "out"), "--overwrite", "--sha256", told["sha256"]]) == 0
    captured = capsys.readouterr()
    assert told["sha256"] in captured.out
    assert "slipway scan" in captured.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["http://example.invalid/m"], "BAD_ARGUMENT"),
        (["model", "--sha256", "beef"], "BAD_ARGUMENT"),
        (["model", "--sha256", "0" * 64], "DIGEST_MISMATCH"),
        (["nowhere"], "NOT_FOUND"),
    ],
)
def test_a_fetch_that_fails_leaves_nothing(model, tmp_path, monkeypatch, capsys, words, reason):
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", words[0], "out", *words[1:], "--json"]) == 10
    assert json.loads(capsys.readouterr().out)["error"]["reason"] == reason
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [("nowhere", "out", "NO_FILE"), ("model", "model/out", "BAD_ARGUMENT"), ("model", ".", "BAD_ARGUMENT")],
)
def test_an_export_that_cannot_be_is_refused_before_any_work(
    model, tmp_path, monkeypatch, capsys, source, target, reason
):
    monkeypatch.chdir(tmp_path)
    assert main(["export", source, target, "--json"]) == 10
    assert json.loads(capsys.readouterr().out)["error"]["reason"] == reason
    assert list(tmp_path.rglob("*")) == [model, model / "saved_model.pb"]


@pytest.mark.parametrize(
    "words",
    [
        ["--no-warmup", "--batch-size", "2"],
        ["--signature", "a:x->y", "--signature", "a:x->z"],
        ["--signature", "x->y"],
        ["--set", "export.reusable=true"],
    ],
)
def test_options_that_contradict_are_bad_arguments(model, tmp_path, words):
    assert main(["export", str(model), str(tmp_path / "out"), *words]) == 2


def test_a_signature_is_read_with_its_sources():
    key, signature = parse_signature("serving_default: image = x:0 , mask -> scores=head/scores:1")
    assert key == "serving_default"
    assert {alias: port.source for alias, port in signature.inputs.items()} == {"image": "x:0", "mask": ""}
    assert {alias: port.source for alias, port in signature.outputs.items()} == {"scores": "head/scores:1"}


@pytest.mark.parametrize("text", ["", "a", "a:", "a:x", "a:->y", "a:x->", "a:x,x->y", "a:x=->y", ":x->y", "a b:x->y"])
def test_what_is_no_signature_is_refused(text):
    with pytest.raises(click.BadParameter):
        parse_signature(text)
