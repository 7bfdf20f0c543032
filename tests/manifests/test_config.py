"""The configuration files, read back as TensorFlow Serving reads them: by descriptors, with protobuf's parser."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from components.savedmodel import messages
from manifests import config, textproto
from manifests.spec import Batching
from tests.manifests.cases import VERSION
from tests.manifests.strategies import batchings, versions

INT64, BOOL, STRING, MESSAGE = 3, 8, 9, 11
OPTIONAL, REPEATED = 1, 3


def descriptors():
    """Return the messages of monitoring_config.proto and session_bundle_config.proto, which no package ships."""
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    file = descriptor_pb2.FileDescriptorProto(
        name="files.proto", package="tensorflow.serving", syntax="proto3", dependency=[wrappers.name]
    )

    def add(message: str, *fields: tuple[str, int, int, str | None]) -> None:
        made = file.message_type.add(name=message)
        for number, (name, kind, label, of) in enumerate(fields, start=1):
            made.field.add(name=name, number=number, type=kind, label=label, type_name=of)

    integer = (MESSAGE, OPTIONAL, ".google.protobuf.Int64Value")
    add("PrometheusConfig", ("enable", BOOL, OPTIONAL, None), ("path", STRING, OPTIONAL, None))
    add("MonitoringConfig", ("prometheus_config", MESSAGE, OPTIONAL, ".tensorflow.serving.PrometheusConfig"))
    add(
        "BatchingParameters",
        ("max_batch_size", *integer),
        ("batch_timeout_micros", *integer),
        ("max_enqueued_batches", *integer),
        ("num_batch_threads", *integer),
        ("thread_pool_name", MESSAGE, OPTIONAL, ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", INT64, REPEATED, None),
        ("pad_variable_length_inputs", BOOL, OPTIONAL, None),
    )
    pool.Add(file)
    return pool


POOL = descriptors()


def parsed(text, message):
    kind = message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"tensorflow.serving.{message}"))
    return text_format.Parse(text, kind())


@given(versions)
def test_a_server_is_pinned_to_exactly_one_version_of_one_model(version):
    server = text_format.Parse(config.model_config(version), messages.message("tensorflow.serving.ModelServerConfig")())
    (model,) = server.model_config_list.config
    assert (model.name, model.base_path) == (version.model, f"/models/{version.model}")
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.WhichOneof("policy_choice") == "specific"
    assert list(model.model_version_policy.specific.versions) == [version.version]
    assert not model.version_labels


def test_the_base_path_holds_what_the_init_container_fills():
    assert f'base_path: "{config.MODEL_ROOT}/{VERSION.model}"' in config.model_config(VERSION)


def test_metrics_are_on_at_the_path_prometheus_is_told():
    monitoring = parsed(config.monitoring_config(), "MonitoringConfig").prometheus_config
    assert (monitoring.enable, monitoring.path) == (True, "/monitoring/prometheus/metrics")


@given(batchings())
def test_batching_parameters_are_the_specs(batching):
    read = parsed(config.batching_config(batching), "BatchingParameters")
    assert Batching(
        max_batch_size=read.max_batch_size.value,
        batch_timeout_micros=read.batch_timeout_micros.value,
        max_enqueued_batches=read.max_enqueued_batches.value,
        num_batch_threads=read.num_batch_threads.value,
        allowed_batch_sizes=tuple(read.allowed_batch_sizes),
    ) == batching  # fmt: skip
    assert read.HasField("batch_timeout_micros")  # 0 is a value, not the server's default


@given(st.text())
def test_any_text_survives_the_text_format(text):
    written = textproto.write([("prometheus_config", [("path", text), ("enable", False)])])
    read = parsed(written, "MonitoringConfig").prometheus_config
    assert (read.path, read.enable) == (text, False)
    assert written.isascii()


def test_nested_messages_are_indented_and_fields_may_repeat():
    assert textproto.write([("a", [("b", 1), ("b", 2), ("c", [("d", True)])])]) == (
        "a {\n  b: 1\n  b: 2\n  c {\n    d: true\n  }\n}\n"
    )
