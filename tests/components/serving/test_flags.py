"""TensorFlow Serving's flags: syntax, names, refusals."""

import pytest

from components.core.errors import Rejected
from components.serving.flags import Flags, parse, usage, without_effect
from manifests.pod import server_arguments
from tests.manifests.cases import CASES


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port=9000", "--model_name=m", "--enable_batching=true", "--slipway_drain_seconds=2.5"],
        ["--port", "9000", "--model_name", "m", "--enable_batching", "--slipway_drain_seconds", "2.5"],
        ["--enable_batching", "true", "--port=9000", "--model_name=m", "--slipway_drain_seconds=2.5"],
        ["--port=1", "--port=9000", "--model_name=m", "--enable_batching=1", "--slipway_drain_seconds=2.5"],
    ],
)
def test_every_way_of_writing_means_the_same(arguments: list[str]):
    assert parse(arguments) == Flags(port=9000, model_name="m", enable_batching=True, slipway_drain_seconds=2.5)


def test_a_value_may_hold_an_equals_sign_and_be_empty():
    assert parse(["--grpc_channel_arguments=a=1,b=2"]).grpc_channel_arguments == "a=1,b=2"
    assert parse(["--model_name="]).model_name == ""


def test_defaults_are_tensorflow_servings():
    flags = parse([])
    assert (flags.port, flags.model_name, flags.saved_model_tags) == (8500, "default", "serve")
    assert (flags.file_system_poll_wait_seconds, flags.max_num_load_retries) == (1, 5)
    assert (flags.load_retry_interval_micros, flags.rest_api_timeout_in_ms) == (60_000_000, 30_000)
    assert flags.enable_model_warmup


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--prot=1"], "unknown argument: --prot"),
        (["-port=1"], "unknown argument: -port"),
        (["model"], "unknown argument: model"),
        (["--port"], "--port needs a value"),
        (["--port=x"], "--port is a whole number"),
        (["--port=1.5"], "--port is a whole number"),
        (["--slipway_drain_seconds=x"], "--slipway_drain_seconds is a number"),
        (["--enable_batching=maybe"], "--enable_batching is true or false"),
        (["--use_alts_credentials"], "does not support"),
        (["--platform_config_file=f"], "does not support"),
        (["--prefer_tflite_model"], "does not support"),
    ],
)
def test_a_wrong_flag_is_told_and_refused(arguments: list[str], text: str):
    with pytest.raises(Rejected) as caught:
        parse(arguments)
    assert text in caught.value.what
    assert caught.value.reason == "BAD_FLAG"


def test_a_near_name_is_suggested():
    with pytest.raises(Rejected) as caught:
        parse(["--model_base_bath=x"])
    assert "--model_base_path" in caught.value.fix


def test_flags_without_effect_are_told_only_when_given():
    assert without_effect(parse([])) == []
    assert without_effect(parse(["--enable_profiler=false"])) == ["enable_profiler"]
    parse(["--use_alts_credentials=false"])


def test_usage_names_every_flag():
    text = usage()
    assert all(f"--{name}=" in text for name in Flags.__dataclass_fields__)


@pytest.mark.parametrize("serving", CASES.values(), ids=CASES)
def test_what_our_manifests_tell_the_real_server_is_understood_here(serving):
    flags = parse(server_arguments(serving))
    assert flags.enable_batching == (serving.batching is not None)
    assert min(flags.op_threads) >= 1


def test_threads_are_set_together_or_apart():
    assert parse(["--tensorflow_session_parallelism=3"]).op_threads == (3, 3)
    assert parse(["--tensorflow_intra_op_parallelism=2", "--tensorflow_session_parallelism=3"]).op_threads == (2, 0)
