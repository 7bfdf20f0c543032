"""Figures of a judgement as inline SVG: text in, text out, the same for the same judgement.

Lines and letters take the page's own text colour; the few colours have enough contrast on white and on black. Each
figure carries a title and a description in words for those who do not see it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import log10

from components.core.verdict import GuardrailResult, Judgement, Point

WIDTH, HEIGHT = 520, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 28, 40

BLUE, RED, GREEN = "#4a7fd6", "#d9480f", "#2f9e44"

_EVIDENCE_FLOOR = -3.0
"""log10 below which a losing bet is drawn at the bottom."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Data coordinates to those of the drawing."""

    x_max: float
    y_min: float
    y_max: float

    def x(self, value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * min(1.0, value / self.x_max)

    def y(self, value: float) -> float:
        inside = min(max(value, self.y_min), self.y_max)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (inside - self.y_min) / (self.y_max - self.y_min)

    def line(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)


def figures(judgement: Judgement) -> dict[str, tuple[str, str]]:
    """Return for each guardrail with a trajectory its two figures: the estimate, and the evidence.

    Returns:
        Guardrail name to (:func:`estimate_figure`, :func:`evidence_figure`), in the judgement's order.
    """
    return {
        result.name: (estimate_figure(result), evidence_figure(result))
        for result in judgement.guardrails
        if result.trajectory
    }


def estimate_figure(result: GuardrailResult) -> str:
    """Return the estimate with its confidence sequence against the budget, over the judged requests.

    Args:
        result: A guardrail with a trajectory; without one the figure says that there is nothing to show.
    """
    title = f"{result.name}: estimate and budget"
    if not result.trajectory or result.budget is None:
        return _svg(result, "estimate", title, result.reason, [_note("nothing was measured")])
    points, budget = result.trajectory, result.budget
    frame = _Frame(float(points[-1].n), 0.0, _estimate_top(points, budget))
    upper = [(float(point.n), frame.y_max if point.high is None else point.high) for point in points]
    lower = [(float(point.n), point.low or 0.0) for point in points]
    middle = [(float(point.n), point.estimate) for point in points if point.estimate is not None]
    parts = [
        *_axes(frame, _ticks(frame.y_max), _number(result)),
        f'<polygon points="{frame.line([*upper, *reversed(lower)])}" fill="{BLUE}" fill-opacity="0.22"/>',
        f'<polyline points="{frame.line(middle)}" fill="none" stroke="{BLUE}" stroke-width="2"/>',
        *_threshold(frame, budget, RED, f"budget {_number(result)(budget)}"),
    ]
    return _svg(result, "estimate", title, f"{result.unit}. {result.reason}", parts)


def evidence_figure(result: GuardrailResult) -> str:
    """Return the e-values for harm and for safety on a logarithmic scale, with the lines at which they decide.

    Args:
        result: A guardrail with a trajectory; without one the figure says that there is nothing to show.
    """
    title = f"{result.name}: evidence"
    if not result.trajectory or result.alpha is None or result.beta is None:
        return _svg(result, "evidence", title, result.reason, [_note("nothing was measured")])
    points = result.trajectory
    harm_at, safe_at = -log10(result.alpha), -log10(result.beta)
    frame = _Frame(float(points[-1].n), _EVIDENCE_FLOOR, harm_at + 1.0)
    ticks = [float(power) for power in range(int(_EVIDENCE_FLOOR), int(frame.y_max) + 1)]
    parts = [
        *_axes(frame, ticks, lambda power: f"1e{power:.0f}" if power else "1"),
        *_path(frame, [(float(point.n), point.log10_harm) for point in points], RED),
        *_path(frame, [(float(point.n), point.log10_safety) for point in points], GREEN),
        *_threshold(frame, harm_at, RED, "harm is shown: roll back"),
        *_threshold(frame, safe_at, GREEN, "safety is shown: pass"),
    ]
    text = f"e-values over requests, red for harm and green for safety. {result.reason}"
    return _svg(result, "evidence", title, text, parts)


def _estimate_top(points: Sequence[Point], budget: float) -> float:
    """Return the top of the scale: room for budget and estimate, while early, wide intervals may run out of it."""
    settled = points[len(points) // 4 :]
    estimates = [point.estimate for point in settled if point.estimate is not None]
    last = points[-1].high if points[-1].high is not None else budget
    return 1.2 * max(budget, *estimates, min(last, 4 * budget), 1e-9)


def _ticks(top: float) -> list[float]:
    return [top * part / 4 for part in range(5)]


def _number(result: GuardrailResult) -> Callable[[float], str]:
    if result.name in ("error_ratio", "latency_ratio"):
        return lambda value: f"{value:.3g}×"
    return lambda value: f"{value * 100:.3g} %"


def _axes(frame: _Frame, ticks: Sequence[float], name: Callable[[float], str]) -> list[str]:
    left, right, bottom = _LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = [f'<line x1="{left}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="currentColor"/>']
    for tick in ticks:
        y = frame.y(tick)
        parts.append(
            f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="currentColor" stroke-opacity="0.15"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(name(tick))}</text>'
        )
    for part in range(5):
        value = frame.x_max * part / 4
        anchor = "end" if part == 4 else "middle"
        parts.append(f'<text x="{frame.x(value):.1f}" y="{bottom + 16}" text-anchor="{anchor}">{value:,.0f}</text>')
    middle = (left + right) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">requests to the candidate</text>')
    return parts


def _path(frame: _Frame, points: Sequence[tuple[float, float]], colour: str) -> list[str]:
    return [f'<polyline points="{frame.line([(0.0, 0.0), *points])}" fill="none" stroke="{colour}" stroke-width="2"/>']


def _threshold(frame: _Frame, value: float, colour: str, label: str) -> list[str]:
    y = frame.y(value)
    return [
        f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="{colour}" stroke-width="1.5" stroke-dasharray="6 4"/>',
        f'<text x="{WIDTH - _RIGHT - 4}" y="{y - 4:.1f}" text-anchor="end" fill="{colour}">{escape(label)}</text>',
    ]


def _note(text: str) -> str:
    return f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT / 2:.0f}" text-anchor="middle">{escape(text)}</text>'


def _svg(result: GuardrailResult, part: str, title: str, description: str, parts: Sequence[str]) -> str:
    name = f"canary-{escape(result.name, quote=True)}-{part}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc" font-family="system-ui, sans-serif" font-size="11" '
        f'fill="currentColor"><title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(description)}</desc>'
        f'<text x="{_LEFT}" y="16" font-weight="600">{escape(title)}</text>{"".join(parts)}</svg>'
    )
