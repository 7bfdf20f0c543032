import pytest

from components.core import specfile
from components.core.errors import Rejected
from components.core.release import identify

SPEC = "apiVersion: slipway.dev/v1\nmodel: m\nstore: {{uri: s}}\nsource: {source}\n{more}"
TRAIN = "{train: {command: [python, train.py], inputs: [train.py, data]}}"


@pytest.fixture
def identity(tmp_path):
    (tmp_path / "train.py").write_text("1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows").write_text("a,b")

    def make(source: str = TRAIN, more: str = "", *sets: str):
        path = tmp_path / "release.yaml"
        path.write_text(SPEC.format(source=source, more=more))
        return identify(specfile.load(path, sets=sets).spec, tmp_path)

    return make


def test_the_same_wishes_on_the_same_inputs_are_the_same_release(identity):
    assert identity().release_id() == identity().release_id()


def test_another_wish_or_another_byte_of_an_input_is_another_release(identity, tmp_path):
    before = identity().release_id()
    assert identity(TRAIN, "", "canary.budgets.churn=0.2").release_id() != before
    (tmp_path / "data" / "rows").write_text("a,c")
    assert identity().release_id() != before


def test_a_field_spelled_out_at_its_default_changes_nothing(identity):
    assert identity(TRAIN, "canary: {budgets: {churn: 0.05}}\n").release_id() == identity().release_id()


def test_labelled_data_and_requests_are_inputs_too(identity, tmp_path):
    more = "validate: {evaluate: {data: eval.npz, output: y}}\ncanary: {traffic: {requests: asks.npz}}\n"
    for name in ("eval.npz", "asks.npz"):
        (tmp_path / name).write_text("1")
    before = identity(TRAIN, more).release_id()
    (tmp_path / "asks.npz").write_text("2")
    assert identity(TRAIN, more).release_id() != before


@pytest.mark.parametrize(
    ("source", "repeatable"),
    [
        (TRAIN, True),
        ("{train: {command: [python]}}", False),
        ("{fetch: {uri: data}}", True),
        ("{fetch: {uri: 'https://host/model.zip'}}", False),
        ("{fetch: {uri: 'https://host/model.zip', sha256: " + "a" * 64 + "}}", True),
        ("{version: {store: s, version: 3}}", True),
    ],
)
def test_a_source_that_nothing_pins_is_never_a_repetition(identity, source, repeatable):
    assert identity(source).repeatable is repeatable


def test_a_nonce_makes_another_release(identity):
    assert identity().release_id("a") != identity().release_id("b") != identity().release_id()


def test_a_declared_input_that_is_not_there_is_named(identity, tmp_path):
    (tmp_path / "train.py").unlink()
    with pytest.raises(Rejected, match=r"train\.py: a declared input cannot be read") as error:
        identity()
    assert error.value.reason == "INPUT_MISSING"
