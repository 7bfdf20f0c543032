import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core import specfile
from components.core.errors import Rejected
from components.core.release import canonical

GOOD = """\
apiVersion: slipway.dev/v1
model: digits
source:
  train:
    command: [python, train.py]
    inputs: [train.py]
store:
  uri: ./store
"""


@pytest.fixture
def spec_file(tmp_path) -> Path:
    path = tmp_path / "release.yaml"
    path.write_text(GOOD)
    return path


def refused(path: Path, text: str | None = None, **options) -> str:
    if text is not None:
        path.write_text(text)
    with pytest.raises(Rejected) as error:
        specfile.load(path, **options)
    assert error.value.exit_code == 10
    return str(error.value)


def test_a_short_spec_is_enough_and_the_rest_has_defaults(spec_file):
    loaded = specfile.load(spec_file)
    assert loaded.spec.model == "digits"
    assert loaded.spec.export.tags == ("serve",)
    assert loaded.base_dir == spec_file.parent


def test_all_mistakes_are_told_at_once_each_with_its_file_and_line(spec_file):
    said = refused(
        spec_file, GOOD.replace("model: digits", "model: Digits").replace("inputs:", "imputs:") + "cannary: {}\n"
    )
    assert "3 mistakes" in said
    assert "release.yaml:2: model: must be lower-case letters" in said
    assert "found 'Digits'" in said
    assert "release.yaml:6: source.train.imputs: unknown field; did you mean `inputs`?" in said
    assert "release.yaml:9: cannary: unknown field; did you mean `canary`?" in said


def test_a_missing_field_is_named_by_its_whole_path(spec_file):
    said = refused(spec_file, GOOD.replace("    command: [python, train.py]\n", ""))
    assert "release.yaml:4: source.train.command: required, and not there" in said


def test_a_wrong_type_says_what_was_found(spec_file):
    assert "canary.limits.alpha: input should be a valid number" in refused(
        spec_file, GOOD + "canary: {limits: {alpha: much}}\n"
    )


def test_two_sources_or_none_are_refused(spec_file):
    assert "exactly one of train, fetch, version" in refused(
        spec_file, GOOD.replace("store:", "  fetch: {uri: a}\nstore:")
    )
    assert "found none" in refused(spec_file, "apiVersion: slipway.dev/v1\nmodel: a\nsource: {}\nstore: {uri: s}\n")


def test_a_missing_file_suggests_a_similar_one(spec_file):
    said = refused(spec_file.with_name("relaese.yaml"))
    assert "cannot be read" in said
    assert "did you mean" in said
    assert "release.yaml" in said


@pytest.mark.parametrize(
    "text", ["", "just words", "- a\n- b\n", "a: [1\n", "a: {b: 1\n", "\t- x", "a: !!python/object:os.system x\n"]
)
def test_what_is_no_spec_is_refused_with_a_reason(spec_file, text):
    said = refused(spec_file, text)
    assert "release.yaml" in said


def test_broken_yaml_names_its_line(spec_file):
    assert "release.yaml:9" in refused(spec_file, GOOD + "serving: {image: ]\n")


def test_a_key_that_stands_twice_is_refused_instead_of_winning_silently(spec_file):
    assert "`model` stands here twice" in refused(spec_file, GOOD + "model: other\n")


def test_aliases_that_multiply_are_refused_in_bounded_time(spec_file):
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases that multiply" in refused(spec_file, "\n".join(rows))


def test_set_overrides_one_field_and_says_so_when_it_is_wrong(spec_file):
    loaded = specfile.load(spec_file, sets=["canary.budgets.churn=0.2", "source.train.args.seed=3"])
    assert loaded.spec.canary.budgets.churn == 0.2
    assert loaded.spec.source.train is not None
    assert loaded.spec.source.train.args == {"seed": 3}
    assert "--set canary.budgets.churn: canary.budgets.churn" in refused(spec_file, sets=["canary.budgets.churn=7"])
    assert "path=value" in refused(spec_file, sets=["canary"])


def test_set_reaches_into_a_list_by_number(spec_file):
    loaded = specfile.load(spec_file, sets=["source.train.command.1=other.py"])
    assert loaded.spec.source.train is not None
    assert loaded.spec.source.train.command == ("python", "other.py")
    assert "no item 9" in refused(spec_file, sets=["source.train.command.9=x"])


def test_an_environment_is_an_overlay_beside_the_spec(spec_file):
    overlay = spec_file.with_name("release.prod.yaml")
    overlay.write_text("serving:\n  replicas: 5\n")
    assert specfile.load(spec_file, environment="prod").spec.serving.replicas == 5
    overlay.write_text("serving:\n  replicas: none\n")
    assert "release.prod.yaml:2: serving.replicas" in refused(spec_file, environment="prod")
    assert "the overlay of environment dev" in refused(spec_file, environment="dev")


@pytest.mark.parametrize("name", ["API_TOKEN", "db_password", "MySecret", "AWS_ACCESS_KEY", "api-key"])
def test_a_secret_is_a_reference_and_its_value_never_shows(spec_file, name):
    said = refused(spec_file, GOOD.replace("    inputs", f"    env: {{{name}: hunter22}}\n    inputs"))
    assert "looks like a secret" in said
    assert "hunter22" not in said
    text = GOOD.replace("    inputs", f"    env: {{{name}: {{secret: vault, key: k}}}}\n    inputs")
    spec_file.write_text(text)
    assert specfile.load(spec_file).spec.source.train is not None


def test_a_mistake_beside_a_secret_does_not_print_it(spec_file):
    said = refused(
        spec_file, GOOD.replace("    inputs", "    env: {A_TOKEN: {secret: s, value: hunter22}}\n    inputs")
    )
    assert "hunter22" not in said


def test_the_resolved_spec_survives_the_way_through_an_engine(spec_file):
    spec = specfile.load(spec_file, sets=["canary.budgets.churn=0.2"]).spec
    assert specfile.from_json(specfile.to_json(spec), where="the parameter") == spec


def test_defaults_are_no_part_of_what_identifies_a_release(spec_file):
    spec = specfile.load(spec_file).spec
    spelled_out = specfile.load(spec_file, sets=["canary.budgets.churn=0.05", "serving.replicas=2"]).spec
    assert canonical(spec) == canonical(spelled_out)
    assert "canary" not in json.loads(canonical(spec))


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_raise_anything_but_a_rejection(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("spec") / "release.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(Rejected):
        specfile.load(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schedule: {cron: '99 7 * * *'}", "minute must be * or numbers from 0 to 59, found 99"),
        ("schedule: {cron: '0 7 * *'}", "must have five fields"),
        ("schedule: {cron: '0 7 32 * *'}", "day of the month"),
        ("schedule: {cron: '0 7 * * x!'}", "day of the week"),
        ("schedule: {cron: '0 7 * * *', timezone: Mars/Base}", "time zone of the IANA database"),
        ("canary: {limits: {min_requests: 500, max_requests: 10}}", "can never be reached"),
        (
            "validate: {evaluate: {data: a.npz, output: y, metrics: {accuracy: {minimum: 0.9, maximum: 0.1}}}}",
            "nothing is at least 0.9 and at most 0.1",
        ),
    ],
)
def test_what_can_never_work_is_refused_before_anything_runs(spec_file, text, said):
    assert said in refused(spec_file, GOOD + text + "\n")


@pytest.mark.parametrize("cron", ["*/15 3-5 1,15 * MON-FRI", "0 0 * * 7", "30 4 1-7/2 JAN *"])
def test_an_ordinary_schedule_passes(spec_file, cron):
    assert specfile.load(spec_file, sets=[f"schedule.cron='{cron}'"]).spec.schedule


def test_a_store_of_no_kind_is_refused(spec_file):
    assert "must be a path, file://PATH or gs://BUCKET/PREFIX" in refused(spec_file, sets=["store.uri=s3://x"])
