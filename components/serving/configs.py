"""The server's configuration files: text protos, read into values.

Sources: tensorflow/serving, config/*.proto and servables/tensorflow/session_bundle_config.proto. The stubs on PyPI have
no MonitoringConfig, BatchingParameters or health messages, so their few fields are declared here.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from components.core.errors import Rejected
from components.savedmodel.messages import message, pool
from components.serving.status import invalid

_PLATFORM = "tensorflow"
_FIELD = descriptor_pb2.FieldDescriptorProto
_INT64, _BOOL, _STRING = "google.protobuf.Int64Value", "google.protobuf.BoolValue", "google.protobuf.StringValue"

_DECLARED: Mapping[str, tuple[tuple[str, int, str | int, bool], ...]] = {
    # message -> (field, number, message type or scalar kind, repeated)
    "tensorflow.serving.PrometheusConfig": (
        ("enable", 1, _FIELD.TYPE_BOOL, False),
        ("path", 2, _FIELD.TYPE_STRING, False),
    ),
    "tensorflow.serving.MonitoringConfig": (("prometheus_config", 1, "tensorflow.serving.PrometheusConfig", False),),
    "tensorflow.serving.BatchingParameters": (
        ("max_batch_size", 1, _INT64, False),
        ("batch_timeout_micros", 2, _INT64, False),
        ("max_enqueued_batches", 3, _INT64, False),
        ("num_batch_threads", 4, _INT64, False),
        ("thread_pool_name", 5, _STRING, False),
        ("allowed_batch_sizes", 6, _FIELD.TYPE_INT64, True),
        ("pad_variable_length_inputs", 7, _FIELD.TYPE_BOOL, False),
        ("enable_large_batch_splitting", 8, _BOOL, False),
        ("max_execution_batch_size", 9, _INT64, False),
    ),
    "tensorflow.serving.SSLConfig": (
        ("server_key", 1, _FIELD.TYPE_STRING, False),
        ("server_cert", 2, _FIELD.TYPE_STRING, False),
        ("custom_ca", 3, _FIELD.TYPE_STRING, False),
        ("client_verify", 4, _FIELD.TYPE_BOOL, False),
    ),
    "grpc.health.v1.HealthCheckRequest": (("service", 1, _FIELD.TYPE_STRING, False),),
    "grpc.health.v1.HealthCheckResponse": (("status", 1, _FIELD.TYPE_INT32, False),),  # an enum, the same on the wire
}


@cache
def _declared() -> descriptor_pool.DescriptorPool:
    made = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    pool().FindFileByName("google/protobuf/wrappers.proto").CopyToProto(wrappers)
    made.Add(wrappers)
    for name, entries in _DECLARED.items():
        package, _, short = name.rpartition(".")
        file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package=package, syntax="proto3")
        file.dependency.append("google/protobuf/wrappers.proto")
        kind = file.message_type.add(name=short)
        for entry, number, of, repeated in entries:
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            if isinstance(of, str):
                kind.field.add(name=entry, number=number, type=_FIELD.TYPE_MESSAGE, type_name=f".{of}", label=label)
                if of in _DECLARED:
                    file.dependency.append(f"{of}.proto")
            else:
                kind.field.add(name=entry, number=number, type=of, label=label)
        made.Add(file)
    return made


@cache
def declared_message(name: str) -> Any:  # noqa: ANN401 - a class made at run time
    """Return the class of one of the messages declared here."""
    return message_factory.GetMessageClass(_declared().FindMessageTypeByName(name))


@dataclass(frozen=True, slots=True)
class Policy:
    """Which versions of a model are served.

    Args:
        kind: ``latest``, ``all`` or ``specific``.
        count: For ``latest``: how many.
        versions: For ``specific``: which.
    """

    kind: str = "latest"
    count: int = 1
    versions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model to serve.

    Args:
        name: What clients call it.
        base_path: Folder whose numeric children are its versions.
        policy: Which of them are served.
        labels: Version by label.
        platform: Always ``tensorflow``.
    """

    name: str
    base_path: Path
    policy: Policy = Policy()
    labels: Mapping[str, int] = field(default_factory=dict)
    platform: str = _PLATFORM


PER_MODEL_BATCHING_FILE = "batching_params.pbtxt"
"""In a version's folder, with ``--enable_per_model_batching_parameters`` (bundle_factory_util.cc)."""


@dataclass(frozen=True, slots=True)
class Batching:
    """Batching parameters, checked as the real server checks them. Sizes are rows, times microseconds.

    Defaults are those of ``SharedBatchScheduler::QueueOptions`` (tensorflow, shared_batch_scheduler.h).
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int | None = None
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    @property
    def threads(self) -> int:
        """Threads that run batches; a processor each unless told."""
        return self.num_batch_threads if self.num_batch_threads is not None else os.cpu_count() or 1

    @property
    def largest_executed(self) -> int:
        """Rows of the largest batch that is run."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size


def model_configs(proto: Any) -> tuple[ModelConfig, ...]:  # noqa: ANN401 - a ModelServerConfig
    """Return a ``ModelServerConfig`` as values, checked as ``ServerCore::ReloadConfig`` does (server_core.cc).

    Raises:
        ServingError: It lists a model twice, by a relative path, or of another platform than tensorflow.
    """
    if proto.WhichOneof("config") == "custom_model_config":
        raise invalid("Missing custom_model_config_loader in ServerCore Options")
    seen: set[str] = set()
    for config in proto.model_config_list.config:
        if config.name in seen:
            raise invalid(f"Illegal to list model {config.name} multiple times in config list")
        seen.add(config.name)
    return tuple(_model_config(config) for config in proto.model_config_list.config)


def _model_config(config: Any) -> ModelConfig:  # noqa: ANN401
    if not Path(config.base_path).is_absolute():
        raise invalid(
            f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
        )
    platform = config.model_platform or (_PLATFORM if config.model_type == 1 else "")
    if not platform:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            f"model name is {config.name}"
        )
    if platform != _PLATFORM:
        raise invalid(f"Model {config.name} requests unsupported platform {platform}")
    chosen = config.model_version_policy
    kind = chosen.WhichOneof("policy_choice") or "latest"
    policy = Policy(kind, max(1, chosen.latest.num_versions), tuple(chosen.specific.versions))
    return ModelConfig(config.name, Path(config.base_path), policy, dict(config.version_labels), platform)


def read_model_configs(path: Path) -> tuple[ModelConfig, ...]:
    """Return the models of a ``--model_config_file``.

    Raises:
        Rejected: The file cannot be read, or is no ``ModelServerConfig``.
        ServingError: Its content is refused.
    """
    return model_configs(_read(path, message("tensorflow.serving.ModelServerConfig")(), pool(), "--model_config_file"))


def read_metrics_path(path: Path) -> str | None:
    """Return the URL path of metrics that a ``--monitoring_config_file`` asks for, or None."""
    found = _read(
        path, declared_message("tensorflow.serving.MonitoringConfig")(), _declared(), "--monitoring_config_file"
    ).prometheus_config
    return (found.path or "/monitoring/prometheus/metrics") if found.enable else None


def read_batching(path: Path) -> Batching:
    """Return the parameters of a ``--batching_parameters_file``.

    Checked by the rules of bundle_factory_util.cc (``WrapSessionForBatching``), shared_batch_scheduler.h (``Create``,
    ``AddQueueAfterRewritingOptions``), in their words.

    Raises:
        Rejected: The file cannot be read or is no ``BatchingParameters``.
        ServingError: Its numbers do not fit together.
    """
    found = _read(path, declared_message("tensorflow.serving.BatchingParameters")(), _declared(), "batching parameters")
    plain = Batching()
    splitting = bool(found.enable_large_batch_splitting.value)
    queued = _value(found, "max_enqueued_batches", plain.max_enqueued_batches)
    made = Batching(
        max_batch_size=_value(found, "max_batch_size", plain.max_batch_size),
        batch_timeout_micros=_value(found, "batch_timeout_micros", plain.batch_timeout_micros),
        # without splitting the real server makes one of none: "many existing models rely on this"
        max_enqueued_batches=1 if queued == 0 and not splitting else queued,
        num_batch_threads=found.num_batch_threads.value if found.HasField("num_batch_threads") else None,
        allowed_batch_sizes=tuple(found.allowed_batch_sizes),
        pad_variable_length_inputs=found.pad_variable_length_inputs,
        enable_large_batch_splitting=splitting,
        max_execution_batch_size=_value(found, "max_execution_batch_size", found.max_batch_size.value)
        if splitting
        else None,
    )
    _check_batching(made)
    return made


def _check_batching(made: Batching) -> None:
    if made.threads < 1:
        raise invalid(f"num_batch_threads must be positive; was {made.threads}")
    sizes = made.allowed_batch_sizes
    if sizes and sizes[-1] != made.max_batch_size:
        raise invalid(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{sizes[-1]}; expected {made.max_batch_size}"
        )
    if made.max_batch_size <= 0:
        raise invalid(f"input_batch_size_limit must be positive; was {made.max_batch_size}")
    if made.batch_timeout_micros < 0:
        raise invalid(f"batch_timeout_micros must be non-negative; was {made.batch_timeout_micros}")
    if made.max_enqueued_batches <= 0:
        raise invalid(f"max_enqueued_batches must be positive; was {made.max_enqueued_batches}")
    if made.largest_executed > made.max_batch_size:
        raise invalid(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            "max_execution_batch_size."
        )
    if made.largest_executed <= 0:  # the real server takes it, and then no request ever ends
        raise invalid("enable_large_batch_splitting needs a max_batch_size or a max_execution_batch_size")


def _value(found: Any, name: str, default: int) -> int:  # noqa: ANN401
    return int(getattr(found, name).value) if found.HasField(name) else default


@dataclass(frozen=True, slots=True)
class Tls:
    """A server's half of TLS, all PEM. ``custom_ca`` is empty for the system's."""

    server_key: bytes
    server_cert: bytes
    custom_ca: bytes
    client_verify: bool


def read_tls(path: Path) -> Tls:
    """Return what an ``--ssl_config_file`` says (config/ssl_config.proto).

    Raises:
        Rejected: The file cannot be read, is no ``SSLConfig``, or misses what TLS needs.
    """
    found = _read(path, declared_message("tensorflow.serving.SSLConfig")(), _declared(), "--ssl_config_file")
    missing = [name for name in ("server_key", "server_cert") if not getattr(found, name)]
    if found.client_verify and not found.custom_ca:
        missing.append("custom_ca, by which clients are verified")
    if missing:
        raise Rejected(
            f"--ssl_config_file={path} misses {' and '.join(missing)}",
            expected="PEM texts, not paths",
            reason="BAD_CONFIG_FILE",
        )
    return Tls(found.server_key.encode(), found.server_cert.encode(), found.custom_ca.encode(), found.client_verify)


def _read(path: Path, into: Any, known: descriptor_pool.DescriptorPool, flag: str) -> Any:  # noqa: ANN401
    try:
        return text_format.Parse(path.read_text(), into, descriptor_pool=known)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise Rejected(
            f"{flag}={path} cannot be read",
            expected=f"a {into.DESCRIPTOR.name} in protobuf's text format",
            got=_told(error, into),
            reason="BAD_CONFIG_FILE",
        ) from error


def _told(error: Exception, into: Any) -> str:  # noqa: ANN401
    if isinstance(error, text_format.ParseError):  # the real server's words, as its logs have them
        return f"Error parsing text-format {into.DESCRIPTOR.full_name}: {error}"
    return str(error)
