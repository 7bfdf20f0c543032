"""YAML that every parser reads alike."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from manifests.bundle import foundation, render, to_yaml
from manifests.document import dumper
from manifests.manifest import Manifest
from tests.manifests.cases import CPU, VERSION
from tests.manifests.strategies import roles, serving_specs, versions


def written(text):
    return to_yaml([Manifest("v1", "ConfigMap", "x", "", {"data": {"k": text}})])


# What YAML 1.1, YAML 1.2 or Go's parser takes for something other than text. Quoted, it is text to all of them.
AMBIGUOUS = [
    "1", "01", "-1", "+1", "1.5", ".5", "1e5", "12e4567890", "0x1f", "0o17", "0b11", "1_000", "1:20", "2001-01-01",
    "2001-01-01T00:00:00Z", ".inf", "-.INF", ".nan", "nan", "inf", "y", "N", "yes", "No", "on", "OFF", "true", "False",
    "null", "~", "",
]  # fmt: skip


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_text_that_could_be_something_else_is_quoted(text):
    assert f"k: '{text}'\n" in written(text)


@pytest.mark.parametrize("text", ["ranker", "500m", "2Gi", "10.0.0.0/8", "--port=8500", "gs://bucket/models"])
def test_text_that_can_only_be_text_stands_bare(text):
    assert f"k: {text}\n" in written(text)


def test_files_in_a_config_map_read_as_files():
    assert "    k: |\n" not in written("one line")
    assert "  k: |\n    a {\n      b: 1\n    }\n" in written("a {\n  b: 1\n}\n")


@given(st.text())
def test_any_text_comes_back_as_it_was(text):
    (body,) = yaml.safe_load_all(written(text))
    assert body["data"]["k"] == text


@given(st.text("ab :\n#-'\"\\|>\t", max_size=12))
def test_text_with_yamls_own_signs_comes_back_as_it_was(text):
    (body,) = yaml.safe_load_all(written(text))
    assert body["data"]["k"] == text


@pytest.mark.slow
@given(serving_specs, versions, roles)
def test_what_is_read_back_is_what_was_rendered(spec, version, role):
    manifests = foundation(spec) + render(spec, version, role)
    assert list(yaml.safe_load_all(to_yaml(manifests))) == [m.body() for m in manifests]


@pytest.mark.slow
@given(serving_specs, versions)
def test_without_libyaml_the_text_is_the_same(spec, version):
    bodies = [m.body() for m in render(spec, version)]
    texts = {
        yaml.dump_all(bodies, Dumper=dumper(base), explicit_start=True, sort_keys=False, width=1_000_000)
        for base in (yaml.SafeDumper, yaml.CSafeDumper)
    }
    assert len(texts) == 1


@given(st.text(" a\n\t\u00e9\u2028:#-'", max_size=8) | st.text(max_size=8))
def test_without_libyaml_any_text_is_written_the_same(text):
    assert len({yaml.dump({"k": text}, Dumper=dumper(base)) for base in (yaml.SafeDumper, yaml.CSafeDumper)}) == 1


def test_no_anchor_stands_for_a_repeated_value():
    assert "&" not in to_yaml(render(CPU, VERSION))
    assert "*" not in to_yaml(render(CPU, VERSION))
