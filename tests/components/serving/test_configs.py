"""Configuration files: what they mean, what is refused."""

from pathlib import Path

import pytest

from components.core.errors import Rejected
from components.serving.configs import ModelConfig, Policy, read_batching, read_metrics_path, read_model_configs
from components.serving.metrics import Metrics
from components.serving.status import ServingError


def file(folder: Path, text: str) -> Path:
    path = folder / "config"
    path.write_text(text)
    return path


def models(folder: Path, *entries: str) -> Path:
    return file(folder, "model_config_list { " + " ".join(f"config {{ {entry} }}" for entry in entries) + " }")


PLAIN = 'name: "m" base_path: "/models/m" model_platform: "tensorflow"'


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", Policy()),
        ("model_version_policy { latest { num_versions: 2 } }", Policy("latest", 2)),
        ("model_version_policy { latest { num_versions: 0 } }", Policy("latest", 1)),
        ("model_version_policy { all {} }", Policy("all")),
        ("model_version_policy { specific { versions: 4 versions: 2 } }", Policy("specific", versions=(4, 2))),
    ],
)
def test_a_policy_is_read(tmp_path: Path, text: str, policy: Policy):
    found = read_model_configs(models(tmp_path, f'{PLAIN} {text} version_labels {{ key: "stable" value: 4 }}'))
    assert found == (ModelConfig("m", Path("/models/m"), policy, {"stable": 4}),)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([PLAIN, PLAIN], "Illegal to list model m multiple times in config list"),
        ([PLAIN.replace("/models", "models")], "to have an absolute path or URI; got base_path()=models/m"),
        ([PLAIN.replace("tensorflow", "pytorch")], "Model m requests unsupported platform pytorch"),
        (['name: "m" base_path: "/m"'], "Illegal setting neither ModelServerConfig::model_type"),
    ],
)
def test_a_wrong_list_of_models_is_refused_with_the_real_text(tmp_path: Path, entries: list[str], text: str):
    with pytest.raises(ServingError) as caught:
        read_model_configs(models(tmp_path, *entries))
    assert text in caught.value.message


@pytest.mark.parametrize("text", ["model_config_list {", "nonsense: 1", "\0"])
def test_what_is_no_text_proto_names_the_file_and_the_place(tmp_path: Path, text: str):
    for read in (read_model_configs, read_metrics_path, read_batching):
        with pytest.raises(Rejected) as caught:
            read(file(tmp_path, text))
        assert str(tmp_path) in caught.value.what
        assert caught.value.got.startswith("Error parsing text-format tensorflow.serving.")
        assert "1:" in caught.value.got


def test_metrics_have_a_path_only_where_enabled(tmp_path: Path):
    assert read_metrics_path(file(tmp_path, "")) is None
    assert read_metrics_path(file(tmp_path, "prometheus_config { enable: true }")) == "/monitoring/prometheus/metrics"
    assert read_metrics_path(file(tmp_path, 'prometheus_config { enable: true path: "/m" }')) == "/m"
    assert read_metrics_path(file(tmp_path, 'prometheus_config { path: "/m" }')) is None


def test_batching_parameters_are_read_from_their_wrappers(tmp_path: Path):
    text = (
        "max_batch_size { value: 8 } batch_timeout_micros { value: 500 } num_batch_threads { value: 2 } "
        'max_enqueued_batches { value: 3 } thread_pool_name { value: "p" } '
        "allowed_batch_sizes: 4 allowed_batch_sizes: 8"
    )
    found = read_batching(file(tmp_path, text))
    assert (found.max_batch_size, found.batch_timeout_micros, found.num_batch_threads) == (8, 500, 2)
    assert (found.max_enqueued_batches, found.allowed_batch_sizes) == (3, (4, 8))


@pytest.mark.parametrize(
    "text",
    [
        "max_batch_size { value: 0 }",
        "max_batch_size { value: 8 } allowed_batch_sizes: 4",
        "max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: 4",
        "num_batch_threads { value: 0 }",
        "batch_timeout_micros { value: -1 }",
        "max_enqueued_batches { value: 0 } max_batch_size { value: 8 } enable_large_batch_splitting { value: true }",
        "max_batch_size {value: 8} max_execution_batch_size {value: 9} enable_large_batch_splitting {value: true}",
        "enable_large_batch_splitting { value: true }",
    ],
)
def test_batching_parameters_that_do_not_fit_are_refused(tmp_path: Path, text: str):
    with pytest.raises(ServingError) as caught:
        read_batching(file(tmp_path, text))
    assert caught.value.code == "INVALID_ARGUMENT"


def test_splitting_executes_smaller_batches_and_no_queue_is_a_queue_of_one(tmp_path: Path):
    text = (
        "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } "
        "max_execution_batch_size { value: 4 } allowed_batch_sizes: 8"
    )
    assert read_batching(file(tmp_path, text)).largest_executed == 4
    assert read_batching(file(tmp_path, "max_enqueued_batches { value: 0 }")).max_enqueued_batches == 1


def test_histograms_have_the_real_servers_buckets_and_escaped_labels():
    metrics = Metrics()
    for value in (5, 10, 17, 1e12):
        metrics.time_request('a"b\\', "Predict", "GRPC", value)
    lines = metrics.page().splitlines()
    name = ':tensorflow:serving:request_latency_bucket{model_name="a\\"b\\\\",API="Predict",entrypoint="GRPC"'
    assert f'{name},le="10"}} 1' in lines
    assert f'{name},le="18"}} 3' in lines
    assert f'{name},le="+Inf"}} 4' in lines
    assert sum("_bucket" in line for line in lines) == 34
