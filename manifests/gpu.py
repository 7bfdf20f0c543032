"""Where GPU servers run: node labels, taints, and what sharing a GPU means for a server."""

from dataclasses import dataclass, field

from manifests.manifest import Json
from manifests.spec import Gpu

RESOURCE = "nvidia.com/gpu"
SPOT = "cloud.google.com/gke-spot"
CUDA_CACHE = "/var/cache/cuda"
CUDA_CACHE_BYTES = 2**30


@dataclass(frozen=True)
class Placement:
    """The parts of a pod that decide its node."""

    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[dict[str, Json], ...] = ()
    affinity: dict[str, Json] = field(default_factory=dict)


def placement(gpu: Gpu | None) -> Placement:
    """Return where a pod may run; without a GPU, anywhere."""
    if gpu is None:
        return Placement()
    return Placement(node_selector=_node_labels(gpu), tolerations=_tolerations(gpu), affinity=_affinity(gpu))


def memory_fraction_thousandths(gpu: Gpu) -> int:
    """Return the share of a shared GPU's memory TensorFlow may allocate, in thousandths.

    Sharing by time isolates no memory, so n servers must divide it themselves. A tenth stays free, because the CUDA
    context and kernels of each process lie outside of what TensorFlow's allocator counts.
    """
    return 900 // gpu.shared_clients


def _node_labels(gpu: Gpu) -> dict[str, str]:
    labels = {
        "cloud.google.com/gke-accelerator": gpu.accelerator,
        "cloud.google.com/gke-accelerator-count": str(gpu.node_gpus or ""),
        "cloud.google.com/gke-gpu-partition-size": gpu.mig_partition,
        "nvidia.com/gpu.product": gpu.product,
        **_sharing_labels(gpu),
    }
    return {name: value for name, value in labels.items() if value}


def _sharing_labels(gpu: Gpu) -> dict[str, str]:
    if gpu.shared_clients == 1:
        return {}
    if gpu.product and not gpu.accelerator:  # NVIDIA's device plugin with GPU feature discovery
        return {"nvidia.com/gpu.sharing-strategy": "time-slicing", "nvidia.com/gpu.replicas": str(gpu.shared_clients)}
    return {
        "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing",
        "cloud.google.com/gke-max-shared-clients-per-gpu": str(gpu.shared_clients),
    }


def _tolerations(gpu: Gpu) -> tuple[dict[str, Json], ...]:
    # GKE adds the first one by itself (ExtendedResourceToleration); other clusters do not.
    gpu_nodes: dict[str, Json] = {"key": RESOURCE, "operator": "Exists", "effect": "NoSchedule"}
    spot_nodes: dict[str, Json] = {"key": SPOT, "operator": "Equal", "value": "true", "effect": "NoSchedule"}
    return (gpu_nodes, spot_nodes) if gpu.spot else (gpu_nodes,)


def _affinity(gpu: Gpu) -> dict[str, Json]:
    """Prefer spot nodes where they are allowed, and keep off them where they are not.

    Spot pools carry no taint unless their owner gave them one, so silence would be a yes.
    """
    operator = "In" if gpu.spot else "NotIn"
    term: dict[str, Json] = {"matchExpressions": [{"key": SPOT, "operator": operator, "values": ["true"]}]}
    if gpu.spot:
        return {
            "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": term}]}
        }
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
