"""A chart with two scales as an inline SVG picture: lines, bands, whiskers and marks, for the report of a study."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optimizer.study.conclusions.wording import value_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optimizer.study.conclusions.intervals import Interval

WIDTH, HEIGHT = 600, 320
RIGHT, TOP, BOTTOM = 18, 14, 52
LETTER = 7.4  # of a tick, wide
TICKS = 5
X_LETTERS, Y_LETTERS = 70, 38  # of the scales' names that have room
ZOOM = 3.0  # proved ends further from the plans than so many times their spread are cut, or the plans would be a line
FLAT = 1e-3  # relative: a range narrower than this is drawn as a flat line with room around it
SEEN = 0.004  # of the height: a band narrower than this is not seen
SUFFIXES = ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e5, 1e3, "k"))  # from which largest value, what it stands for


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values from ``low`` to ``high`` onto the picture from ``start`` to ``end``; values beyond are held at the ends."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value lies."""
        held = min(self.high, max(self.low, value))
        return round(self.start + (self.end - self.start) * ((held - self.low) / (self.high - self.low)), 1)


@dataclass(frozen=True, slots=True)
class Mark:
    """A point that tells ``title`` when it is pointed at."""

    style: str
    x: float
    y: float
    title: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart in the picture's own units. ``paths``, ``whiskers`` and ``rules`` start with their style; ``legend`` pairs style and text."""

    title: str
    label: str
    x_name: str
    y_name: str
    left: float
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    paths: tuple[tuple[str, str], ...]
    whiskers: tuple[tuple[str, float, float, float, float], ...]
    rules: tuple[tuple[str, float, float, float, float, str], ...]
    marks: tuple[Mark, ...]
    legend: tuple[tuple[str, str], ...]
    note: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(slots=True)
class Canvas:
    """Collects what a chart shows, in values; ``plot`` turns it into a picture."""

    title: str
    x_name: str
    y_name: str
    x: Scale
    y: Scale
    paths: list[tuple[str, str]] = field(default_factory=list)
    whiskers: list[tuple[str, float, float, float, float]] = field(default_factory=list)
    rules: list[tuple[str, float, float, float, float, str]] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def line(self, style: str, points: Iterable[tuple[float, float]]) -> None:
        """A line through points."""
        self.paths.append((style, _path([(self.x.at(x), self.y.at(y)) for x, y in points])))

    def area(self, style: str, lower: Sequence[tuple[float, float]], upper: Sequence[tuple[float, float]]) -> None:
        """What lies between two lines."""
        corners = [(self.x.at(x), self.y.at(y)) for x, y in (*lower, *reversed(upper))]
        if len(corners) > 2:  # noqa: PLR2004  (fewer have no area)
            self.paths.append((style, _path(corners) + "Z"))

    def spread(self, x: float, y: float, across: Interval | None, up: Interval | None) -> None:
        """Whiskers of a point as wide as what is certain of it."""
        here = self.x.at(x), self.y.at(y)
        if across is not None and across.width > 0:
            self.whiskers.append(("whisker", self.x.at(across.low), here[1], self.x.at(across.high), here[1]))
        if up is not None and up.width > 0:
            self.whiskers.append(("whisker", here[0], self.y.at(up.low), here[0], self.y.at(up.high)))

    def level(self, y: float, title: str) -> None:
        """A dashed line across at a value."""
        self.rules.append(("rule", self.x.start, self.y.at(y), self.x.end, self.y.at(y), title))

    def mark(self, style: str, x: float, y: float, title: str) -> None:
        """A point."""
        self.marks.append(Mark(style, self.x.at(x), self.y.at(y), title))

    def plot(self, label: str, legend: Sequence[tuple[str, str]], note: str = "") -> Plot:
        """The picture."""
        return Plot(
            title=self.title,
            label=label,
            x_name=_short(self.x_name, X_LETTERS),
            y_name=_short(self.y_name, Y_LETTERS),
            left=self.x.start,
            x_ticks=tuple((self.x.at(value), text) for value, text in ticks(self.x.low, self.x.high)),
            y_ticks=tuple((self.y.at(value), text) for value, text in ticks(self.y.low, self.y.high)),
            paths=tuple(self.paths),
            whiskers=tuple(self.whiskers),
            rules=tuple(self.rules),
            marks=tuple(self.marks),
            legend=tuple(legend),
            note=note,
        )


def canvas(title: str, names: tuple[str, str], xs: Iterable[float], ys: Iterable[float], spans: Iterable[Interval | None] = ()) -> Canvas:
    """An empty chart with room for all values, and for the certain ``spans`` of the upright ones as far as these stay legible."""
    y_low, y_high = limits(ys, spans)
    x_low, x_high = limits(xs)
    left = 30.0 + LETTER * max((len(text) for _, text in ticks(y_low, y_high)), default=1)
    return Canvas(title, *names, Scale(x_low, x_high, left, WIDTH - RIGHT), Scale(y_low, y_high, HEIGHT - BOTTOM, TOP))


def limits(values: Iterable[float], spans: Iterable[Interval | None] = ()) -> tuple[float, float]:
    """A range that holds all values with a margin, and the ends of spans up to ``ZOOM`` spreads away; never empty."""
    known = list(values)
    low, high = min(known, default=0.0), max(known, default=1.0)
    reach = ZOOM * (high - low) or 0.05 * max(1.0, abs(high))
    ends = [end for span in spans if span is not None for end in (span.low, span.high) if math.isfinite(end)]
    low, high = min([low, *(max(end, low - reach) for end in ends)]), max([high, *(min(end, high + reach) for end in ends)])
    flat = high - low <= FLAT * max(abs(low), abs(high))
    margin = 0.05 * max(abs(low), abs(high)) or 1.0 if flat else 0.06 * (high - low)
    return low - margin, high + margin


def ticks(low: float, high: float) -> list[tuple[float, str]]:
    """A few round values between two, with their texts."""
    raw = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    values = [place * step for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(value, _tick(value, step, max(abs(low), abs(high)))) for value in values]


def _tick(value: float, step: float, largest: float) -> str:
    """``0.25``, ``12,500``, ``1.5M``."""
    size, suffix = next(((size, suffix) for least, size, suffix in SUFFIXES if largest >= least), (1.0, ""))
    if value == 0:
        return "0"
    if largest < 1e-4 or largest >= 1e16:  # noqa: PLR2004  (neither has a short decimal)
        return f"{value:.3g}"
    shown = value / size
    digits = max(0, -math.floor(math.log10(step / size) + 1e-9))
    text = f"{shown:,.{digits + 1}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + suffix


def told(span: Interval | None, unit: str) -> str:
    """``, optimum between 3 and 4 GPUs`` for a title; "" where nothing is certain."""
    if span is None or not (math.isfinite(span.low) or math.isfinite(span.high)):
        return ""
    low, high = value_text(span.low), value_text(span.high)
    if low == high:
        return ", proved optimal"
    if not span.finite:
        known = f"at least {value_text(span.low, unit)}" if math.isfinite(span.low) else f"at most {value_text(span.high, unit)}"
        return f", optimum {known}"
    return f", optimum between {value_text(span.low, towards=-1)} and {value_text(span.high, unit, towards=1)}"


def with_unit(name: str, unit: str) -> str:
    """``cost [USD]``."""
    return f"{name} [{unit}]" if unit else name


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _path(corners: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in corners) if corners else ""
