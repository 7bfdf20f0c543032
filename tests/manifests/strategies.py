"""Any spec a user may write, for laws that must hold for all of them."""

from hypothesis import strategies as st

from manifests.spec import Batching, Gpu, ModelVersion, Resources, Rollout, ServingSpec

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
images = st.builds("{}@sha256:{}".format, st.from_regex(r"[a-z0-9][A-Za-z0-9_.\-/:]{0,30}", fullmatch=True), digests)
dns_labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
label_values = st.from_regex(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", fullmatch=True)
quantities = st.builds("{}{}".format, st.integers(1, 512), st.sampled_from(["", "Ki", "M", "Mi", "G", "Gi", "Ti"]))
cpus = st.one_of(st.integers(1, 96).map(str), st.integers(1, 96_000).map("{}m".format), st.just("0.5"))

resources = st.builds(Resources, cpu=cpus, memory=quantities)


@st.composite
def gpus(draw):
    shared = draw(st.integers(1, 48))
    count = draw(st.integers(1, 16)) if shared == 1 else 1
    return Gpu(
        count=count,
        shared_clients=shared,
        accelerator=draw(label_values),
        product=draw(label_values),
        node_gpus=draw(st.none() | st.integers(count, 16)),
        mig_partition=draw(st.sampled_from(["", "1g.5gb", "3g.20gb"])),
        spot=draw(st.booleans()),
    )


@st.composite
def batchings(draw):
    sizes = draw(st.lists(st.integers(1, 4096), unique=True, max_size=5).map(sorted))
    return Batching(
        max_batch_size=sizes[-1] if sizes else draw(st.integers(1, 4096)),
        allowed_batch_sizes=tuple(sizes),
        batch_timeout_micros=draw(st.integers(0, 10**7)),
        max_enqueued_batches=draw(st.integers(1, 10**6)),
        num_batch_threads=draw(st.integers(1, 256)),
    )


@st.composite
def rollouts(draw):
    strategy = draw(st.sampled_from(["surge", "drain-first"]))
    return Rollout(
        strategy=strategy,
        outage_allowed_s=draw(st.integers(1 if strategy == "drain-first" else 0, 3600)),
        load_deadline_s=draw(st.integers(10, 7200)),
        drain_s=draw(st.integers(0, 600)),
        longest_request_s=draw(st.integers(1, 600)),
    )


serving_specs = st.builds(
    ServingSpec,
    namespace=dns_labels,
    image=images,
    tools_image=images,
    service_account=dns_labels,
    google_service_account=st.sampled_from(["", "reader@project.iam.gserviceaccount.com"]),
    caller_namespaces=st.lists(dns_labels, max_size=3).map(tuple),
    model_volume=quantities,
    replicas=st.integers(1, 1000),
    # Any text at all: it reaches an annotation, and with it YAML.
    single_replica_waiver=st.text().map("because {}".format),
    resources=resources,
    gpu=st.none() | gpus(),
    batching=st.none() | batchings(),
    rollout=rollouts(),
)

versions = st.builds(
    ModelVersion,
    model=st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True).filter(
        lambda name: not name.endswith("-candidate")
    ),
    version=st.integers(1, 9_999_999_999),
    digest=digests.map("sha256:{}".format),
    store_uri=st.text(max_size=20).map("gs://bucket/{}".format),
)

roles = st.sampled_from(["candidate", "stable"])
