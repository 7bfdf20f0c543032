"""Expressions on a command line: what NumPy would make of them, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.errors import Rejected
from components.serving.array_expressions import MAX_BYTES, evaluate, literal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("np.ones((1, 3))", np.ones((1, 3))),
        ("numpy.zeros(2, dtype=np.int8)", np.zeros(2, np.int8)),
        ("np.zeros([2, 2], 'float32')", np.zeros((2, 2), np.float32)),
        ("np.full((2,), 7)", np.full((2,), 7)),
        ("np.full((2, 2), 0.5, dtype='float16')", np.full((2, 2), 0.5, np.float16)),
        ("np.arange(6).reshape(2, 3) / 2 - 1", np.arange(6).reshape(2, 3) / 2 - 1),
        ("np.arange(1, 2, 0.25)", np.arange(1, 2, 0.25)),
        ("np.linspace(0, 1, num=5)", np.linspace(0, 1, 5)),
        ("np.eye(2, 3)", np.eye(2, 3)),
        ("np.array([[1, 2], [3, 4]], dtype=float)", np.array([[1, 2], [3, 4]], float)),
        ("np.array([1, 2]).astype('uint8') * 2", np.array([2, 4], np.uint8)),
        ("[1, -2, +3]", np.array([1, -2, 3])),
        ("[True, False]", np.array([True, False])),
        ("-np.inf", np.array(-np.inf)),
        ("[np.nan, np.pi]", np.array([np.nan, np.pi])),
        ("2 ** 10 % 7 // 2", np.array(2**10 % 7 // 2)),
        ("10 ** 30", np.array(1e30)),
        ("np.float32(1.5)", np.array(1.5, np.float32)),
        ("np.bool_(1)", np.array(True)),
        ("1 + 2j", np.array(1 + 2j)),
        ("['a', 'ü']", np.array(["a", "ü"], object)),
        ("[b'nul\\0', b'']", np.array([b"nul\0", b""], object)),
        ("np.array([['a'], ['b']])", np.array([["a"], ["b"]], object)),
        ("np.array([])", np.array([])),
        ("np.random.default_rng(3).random((2, 2))", np.random.default_rng(3).random((2, 2))),
        ("np.random.default_rng(3).normal(1, 2, size=3)", np.random.default_rng(3).normal(1, 2, size=3)),
        ("np.random.default_rng(3).uniform(-1, 1, 4)", np.random.default_rng(3).uniform(-1, 1, 4)),
        ("np.random.default_rng(3).integers(0, 256, (2, 2)).astype(np.uint8)", None),
        ("  np.ones(1)\n", np.ones(1)),
    ],
)
def test_an_expression_is_what_numpy_makes_of_it(text, expected):
    found = evaluate(text)
    if expected is None:
        expected = np.random.default_rng(3).integers(0, 256, (2, 2)).astype(np.uint8)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__",
        "np.load('f.npy', allow_pickle=True)",
        "np.ones.__globals__",
        "np.random.seed(1)",
        "np.random.rand(3)",
        "np.random.default_rng()",
        "np.random.default_rng(-1)",
        "np.random.default_rng(1).bytes(5)",
        "np.random.default_rng(1).bit_generator",
        "np.ones(3).tofile('x')",
        "np.ones(3).__array_interface__",
        "np.ctypeslib",
        "open('x')",
        "lambda: 1",
        "[x for x in [1]]",
        "x",
        "1 if True else 2",
        "f'{1}'",
        "np.ones(*[3])",
        "np.ones(**{})",
        "(y := 1)",
        "np.array([1], dtype=object)",
        "np.array(['x'], dtype='S9')",
        "np.zeros(3, dtype='V99999999')",
        "None",
        "...",
        "{1: 2}",
        "1; 2",
        "import os",
        "",
        "\0",
        "[[1, 2], [3]]",
        "['a', 1]",
        "[1, 'a']",
        "1 / 0",
        "np.int8(300)",
        "np.ones(3) + 'a'",
        "np.ones(2) + np.ones(3)",
        "np.ones(-1)",
        "np.ones(1.5)",
        "np.arange(0, 1, 0)",
        "np.linspace(0, np.inf, 3)",
        "np.ones()",
        "np.ones(1, 2, 3, 4)",
    ],
)
def test_everything_else_is_refused(text):
    with pytest.raises(Rejected) as caught:
        evaluate(text)
    assert caught.value.reason == "EXPRESSION"


@pytest.mark.parametrize(
    "text",
    [
        f"np.zeros({MAX_BYTES})",
        "np.ones((10 ** 6, 10 ** 6))",
        "np.full((10 ** 10,), 1)",
        "np.arange(10 ** 12)",
        "np.arange(0, 1, 1e-12)",
        "np.linspace(0, 1, 10 ** 11)",
        "np.eye(10 ** 6)",
        "np.random.default_rng(1).random(10 ** 11)",
        "np.ones((10 ** 5, 1)) * np.ones((1, 10 ** 5))",
        "9 ** 9 ** 9",
        "10 ** 10 ** 10",
        "18446744073709551616 * 2",
        "[0] * 10 ** 9",
        "'a' * 10 ** 9",
        "np.zeros(2 ** 28, np.int8).astype('float64')",
        "[np.zeros(2 ** 24)]",
        " + ".join(["np.ones(1)"] * 30),
        "(" * 300 + ")" * 300,
        "-" * 5000 + "1",
        "[" * 90 + "]" * 90,
        "1," * 600_000,
    ],
)
def test_what_would_be_too_large_is_refused_before_it_is_made(text):
    with pytest.raises(Rejected) as caught:
        evaluate(text)
    assert caught.value.reason == "EXPRESSION"


WORDS = st.sampled_from(
    [
        *("np", ".", "ones", "zeros", "arange", "full", "array", "random", "default_rng", "(", ")", "[", "]", ",", "1"),
        *(
            "-2",
            "3.5",
            "'a'",
            "b'c'",
            "+",
            "*",
            "**",
            "/",
            "%",
            "//",
            "dtype=",
            "'int8'",
            "astype",
            "reshape",
            "normal",
        ),
        *("~", "x"),
    ]
)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(st.lists(WORDS, max_size=14).map("".join) | st.text(max_size=30))
def test_no_text_raises_anything_but_a_refusal(text):
    for read in (evaluate, literal):
        try:
            read(text)
        except Rejected:
            continue


def test_a_literal_is_data_only():
    assert literal(" [{'a': [1.0, 2]}] ") == [{"a": [1.0, 2]}]
    for text in ("f(1)", "[x]", "{", "9" * 5000):
        with pytest.raises(Rejected):
            literal(text)
