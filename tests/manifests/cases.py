"""The specs whose rendered text is committed under ``golden/``.

After a change that is meant to change the text, write it anew and read the difference::

    python -m tests.manifests.cases
"""

from pathlib import Path

from manifests.bundle import foundation, render, to_yaml
from manifests.spec import Batching, Gpu, ModelVersion, Resources, Rollout, ServingSpec

GOLDEN = Path(__file__).with_name("golden")

SERVER_IMAGE = "registry.example/tensorflow/serving@sha256:" + "5e" * 32
TOOLS_IMAGE = "registry.example/slipway/deploy@sha256:" + "70" * 32

VERSION = ModelVersion(model="ranker", version=3, digest="sha256:" + "d1" * 32, store_uri="gs://bucket/models")

CPU = ServingSpec(image=SERVER_IMAGE, tools_image=TOOLS_IMAGE)
GPU = CPU.model_copy(
    update={
        "gpu": Gpu(count=2, accelerator="nvidia-l4", node_gpus=2),
        "resources": Resources(cpu="7500m", memory="24Gi"),
        "google_service_account": "reader@project.iam.gserviceaccount.com",
    }
)

CASES: dict[str, ServingSpec] = {
    "cpu": CPU,
    "gpu": GPU,
    "gpu-off-gke": CPU.model_copy(update={"gpu": Gpu(product="NVIDIA-L4", shared_clients=2)}),
    "gpu-shared": CPU.model_copy(update={"gpu": Gpu(accelerator="nvidia-tesla-t4", shared_clients=4)}),
    "gpu-spot": CPU.model_copy(update={"gpu": Gpu(accelerator="nvidia-l4", spot=True)}),
    "batching": CPU.model_copy(
        update={
            "batching": Batching(max_batch_size=64, allowed_batch_sizes=(1, 8, 64)),
            "caller_namespaces": ("gateway", "monitoring"),
        }
    ),
    "one-drained-first": CPU.model_copy(
        update={
            "replicas": 1,
            "single_replica_waiver": "an internal report, read once a day",
            "rollout": Rollout(strategy="drain-first", outage_allowed_s=600, drain_s=0),
        }
    ),
}


def text(name: str) -> str:
    """Return everything a case renders: what its versions stand on, and the version in both roles."""
    spec = CASES[name]
    stable_service = render(spec, VERSION, role="stable")[-1:]
    return to_yaml(foundation(spec) + render(spec, VERSION, role="candidate") + stable_service)


if __name__ == "__main__":
    for case in CASES:
        (GOLDEN / f"{case}.yaml").write_text(text(case), encoding="utf-8")
