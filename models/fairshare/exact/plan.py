"""From column values to a plan and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.fairshare.exact.levels import rising_of
from models.fairshare.exact.mean import chain_of
from models.fairshare.exact.setting import gangs_by_place, setting_of
from models.fairshare.goals import goal_class, goal_names, plain_name
from models.fairshare.schema import Plan, Share
from models.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.fairshare.exact.setting import Setting
    from models.fairshare.schema import Problem
    from models.program import Floats

LEAST = 1e-12  # gangs: less is what a solver leaves behind
SAME = 1e-12  # relative: shares that differ by less are the same


@dataclass(slots=True)
class _Started:
    """The plan that a program of the problem was last started from."""

    plan: Plan | None = None


def _nothing_yet(problem: Problem) -> _Started:
    del problem
    return _Started()


_STARTED: Kept[Problem, _Started] = Kept(_nothing_yet)


def extract(problem: Problem, values: Mapping[str, Mapping[tuple[Any, ...], float]]) -> Plan:
    """The shares of column values.

    Rounds and their proofs are not the program's to tell: only where the values are those of the plan that it was last started from do
    they keep that plan's.
    """
    setting = setting_of(problem)
    gangs = gangs_by_place(setting, values)
    begun = _STARTED.of(problem).plan
    if begun is not None and np.allclose(gangs, setting.gangs(begun), rtol=SAME, atol=LEAST):
        return begun
    shares = []
    for unit, amount in zip(setting.units, gangs.tolist(), strict=True):
        if amount > LEAST:
            *jobs, accelerator = setting.ids(unit)
            shares.append(Share(jobs=tuple(jobs), accelerator=accelerator, spread=unit.family == "spread", gangs=amount))
    return Plan(shares=tuple(shares))


def start(problem: Problem, plan: Plan) -> Mapping[str, Mapping[tuple[Any, ...], float]]:
    """The values of a plan by column."""
    setting = setting_of(problem)
    _STARTED.of(problem).plan = plan
    gangs = setting.gangs(plan)
    speeds = setting.speeds(gangs)
    found: dict[str, dict[tuple[Any, ...], float]] = {}
    for unit, amount in zip(setting.units, gangs.tolist(), strict=True):
        found.setdefault(unit.family, {})[setting.ids(unit)] = amount
    jobs = setting.market.jobs
    found["share"] = {(name,): share for name, share in zip(jobs.ids, (speeds / jobs.par).tolist(), strict=True)}
    _protections(setting, gangs, found)
    for name in goal_names(problem):
        if plain_name(name) in {"fair_share", "makespan", "finish_time_ratio"}:
            _levels(problem, setting, goal_class(problem, name), speeds, found)
        elif plain_name(name) == "throughput" and setting.market.scenario_ids:
            priority = goal_class(problem, name)
            found.setdefault("worst", {})[str(priority),] = setting.throughput(gangs, jobs.priority == priority)
        elif plain_name(name) == "geometric_mean":
            chain = chain_of(setting.market, goal_class(problem, name))
            means = zip(chain.jobs[1:], chain.means(speeds / jobs.par), strict=True)
            found.setdefault("product", {}).update({(jobs.ids[job],): mean for job, mean in means})
    return found


def _protections(setting: Setting, gangs: Floats, found: dict[str, dict[tuple[Any, ...], float]]) -> None:
    """The dual columns of a robust budget, in each job's shares."""
    market = setting.market
    for job, name in enumerate(market.jobs.ids if market.budget else ()):
        price, more = setting.protection(job, gangs)
        unit_speed = float(market.jobs.par[job] * market.jobs.copies[job])
        found.setdefault("fall_price", {})[name,] = price / unit_speed
        found.setdefault("fall_more", {}).update(
            {(name, market.accelerators.ids[one]): amount / unit_speed for one, amount in more.items()}
        )


def _levels(problem: Problem, setting: Setting, priority: int, speeds: Floats, found: dict[str, dict[tuple[Any, ...], float]]) -> None:
    rising = rising_of(problem, setting, priority)
    value = rising.value(speeds[rising.jobs])
    if rising.direct:
        found.setdefault("level", {})[str(priority),] = value
        return
    found.setdefault("ratio", {})[str(priority),] = value / rising.least
    for group, low in enumerate(rising.lows.tolist()):
        pace = (rising.least - low) / (value - low) if value > low else 1.0
        found.setdefault("pace", {})[str(priority), str(group)] = pace
