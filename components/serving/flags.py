"""Command-line flags by TensorFlow Serving's names and syntax (tensorflow/serving: model_servers/main.cc).

``--flag=value``, ``--flag value`` and a bare ``--flag`` for booleans are accepted. Where the real server goes on after
an unknown flag, this one refuses it: a typing error must not start a server that serves something else.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from components.core.errors import Rejected

Value = str | int | float | bool

_HONOURED, _NO_EFFECT, _NOT_HERE = "honoured", "no effect here", "not supported here"
_TRUE, _FALSE = frozenset({"true", "1", "t", "yes"}), frozenset({"false", "0", "f", "no"})


def _flag(text: str, *, default: Value, use: str = _HONOURED) -> Any:  # noqa: ANN401 - dataclasses.field is Any, too
    return field(default=default, metadata={"help": text, "use": use})


@dataclass(frozen=True, slots=True)
class Flags:
    """All flags, with TensorFlow Serving's defaults but for the address: an embedded server is local."""

    port: int = _flag("TCP port of gRPC; 0: a free one.", default=8500)
    rest_api_port: int = _flag("TCP port of REST; 0: a free one; -1: no REST.", default=-1)
    rest_api_num_threads: int = _flag("Threads that answer REST requests; 0: four a processor.", default=0)
    rest_api_timeout_in_ms: int = _flag("Milliseconds a REST request may take.", default=30_000)
    rest_api_enable_cors_support: bool = _flag("Send CORS headers.", default=False)
    model_name: str = _flag("Name of the model, without --model_config_file.", default="default")
    model_base_path: str = _flag("Folder of its versions, without --model_config_file.", default="")
    model_config_file: str = _flag("ModelServerConfig in text format.", default="")
    model_config_file_poll_wait_seconds: int = _flag("Seconds between readings of that file; 0: read once.", default=0)
    allow_version_labels_for_unavailable_models: bool = _flag(
        "Let an unused label point to a version that is not available yet.", default=False
    )
    file_system_poll_wait_seconds: int = _flag("Seconds between looks for new versions; 0: look once.", default=1)
    max_num_load_retries: int = _flag("Further tries to load a version.", default=5)
    load_retry_interval_micros: int = _flag("Microseconds between them.", default=60_000_000)
    num_load_threads: int = _flag("Versions that load at once; 0: one.", default=0)
    enable_model_warmup: bool = _flag("Replay a version's warm-up requests before it is available.", default=True)
    num_request_iterations_for_warmup: int = _flag("Times each of them is replayed; 0: once.", default=0)
    saved_model_tags: str = _flag("Tags of the meta graph, separated by commas.", default="serve")
    enable_batching: bool = _flag("Run requests of several clients as one.", default=False)
    batching_parameters_file: str = _flag("BatchingParameters in text format.", default="")
    enable_per_model_batching_parameters: bool = _flag(
        "Batch a version by the batching_params.pbtxt in its own folder, and not at all without one.", default=False
    )
    monitoring_config_file: str = _flag("MonitoringConfig in text format.", default="")
    grpc_max_threads: int = _flag("Threads that answer gRPC requests; 0: four a processor.", default=0)
    grpc_channel_arguments: str = _flag("name=value,… for the gRPC server.", default="")
    enable_grpc_healthcheck_service: bool = _flag("Answer grpc.health.v1.Health.", default=False)
    enable_serialization_as_tensor_content: bool = _flag("Answer with tensor_content, not typed fields.", default=False)
    enable_signature_method_name_check: bool = _flag("Refuse a signature of another method_name.", default=False)
    grpc_socket_path: str = _flag("UNIX socket on which gRPC answers, too.", default="")
    ssl_config_file: str = _flag("SSLConfig in text format: gRPC by TLS.", default="")
    tensorflow_session_parallelism: int = _flag("Threads a session; 0: TensorFlow decides.", default=0)
    tensorflow_intra_op_parallelism: int = _flag("Threads within an op; 0: TensorFlow decides.", default=0)
    tensorflow_inter_op_parallelism: int = _flag("Threads between ops; 0: TensorFlow decides.", default=0)
    tensorflow_session_config_file: str = _flag("ConfigProto in text format.", default="")
    per_process_gpu_memory_fraction: float = _flag("Share of a GPU's memory; 0: TensorFlow decides.", default=0.0)
    version: bool = _flag("Print the versions and exit.", default=False)

    num_unload_threads: int = _flag("", default=0, use=_NO_EFFECT)
    flush_filesystem_caches: bool = _flag("", default=True, use=_NO_EFFECT)
    remove_unused_fields_from_bundle_metagraph: bool = _flag("", default=True, use=_NO_EFFECT)
    enable_profiler: bool = _flag("", default=True, use=_NO_EFFECT)
    num_tflite_pools: int = _flag("", default=1, use=_NO_EFFECT)
    num_tflite_interpreters_per_pool: int = _flag("", default=1, use=_NO_EFFECT)
    skip_initialize_tpu: bool = _flag("", default=False, use=_NO_EFFECT)
    xla_cpu_compilation_enabled: bool = _flag("", default=False, use=_NO_EFFECT)
    xla_gpu_compilation_enabled: bool = _flag("", default=False, use=_NO_EFFECT)

    use_alts_credentials: bool = _flag("", default=False, use=_NOT_HERE)
    platform_config_file: str = _flag("", default="", use=_NOT_HERE)
    prefer_tflite_model: bool = _flag("", default=False, use=_NOT_HERE)
    thread_pool_factory_config_file: str = _flag("", default="", use=_NOT_HERE)
    mixed_precision: str = _flag("", default="", use=_NOT_HERE)

    slipway_host: str = _flag("Address to listen on; TensorFlow Serving's is 0.0.0.0.", default="127.0.0.1")
    slipway_ready_file: str = _flag(
        "Written as JSON {pid, grpc_port, rest_port} once the models are available.", default=""
    )
    slipway_drain_seconds: float = _flag("Seconds that requests have to end after SIGTERM.", default=10.0)
    slipway_max_body_bytes: int = _flag("Bytes a REST request may have.", default=256 * 2**20)

    @property
    def rest_threads(self) -> int:
        """Threads for REST."""
        return self.rest_api_num_threads or 4 * (os.cpu_count() or 1)

    @property
    def grpc_threads(self) -> int:
        """Threads for gRPC."""
        return self.grpc_max_threads or 4 * (os.cpu_count() or 1)

    @property
    def op_threads(self) -> tuple[int, int]:
        """Threads within an op and between ops; 0: TensorFlow decides (model_servers/server.cc)."""
        intra, inter = self.tensorflow_intra_op_parallelism, self.tensorflow_inter_op_parallelism
        either = self.tensorflow_session_parallelism
        return (intra, inter) if intra > 0 or inter > 0 else (either, either)

    @property
    def tags(self) -> frozenset[str]:
        """Tag set of the meta graph."""
        return frozenset(tag for tag in self.saved_model_tags.split(",") if tag)


def parse(arguments: Sequence[str]) -> Flags:
    """Return the flags of a command line.

    Raises:
        Rejected: BAD_FLAG: unknown, without or with a wrong value, or one the embedded server cannot honour.
    """
    kinds = {entry.name: type(entry.default) for entry in fields(Flags)}
    found: dict[str, Value] = {}
    rest = list(arguments)
    while rest:
        name, given, text = rest.pop(0).partition("=")
        key = name.removeprefix("--")
        if not name.startswith("--") or key not in kinds:
            raise _unknown(name, kinds)
        if not given:
            text = _next_value(key, kinds[key], rest)
        found[key] = _convert(key, kinds[key], text)
    _refuse_unsupported(found)
    return Flags(**found)  # type: ignore[arg-type] # each value was converted to its field's type


def _next_value(key: str, kind: type, rest: list[str]) -> str:
    if kind is bool:
        return rest.pop(0) if rest and rest[0].lower() in _TRUE | _FALSE else "true"
    if not rest:
        raise _bad(f"--{key} needs a value", got="the end of the command line")
    return rest.pop(0)


def _convert(key: str, kind: type, text: str) -> Value:
    if kind is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise _bad(f"--{key} is true or false", got=text)
        return text.lower() in _TRUE
    try:
        value: Value = kind(text)
    except ValueError:
        raise _bad(f"--{key} is {'a number' if kind is float else 'a whole number'}", got=text) from None
    return value


def _refuse_unsupported(found: Mapping[str, Value]) -> None:
    for entry in fields(Flags):
        asked = entry.name in found and found[entry.name] != entry.default
        if asked and entry.metadata["use"] == _NOT_HERE:
            raise _bad(
                f"--{entry.name} is a flag of TensorFlow Serving that the embedded server does not support",
                got=str(found[entry.name]),
                fix="leave it out, or run TensorFlow Serving itself",
            )


def without_effect(flags: Flags) -> list[str]:
    """Return the names of given flags that change nothing here, to be told once."""
    return [
        entry.name
        for entry in fields(Flags)
        if entry.metadata["use"] == _NO_EFFECT and getattr(flags, entry.name) != entry.default
    ]


def usage() -> str:
    """Return all flags with their defaults."""
    lines = ["Flags of TensorFlow Serving, and a few of our own (--slipway_…):"]
    for entry in fields(Flags):
        text = entry.metadata["help"] or f"({entry.metadata['use']})"
        lines.append(f"  --{entry.name}={str(entry.default).lower()}\n      {text}")
    return "\n".join(lines)


def _unknown(name: str, kinds: Mapping[str, type]) -> Rejected:
    import difflib  # noqa: PLC0415 - on the way out only

    near = difflib.get_close_matches(name.lstrip("-"), kinds, n=1)
    return _bad(
        f"unknown argument: {name}",
        got=name,
        fix=f"did you mean --{near[0]}?" if near else "--help lists the flags",
    )


def _bad(what: str, *, got: str, fix: str = "") -> Rejected:
    return Rejected(what, expected="--flag=value, by TensorFlow Serving's names", got=got, fix=fix, reason="BAD_FLAG")
