"""The committed text, byte for byte, and its validity against Kubernetes' own schemas."""

import kubernetes_validate
import pytest
import yaml

from tests.manifests.cases import CASES, GOLDEN, text


@pytest.mark.parametrize("name", CASES)
def test_the_rendered_text_is_the_committed_one(name):
    assert text(name) == (GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")


def test_every_committed_text_belongs_to_a_case():
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(CASES)


@pytest.mark.slow
@pytest.mark.parametrize("release", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", CASES)
def test_every_object_is_valid_by_the_strict_schema(name, release):
    bodies = list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")))
    assert len(bodies) == 8
    for body in bodies:
        kubernetes_validate.validate(body, release, strict=True)
