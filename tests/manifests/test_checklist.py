"""What a good manifest set holds, one test a row: each says which object broken which way would hurt whom."""

import pytest

from manifests.bundle import foundation, render
from manifests.spec import Gpu, Rollout
from tests.manifests.cases import CASES, CPU, GPU, VERSION

every_case = pytest.mark.parametrize("spec", CASES.values(), ids=CASES)


def body(spec, kind, role="candidate"):
    (found,) = [m.body() for m in foundation(spec) + render(spec, VERSION, role) if m.kind == kind]
    return found


def deployment(spec):
    return body(spec, "Deployment")["spec"]


def pod(spec):
    return deployment(spec)["template"]["spec"]


def containers(spec):
    return pod(spec)["initContainers"] + pod(spec)["containers"]


def server(spec):
    (found,) = pod(spec)["containers"]
    return found


def flags(spec):
    return dict(flag.removeprefix("--").split("=", 1) for flag in server(spec)["args"])


# Pod Security


@every_case
def test_the_pod_runs_as_a_numbered_user_who_is_not_root(spec):
    context = pod(spec)["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] >= 10000
    assert context["runAsGroup"] >= 10000
    assert context["fsGroup"] >= 10000
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod(spec))


@every_case
def test_every_container_is_locked_down_the_init_container_too(spec):
    for container in containers(spec):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }


@every_case
def test_what_must_be_written_has_a_volume_of_bounded_size(spec):
    volumes = {volume["name"]: volume for volume in pod(spec)["volumes"]}
    writable = [m for c in containers(spec) for m in c["volumeMounts"] if not m.get("readOnly")]
    assert all("/tmp" in {m["mountPath"] for m in c["volumeMounts"]} for c in containers(spec))  # noqa: S108 - the pod's
    for mount in writable:
        assert volumes[mount["name"]]["emptyDir"]["sizeLimit"]
    assert all(set(volume) - {"name"} <= {"emptyDir", "configMap"} for volume in pod(spec)["volumes"])


def test_a_gpu_server_can_keep_its_compiled_kernels():
    environment = {entry["name"]: entry["value"] for entry in server(GPU)["env"]}
    assert environment["CUDA_CACHE_PATH"] in {m["mountPath"] for m in server(GPU)["volumeMounts"]}


def test_the_server_cannot_write_to_the_model():
    mounts = {m["mountPath"]: m for m in server(CPU)["volumeMounts"]}
    assert mounts["/models"]["readOnly"] is True


def test_the_namespace_admits_restricted_pods_only_at_a_pinned_version():
    labels = body(CPU, "Namespace")["metadata"]["labels"]
    for mode in ("enforce", "warn", "audit"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
        assert labels[f"pod-security.kubernetes.io/{mode}-version"].startswith("v1.")


# Images


@every_case
def test_images_are_named_by_digest_and_the_command_is_the_binary(spec):
    assert all("@sha256:" in container["image"] for container in containers(spec))
    assert server(spec)["command"] == ["/usr/bin/tensorflow_model_server"]
    assert (pod(spec)["initContainers"][0]["image"], server(spec)["image"]) == (spec.tools_image, spec.image)


# Resources and probes


@every_case
def test_requests_equal_limits_and_leave_nothing_out(spec):
    for container in containers(spec):
        asked = container["resources"]
        assert asked["requests"] == asked["limits"]
        assert asked["limits"]["cpu"] == spec.resources.cpu
        assert asked["limits"]["memory"] == spec.resources.memory
        assert "ephemeral-storage" in asked["limits"]


@every_case
def test_gpus_are_asked_for_by_the_server_alone(spec):
    init, main = containers(spec)
    assert "nvidia.com/gpu" not in init["resources"]["limits"]
    wanted = None if spec.gpu is None else str(spec.gpu.count)
    assert main["resources"]["limits"].get("nvidia.com/gpu") == wanted


def test_local_storage_covers_all_volumes_and_logs():
    assert server(CPU)["resources"]["limits"]["ephemeral-storage"] == f"{(10 + 1) * 1024 + 256}Mi"
    assert server(GPU)["resources"]["limits"]["ephemeral-storage"] == f"{(10 + 1 + 2) * 1024 + 256}Mi"


@every_case
def test_readiness_is_an_answer_of_this_very_version(spec):
    for probe in ("startupProbe", "readinessProbe"):
        assert server(spec)[probe]["httpGet"]["path"] == "/v1/models/ranker/versions/3/metadata"


@every_case
def test_liveness_asks_the_process_and_not_the_model(spec):
    liveness = server(spec)["livenessProbe"]
    assert "httpGet" not in liveness
    assert liveness["tcpSocket"]["port"] == "grpc"
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60


def test_startup_may_take_as_long_as_the_longest_load():
    slow = CPU.model_copy(update={"rollout": Rollout(load_deadline_s=1801)})
    startup = server(slow)["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 1801


@every_case
def test_the_server_never_looks_for_another_version_or_configuration(spec):
    assert flags(spec)["file_system_poll_wait_seconds"] == "0"
    assert flags(spec)["model_config_file_poll_wait_seconds"] == "0"
    assert flags(spec)["max_num_load_retries"] == "0"


def test_tensorflow_runs_as_many_threads_as_the_container_has_cores():
    assert flags(GPU)["tensorflow_intra_op_parallelism"] == "8"  # of 7500m
    assert flags(GPU)["tensorflow_inter_op_parallelism"] == "8"


def test_the_profiler_is_not_on_the_network():
    assert flags(CPU)["enable_profiler"] == "false"


def test_the_servers_deadline_is_the_longest_request():
    slow = CPU.model_copy(update={"rollout": Rollout(longest_request_s=90)})
    assert flags(slow)["rest_api_timeout_in_ms"] == "90000"


def test_batching_is_on_only_with_its_file():
    assert not {"enable_batching", "batching_parameters_file"} & set(flags(CPU))
    assert flags(CASES["batching"])["enable_batching"] == "true"
    assert flags(CASES["batching"])["batching_parameters_file"] == "/etc/slipway/batching.config"


def test_ports_are_the_ones_the_server_opens():
    assert (flags(CPU)["port"], flags(CPU)["rest_api_port"]) == ("8500", "8501")
    assert {p["name"]: p["containerPort"] for p in server(CPU)["ports"]} == {"grpc": 8500, "rest": 8501}


# The copy of the model


def test_the_pull_names_store_version_digest_and_target():
    (init,) = pod(CPU)["initContainers"]
    command, *rest = init["command"] + init["args"]
    assert (command, rest[:2], rest[-1]) == ("slipway", ["pull", "gs://bucket/models/ranker"], "/models/ranker/3")
    assert rest[2:-1] == ["--version", "3", "--digest", VERSION.digest]


def test_kubernetes_expands_nothing_in_a_stores_name():
    version = VERSION.model_copy(update={"store_uri": "gs://bucket/$(HOME)/$$x/"})
    (manifest,) = [m for m in render(CPU, version) if m.kind == "Deployment"]
    arguments = manifest.body()["spec"]["template"]["spec"]["initContainers"][0]["args"]
    assert arguments[1] == "gs://bucket/$$(HOME)/$$$$x/ranker"


# Placement


def test_a_cpu_server_runs_anywhere():
    assert not {"nodeSelector", "tolerations", "affinity"} & set(pod(CPU))


def test_a_gpu_server_names_its_pool_and_bears_its_taint():
    assert pod(GPU)["nodeSelector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-l4",
        "cloud.google.com/gke-accelerator-count": "2",
    }
    assert pod(GPU)["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_a_shared_gpu_is_shared_as_the_pool_says_and_its_memory_is_divided():
    shared = CASES["gpu-shared"]
    assert pod(shared)["nodeSelector"]["cloud.google.com/gke-gpu-sharing-strategy"] == "time-sharing"
    assert pod(shared)["nodeSelector"]["cloud.google.com/gke-max-shared-clients-per-gpu"] == "4"
    assert "per_process_gpu_memory_fraction" not in flags(GPU)


@pytest.mark.parametrize("clients", range(2, 49))
def test_servers_on_one_gpu_never_want_more_memory_than_it_has(clients):
    spec = CPU.model_copy(update={"gpu": Gpu(shared_clients=clients)})
    fraction = float(flags(spec)["per_process_gpu_memory_fraction"])
    assert 0.8 < fraction * clients <= 0.9  # what is left holds the processes' CUDA contexts


def test_off_gke_the_device_plugins_own_labels_are_used():
    assert pod(CASES["gpu-off-gke"])["nodeSelector"] == {
        "nvidia.com/gpu.product": "NVIDIA-L4",
        "nvidia.com/gpu.sharing-strategy": "time-slicing",
        "nvidia.com/gpu.replicas": "2",
    }


def test_on_gke_gkes_labels_say_how_a_gpu_is_shared_even_if_the_product_is_named():
    spec = CPU.model_copy(update={"gpu": Gpu(accelerator="nvidia-l4", product="NVIDIA-L4", shared_clients=2)})
    assert pod(spec)["nodeSelector"]["cloud.google.com/gke-gpu-sharing-strategy"] == "time-sharing"
    assert "nvidia.com/gpu.replicas" not in pod(spec)["nodeSelector"]


def test_a_mig_partition_is_asked_for_by_size():
    spec = CPU.model_copy(update={"gpu": Gpu(accelerator="nvidia-tesla-a100", mig_partition="1g.5gb")})
    assert pod(spec)["nodeSelector"]["cloud.google.com/gke-gpu-partition-size"] == "1g.5gb"


def test_spot_nodes_are_preferred_where_allowed_and_shunned_where_not():
    spot, steady = pod(CASES["gpu-spot"]), pod(GPU)
    (preferred,) = spot["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    on_spot = {"key": "cloud.google.com/gke-spot", "operator": "In", "values": ["true"]}
    assert preferred["preference"]["matchExpressions"] == [on_spot]
    assert {t["key"] for t in spot["tolerations"]} == {"nvidia.com/gpu", "cloud.google.com/gke-spot"}
    (required,) = steady["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert required["matchExpressions"] == [{**on_spot, "operator": "NotIn"}]


# Availability


@every_case
def test_a_change_never_goes_below_the_floor_unless_an_outage_is_allowed(spec):
    update = deployment(spec)["strategy"]["rollingUpdate"]
    drained = spec.rollout.strategy == "drain-first"
    assert update == ({"maxSurge": 0, "maxUnavailable": 1} if drained else {"maxSurge": 1, "maxUnavailable": 0})
    assert deployment(spec)["minReadySeconds"] > 0
    assert deployment(spec)["revisionHistoryLimit"] >= 2
    assert deployment(spec)["replicas"] == spec.replicas


def test_one_replica_carries_its_reason():
    annotations = body(CASES["one-drained-first"], "Deployment")["metadata"]["annotations"]
    assert annotations["slipway.dev/single-replica-waiver"] == "an internal report, read once a day"


@every_case
def test_a_node_can_always_be_drained_one_server_at_a_time(spec):
    budget = body(spec, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert "minAvailable" not in budget


@every_case
def test_servers_are_spread_over_zones_and_hosts(spec):
    spread = pod(spec)["topologySpreadConstraints"]
    assert {s["topologyKey"] for s in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    # A pool in one zone, or of one node, must still be able to run them.
    assert {s["whenUnsatisfiable"] for s in spread} == {"ScheduleAnyway"}


def test_a_leaving_server_answers_until_nobody_asks_it():
    assert server(CPU)["lifecycle"] == {"preStop": {"sleep": {"seconds": 15}}}
    assert pod(CPU)["terminationGracePeriodSeconds"] == 15 + 30 + 5


def test_without_a_drain_there_is_no_sleep_of_nothing():
    assert "lifecycle" not in server(CASES["one-drained-first"])


@pytest.mark.parametrize("drain_s", [2, 15, 600])
def test_grpc_connections_end_within_the_drain(drain_s):
    spec = CPU.model_copy(update={"rollout": Rollout(drain_s=drain_s, longest_request_s=7)})
    arguments = dict(a.split("=") for a in flags(spec)["grpc_channel_arguments"].split(","))
    assert int(arguments["grpc.max_connection_age_ms"]) * 1.1 <= drain_s * 1000
    assert arguments["grpc.max_connection_age_grace_ms"] == "7000"


def test_a_node_with_only_copies_on_it_can_be_removed():
    template = deployment(GPU)["template"]
    annotation = template["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"]
    local = {volume["name"] for volume in pod(GPU)["volumes"] if "emptyDir" in volume}
    assert set(annotation.split(",")) == local


# Identity


@every_case
def test_no_token_of_the_cluster_reaches_a_server(spec):
    assert pod(spec)["automountServiceAccountToken"] is False
    assert body(spec, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod(spec)["serviceAccountName"] == spec.service_account
    assert pod(spec)["enableServiceLinks"] is False


@every_case
def test_no_environment_variable_is_a_secret_or_comes_from_one(spec):
    for container in containers(spec):
        assert "envFrom" not in container
        assert {entry["name"] for entry in container["env"]} <= {"HOME", "CUDA_CACHE_PATH", "CUDA_CACHE_MAXSIZE"}


def test_the_account_acts_as_a_google_account_only_where_one_is_named():
    annotation = "iam.gke.io/gcp-service-account"
    named = body(GPU, "ServiceAccount")["metadata"]["annotations"]
    assert named == {annotation: "reader@project.iam.gserviceaccount.com"}
    assert "annotations" not in body(CPU, "ServiceAccount")["metadata"]


# Network


@every_case
def test_only_callers_come_in_and_only_to_the_two_ports(spec):
    policy = body(spec, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (rule,) = policy["ingress"]
    assert [p["port"] for p in rule["ports"]] == [8500, 8501]
    own, *others = rule["from"]
    assert own == {"podSelector": {}}
    names = [other["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for other in others]
    assert names == list(spec.caller_namespaces)


@every_case
def test_only_names_tokens_and_storage_are_reached(spec):
    rules = body(spec, "NetworkPolicy")["spec"]["egress"]
    assert all(rule["to"] and rule["ports"] for rule in rules)  # an empty list would mean everything
    assert {p["port"] for rule in rules for p in rule["ports"]} == {53, 80, 988, 443}
    (public,) = [peer["ipBlock"] for rule in rules for peer in rule["to"] if "except" in peer.get("ipBlock", {})]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(public["except"])


# Configuration and roles


@every_case
def test_the_configuration_cannot_be_changed_under_a_server(spec):
    assert body(spec, "ConfigMap")["immutable"] is True


@pytest.mark.parametrize("role", ["candidate", "stable"])
def test_grpc_is_announced_as_http2_without_tls(role):
    ports = {p["name"]: p for p in body(CPU, "Service", role)["spec"]["ports"]}
    assert ports["grpc"]["appProtocol"] == "kubernetes.io/h2c"
    assert (ports["grpc"]["port"], ports["rest"]["port"]) == (8500, 8501)


@pytest.mark.parametrize("kind", ["Deployment", "Service"])
def test_an_object_says_which_bytes_it_serves(kind):
    annotations = body(CPU, kind)["metadata"]["annotations"]
    assert annotations["slipway.dev/digest"] == VERSION.digest
    assert annotations["slipway.dev/store"] == VERSION.store_uri
