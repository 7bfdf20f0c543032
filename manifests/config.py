"""TensorFlow Serving's configuration files, in one immutable ConfigMap a content.

Sources: ``tensorflow_serving/config/{model_server_config,monitoring_config}.proto`` and
``servables/tensorflow/session_bundle_config.proto``.
"""

from manifests import naming, textproto
from manifests.manifest import Manifest
from manifests.spec import Batching, ModelVersion, ServingSpec

MODEL_CONFIG = "model.config"
MONITORING_CONFIG = "monitoring.config"
BATCHING_CONFIG = "batching.config"

MODEL_ROOT = "/models"
METRICS_PATH = "/monitoring/prometheus/metrics"


def model_config(version: ModelVersion) -> str:
    """Return ``ModelServerConfig``: this model, pinned to this version.

    ``specific`` and not ``latest``: a server must never pick up a directory because it appeared.
    """
    return textproto.write(
        [
            (
                "model_config_list",
                [
                    (
                        "config",
                        [
                            ("name", version.model),
                            ("base_path", f"{MODEL_ROOT}/{version.model}"),
                            ("model_platform", "tensorflow"),
                            ("model_version_policy", [("specific", [("versions", version.version)])]),
                        ],
                    )
                ],
            )
        ]
    )


def monitoring_config() -> str:
    """Return ``MonitoringConfig``: Prometheus metrics on the REST port."""
    return textproto.write([("prometheus_config", [("enable", True), ("path", METRICS_PATH)])])


def batching_config(batching: Batching) -> str:
    """Return ``BatchingParameters``: single numbers are wrapped messages there, ``allowed_batch_sizes`` is not."""
    wrapped = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    return textproto.write(
        [
            *((name, [("value", int(getattr(batching, name)))]) for name in wrapped),
            *(("allowed_batch_sizes", size) for size in batching.allowed_batch_sizes),
        ]
    )


def config_map(serving: ServingSpec, version: ModelVersion) -> Manifest:
    """Return the ConfigMap, named by its content: another content is another object beside the old one."""
    data = {MODEL_CONFIG: model_config(version), MONITORING_CONFIG: monitoring_config()}
    if serving.batching is not None:
        data[BATCHING_CONFIG] = batching_config(serving.batching)
    return Manifest(
        api_version="v1",
        kind="ConfigMap",
        name=naming.versioned_name(version, naming.content_hash(data)),
        namespace=serving.namespace,
        labels=naming.object_labels(version),
        content={"immutable": True, "data": data},
    )
