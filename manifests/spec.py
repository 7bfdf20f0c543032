"""What a user may say about serving: the inputs of every manifest builder.

These types belong to ``manifests`` and know nothing of a release; ``components.core.spec`` composes them into the
release's spec. All are frozen, refuse unknown fields, and describe each field with its unit.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator


class Frozen(BaseModel):
    """A value: immutable, closed to unknown fields, compared by content."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
MODEL_NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
IMAGE_BY_DIGEST = r"^[a-z0-9][A-Za-z0-9_.\-/:]*@sha256:[0-9a-f]{64}$"
LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$"
MIG_PARTITION = r"^([1-7]g\.[0-9]{1,3}gb)?$"
GOOGLE_ACCOUNT = r"^([a-z0-9-]{1,63}@[a-z0-9.:-]{1,200}\.gserviceaccount\.com)?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"

DnsLabel = Annotated[str, StringConstraints(pattern=DNS_LABEL)]
"""A Kubernetes name of at most 63 characters (RFC 1123 label)."""

ModelName = Annotated[str, StringConstraints(pattern=MODEL_NAME)]
"""A model's name: an RFC 1123 label short enough that ``NAME-vVERSION-HASH`` is one too."""

ImageByDigest = Annotated[str, StringConstraints(pattern=IMAGE_BY_DIGEST)]
"""An image reference pinned by digest: ``registry/name@sha256:…``; a tag can be moved under a running rollout."""

Quantity = Annotated[str, StringConstraints(pattern=QUANTITY)]
"""A Kubernetes quantity, such as ``500m`` (CPU) or ``2Gi`` (bytes)."""

LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE)]
"""The value of a Kubernetes label: at most 63 characters, or empty."""


class Resources(Frozen):
    """What one container asks for; limits equal requests, so that a pod's share never depends on its neighbours."""

    cpu: Quantity = Field("1", description="CPU cores, request and limit. Default `1`.")
    memory: Quantity = Field("2Gi", description="Memory in bytes, request and limit. Default `2Gi`.")


class Gpu(Frozen):
    """One kind of GPU node pool."""

    count: int = Field(1, ge=1, le=16, description="GPUs a replica, request and limit. Default 1.")
    accelerator: LabelValue = Field(
        "",
        description="GKE accelerator type, such as `nvidia-l4`: the node label `cloud.google.com/gke-accelerator`. "
        "Empty: any node with the resource `nvidia.com/gpu`. Default empty.",
    )
    product: LabelValue = Field(
        "",
        description="Off GKE: the device plugin's node label `nvidia.com/gpu.product`, such as `NVIDIA-L4`. "
        "Default empty.",
    )
    shared_clients: int = Field(
        1,
        ge=1,
        le=48,
        description="Pods that share one GPU by time-sharing, as the node pool was made; each server is given at most "
        "1/n of its memory. Default 1: not shared.",
    )
    node_gpus: int | None = Field(
        None,
        ge=1,
        le=16,
        description="On GKE: GPUs that each node of the pool has, the node label "
        "`cloud.google.com/gke-accelerator-count`; Autopilot needs it. Default none: any number.",
    )
    mig_partition: Annotated[str, StringConstraints(pattern=MIG_PARTITION)] = Field(
        "",
        description="On GKE: size of the MIG partition a GPU of this pool is, such as `1g.5gb`: the node label "
        "`cloud.google.com/gke-gpu-partition-size`. Default empty: whole GPUs.",
    )
    spot: bool = Field(default=False, description="Whether replicas may run on spot nodes. Default false.")

    @model_validator(mode="after")
    def _a_shared_gpu_is_one(self) -> "Gpu":
        # GKE's device plugin fails such a pod with UnexpectedAdmissionError, long after the apply said yes.
        if self.shared_clients > 1 and self.count > 1:
            raise ValueError(
                f"a pod may ask for one shared GPU only: count is {self.count}, make it 1 or share nothing"
            )
        return self

    @model_validator(mode="after")
    def _a_node_holds_a_replica(self) -> "Gpu":
        if self.node_gpus is not None and self.node_gpus < self.count:
            raise ValueError(
                f"a replica needs {self.count} GPUs and a node has node_gpus: {self.node_gpus}: it fits nowhere"
            )
        return self


class Batching(Frozen):
    """TensorFlow Serving's request batching (`--enable_batching` and its parameters file)."""

    max_batch_size: int = Field(32, ge=1, description="Rows in one batch, at most. Default 32.")
    batch_timeout_micros: int = Field(2000, ge=0, description="Microseconds a batch waits to be filled. Default 2000.")
    max_enqueued_batches: int = Field(64, ge=1, description="Batches that may wait before UNAVAILABLE. Default 64.")
    num_batch_threads: int = Field(2, ge=1, description="Batches that run at once. Default 2.")
    allowed_batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (),
        description="Batch sizes to pad to, ascending; the last must equal `max_batch_size`. Default: any size.",
    )

    @model_validator(mode="after")
    def _sizes_end_at_the_maximum(self) -> "Batching":
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            raise ValueError(f"allowed_batch_sizes must ascend and end at max_batch_size ({self.max_batch_size})")
        return self


class Rollout(Frozen):
    """How one version's Deployment comes up and goes down."""

    strategy: Literal["surge", "drain-first"] = Field(
        "surge",
        description="`surge`: candidate and stable run side by side, which needs room for both. `drain-first`: "
        "stable gives up its place, which is an outage. Default `surge`.",
    )
    outage_allowed_s: int = Field(
        0,
        ge=0,
        description="Seconds without a server that the owner accepts; `drain-first` needs more than 0. Default 0.",
    )
    load_deadline_s: int = Field(
        300, ge=10, description="Seconds a server may take from its start until the version answers. Default 300."
    )
    drain_s: int = Field(
        15, ge=0, description="Seconds a server goes on answering after it was taken out of its Service. Default 15."
    )
    longest_request_s: int = Field(30, ge=1, description="Seconds the longest request may take. Default 30.")

    @model_validator(mode="after")
    def _an_outage_is_allowed_by_name(self) -> "Rollout":
        if self.strategy == "drain-first" and self.outage_allowed_s == 0:
            raise ValueError("strategy drain-first takes stable down: say how long in outage_allowed_s")
        return self


class LocalPorts(Frozen):
    """The address of the model's endpoint on this machine (`--target local`)."""

    grpc_port: int = Field(0, ge=0, le=65535, description="TCP port of gRPC. Default 0: a free one, kept afterwards.")
    rest_port: int = Field(0, ge=0, le=65535, description="TCP port of REST. Default 0: a free one, kept afterwards.")


class ServingSpec(Frozen):
    """How a version is served."""

    namespace: DnsLabel = Field("models", description="Kubernetes namespace. Default `models`.")
    image: ImageByDigest | None = Field(
        None,
        description="TensorFlow Serving image by digest. Required by `render`, `compile` and the target `kubernetes`; "
        "the target `local` uses the embedded server. Default none.",
    )
    tools_image: ImageByDigest | None = Field(
        None,
        description="Slipway's own `deploy` image by digest, for the init container that pulls and verifies a version. "
        "Required where `image` is. Default none.",
    )
    service_account: DnsLabel = Field(
        "model-server", description="ServiceAccount of the servers, bound to read the store. Default `model-server`."
    )
    google_service_account: Annotated[str, StringConstraints(pattern=GOOGLE_ACCOUNT)] = Field(
        "",
        description="Google service account the ServiceAccount acts as (GKE Workload Identity), such as "
        "`reader@project.iam.gserviceaccount.com`. Default empty: the store is granted to the ServiceAccount itself.",
    )
    caller_namespaces: tuple[DnsLabel, ...] = Field(
        (),
        description="Other namespaces whose pods may call the servers: callers, gateway, Prometheus, the pipeline. "
        "Default none: only pods of the servers' own namespace.",
    )
    model_volume: Quantity = Field(
        "10Gi", description="Bytes that a pod's own copy of the version may take on its node. Default `10Gi`."
    )
    replicas: int = Field(2, ge=1, le=1000, description="Servers of the stable version. Default 2.")
    single_replica_waiver: str = Field(
        "", description="Why one replica is enough; required if `replicas` is 1 on Kubernetes. Default empty."
    )
    resources: Resources = Field(Resources(), description="CPU and memory a server.")
    gpu: Gpu | None = Field(None, description="GPU pool; none: CPU only. Default none.")
    batching: Batching | None = Field(None, description="Request batching; none: off. Default none.")
    rollout: Rollout = Field(Rollout(), description="How servers come up and go down.")
    local: LocalPorts = Field(LocalPorts(), description="Ports on this machine, for the target `local`.")


class ModelVersion(Frozen):
    """The version a manifest set serves: where its bytes lie, and which bytes they must be."""

    model: ModelName = Field(description="Model name.")
    version: int = Field(ge=1, description="Version number given by the store.")
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="Digest of the version's file manifest.")
    store_uri: str = Field(description="URI of the store that holds the version, such as `gs://bucket/models`.")
