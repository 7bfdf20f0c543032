"""A judgement is evidence: closed, immutable, readable without the statistics that made it."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from components.core.verdict import (
    MAX_TRAJECTORY_POINTS,
    ArmSample,
    Decision,
    GuardrailResult,
    Judgement,
    Kind,
    Phase,
    Point,
    Sample,
)


def _judgement(**changes: object) -> Judgement:
    values: dict[str, object] = {
        "decision": Decision.CONTINUE,
        "reasons": ("Nothing was measured.",),
        "guardrails": (
            GuardrailResult(name="churn", kind=Kind.RELATIVE, phase=Phase.UNDECIDED, reason="Too early to tell."),
        ),
        "alpha": 0.01,
        "beta": 0.05,
        "min_requests": 100,
        "sample": Sample(candidate=ArmSample(requests=0)),
    }
    return Judgement.model_validate({**values, **changes})


def test_a_judgement_survives_json():
    judgement = _judgement()
    assert Judgement.model_validate_json(judgement.model_dump_json()) == judgement


def test_a_judgement_cannot_be_changed():
    with pytest.raises(ValidationError):
        _judgement().decision = Decision.PROMOTE  # type: ignore[misc]


def test_a_judgement_without_a_reason_is_refused():
    with pytest.raises(ValidationError):
        _judgement(reasons=())


def test_an_infinite_number_is_refused_because_json_has_none():
    with pytest.raises(ValidationError):
        Point(n=1, estimate=None, low=None, high=float("inf"), log10_harm=0.0, log10_safety=0.0)


def test_a_trajectory_is_bounded():
    point = Point(n=1, estimate=None, low=None, high=None, log10_harm=0.0, log10_safety=0.0)
    with pytest.raises(ValidationError):
        GuardrailResult(
            name="churn",
            kind=Kind.RELATIVE,
            phase=Phase.UNDECIDED,
            reason="Too early to tell.",
            trajectory=(point,) * (MAX_TRAJECTORY_POINTS + 1),
        )


def test_a_guardrail_is_found_by_name():
    assert _judgement().guardrail("churn").phase is Phase.UNDECIDED
    with pytest.raises(KeyError):
        _judgement().guardrail("chrun")


@pytest.mark.slow
def test_reading_a_verdict_needs_no_numpy():
    code = "import sys, components.core.verdict; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
