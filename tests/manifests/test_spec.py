"""What a serving spec refuses on its own."""

import pytest
from pydantic import ValidationError

from manifests.spec import Batching, Frozen, Gpu, Rollout, ServingSpec


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Gpu(count=2, shared_clients=2), "one shared GPU only"),
        (lambda: Gpu(count=4, node_gpus=2), "fits nowhere"),
        (lambda: Gpu(accelerator="not a label"), "accelerator"),
        (lambda: Gpu(mig_partition="8g.5gb"), "mig_partition"),
        (lambda: Batching(max_batch_size=8, allowed_batch_sizes=(8, 4)), "ascend"),
        (lambda: Batching(max_batch_size=8, allowed_batch_sizes=(4, 16)), "max_batch_size"),
        (lambda: Batching(max_batch_size=8, allowed_batch_sizes=(0, 8)), "greater than or equal to 1"),
        (lambda: Rollout(strategy="drain-first"), "outage_allowed_s"),
        (lambda: ServingSpec(image="registry.example/serving:latest"), "image"),
        (lambda: ServingSpec(google_service_account="somebody@example.com"), "google_service_account"),
        (lambda: ServingSpec(model_volume="ten"), "model_volume"),
        # Digits to Python and to a Unicode-aware pattern, but not to Kubernetes.
        (lambda: ServingSpec(model_volume="\u0661Gi"), "model_volume"),
    ],
)
def test_a_value_that_cannot_work_is_refused(build, says):
    with pytest.raises(ValidationError, match=says):
        build()


@pytest.mark.parametrize("model", [kind for kind in Frozen.__subclasses__() if kind.__module__ == "manifests.spec"])
def test_every_field_is_described(model):
    assert all(field.description for field in model.model_fields.values())
