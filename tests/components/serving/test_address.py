"""Addresses of served models."""

import pytest

from components.core.errors import Rejected
from components.serving.address import ServedAddress, is_address, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://h:8501/v1/models/m", ServedAddress("http", "h:8501", "m", None)),
        ("http://h:8501/v1/models/m/", ServedAddress("http", "h:8501", "m", None)),
        ("https://h/v1/models/a%20b/versions/7", ServedAddress("https", "h", "a b", 7)),
        ("grpc://h:8500/v1/models/m/versions/7", ServedAddress("grpc", "h:8500", "m", 7)),
        ("grpc://h:8500/m", ServedAddress("grpc", "h:8500", "m", None)),
        ("grpc://[::1]:8500/m/3", ServedAddress("grpc", "[::1]:8500", "m", 3)),
    ],
)
def test_an_address_names_server_model_and_version(text, expected):
    assert is_address(text)
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "http://h:8501",
        "http://h:8501/m",
        "http://h:8501/v1/models/",
        "http://h:8501/v1/models/m:predict",
        "http://h:8501/v1/models/m/versions/x",
        "http://h:8501/v1/models/m?x=1",
        "http://h:port/v1/models/m",
        "http:///v1/models/m",
        "http://user@h/v1/models/m",
        "grpc://h/m",
        "grpc://h:1/",
        "ftp://h/v1/models/m",
    ],
)
def test_what_names_no_served_model_is_refused(text):
    with pytest.raises(Rejected) as caught:
        parse(text)
    assert caught.value.reason == "SERVER_ADDRESS"


def test_a_directory_or_a_store_is_no_address():
    assert not any(map(is_address, ["model", "./http:/x", "gs://b/m/1", "file:///m"]))
