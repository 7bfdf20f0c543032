"""Figures are well-formed, say what they show, and are the same for the same judgement."""

from xml.etree import ElementTree as ET

import pytest

from benchmarks.canary_characteristics import Scenario, simulate
from components.canary import plots
from components.canary.judge import judge
from components.core.spec import Budgets, CanaryLimits
from components.core.verdict import GuardrailResult, Judgement, Kind, Phase

SVG = "{http://www.w3.org/2000/svg}"


def parsed(figure: str) -> ET.Element:
    return ET.fromstring(figure)  # noqa: S314 - text of our own making


@pytest.fixture(scope="module")
def judgement() -> Judgement:
    measured = simulate(Scenario(0.02, 0.001, flips=0.2), 800, 1)
    return judge(measured, Budgets(latency_ms=100.0), CanaryLimits(), has_stable=True, finished=True)


def test_every_statistical_guardrail_gets_two_well_formed_figures(judgement):
    figures = plots.figures(judgement)
    assert set(figures) == {"error_rate", "error_ratio", "churn", "latency_ratio", "latency_ms"}
    for pair in figures.values():
        for figure in pair:
            root = parsed(figure)
            assert root.find(f"{SVG}title").text
            assert root.find(f"{SVG}desc").text
            for line in root.iter(f"{SVG}polyline"):
                for point in line.get("points").split():
                    x, y = map(float, point.split(","))
                    assert 0 <= x <= plots.WIDTH
                    assert 0 <= y <= plots.HEIGHT


def test_figures_of_one_page_have_different_names(judgement):
    names = [
        node.get("id")
        for pair in plots.figures(judgement).values()
        for figure in pair
        for node in parsed(figure).iter()
        if node.get("id")
    ]
    assert len(names) == len(set(names)) == 20


def test_the_budget_is_drawn_below_an_estimate_beyond_it(judgement):
    root = parsed(plots.estimate_figure(judgement.guardrail("churn")))
    labels = [text.text for text in root.iter(f"{SVG}text")]
    assert "budget 5 %" in labels
    budget_y = float(root.find(f"{SVG}path").get("d").split()[1].split("H")[0])
    last_y = float(root.findall(f"{SVG}polyline")[0].get("points").split()[-1].split(",")[1])
    assert last_y < budget_y


def test_the_same_judgement_gives_the_same_text(judgement):
    again = Judgement.model_validate_json(judgement.model_dump_json())
    assert plots.figures(judgement) == plots.figures(again)


def test_a_guardrail_without_measurements_says_so():
    empty = GuardrailResult(name="churn", kind=Kind.RELATIVE, phase=Phase.UNDECIDED, reason="Nothing yet.")
    for figure in (plots.estimate_figure(empty), plots.evidence_figure(empty)):
        assert "nothing was measured" in figure
        parsed(figure)


def test_text_is_escaped():
    nasty = GuardrailResult(
        name='<"churn">', kind=Kind.RELATIVE, phase=Phase.UNDECIDED, reason="</desc><script>alert(1)</script>"
    )
    figure = plots.estimate_figure(nasty)
    parsed(figure)
    assert "<script>" not in figure


def test_one_point_is_enough_for_a_figure():
    one = judge(simulate(Scenario(), 1, 1), Budgets(), CanaryLimits(), has_stable=True, finished=True)
    for pair in plots.figures(one).values():
        for figure in pair:
            parsed(figure)
