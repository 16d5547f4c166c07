"""The report of a comparison of policies as one HTML page: what is certain, every measure, and the cluster over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from service.replay.measures import MEASURES
from service.report import wording
from service.report.drawing import Figure
from service.report.replay_numbers import LEADING, against_first, headline, leading, title_of, with_interval, without_interval
from service.report.study_plot import Canvas, Plot, Scale, canvas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.replay.comparison import Compared
    from service.replay.replays import Replay
    from service.replay.whole import Whole

COLOURS = 12  # .line0 to .line11
HOUR_S = 3600.0
CHARTS = (
    ("allocated_percent", "GPUs in use", "% of the GPUs that are up"),
    ("waiting_jobs", "Jobs that wait", "jobs"),
    ("fragmented_percent", "Free GPUs that the next job could not use", "% of the GPUs that are up"),
)
RAIL = 100.0


@dataclass(frozen=True, slots=True)
class Beam:
    """One policy's relative difference from the first in the mean completion time: places on a rail from 0 to 100."""

    policy: str
    value: str
    told: str
    finding: str
    style: str
    left: float
    width: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Part:
    """All that the page tells of one trace."""

    name: str
    headline: str
    lead: str
    figures: tuple[Figure, ...]
    beams: tuple[Beam, ...]
    zero: float
    policies: tuple[tuple[str, str, str], ...]  # colour, name, meaning
    lines: tuple[tuple[str, str, tuple[tuple[str, str, str], ...]], ...]  # measure, meaning, (text, style, title) of each policy
    plots: tuple[Plot, ...]


def render_replays(whole: Whole) -> str:
    """The HTML page: no script, style, font or picture from elsewhere."""
    environment = Environment(
        loader=PackageLoader("service.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    traces = list(dict.fromkeys(one.trace for one in whole.replays))
    return environment.get_template("replay.html.j2").render(
        parts=[_part(whole, trace) for trace in traces],
        notes=whole.notes,
        settings=[(name.replace("_", " "), _shown(value)) for name, value in whole.settings.items() if name != "policy_meanings"],
        seed=min(one.seed for one in whole.replays),
    )


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)


def _part(whole: Whole, trace: str) -> Part:
    own = [one for one in whole.compared if one.trace == trace]
    policies = list(dict.fromkeys(one.policy for one in own))
    replays = [one for one in whole.replays if one.trace == trace]
    first_seed = min(one.seed for one in replays)
    shown = [one for one in replays if one.seed == first_seed]
    beams, zero = _beams([one for one in own if one.measure == LEADING], policies[0])
    meanings = whole.settings.get("policy_meanings", {})
    return Part(
        name=trace,
        headline=headline(whole, trace),
        lead=leading(whole, trace),
        figures=_figures(replays, own),
        beams=beams,
        zero=zero,
        policies=tuple((f"line{at % COLOURS}", name, meanings.get(name, "")) for at, name in enumerate(policies)),
        lines=tuple(_line(own, policies, one.name, one.meaning) for one in MEASURES if _is_known(own, one.name)),
        plots=tuple(_plot(shown, name, title, unit) for name, title, unit in CHARTS),
    )


def _is_known(own: Sequence[Compared], measure: str) -> bool:
    return any(one.mean is not None for one in own if one.measure == measure)


def _figures(replays: Sequence[Replay], own: Sequence[Compared]) -> tuple[Figure, ...]:
    shortest = min((one for one in own if one.measure == LEADING and one.mean is not None), key=lambda one: one.mean or 0.0)
    fullest = max((one for one in own if one.measure == "allocated_percent" and one.mean is not None), key=lambda one: one.mean or 0.0)
    spent = [one.cpu_s for one in replays]
    return (
        Figure("Shortest mean completion time", without_interval(shortest), shortest.policy),
        Figure("Most GPUs in use", without_interval(fullest), f"{fullest.policy}, while jobs come"),
        Figure("Replays", f"{len(replays):,}", f"{sum(one.jobs for one in replays):,} jobs in all"),
        Figure("CPU time of a replay", wording.seconds(sum(spent) / len(spent)), f"at most {wording.seconds(max(spent))}"),
    )


def _line(
    own: Sequence[Compared], policies: Sequence[str], measure: str, meaning: str
) -> tuple[str, str, tuple[tuple[str, str, str], ...]]:
    found = {one.policy: one for one in own if one.measure == measure}
    styles = {"better": "better", "worse": "worse"}
    cells = [
        (with_interval(found[name]), styles.get(found[name].finding, ""), against_first(found[name], policies[0])) for name in policies
    ]
    return title_of(measure), meaning, tuple(cells)


def _beams(own: Sequence[Compared], first: str) -> tuple[tuple[Beam, ...], float]:
    """The differences of the mean completion time in per cent of the first policy's; and where 0 is on the rail."""
    base = next((one.mean for one in own if one.policy == first), None)
    others = [one for one in own if one.policy != first and one.difference is not None]
    if not base or not others:
        return (), 0.0
    ends = [0.0]
    for one in others:
        ends += [100 * value / base for value in (one.difference, one.difference_low, one.difference_high) if value is not None]
    low, high = min(ends), max(ends)
    margin = 0.04 * ((high - low) or 1.0)
    scale = Scale(low - margin, high + margin, 0.0, RAIL)
    return tuple(_beam(one, base, scale, first) for one in others), scale.at(0.0)


def _beam(one: Compared, base: float, scale: Scale, first: str) -> Beam:
    def at(value: float | None) -> float | None:
        return None if value is None else scale.at(100 * value / base)

    zero, here = scale.at(0.0), at(one.difference) or 0.0
    return Beam(
        policy=one.policy,
        value=f"{'−' if (one.difference or 0) < 0 else '+'}{wording.percent(abs(one.difference or 0.0) / base)}",
        told=against_first(one, first),
        finding=one.finding if one.finding != "open" else "not certain",
        style="gain" if (one.difference or 0) <= 0 else "loss",
        left=min(zero, here),
        width=abs(here - zero),
        low=at(one.difference_low),
        high=at(one.difference_high),
    )


def _plot(shown: Sequence[Replay], name: str, title: str, unit: str) -> Plot:
    hours, days = ("days", 24 * HOUR_S) if shown[0].series["time_s"][-1] > 72 * HOUR_S else ("hours", HOUR_S)
    times = [value / days for value in shown[0].series["time_s"]]
    every = [value for one in shown for value in one.series[name]]
    picture: Canvas = canvas(title, (f"time since the first arrival [{hours}]", unit), [0.0, *times], [0.0, *every])
    for at, one in enumerate(shown):
        picture.line(f"line{at % COLOURS}", list(zip(times, one.series[name], strict=True)))
    legend = [(f"line{at % COLOURS}", one.policy) for at, one in enumerate(shown)]
    return picture.plot(f"{title} over time, one line for each policy", legend)
