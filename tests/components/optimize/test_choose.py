"""Which model goes on."""

from hypothesis import given
from hypothesis import strategies as st

from components.core.optimization import OutputParity, PassReport, Timing
from components.optimize.choose import SLOWER, choose

FIRED = PassReport(name="p", fired=3, nodes_before=9, nodes_after=6, bytes_before=9, bytes_after=6, seconds=0.1)
SAME = OutputParity(
    signature="s", output="y", dtype="float32", requests=8, max_absolute=0.0, max_relative=0.0, within=True
)


def timing(low: float, ratio: float = 1.0) -> Timing:
    return Timing(
        signature="s",
        batch_size=1,
        warmed_with=1,
        pairs=10,
        original_ms=1.0,
        optimized_ms=1.0,
        ratio=ratio,
        low=low,
        high=max(low, ratio) + 1,
    )


def test_the_optimized_model_goes_on_if_it_fired_agrees_and_is_not_slower():
    chosen, why = choose([FIRED], [SAME], [timing(0.5, 0.6), timing(0.8, 0.9)])
    assert chosen == "optimized"
    assert "0.600 to 0.900" in why


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=4))
def test_the_original_is_kept_exactly_if_a_lower_bound_is_above_the_limit(lows):
    chosen, _ = choose([FIRED], [SAME], [timing(low) for low in lows])
    assert (chosen == "original") == (max(lows) > SLOWER)


def test_an_upper_bound_above_the_limit_is_no_reason():
    assert choose([FIRED], [SAME], [timing(1.02, 5.0)])[0] == "optimized"


def test_without_a_pass_that_fired_and_stayed_the_original_goes_on():
    undone = FIRED.model_copy(update={"undone": True})
    idle = FIRED.model_copy(update={"fired": 0})
    assert choose([undone, idle], [SAME], [timing(0.5)])[0] == "original"


def test_without_evidence_the_original_goes_on():
    unproven = SAME.model_copy(update={"requests": 0})
    wrong = SAME.model_copy(update={"within": False})
    for parity in ([], [SAME, unproven], [SAME, wrong]):
        assert choose([FIRED], parity, [timing(0.5)])[0] == "original"
    assert choose([FIRED], [SAME], [])[0] == "original"
