"""The numbers of a comparison of policies in words: with a unit that suits their size, and half their interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from service.replay.comparison import pair
from service.report import wording
from service.wording import words

if TYPE_CHECKING:
    from service.replay.comparison import Compared
    from service.replay.whole import Whole

LENGTHS = ((2 * 86_400.0, 86_400.0, "d"), (2 * 3600.0, 3600.0, "h"), (120.0, 60.0, "min"), (0.0, 1.0, "s"))
LEADING = "jct_mean_s"


def cell(value: float | None) -> str:
    """A number with at most two decimals; a dash for none."""
    return "–" if value is None else wording.number(value)


def scaled(value: float, unit: str) -> tuple[float, str]:
    """What to divide a number of this unit by, and the unit of the quotient: seconds become minutes, hours or days."""
    if unit != "s":
        return 1.0, unit
    return next((size, name) for least, size, name in LENGTHS if abs(value) >= least)


def with_interval(one: Compared) -> str:
    """``2.7 ± 0.1 h``; without an interval ``2.7 h``; a dash for nothing."""
    if one.mean is None:
        return "–"
    size, unit = scaled(one.mean, one.unit)
    text = short(one.mean / size)
    if one.low is not None and one.high is not None and one.high > one.low:
        text += f" ± {short((one.high - one.low) / 2 / size, 2)}"
    return _with_unit(text, unit)


def without_interval(one: Compared) -> str:
    """``2.7 h``."""
    if one.mean is None:
        return "–"
    size, unit = scaled(one.mean, one.unit)
    return _with_unit(short(one.mean / size), unit)


def short(value: float, figures: int = 3) -> str:
    """As many figures as count: ``0.0321``, ``2.73``, ``68.5``, ``1,234``."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "unknown"
    return f"{value:,.{max(0, figures - 1 - math.floor(math.log10(abs(value))))}f}"


def _with_unit(text: str, unit: str) -> str:
    return f"{text}%" if unit == "%" else f"{text} {unit}".strip()


def against_first(one: Compared, first: str) -> str:
    """``12.3% less than fifo (95%: 1.1 h to 2.1 h less)``, or that it is open."""
    if one.finding == "first":
        return "the others are compared with it"
    if one.difference is None:
        return "nothing to compare"
    if one.finding == "same":
        return f"the same as {first}"
    less = one.difference < 0
    size = wording.percent(abs(one.relative_percent) / 100) if one.relative_percent is not None else span(abs(one.difference), one.unit)
    text = f"{size} {'less' if less else 'more'} than {first}"
    if one.difference_low is None or one.difference_high is None:
        return f"{text} (one case: no interval)"
    ends = sorted((abs(one.difference_low), abs(one.difference_high)))
    if one.finding == "open":
        return f"{text}, which may be chance (95%: {signed(one.difference_low, one.unit)} to {signed(one.difference_high, one.unit)})"
    size_of, unit = scaled(ends[1], one.unit)
    return f"{text} (95%: {short(ends[0] / size_of)} to {_with_unit(short(ends[1] / size_of), unit)} {'less' if less else 'more'})"


def span(value: float, unit: str) -> str:
    """``3.4 h``."""
    size, name = scaled(value, unit)
    return _with_unit(short(value / size), name)


def signed(value: float, unit: str) -> str:
    """``+3.4 h``."""
    return ("−" if value < 0 else "+") + span(abs(value), unit)


def headline(whole: Whole, trace: str) -> str:
    """What was replayed: jobs, cluster, load, seeds."""
    own = [one for one in whole.replays if one.trace == trace]
    seeds, loads = len({one.seed for one in own}), [one.load for one in own]
    load = f", offered load {wording.number(sum(loads) / len(loads))}" if max(loads) < float("inf") else ""
    size = f"{whole.settings['cluster_nodes']:,} nodes with {whole.settings['cluster_gpus']:,} GPUs"
    return f"{trace}: {wording.count(own[0].jobs, 'job')} on {size}{load}, {wording.count(seeds, 'seed')}"


def leading(whole: Whole, trace: str) -> str:
    """The sentence at the top: the policy of the shortest mean completion time, and what is certain of it against the next best."""
    own = [one for one in whole.compared if one.trace == trace and one.measure == LEADING and one.mean is not None]
    ranked = sorted(own, key=lambda one: one.mean or 0.0)
    best = ranked[0]
    text = f"{best.policy} has the shortest mean completion time, {with_interval(best)}"
    if len(ranked) == 1:
        return f"{text}."
    told = [against_first(pair(whole.replays, trace, LEADING, ranked[1].policy, best.policy), ranked[1].policy)]
    if own[0].policy not in (best.policy, ranked[1].policy):
        told.append(against_first(best, own[0].policy))
    return f"{text}: {'; '.join(told)}."


def title_of(measure: str) -> str:
    """A measure's name in words, without its unit."""
    text = words(measure.removesuffix("_s").removesuffix("_percent").removesuffix("_gpu_h"))
    return text.replace("jct", "completion").replace("p99", "99th percentile")
