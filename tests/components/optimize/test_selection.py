"""Passes by name."""

import pytest

from components.core.errors import Rejected
from components.core.spec import Optimize
from components.optimize.selection import EXACT, Selected, available, parse, select


def test_every_pass_of_the_exact_profile_is_there_and_every_pass_is_in_it():
    assert set(EXACT) == set(available())


def test_a_profile_selects_its_passes_and_none_selects_nothing():
    assert [str(entry) for entry in select(Optimize())] == list(EXACT)
    assert select(Optimize(profile="none")) == ()


def test_passes_by_name_replace_the_profiles():
    spec = Optimize(passes=("remove_device", "remove_nodes(op=Identity, op=CheckNumerics)"))
    assert select(spec) == (
        Selected("remove_device"),
        Selected("remove_nodes", (("op", "Identity"), ("op", "CheckNumerics"))),
    )
    assert str(select(spec)[1]) == "remove_nodes(op=Identity, op=CheckNumerics)"


def test_the_graph_transform_tools_arguments_are_read():
    assert parse('remove_attribute(attribute_name="_class")').arguments == (("attribute_name", "_class"),)
    assert parse("fold_constants(ignore_errors=true)").arguments == (("ignore_errors", "true"),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("fold_batch_norm", "UNKNOWN_PASS"), ("remove_nodes(Identity)", "MALFORMED_PASS"), ("a b", "MALFORMED_PASS")],
)
def test_what_is_no_pass_is_refused(text, reason):
    with pytest.raises(Rejected) as caught:
        parse(text)
    assert caught.value.reason == reason


def test_a_wrong_name_suggests_the_right_one():
    with pytest.raises(Rejected) as caught:
        parse("fold_batch_norm")
    assert "fold_batch_norms" in caught.value.fix
