"""The convergence chart: incumbent and bound of the first goal against time, as an inline SVG picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.report.wording import number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optimizer.result import GoalCertificate, Progress

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 34
ZOOM = 8.0  # the chart shows this many final gaps on either side, so that the last step stays visible
TICKS = 4


@dataclass(frozen=True, slots=True)
class Chart:
    """Paths and ticks in the picture's own units; ``cut`` tells that early values lie outside."""

    incumbent: str
    bound: str
    band: str
    end: tuple[float, float, float]  # x, y of the last incumbent, y of the last bound
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    cut: bool
    label: str
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps seconds and values to the picture; values beyond the limits are held at them."""

    last_s: float
    low: float
    high: float

    def x(self, seconds: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.last_s, 1)

    def y(self, value: float) -> float:
        held = min(self.high, max(self.low, value))
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (held - self.low) / (self.high - self.low), 1)


def chart(trace: Iterable[Progress], goal: GoalCertificate, seconds: float) -> Chart | None:
    """The chart, or None when there are not two different moments to draw."""
    steps = list(trace)
    incumbents = _known((step.seconds, step.incumbent) for step in steps)
    bounds = _known((step.seconds, step.bound) for step in steps)
    incumbents += [(seconds, goal.objective)] if math.isfinite(goal.objective) else []
    bounds += [(seconds, goal.bound)] if math.isfinite(goal.bound) else []
    if len(incumbents) < 2 or len({moment for moment, _ in incumbents + bounds}) < 2:  # noqa: PLR2004  (a line has two ends)
        return None
    values = [value for _, value in incumbents + bounds]
    final = goal.bound if math.isfinite(goal.bound) else goal.objective
    span = max(abs(final - goal.objective), 0.005 * max(1.0, abs(goal.objective))) * ZOOM
    low = max(min(values), min(final, goal.objective) - span)
    high = min(max(values), max(final, goal.objective) + span)
    margin = 0.06 * (high - low) or 1.0
    scale = _Scale(max(moment for moment, _ in incumbents + bounds), low - margin, high + margin)
    return _drawn(scale, incumbents, bounds, goal, cut=min(values) < low or max(values) > high)


def _drawn(
    scale: _Scale, incumbents: list[tuple[float, float]], bounds: list[tuple[float, float]], goal: GoalCertificate, *, cut: bool
) -> Chart:
    upper, lower = _stairs(bounds, scale), _stairs(incumbents, scale)
    band: list[tuple[float, float]] = []
    if upper:
        both = max(incumbents[0][0], bounds[0][0])  # the moment from which there are two lines to lie between
        band = [*_stairs(_since(incumbents, both), scale), *reversed(_stairs(_since(bounds, both), scale))]
    ticks = _round_values(scale.low, scale.high)
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]))) if len(ticks) > 1 else 1
    words = f"{goal.unit} against seconds: the plan ends at {number(goal.objective)}, the bound at {number(goal.bound)}."
    return Chart(
        incumbent=_path(lower),
        bound=_path(upper),
        band=_path(band) + "Z" if band else "",
        end=(scale.x(incumbents[-1][0]), scale.y(goal.objective), scale.y(goal.bound) if math.isfinite(goal.bound) else -1.0),
        x_ticks=tuple((scale.x(value), f"{value:g}") for value in _round_values(0.0, scale.last_s)),
        y_ticks=tuple((scale.y(value), f"{value:,.{digits}f}") for value in ticks),
        cut=cut,
        label=words,
    )


def _known(pairs: Iterable[tuple[float, float | None]]) -> list[tuple[float, float]]:
    return [(moment, value) for moment, value in pairs if value is not None and math.isfinite(value)]


def _stairs(points: list[tuple[float, float]], scale: _Scale) -> list[tuple[float, float]]:
    """The corners of a line that keeps each value until the next one is known."""
    corners: list[tuple[float, float]] = []
    for moment, value in points:
        x, y = scale.x(moment), scale.y(value)
        if corners and corners[-1][1] != y:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return corners


def _since(points: list[tuple[float, float]], moment: float) -> list[tuple[float, float]]:
    """The points from a moment on, the value then held first."""
    held = [value for at, value in points if at <= moment][-1]
    return [(moment, held), *(point for point in points if point[0] > moment)]


def _path(corners: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in corners) if corners else ""


def _round_values(low: float, high: float) -> list[float]:
    """A few round numbers between two values."""
    raw = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
