"""What is refused, and that all of it is said at once."""

import pytest

from manifests.bundle import Unrenderable, render
from manifests.spec import Resources, ServingSpec
from tests.manifests.cases import CPU, VERSION


def refused(update, version=VERSION):
    with pytest.raises(Unrenderable) as caught:
        render(CPU.model_copy(update=update), version)
    return {refusal.field for refusal in caught.value.refusals}


@pytest.mark.parametrize("field", ["image", "tools_image"])
def test_a_missing_image_is_refused_by_name(field):
    assert refused({field: None}) == {f"serving.{field}"}


@pytest.mark.parametrize("waiver", ["", "  "])
def test_one_replica_without_a_reason_is_refused(waiver):
    assert refused({"replicas": 1, "single_replica_waiver": waiver}) == {"serving.replicas"}


def test_one_replica_with_a_reason_is_rendered():
    assert render(CPU.model_copy(update={"replicas": 1, "single_replica_waiver": "a test"}), VERSION)


@pytest.mark.parametrize(
    ("update", "field"),
    [
        ({"resources": Resources(cpu="0")}, "serving.resources.cpu"),
        ({"resources": Resources(memory="0Gi")}, "serving.resources.memory"),
        ({"model_volume": "0.0"}, "serving.model_volume"),
    ],
)
def test_a_limit_of_nothing_is_refused_because_it_means_no_limit(update, field):
    assert refused(update) == {field}


@pytest.mark.parametrize("model", ["1st", "ranker-candidate"])
def test_a_name_no_service_can_have_is_refused(model):
    assert refused({}, VERSION.model_copy(update={"model": model})) == {"model"}


def test_a_version_too_long_for_a_name_is_refused():
    assert refused({}, VERSION.model_copy(update={"version": 10_000_000_000})) == {"version"}


@pytest.mark.parametrize("uri", ["store", "/srv/store", "./store", "file:///srv/store"])
def test_a_store_on_somebodys_own_disk_is_refused(uri):
    assert refused({}, VERSION.model_copy(update={"store_uri": uri})) == {"store.uri"}


def test_every_reason_is_told_at_once_with_its_field_expectation_finding_and_fix():
    with pytest.raises(Unrenderable) as caught:
        render(ServingSpec(replicas=1), VERSION)
    assert isinstance(caught.value, ValueError)
    assert caught.value.reason == "NOT_RENDERABLE"
    assert [refusal.field for refusal in caught.value.refusals] == [
        "serving.image",
        "serving.tools_image",
        "serving.replicas",
    ]
    text = str(caught.value)
    assert text.startswith("no manifests for model ranker:\n")
    for refusal in caught.value.refusals:
        assert all(part in text for part in (refusal.field, refusal.expected, refusal.got, refusal.fix))
        assert all((refusal.field, refusal.expected, refusal.got, refusal.fix))
