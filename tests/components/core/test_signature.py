import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.signature import Compatibility, Contract, Signature, TensorSpec, accepts, compare

SHAPES = st.none() | st.lists(st.none() | st.integers(1, 3), max_size=3).map(tuple)
TENSORS = st.builds(TensorSpec, dtype=st.sampled_from(["float32", "int64", "string"]), shape=SHAPES)
ALIASES = st.dictionaries(st.sampled_from("abc"), TENSORS, min_size=1, max_size=3)
SIGNATURES = st.builds(Signature, inputs=ALIASES, outputs=ALIASES)
CONTRACTS = st.builds(Contract, signatures=st.dictionaries(st.sampled_from("xyz"), SIGNATURES, max_size=3))

X = TensorSpec("float32", (None, 4))
ONE = Signature(inputs={"x": X}, outputs={"y": X})


def verdict(old: Signature, new: Signature) -> Compatibility:
    return compare(Contract({"serving_default": old}), Contract({"serving_default": new})).compatibility


@given(CONTRACTS)
def test_a_contract_is_identical_to_itself(contract):
    assert compare(contract, contract).compatibility is Compatibility.IDENTICAL


@given(CONTRACTS, CONTRACTS)
def test_a_change_is_seen_from_both_sides(one, two):
    there, back = compare(one, two), compare(two, one)
    assert {change.where for change in there.changes} == {change.where for change in back.changes}


@given(CONTRACTS, CONTRACTS, CONTRACTS)
def test_what_is_compatible_step_by_step_is_compatible_in_one(one, two, three):
    steps = (compare(one, two).compatibility, compare(two, three).compatibility)
    if Compatibility.BREAKING not in steps:
        assert compare(one, three).compatibility is not Compatibility.BREAKING


@given(SHAPES, SHAPES, SHAPES)
def test_accepting_is_reflexive_and_transitive(one, two, three):
    assert accepts(one, one)
    if accepts(one, two) and accepts(two, three):
        assert accepts(one, three)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((None, 4), (2, 4), Compatibility.BREAKING),
        ((2, 4), (None, 4), Compatibility.ADDITIVE),
        ((None, 4), (None, 5), Compatibility.BREAKING),
        ((None, 4), (None, 4, 1), Compatibility.BREAKING),
        ((None, 4), None, Compatibility.ADDITIVE),
    ],
)
def test_an_input_may_accept_more_and_never_less(old, new, expected):
    before = dataclasses.replace(ONE, inputs={"x": TensorSpec("float32", old)})
    after = dataclasses.replace(ONE, inputs={"x": TensorSpec("float32", new)})
    assert verdict(before, after) is expected


def test_an_output_may_promise_more_and_never_less():
    precise = dataclasses.replace(ONE, outputs={"y": TensorSpec("float32", (2, 4))})
    assert verdict(ONE, precise) is Compatibility.ADDITIVE
    assert verdict(precise, ONE) is Compatibility.BREAKING


@pytest.mark.parametrize(
    "new",
    [
        dataclasses.replace(ONE, inputs={"x": X, "z": X}),
        dataclasses.replace(ONE, inputs={"z": X}),
        dataclasses.replace(ONE, outputs={"z": X}),
        dataclasses.replace(ONE, inputs={"x": TensorSpec("float64", (None, 4))}),
        dataclasses.replace(ONE, outputs={"y": TensorSpec("int64", (None, 4))}),
        dataclasses.replace(ONE, method_name="tensorflow/serving/classify"),
    ],
)
def test_whatever_a_client_can_trip_over_is_breaking(new):
    assert verdict(ONE, new) is Compatibility.BREAKING


def test_another_output_or_signature_is_additive():
    assert verdict(ONE, dataclasses.replace(ONE, outputs={"y": X, "z": X})) is Compatibility.ADDITIVE
    more = compare(Contract({"a": ONE}), Contract({"a": ONE, "b": ONE}))
    assert more.compatibility is Compatibility.ADDITIVE


def test_a_lost_signature_or_tag_is_breaking():
    assert compare(Contract({"a": ONE}), Contract({})).compatibility is Compatibility.BREAKING
    tags = compare(Contract({"a": ONE}, frozenset({"serve", "gpu"})), Contract({"a": ONE}))
    assert tags.compatibility is Compatibility.BREAKING


def test_the_tensor_name_is_no_part_of_the_contract():
    renamed = dataclasses.replace(ONE, inputs={"x": dataclasses.replace(X, name="other:0")})
    changes = compare(Contract({"a": ONE}), Contract({"a": renamed})).changes
    assert changes == ()
