"""The plan: what an engine is told, and what is refused before any engine sees it."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.digest import Digest
from components.core.errors import Rejected
from components.core.release import Identity, canonical
from components.core.spec import ReleaseSpec, SecretRef
from components.core.specfile import from_json
from pipelines.parameters import BASE_DIR, IDENTITY, PARAMETERS, RUN_ID, SPEC, identity_from_json
from pipelines.plan import ARGUMENT_LIMIT, TRAIN, plan
from pipelines.steps import FINISH, STEPS, TRAINED_MODEL

IDENTITY_OF_NOTHING = Identity(Digest(f"sha256:{'0' * 64}"), {}, repeatable=True)


def spec(**changes: object) -> ReleaseSpec:
    image = {name: f"example.invalid/{name}@sha256:{name[0] * 64}" for name in ("a", "b", "c")}
    whole: dict[str, object] = {
        "apiVersion": "slipway.dev/v1",
        "model": "digits",
        "source": {"train": {"command": ["python", "train.py"]}},
        "store": {"uri": "gs://bucket/models"},
        "engine": {"model_image": image["a"]},
        "serving": {"image": image["b"], "tools_image": image["c"]},
    }
    return ReleaseSpec.model_validate({**whole, **changes})


def training(**changes: object) -> dict[str, object]:
    return {"train": {"command": ["python", "train.py"], **changes}}


def test_every_missing_image_is_told_at_once_with_its_field():
    with pytest.raises(Rejected) as refused:
        plan(spec(engine={}, serving={}), IDENTITY_OF_NOTHING)
    assert refused.value.reason == "IMAGE_MISSING"
    for field in ("engine.model_image", "serving.image", "serving.tools_image"):
        assert field in refused.value.what
    assert refused.value.expected
    assert "--set engine.model_image=" in refused.value.fix


def test_only_the_image_that_is_missing_is_told():
    with pytest.raises(Rejected) as refused:
        plan(spec(engine={}), IDENTITY_OF_NOTHING)
    assert "engine.model_image" in refused.value.what
    assert "tools_image" not in refused.value.what


def test_a_spec_too_long_for_one_argument_is_refused_with_its_size():
    inputs = [f"data/{number:06}.npz" for number in range(10_000)]
    with pytest.raises(Rejected) as refused:
        plan(spec(source=training(inputs=inputs)), IDENTITY_OF_NOTHING)
    assert refused.value.reason == "SPEC_TOO_LONG"
    assert int(refused.value.got.split()[0]) > ARGUMENT_LIMIT
    assert refused.value.got in refused.value.what


def test_the_digests_of_many_inputs_count_as_well():
    many = {f"data/{number:04}.npz": Digest(f"sha256:{number:064}") for number in range(2000)}
    with pytest.raises(Rejected, match="too long"):
        plan(spec(), Identity(IDENTITY_OF_NOTHING.spec_digest, many, repeatable=True))


def test_what_an_engine_would_fill_in_is_refused():
    with pytest.raises(Rejected) as refused:
        plan(spec(source=training(args={"greeting": "{{workflow.name}}"})), IDENTITY_OF_NOTHING)
    assert refused.value.reason == "PLACEHOLDER"
    assert "{{workflow.name}}" in refused.value.got


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(string.printable, max_size=20)))
def test_the_parameters_give_back_the_spec_and_the_identity_they_were_made_from(args: dict[str, str]):
    asked = spec(source=training(args={name: value.replace("{", "") for name, value in args.items()}))
    defaults = plan(asked, IDENTITY_OF_NOTHING).defaults
    assert from_json(defaults[SPEC.name], where="spec") == asked
    assert defaults[SPEC.name].encode() == canonical(asked)
    assert identity_from_json(defaults[IDENTITY.name]) == IDENTITY_OF_NOTHING


def test_a_run_may_override_every_parameter_but_its_own_id():
    assert {*plan(spec(), IDENTITY_OF_NOTHING).defaults, RUN_ID.name} == {each.name for each in PARAMETERS}


def test_a_trainer_of_slipways_image_runs_within_the_source_step_and_gets_what_it_asks_for():
    asked = spec(source=training(resources={"cpu": "7", "memory": "9Gi"}, env={"SEED": "1", "KEY": _secret()}))
    first = plan(asked, IDENTITY_OF_NOTHING).nodes[0]
    assert (first.name, first.runs) == ("source", "source")
    assert (first.resources.cpu, first.resources.memory) == ("7", "9Gi")
    assert dict(first.env) == {"KEY": SecretRef(**_secret())}, "plain values are in the spec already"


def test_a_users_image_is_a_node_of_its_own_whose_output_the_source_step_adopts():
    asked = spec(source=training(image="me/trainer:1", env={"SEED": "1", "KEY": _secret()}, timeout_s=7000))
    first, second, *_ = plan(asked, IDENTITY_OF_NOTHING).nodes
    assert (first.name, first.image, first.outputs) == (TRAIN, "me/trainer:1", (TRAINED_MODEL,))
    assert first.parameters == (BASE_DIR,), "it knows nothing of Slipway"
    assert set(first.env) == {"SEED", "KEY"}
    assert (second.name, second.inputs) == ("source", (TRAINED_MODEL,))
    assert not second.env


def test_the_exit_node_comes_after_all_and_reads_no_artifact():
    found = plan(spec(), IDENTITY_OF_NOTHING)
    assert (found.exit.name, found.exit.inputs, found.exit.outputs) == (FINISH, (), ())
    assert FINISH not in [node.name for node in found.nodes]


def test_an_engine_waits_longer_than_the_step_allows_itself():
    asked = spec()
    nodes = {node.name: node for node in plan(asked, IDENTITY_OF_NOTHING).nodes}
    for step in STEPS:
        assert nodes[step.name].timeout_s > step.timeout_s(asked)


def test_no_secret_has_a_value_to_give_away():
    """The spec refuses values already; this is what the parameter of every run, which anyone may read, would show."""
    asked = spec(source=training(env={"API_KEY": _secret()}))
    said = json.loads(plan(asked, IDENTITY_OF_NOTHING).defaults[SPEC.name])
    assert said["source"]["train"]["env"] == {"API_KEY": {"secret": "vault", "key": "k"}}


def _secret() -> dict[str, str]:
    return {"secret": "vault", "key": "k"}


def test_the_folder_of_the_images_is_the_default_base(tmp_path: Path):
    assert plan(spec(), IDENTITY_OF_NOTHING).defaults[BASE_DIR.name] == "/workspace"
