"""The page of a calibrated device: predicted against measured, each job left out and each family left out, and where the time goes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from models.runtime.calibration.terms import CONTEXT_STARTS, CONTEXTS
from models.runtime.operators import CLASSES
from service.report import wording
from service.report.drawing import Figure, Table
from service.wording import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.runtime.calibration.ladder import Calibration
    from models.runtime.evaluation.evaluate import Evaluation, HeldOut, Split
    from models.runtime.records import Machine

WIDTH, HEIGHT = 560, 520
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 12, 50
MARGIN = 1.3  # room around the smallest and the largest, as a factor
WORST = 12  # jobs that are listed as furthest off


@dataclass(frozen=True, slots=True)
class Dot:
    """One job in the picture's own units: its place, the ends of its interval, its colour and what it tells when pointed at."""

    x: float
    y: float
    low: float
    high: float
    colour: int
    title: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Predicted (up) against measured (right), both on one logarithmic scale; on the diagonal a prediction is right."""

    dots: tuple[Dot, ...]
    ticks: tuple[tuple[float, float, str], ...]  # x of a measured value, y of the same predicted, text
    diagonal: tuple[float, float, float, float]
    families: tuple[tuple[int, str], ...]
    label: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def render(known: Calibration, found: Evaluation, machine: Machine) -> str:
    """The HTML page: no script, style, font or picture from elsewhere."""
    environment = Environment(
        loader=PackageLoader("service.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=wording.number, percent=wording.percent, words=words)
    one, family = found.leave_one_out, found.leave_one_family_out
    return environment.get_template("runtime.html.j2").render(
        device=known.device.name,
        machine=_about(machine),
        lead=_lead(found),
        warnings=[text for text in (*known.warnings, found.warning) if text],
        figures=_figures(known, found),
        splits=[("Each job left out", one, picture(one)), ("Each family left out (extrapolation)", family, picture(family))],
        tables=[_errors(found), _families(found), _worst(one), _factors(known)],
        pollux=found.pollux,
    )


def picture(split: Split) -> Picture:
    """The scatter of one way of leaving out."""
    values = [value for row in split.jobs for value in (row.measured_s, row.predicted_s)]
    low, high = math.log(min(values) / MARGIN), math.log(max(values) * MARGIN)
    families = tuple(dict.fromkeys(row.family for row in split.jobs))

    def x(seconds: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * _share(seconds, low, high), 1)

    def y(seconds: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * _share(seconds, low, high), 1)

    dots = tuple(
        Dot(x(row.measured_s), y(row.predicted_s), y(row.low_s), y(row.high_s), families.index(row.family), _title(row))
        for row in split.jobs
    )
    return Picture(
        dots=dots,
        ticks=tuple((x(value), y(value), duration(value)) for value in _decades(math.exp(low), math.exp(high))),
        diagonal=(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, TOP),
        families=tuple(enumerate(families)),
        label=f"{len(dots)} jobs, predicted against measured seconds of a step: median error {wording.percent(split.model.median)}",
    )


def _share(seconds: float, low: float, high: float) -> float:
    """Where a value lies on the scale, held at its ends."""
    return min(1.0, max(0.0, (math.log(max(seconds, 1e-300)) - low) / (high - low)))


def _decades(low: float, high: float) -> list[float]:
    """Round values on a logarithmic scale; 1, 2 and 5 of each decade where there are few decades."""
    steps = (1, 2, 5) if high / low < 1e3 else (1,)  # noqa: PLR2004  (three decades)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]


def duration(seconds: float) -> str:
    """``2.5 ms``: three figures at most."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _title(row: HeldOut) -> str:
    inside = "inside" if row.low_s <= row.measured_s <= row.high_s else "outside"
    return (
        f"{row.job}: predicted {duration(row.predicted_s)}, measured {duration(row.measured_s)} ({row.error:+.1%}), {inside} its interval"
    )


def _about(machine: Machine) -> str:
    parts = [machine.gpu or machine.processor or machine.name, f"{machine.cores} cores" if machine.cores else ""]
    parts += [f"{name} {version}" for name, version in machine.versions.items()]
    return ", ".join(part for part in parts if part)


def _lead(found: Evaluation) -> str:
    one, family = found.leave_one_out, found.leave_one_family_out
    text = f"A job that the model has not seen is predicted within {wording.percent(one.model.median)} (median of {len(one.jobs)} jobs)"
    if family.jobs:
        text += f", a job of a family that it has not seen within {wording.percent(family.model.median)}"
    return text + f". Measuring the same job twice differs by {wording.percent(found.noise_floor)}."


def _figures(known: Calibration, found: Evaluation) -> tuple[Figure, ...]:
    one = found.leave_one_out
    return (
        Figure("Median error", wording.percent(one.model.median), f"90th percentile {wording.percent(one.model.p90)}"),
        Figure("Intervals of 90%", wording.percent(one.coverage), "of the jobs lie in theirs"),
        Figure("Better than FLOPs / rate", f"{one.times_better:.1f} times", f"that form is off by {wording.percent(one.naive.median)}"),
        Figure("Noise floor", wording.percent(found.noise_floor), "between two measurements of one job"),
        Figure("Learnt from", wording.count(known.jobs, "job"), f"and {known.operators:,} single operators"),
    )


def _errors(found: Evaluation) -> Table:
    rows = []
    for name, split in (("each job", found.leave_one_out), ("each family", found.leave_one_family_out)):
        for who, errors in (("this model", split.model), ("FLOPs / best rate", split.naive), ("log-ridge regression", split.ridge)):
            inside = f"{wording.percent(split.coverage)} (ends {split.width:.2f} times apart)" if who == "this model" else ""
            rows.append((name, who, wording.percent(errors.median), wording.percent(errors.p90), inside))
    alone = found.rungs["operators_only"]
    rows.append(("every job", "micro-benchmarks alone", wording.percent(alone.median), wording.percent(alone.p90), ""))
    return Table("How far off", ("left out", "predicted by", "median error", "90th percentile", "in intervals of 90%"), tuple(rows))


def _families(found: Evaluation) -> Table:
    one, family = found.leave_one_out.by_family, found.leave_one_family_out.by_family
    rows = tuple((words(name), wording.percent(one[name].median), wording.percent(one[name].p90), *_two(family.get(name))) for name in one)
    columns = ("family", "median, job left out", "90th percentile", "median, family left out", "90th percentile then")
    return Table("By family", columns, rows)


def _two(errors: object) -> tuple[str, str]:
    if errors is None:
        return "", ""
    return wording.percent(getattr(errors, "median")), wording.percent(getattr(errors, "p90"))  # noqa: B009  (two fields of Errors)


def _worst(split: Split) -> Table:
    ranked: Sequence[HeldOut] = sorted(split.jobs, key=lambda row: -abs(math.log(row.predicted_s / row.measured_s)))
    rows = tuple((row.job, duration(row.measured_s), duration(row.predicted_s), f"{row.error:+.1%}") for row in ranked[:WORST])
    return Table("Furthest off, each left out", ("job", "measured", "predicted", "error"), rows, max(0, len(ranked) - WORST))


def _factors(known: Calibration) -> Table:
    found = known.posterior
    spread = [math.sqrt(max(0.0, known.factors.covariance[place][place])) for place in range(len(known.factors.names))]
    rows = []
    for place, name in enumerate(known.factors.names):
        factor = float(found.coefficients[place])
        if place < len(CLASSES):
            rows.append((words(name), f"{factor:.2f} times its micro-benchmarks", f"± {spread[place]:.0%}"))
        else:
            start = CONTEXT_STARTS[CONTEXTS[place - len(CLASSES)]][0]
            unit = {"step": "a step", "dispatch": "a call"}.get(name, "a GiB")
            rows.append((words(name), f"{duration(factor * start * (2**30 if unit == 'a GiB' else 1))} {unit}", f"± {spread[place]:.0%}"))
    return Table("What whole jobs taught", ("of", "found", "one standard deviation"), tuple(rows))
