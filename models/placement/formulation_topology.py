"""The rules about topology as columns and rows: colocation, spread, anti-affinity, and which domains a gang uses."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from models.placement.formulation_sums import all_workers, kept, runs
from models.placement.formulation_terms import Column, Columns, Rows, Terms
from models.placement.schema import GoalName, Rule
from models.vocabulary import Level

if TYPE_CHECKING:
    from models.placement.formulation_setting import Demand, OwnDomain, Setting

NAMED_LEVELS = (Level.site, Level.row, Level.rack, Level.nvlink_domain)


def topology_columns(setting: Setting, goals: set[GoalName]) -> Columns:
    """The columns that say which domains a gang is inside of, or uses."""
    found: Columns = defaultdict(dict)
    for demand in setting.demands:
        for domain in colocation_domains(setting, demand):
            found["run_inside"][demand.name, setting.label(domain)] = Column(demand.count)
    for number, levels in presence_levels(setting, goals).items():
        demand = setting.demands[number]
        for level in levels:
            for domain in setting.domains(demand.room, level):
                found["use_domain"][demand.name, level.value, setting.label(domain)] = Column(1)
    return found


def colocation_domains(setting: Setting, demand: Demand) -> dict[OwnDomain, list[int]]:
    """The domains a gang that must be colocated may choose from, with their nodes; none for other jobs."""
    wish = demand.job.colocate
    if wish is None or not wish.required or demand.job.workers == 1:
        return {}
    return setting.domains(demand.room, wish.level)


def presence_levels(setting: Setting, goals: set[GoalName]) -> dict[int, list[Level]]:
    """The gangs, by demand, whose domains some rule or goal asks for, and at which levels."""
    found: defaultdict[int, list[Level]] = defaultdict(list)
    if GoalName.topology_distance in goals:
        for number, demand in enumerate(setting.demands):
            if demand.job.workers > 1:
                found[number] += NAMED_LEVELS
    for name, other, level in _apart(setting):
        for position in (name, other):
            number = setting.demand_of.get(position, -1)
            if number >= 0 and setting.demands[number].job.workers > 1 and level not in found[number]:
                found[number].append(level)
    return dict(found)


def _apart(setting: Setting) -> list[tuple[int, int, Level]]:
    """Who must keep away from whom, at which level, among jobs (positions) that may be in the plan."""
    position_of = {job.id: position for position, job in enumerate(setting.problem.jobs)}
    found = []
    for position, job in enumerate(setting.problem.jobs):
        wish = job.anti_affinity
        for other in wish.jobs if wish is not None else ():
            pair = (position, position_of[other])
            if wish is not None and all(one in setting.demand_of or one in setting.residents for one in pair):
                found.append((*pair, wish.level))
    return list(dict.fromkeys(found))


def write_topology(rows: Rows, setting: Setting, goals: set[GoalName]) -> None:
    """All rows about topology."""
    for number in range(len(setting.demands)):
        _colocation(rows, setting, number)
        _spread(rows, setting, number)
    _presence(rows, setting, goals)
    _anti_affinity(rows, setting)


def _colocation(rows: Rows, setting: Setting, number: int) -> None:
    """colocation: workers in a domain <= workers of a gang x gangs inside it; every gang that runs is inside one."""
    demand = setting.demands[number]
    inside = Terms()
    for domain, places in colocation_domains(setting, demand).items():
        ids = (demand.name, setting.label(domain))
        here = rows.columns["run_inside"][ids]
        rows.row(Rule.colocation, ids, all_workers(rows, setting, number, places).add(-demand.job.workers, here), upper=0.0)
        inside.add(1.0, here)
    if inside.columns:
        rows.row("colocation_domains", (demand.name,), inside.plus(runs(rows, demand), -1.0), lower=0.0, upper=0.0)


def _spread(rows: Rows, setting: Setting, number: int) -> None:
    """spread: workers in a domain <= max_workers x gangs that run."""
    demand = setting.demands[number]
    wish = demand.job.spread
    if wish is None or demand.job.workers <= wish.max_workers:
        return
    for domain, places in setting.domains(demand.room, wish.level).items():
        if sum(demand.room[place] for place in places) > wish.max_workers:
            terms = all_workers(rows, setting, number, places).plus(runs(rows, demand), -wish.max_workers)
            rows.row(Rule.spread, (demand.name, setting.label(domain)), terms, upper=0.0)


def _presence(rows: Rows, setting: Setting, goals: set[GoalName]) -> None:
    """domain_used: a gang has workers in a domain only when it uses the domain."""
    for number, levels in presence_levels(setting, goals).items():
        demand = setting.demands[number]
        for level in levels:
            for domain, places in setting.domains(demand.room, level).items():
                ids = (demand.name, level.value, setting.label(domain))
                most = min(demand.job.workers, sum(demand.room[place] for place in places))
                rows.row(
                    "domain_used", ids, all_workers(rows, setting, number, places).add(-most, rows.columns["use_domain"][ids]), upper=0.0
                )


def _present(rows: Rows, setting: Setting, position: int, level: Level) -> dict[OwnDomain, Terms]:
    """For each domain that a job may have workers in: 1 when it has, else 0."""
    found: defaultdict[OwnDomain, Terms] = defaultdict(Terms)
    resident = setting.residents.get(position)
    if resident is not None:
        for domain in setting.domains(resident.here, level):
            found[domain].plus(kept(rows, resident))
    number = setting.demand_of.get(position)
    if number is not None:
        demand = setting.demands[number]
        for domain, places in setting.domains(demand.room, level).items():
            if demand.job.workers == 1:
                found[domain].plus(all_workers(rows, setting, number, places))
            else:
                found[domain].add(1.0, rows.columns["use_domain"][demand.name, level.value, setting.label(domain)])
    return found


def _anti_affinity(rows: Rows, setting: Setting) -> None:
    """anti_affinity: of two jobs that keep apart at most one is in each domain."""
    jobs = setting.problem.jobs
    for first, second, level in _apart(setting):
        mine, theirs = _present(rows, setting, first, level), _present(rows, setting, second, level)
        for domain in mine:
            if domain in theirs:
                both = mine[domain].plus(theirs[domain])
                # Two jobs that stay for certain are apart as they are: no row without a column.
                if both.columns:
                    rows.row(Rule.anti_affinity, (jobs[first].id, jobs[second].id, setting.label(domain)), both, upper=1.0)
