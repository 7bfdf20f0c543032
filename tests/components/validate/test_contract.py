import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import Rejected
from components.core.signature import Compatibility, Contract, Signature, TensorSpec, compare
from components.core.spec import Port, SignatureSpec
from components.validate.contract import check

X = TensorSpec("float32", (None, 4))
Y = TensorSpec("float32", (None, 3))
SERVED = Contract({"serving_default": Signature({"x": X}, {"y": Y})})


def judge(candidate: Contract, **options: object):
    given_options = {"required": {}, "served": SERVED, "served_version": 7, "waiver": ""} | options
    return check(candidate, **given_options)


def wanted(**changes: object) -> dict[str, SignatureSpec]:
    fields = {"inputs": {"x": Port(dtype="float32", shape=(None, 4))}, "outputs": {"y": Port()}} | changes
    return {"serving_default": SignatureSpec(**fields)}


def test_the_same_contract_is_identical_and_says_with_what_it_was_compared():
    checked = judge(SERVED, required=wanted())

    assert (checked.compatibility, checked.served_version, checked.changes) == (Compatibility.IDENTICAL, 7, ())
    assert checked.required == ("serving_default",)


def test_a_first_release_is_compared_with_nothing():
    assert judge(SERVED, served=None, served_version=None).served_version is None


@pytest.mark.parametrize(
    "candidate",
    [
        Contract({"other": SERVED.signatures["serving_default"]}),
        Contract({"serving_default": Signature({"x": X}, {"probabilities": Y})}),
        Contract({"serving_default": Signature({"x": TensorSpec("float64", (None, 4))}, {"y": Y})}),
        Contract({"serving_default": Signature({"x": X, "mask": X}, {"y": Y})}),
    ],
)
def test_a_change_that_breaks_clients_is_refused_unless_waived(candidate):
    with pytest.raises(Rejected) as caught:
        judge(candidate)
    assert caught.value.reason == "CONTRACT_BREAKING"

    checked = judge(candidate, waiver="all clients were moved last week")
    assert checked.compatibility is Compatibility.BREAKING
    assert checked.waiver == "all clients were moved last week"


def test_a_waiver_that_was_not_needed_is_not_written_down():
    assert judge(SERVED, waiver="all clients were moved").waiver == ""


def test_a_model_without_signatures_is_refused():
    with pytest.raises(Rejected) as caught:
        judge(Contract({}), served=None)
    assert caught.value.reason == "SIGNATURE_MISSING"


def test_a_signature_that_the_spec_demands_must_be_there():
    with pytest.raises(Rejected) as caught:
        judge(SERVED, required={"classify": wanted()["serving_default"]})
    assert caught.value.reason == "SIGNATURE_MISSING"


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": {"pixels": Port()}},
        {"inputs": {"x": Port(), "mask": Port()}},
        {"inputs": {"x": Port(dtype="int64")}},
        {"inputs": {"x": Port(shape=(None, 5))}},
        {"inputs": {"x": Port(shape=(None, None))}},
        {"outputs": {"label": Port()}},
        {"outputs": {"y": Port(dtype="float64")}},
        {"outputs": {"y": Port(shape=(1, 3))}},
    ],
)
def test_what_the_spec_demands_and_the_model_has_not_is_refused(changes):
    with pytest.raises(Rejected) as caught:
        judge(SERVED, required=wanted(**changes))
    assert caught.value.reason == "SIGNATURE_MISMATCH"


def test_an_input_that_the_spec_does_not_name_is_refused():
    more = Contract({"serving_default": Signature({"x": X, "mask": X}, {"y": Y})})
    with pytest.raises(Rejected) as caught:
        judge(more, served=None, required=wanted())
    assert caught.value.reason == "SIGNATURE_MISMATCH"


SPECS = st.builds(
    TensorSpec,
    dtype=st.sampled_from(["float32", "int64"]),
    shape=st.none() | st.lists(st.none() | st.integers(1, 3), max_size=2).map(tuple),
)
SIDES = st.dictionaries(st.sampled_from("abc"), SPECS, min_size=1, max_size=2)
CONTRACTS = st.builds(
    Contract,
    st.dictionaries(st.sampled_from(["serving_default", "other"]), st.builds(Signature, SIDES, SIDES), min_size=1),
)


@given(old=CONTRACTS, new=CONTRACTS)
def test_without_a_waiver_exactly_the_breaking_changes_are_refused(old, new):
    breaking = compare(old, new).compatibility is Compatibility.BREAKING
    try:
        checked = judge(new, served=old)
    except Rejected:
        assert breaking
    else:
        assert not breaking
        assert checked.compatibility is compare(old, new).compatibility


@given(contract=CONTRACTS)
def test_a_model_always_meets_a_demand_for_what_it_has(contract):
    required = {
        key: SignatureSpec(
            inputs={alias: Port(dtype=spec.dtype, shape=spec.shape) for alias, spec in signature.inputs.items()},
            outputs={alias: Port(dtype=spec.dtype, shape=spec.shape) for alias, spec in signature.outputs.items()},
        )
        for key, signature in contract.signatures.items()
    }

    assert judge(contract, served=contract, required=required).compatibility is Compatibility.IDENTICAL
