"""One step table: records, command, local runner and both engines' graphs know the same steps in one order."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from components.cluster.local import LocalTarget
from components.core import specfile
from components.core.clock import SystemClock
from components.core.records import Step
from components.store.open import open_store
from pipelines import compiled_example
from pipelines.commands.run import Quiet
from pipelines.commands.step import step_command
from pipelines.local import LocalRunner
from pipelines.steps import BY_NAME, FINISH, RECORD, STEPS
from tests.pipelines.compiling import EXAMPLE, compiled
from tests.pipelines.graphs import Vertex, in_line, of_argo, of_kubeflow

NAMES = [step.value for step in Step]
CHANGES_THE_WORLD = {Step.PUBLISH, Step.DEPLOY, Step.CANARY, Step.PROMOTE}


@pytest.fixture(scope="module", params=["kubeflow", "argo"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Vertex]:
    text = compiled(request.param, tmp_path_factory.mktemp("compiled"))
    return of_kubeflow(text) if request.param == "kubeflow" else of_argo(text)


def test_the_table_has_every_step_that_leaves_a_record_in_its_order():
    assert [step.name for step in STEPS] == NAMES
    assert list(BY_NAME) == NAMES


def test_the_command_does_every_step_and_the_exit_step():
    (argument,) = (each for each in step_command.params if each.name == "name")
    assert list(argument.type.choices) == [*NAMES, FINISH]  # type: ignore[attr-defined]


def test_the_local_runner_takes_the_steps_in_that_order(tmp_path: Path):
    loaded = specfile.load(EXAMPLE / "release.yaml")
    clock = SystemClock()
    runner = LocalRunner(
        state=tmp_path,
        store=open_store(str(tmp_path / "store"), base_dir=tmp_path),
        target=LocalTarget(tmp_path, clock, {}),
        clock=clock,
        environment={},
        reporter=Quiet(),
    )
    assert [step.name for step, _, _ in runner.preview(loaded)] == NAMES


def test_an_engine_runs_the_same_steps_one_after_the_other(graph: Mapping[str, Vertex]):
    """Kubeflow's chain ends with a node of its own: a failed exit step does not make its runs red."""
    assert in_line(graph) in (NAMES, [*NAMES, "outcome"])


def test_an_engine_hands_on_the_artifacts_of_the_table(graph: Mapping[str, Vertex]):
    for step in STEPS:
        assert graph[step.name].inputs == {artifact.name for artifact in step.inputs}
        assert graph[step.name].outputs == {artifact.name for artifact in step.outputs}


def test_an_engine_reuses_no_outcome_of_a_step_that_changes_the_world(graph: Mapping[str, Vertex]):
    for step in CHANGES_THE_WORLD:
        assert not graph[step.value].caching


def test_an_engine_caches_what_the_table_says(graph: Mapping[str, Vertex]):
    assert {step.name: graph[step.name].caching for step in STEPS} == {step.name: step.cacheable for step in STEPS}


def test_what_a_step_reads_an_earlier_one_has_made():
    made = set()
    for step in STEPS:
        assert set(step.inputs) <= made, step.name
        assert not set(step.outputs) & made, f"{step.name} makes what is there already"
        made |= set(step.outputs)


def test_the_first_output_of_a_step_is_its_record():
    assert [step.outputs[0] for step in STEPS] == [RECORD[step] for step in Step]


def test_the_committed_pipelines_are_what_the_compilers_make():
    assert compiled_example.stale() == [], "run make generate"


def test_the_committed_pipelines_have_the_steps_of_the_table():
    for name, read in (("kubeflow", of_kubeflow), ("argo", of_argo)):
        graph = read((compiled_example.TARGET / f"{name}.yaml").read_text())
        assert in_line(graph)[: len(NAMES) + 1] == ["train", *NAMES]
