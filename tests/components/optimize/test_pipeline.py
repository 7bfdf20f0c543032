"""The step as a release runs it: in a child process, with the original to fall back on."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from components.core import digest
from components.core.errors import Rejected
from components.core.optimization import OptimizeReport
from components.core.process import ENTRY
from components.core.spec import EXACT_TOLERANCE, Measure, Optimize, Tolerance
from components.optimize.outcome import Outcome
from components.optimize.pipeline import optimize
from components.optimize.selection import EXACT
from components.optimize.worker import handle, untouchable
from components.savedmodel import inspect
from components.savedmodel.rewrite import GraphRewrite, read
from tests.models import BUILDERS

SERVE = frozenset({"serve"})
NO_LOSS: Mapping[str, str] = MappingProxyType({})
QUICK = Measure(batch_sizes=(1, 4), pairs=10)


def _handle(
    source: Path,
    out: Path,
    passes: tuple[str, ...],
    tolerance: Tolerance = EXACT_TOLERANCE,
    lost: Mapping[str, str] = NO_LOSS,
) -> OptimizeReport:
    request = {
        "source": str(source),
        "out": str(out),
        "profile": "passes",
        "passes": passes,
        "lost": dict(lost),
        "tolerance": tolerance.model_dump(),
        "measure": QUICK.model_dump(),
    }
    return OptimizeReport.model_validate(handle(request, lambda _: None))


@pytest.fixture(scope="module")
def released(saved_model, tmp_path_factory):
    """Optimize the convolutional net twice; return both directories, the first report and the progress told."""
    folder, told = tmp_path_factory.mktemp("released"), []
    source = saved_model("keras_cnn")
    report = optimize(source, folder / "one", Optimize(measure=QUICK), progress=told.append)
    optimize(source, folder / "two", Optimize(measure=QUICK))
    return folder, report, told


@pytest.mark.slow
def test_a_keras_net_is_optimized_and_the_report_says_by_what_and_how_much(released, saved_model):
    folder, report, told = released
    assert report.chosen == "optimized"
    assert {"freeze_variables", "fold_batch_norms", "thaw_constants"} <= set(report.fired)
    assert report.size_after == digest.of_directory(folder / "one").size < 0.6 * report.size_before
    assert report.nodes_after < 0.2 * report.nodes_before
    assert report.nodes_before == inspect.read(saved_model("keras_cnn")).nodes
    assert len(report.timings) == 4
    assert all(entry.within for entry in report.parity)
    assert report.hardware
    assert "pass fold_batch_norms" in told
    assert OptimizeReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.slow
def test_the_contract_stays_and_equal_input_gives_equal_bytes(released, saved_model):
    folder, _, _ = released
    before, after = inspect.contract(saved_model("keras_cnn"), SERVE), inspect.contract(folder / "one", SERVE)
    assert {key: list(signature.inputs) for key, signature in before.signatures.items()} == {
        key: list(signature.inputs) for key, signature in after.signatures.items()
    }
    assert digest.of_directory(folder / "one") == digest.of_directory(folder / "two")


@pytest.mark.slow
def test_the_parent_never_imports_tensorflow(saved_model, tmp_path):
    spec = Optimize(measure=QUICK, passes=("strip_unused",))
    code = (
        "import sys, json; from pathlib import Path; from components.core.spec import Optimize;"
        "from components.optimize.pipeline import optimize;"
        f"optimize(Path({str(saved_model('keras_mlp'))!r}), Path({str(tmp_path / 'out')!r}),"
        f"Optimize.model_validate(json.loads({spec.model_dump_json()!r})));"
        "sys.exit('tensorflow' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ENTRY.parent)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_the_profile_none_copies_the_original_byte_for_byte(saved_model, tmp_path):
    source = saved_model("lookup")
    report = optimize(source, tmp_path / "out", Optimize(profile="none"))
    assert report.chosen == "original"
    assert digest.of_directory(tmp_path / "out") == digest.of_directory(source)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_what_is_no_saved_model_is_refused_and_nothing_is_written(tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises(Rejected) as caught:
        optimize(tmp_path / "source", tmp_path / "out", Optimize())
    assert caught.value.reason == "NO_SAVED_MODEL"
    assert not (tmp_path / "out").exists()


def test_what_is_there_already_is_not_overwritten(saved_model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("x")
    with pytest.raises(Rejected) as caught:
        optimize(saved_model("strings"), tmp_path / "out", Optimize(profile="none"))
    assert caught.value.reason == "OUTPUT_EXISTS"
    assert (tmp_path / "out" / "kept").read_text() == "x"


def test_a_required_optimization_that_cannot_be_had_rejects_the_release(saved_model, tmp_path):
    with pytest.raises(Rejected) as caught:
        optimize(saved_model("strings"), tmp_path / "out", Optimize(profile="none", required=True))
    assert caught.value.reason == "NOT_OPTIMIZED"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_every_kind_of_model_is_proven_and_none_is_broken(saved_model, tmp_path, name):
    report = _handle(saved_model(name), tmp_path / "out", EXACT)
    assert all(entry.within and entry.requests for entry in report.parity)
    assert not [entry for entry in report.passes if entry.undone]
    assert (report.chosen == "optimized") == (tmp_path / "out").exists()


@pytest.fixture
def further_pass(monkeypatch):
    """Offer a pass of the test's own under the name of a real module."""

    def add(name: str, apply: Callable[[GraphRewrite], Outcome]) -> None:
        module = type(sys)(f"components.optimize.passes.{name}")
        module.apply = apply
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return add


def _break_answers(graph: GraphRewrite) -> Outcome:
    next(node for node in graph.graph.node if node.op == "Relu").op = "Softplus"
    return Outcome(1)


def _break_loading(graph: GraphRewrite) -> Outcome:
    graph.graph.node[0].input.append("nowhere")
    return Outcome(1)


def _break_contract(graph: GraphRewrite) -> Outcome:
    del graph.meta.signature_def["serving_default"]
    return Outcome(1)


def _stumble(graph: GraphRewrite) -> Outcome:
    graph.graph.ClearField("node")
    raise RuntimeError("a pass that stumbles")


@pytest.mark.parametrize("harm", [_break_answers, _break_loading, _break_contract, _stumble])
def test_a_pass_that_breaks_the_model_is_undone_with_a_reason_and_the_rest_is_kept(
    saved_model, tmp_path, further_pass, harm
):
    further_pass("remove_device", harm)
    passes = ("strip_unused", "inline_functions", "remove_device", "freeze_variables")
    report = _handle(saved_model("keras_mlp"), tmp_path / "out", passes)
    undone = [entry for entry in report.passes if entry.undone]
    assert [entry.name for entry in undone] == ["remove_device"]
    assert "undone" in undone[0].skipped[0]
    assert [entry.name for entry in report.passes if entry.fired] == [
        *("strip_unused", "inline_functions", "freeze_variables")
    ]
    assert all(entry.within for entry in report.parity)


def test_a_tolerance_of_nothing_undoes_what_rounds_until_answers_are_equal(saved_model, tmp_path):
    exact = Tolerance(absolute=0, relative=0, why="bit for bit, to see what rounds")
    passes = ("inline_functions", "freeze_variables", "fold_constants", "remove_nodes", "fold_batch_norms")
    report = _handle(saved_model("keras_cnn"), tmp_path / "out", passes, exact)
    assert any(entry.undone and "more than the tolerance" in entry.skipped[0] for entry in report.passes)
    assert all(entry.within and entry.max_absolute == 0 for entry in report.parity)


def test_a_pass_that_crashed_before_is_not_run_again(saved_model, tmp_path):
    passes = ("strip_unused", "inline_functions")
    report = _handle(saved_model("keras_mlp"), tmp_path / "out", passes, lost={"inline_functions": "undone: SIGABRT"})
    assert report.passes[1].undone
    assert report.passes[1].skipped == ("undone: SIGABRT",)


def test_a_model_without_signatures_or_with_unknown_ops_is_left_alone(saved_model, tmp_path):
    graphs = read(saved_model("strings"))
    assert untouchable(graphs) == ""
    graphs[0].graph.node.add(name="mine", op="MyOwnOp")
    assert "MyOwnOp" in untouchable(graphs)
    graphs[0].meta.ClearField("signature_def")
    assert "no signature" in untouchable(graphs)


def test_an_argument_that_the_pass_does_not_have_is_refused(saved_model, tmp_path):
    with pytest.raises(Rejected) as caught:
        _handle(saved_model("strings"), tmp_path / "out", ("remove_device(name=a)",))
    assert caught.value.reason == "MALFORMED_PASS"
