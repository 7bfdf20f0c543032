"""The pod of one version: a copy of the version verified at start, and a server pinned to it.

Flags, their defaults and what an endpoint proves are TensorFlow Serving's: ``model_servers/main.cc`` and
``model_servers/http_rest_api_handler.cc``. The lifecycle needs Kubernetes 1.30 or later (preStop ``sleep``).
"""

import math

from manifests import config, gpu
from manifests.manifest import Json
from manifests.preflight import Images
from manifests.quantity import total_mebibytes, whole_cores
from manifests.spec import ModelVersion, Rollout, ServingSpec

GRPC_PORT = 8500
REST_PORT = 8501
PROBE_PERIOD_S = 5

BINARY = "/usr/bin/tensorflow_model_server"
CONFIG_ROOT = "/etc/slipway"

_USER = 10001
_TMP_SIZE = "1Gi"
_CUDA_CACHE_SIZE = "2Gi"
_LOGS_SIZE = "256Mi"
_GRACE_MARGIN_S = 5


def pod(serving: ServingSpec, version: ModelVersion, images: Images, config_map: str) -> dict[str, Json]:
    """Return the pod's spec, complete but for the spread over nodes, which repeats the revision's selector."""
    place = gpu.placement(serving.gpu)
    rollout = serving.rollout
    spec: dict[str, Json] = {
        "serviceAccountName": serving.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # The server ignores TERM as process 1: it answers until it is killed, and this is when.
        "terminationGracePeriodSeconds": rollout.drain_s + rollout.longest_request_s + _GRACE_MARGIN_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_pull(serving, version, images.tools)],
        "containers": [_server(serving, version, images.server)],
        "volumes": _volumes(serving, config_map),
    }
    if place.node_selector:
        spec["nodeSelector"] = place.node_selector
    if place.tolerations:
        spec["tolerations"] = place.tolerations
    if place.affinity:
        spec["affinity"] = place.affinity
    return spec


_LOCKED_DOWN: dict[str, Json] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def _pull(serving: ServingSpec, version: ModelVersion, image: str) -> dict[str, Json]:
    """Return the init container: fetches the version, and fails unless its bytes have the promised digest."""
    store = f"{version.store_uri.rstrip('/')}/{version.model}"
    target = f"{config.MODEL_ROOT}/{version.model}/{version.version}"
    arguments = ("pull", store, "--version", str(version.version), "--digest", version.digest, target)
    return {
        "name": "pull",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["slipway"],
        "args": [_literal(argument) for argument in arguments],
        "env": [_HOME],
        "resources": _resources(serving, gpus=False),
        "securityContext": _LOCKED_DOWN,
        "volumeMounts": [{"name": "models", "mountPath": config.MODEL_ROOT}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the pod's own
    }


def _literal(argument: str) -> str:
    """Return an argument so that Kubernetes passes it on as it is: ``$(NAME)`` is expanded, ``$$`` is ``$``."""
    return argument.replace("$", "$$")


# No entry in /etc/passwd says where this user's home is.
_HOME: dict[str, Json] = {"name": "HOME", "value": "/tmp"}  # noqa: S108 - the pod's own


def _server(serving: ServingSpec, version: ModelVersion, image: str) -> dict[str, Json]:
    """Return the server. The command is the binary itself: the image's entry point is a shell that never execs."""
    mounts: list[Json] = [
        {"name": "models", "mountPath": config.MODEL_ROOT, "readOnly": True},
        {"name": "config", "mountPath": CONFIG_ROOT, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
    ]
    environment = [_HOME]
    if serving.gpu is not None:
        mounts.append({"name": "cuda-cache", "mountPath": gpu.CUDA_CACHE})
        environment += [
            {"name": "CUDA_CACHE_PATH", "value": gpu.CUDA_CACHE},
            {"name": "CUDA_CACHE_MAXSIZE", "value": str(gpu.CUDA_CACHE_BYTES)},
        ]
    container: dict[str, Json] = {
        "name": "server",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [BINARY],
        "args": server_arguments(serving),
        "env": environment,
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "rest", "containerPort": REST_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(serving, gpus=True),
        **_probes(serving.rollout, version),
        "securityContext": _LOCKED_DOWN,
        "volumeMounts": mounts,
    }
    if serving.rollout.drain_s > 0:  # Kubernetes before 1.32 refuses a sleep of 0
        # Goes on answering while endpoints and load balancers learn that this pod leaves.
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": serving.rollout.drain_s}}}
    return container


def server_arguments(serving: ServingSpec) -> list[str]:
    """Return the server's flags, in TensorFlow Serving's own syntax."""
    cores = whole_cores(serving.resources.cpu)
    flags = {
        "port": str(GRPC_PORT),
        "rest_api_port": str(REST_PORT),
        "rest_api_timeout_in_ms": str(serving.rollout.longest_request_s * 1000),
        "model_config_file": f"{CONFIG_ROOT}/{config.MODEL_CONFIG}",
        # Nothing is ever looked at again: another version or configuration is another pod.
        "model_config_file_poll_wait_seconds": "0",
        "file_system_poll_wait_seconds": "0",
        # The bytes are local and verified, so a second try would fail as the first one did.
        "max_num_load_retries": "0",
        "monitoring_config_file": f"{CONFIG_ROOT}/{config.MONITORING_CONFIG}",
        # TensorFlow counts the node's cores, not the container's share of them.
        "tensorflow_intra_op_parallelism": str(cores),
        "tensorflow_inter_op_parallelism": str(cores),
        # Anyone who can call the model could otherwise profile the process.
        "enable_profiler": "false",
        "grpc_channel_arguments": _connection_age(serving.rollout),
    }
    if serving.batching is not None:
        flags["enable_batching"] = "true"
        flags["batching_parameters_file"] = f"{CONFIG_ROOT}/{config.BATCHING_CONFIG}"
    if serving.gpu is not None and serving.gpu.shared_clients > 1:
        flags["per_process_gpu_memory_fraction"] = f"0.{gpu.memory_fraction_thousandths(serving.gpu):03d}"
    return [f"--{name}={value}" for name, value in flags.items()]


def _connection_age(rollout: Rollout) -> str:
    """Return how long a gRPC connection lives.

    A client keeps one connection for ever and with it one server, whatever its Service selects by now. Connections
    therefore end within the drain (gRPC varies the age by a tenth), and requests on them finish.
    """
    age_ms = max(1000, rollout.drain_s * 900)
    return f"grpc.max_connection_age_ms={age_ms},grpc.max_connection_age_grace_ms={rollout.longest_request_s * 1000}"


def _probes(rollout: Rollout, version: ModelVersion) -> dict[str, Json]:
    """Return the probes.

    A version's metadata is served only while the version is available; its status is 200 while it loads and after it
    failed. Whether the process lives is asked apart, so that no slow load is ever killed for it.
    """
    answers: dict[str, Json] = {
        "httpGet": {"path": f"/v1/models/{version.model}/versions/{version.version}/metadata", "port": "rest"},
        "periodSeconds": PROBE_PERIOD_S,
        "timeoutSeconds": PROBE_PERIOD_S,
    }
    return {
        "startupProbe": {**answers, "failureThreshold": math.ceil(rollout.load_deadline_s / PROBE_PERIOD_S)},
        "readinessProbe": {**answers, "failureThreshold": 2},
        "livenessProbe": {
            "tcpSocket": {"port": "grpc"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }


def _resources(serving: ServingSpec, *, gpus: bool) -> dict[str, Json]:
    """Return requests and limits, which are equal.

    The init container asks for what the server will: a pod needs the larger of both, so it costs nothing.
    """
    asked: dict[str, Json] = {
        "cpu": serving.resources.cpu,
        "memory": serving.resources.memory,
        "ephemeral-storage": _local_storage(serving),
    }
    if gpus and serving.gpu is not None:
        asked[gpu.RESOURCE] = str(serving.gpu.count)
    return {"requests": asked, "limits": asked}


def _local_storage(serving: ServingSpec) -> str:
    """Return all the disk a pod may use: its volumes together and its logs, so that no size limit is out of reach."""
    cuda_cache = (_CUDA_CACHE_SIZE,) if serving.gpu is not None else ()
    return total_mebibytes(serving.model_volume, _TMP_SIZE, _LOGS_SIZE, *cuda_cache)


def _volumes(serving: ServingSpec, config_map: str) -> list[Json]:
    volumes: list[Json] = [
        {"name": "models", "emptyDir": {"sizeLimit": serving.model_volume}},
        {"name": "config", "configMap": {"name": config_map, "defaultMode": 0o444}},
        {"name": "tmp", "emptyDir": {"sizeLimit": _TMP_SIZE}},
    ]
    if serving.gpu is not None:
        volumes.append({"name": "cuda-cache", "emptyDir": {"sizeLimit": _CUDA_CACHE_SIZE}})
    return volumes
