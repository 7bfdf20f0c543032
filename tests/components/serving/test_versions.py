"""Which folders are versions, and what is loaded and unloaded when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.serving.configs import Policy
from components.serving.versions import aspired, next_actions, version_number


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1", 1),
        ("00123", 123),
        ("+5", 5),
        ("-5", -5),
        (" 7 ", 7),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), None),
        ("v9", None),
        ("9a", None),
        ("9.tmp", None),
        (".9", None),
        ("0x9", None),
        ("", None),
        ("1_000", None),
        ("٣", None),
        ("1 2", None),
        ("9" * 5000, None),
    ],
)
def test_a_name_is_a_version_as_abseil_reads_it(name: str, number: int | None):
    assert version_number(name) == number


@given(number=st.integers(-(2**63), 2**63 - 1))
def test_every_int64_is_a_version(number: int):
    assert version_number(str(number)) == number


CHILDREN = ["1", "3", "2", "tmp", "10", "model.pbtxt"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), {10: "10"}),
        (Policy("latest", 2), {3: "3", 10: "10"}),
        (Policy("all"), {1: "1", 2: "2", 3: "3", 10: "10"}),
        (Policy("specific", versions=(1, 2, 7)), {1: "1", 2: "2"}),
    ],
)
def test_a_policy_chooses_by_number(policy: Policy, expected: dict[int, str]):
    assert aspired(policy, CHILDREN) == expected


def test_of_two_names_of_one_number_the_lexically_last_wins():
    assert aspired(Policy(), ["1", "001"]) == {1: "1"}


def test_the_old_version_stays_until_a_new_one_serves():
    assert next_actions([2], {1: "AVAILABLE", 2: "LOADING"}).unload == ()
    assert next_actions([2], {1: "AVAILABLE", 2: "END"}).unload == ()
    assert next_actions([2], {1: "AVAILABLE", 2: "AVAILABLE"}).unload == (1,)


def test_what_nobody_wants_goes_at_once():
    assert next_actions([], {1: "AVAILABLE", 2: "AVAILABLE"}).unload == (2, 1)


def test_new_versions_load_newest_first_and_once():
    assert next_actions([1, 2, 3], {1: "START", 2: "LOADING", 3: "START"}).load == (3, 1)


@given(
    wanted=st.sets(st.integers(1, 5)),
    states=st.dictionaries(st.integers(1, 5), st.sampled_from(["START", "LOADING", "AVAILABLE", "UNLOADING", "END"])),
)
def test_a_wanted_model_is_never_left_without_a_server(wanted: set[int], states: dict[int, str]):
    actions = next_actions(wanted, states)
    before = {number for number, state in states.items() if state == "AVAILABLE"}
    if wanted and before:
        assert before - set(actions.unload)
    assert not set(actions.unload) & wanted
