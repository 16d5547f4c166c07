"""A feasible division at once: equal split with what is left dealt out, or greedily by worth or by price; and bounds that cost nothing."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.goals import goal_class, goal_names, goals, plain_name
from models.fairshare.levels.scales import NEVER, job_levels
from models.fairshare.levels.tenants import starting_rates
from models.fairshare.market import market_of
from models.fairshare.plans.division import Division
from models.fairshare.plans.equal_split import equal_division
from models.fairshare.plans.greedy import by_price, by_worth, topped_up
from models.fairshare.plans.measures import geometric_mean
from models.fairshare.schema import Plan, Share, ShareTable
from models.fairshare.verify import verify

if TYPE_CHECKING:
    from models.fairshare.market import Market
    from models.fairshare.schema import Problem
    from models.program import Bools, Floats

MANY = 2000  # shares, beyond which a plan tells them as a table
SMALLEST = 1e-12  # gangs that are not worth telling, relative to one


def heuristic(problem: Problem, seed: int = 0, seconds: float = 1.0) -> Plan | None:
    """The better of equal split, topped up, and of what the policy suggests; None where no deadline plan is found. No randomness."""
    del seed
    until = monotonic() + seconds
    market = market_of(problem)
    equal = equal_division(problem)
    if problem.policy == "least_cost":
        cheap = by_price(problem)
        plans = [plan_of(division) for division in (cheap, equal) if division is not None]
    elif problem.policy == "throughput":
        plans = [plan_of(by_worth(problem)), plan_of(topped_up(equal, _order(problem, market)))]
    else:
        plans = [plan_of(topped_up(equal, _order(problem, market)))]
    return _best(problem, plans, until)


def plan_of(division: Division) -> Plan:
    """The shares of a division as a plan; a table where there are very many."""
    worth_telling = np.flatnonzero(division.gangs > SMALLEST)
    market = division.market
    jobs, places = market.jobs.ids, market.accelerators.ids
    way = division.way[worth_telling]
    first, second = division.first[worth_telling].tolist(), division.second[worth_telling].tolist()
    place, spread = market.ways.accelerator[way].tolist(), market.ways.spread[way].tolist()
    gangs = division.gangs[worth_telling].tolist()
    if len(gangs) > MANY:
        return Plan(
            share_table=ShareTable(
                first=tuple(jobs[one] for one in first),
                second=tuple(jobs[one] if one >= 0 else None for one in second) if max(second) >= 0 else None,
                accelerator=tuple(places[one] for one in place),
                spread=tuple(spread) if any(spread) else None,
                gangs=tuple(gangs),
            )
        )
    return Plan(
        shares=tuple(
            Share(
                jobs=(jobs[first[at]],) if second[at] < 0 else (jobs[first[at]], jobs[second[at]]),
                accelerator=places[place[at]],
                spread=spread[at],
                gangs=gangs[at],
            )
            for at in range(len(gangs))
        )
    )


def _best(problem: Problem, plans: list[Plan], until: float) -> Plan | None:
    """The best plan that is right, the first goals first; at least one is looked at."""
    by_name = {goal.name: goal for goal in goals(problem)}
    best: tuple[Plan, dict[str, float]] | None = None
    for plan in plans:
        if best is not None and monotonic() > until:
            break
        verdict = verify(problem, plan)
        if not verdict.ok:
            continue
        if best is None:
            best = plan, verdict.objectives
            continue
        for name, value in verdict.objectives.items():
            if by_name[name].better(value, best[1][name]):
                best = plan, verdict.objectives
                break
            if by_name[name].better(best[1][name], value):
                break
    return None if best is None else best[0]


def _order(problem: Problem, market: Market) -> list[int]:
    """Who gets what is left: more important classes first, then those whose level would be lowest at equal split."""
    levels = job_levels(problem.policy, market.jobs)
    level = levels.of(market.jobs.equal)
    order: list[int] = np.lexsort((np.arange(market.jobs.count), level, -market.jobs.priority)).tolist()
    return order


# ---------------------------------------------------------------- bounds


def simple_bounds(problem: Problem) -> dict[str, float]:
    """Every job at the best that it could have with a cluster of its own: no plan gives it more, and none serves it cheaper."""
    market = market_of(problem)
    top = top_speeds(market)
    found = {}
    for name in goal_names(problem):
        own = market.jobs.priority == goal_class(problem, name)
        found[name] = _bound(problem, market, top, plain_name(name), own)
    return found


def top_speeds(market: Market) -> Floats:
    """The most steps/s of one copy in each scenario, company included; shape (scenarios, jobs)."""
    ways = market.ways
    found = np.zeros((len(market.factors), market.workloads.count))
    for most, factor in zip(found, market.factors, strict=True):
        for workload, speed in ((ways.first, ways.first_speed), (ways.second, ways.second_speed)):
            there = workload >= 0
            np.maximum.at(most, workload[there], (speed * factor[workload, ways.accelerator])[there])
    return found[:, market.jobs.workload]


def _bound(problem: Problem, market: Market, top: Floats, name: str, own: Bools) -> float:
    jobs = market.jobs
    speed = top.min(axis=0)[own]
    match name:
        case "fair_slack":
            return 0.0
        case "throughput":
            return float((top[:, own] @ (jobs.copies * jobs.weight / jobs.best)[own]).min())
        case "cost":
            return _least_cost(problem, market, own)
        case "geometric_mean":
            counted = market.affordable[own]
            return geometric_mean((speed / jobs.par[own])[counted], (jobs.copies * jobs.weight)[own][counted])
        case _ if problem.policy == "hierarchical":
            rates = starting_rates(problem)[own]
            rising = rates > 0.0
            return float((speed[rising] / (rates * jobs.par[own])[rising]).min())
    levels = job_levels(problem.policy, jobs)
    level = levels.scale[own] * speed / (levels.remaining[own] + levels.elapsed[own] * speed)
    return min(NEVER, levels.told(float(level.min())))


def _least_cost(problem: Problem, market: Market, own: Bools) -> float:
    """What the promised speeds cost at least: each step where it is cheapest, as if there were room for all."""
    ways, jobs = market.ways, market.jobs
    promised = np.maximum(jobs.due_speed, np.where(np.isinf(jobs.deadline_s), problem.least_share * jobs.equal, 0.0))
    price = market.accelerators.usd_per_hour[ways.accelerator] * ways.gpus * np.where(ways.second >= 0, 0.5, 1.0)
    dearest = 0.0
    for factor in market.factors:
        cheapest = np.full(market.workloads.count, np.inf)
        for workload, speed in ((ways.first, ways.first_speed), (ways.second, ways.second_speed)):
            there = workload >= 0
            at = workload[there]
            np.minimum.at(cheapest, at, price[there] / (speed[there] * factor[at, ways.accelerator[there]]))
        dearest = max(dearest, float((jobs.copies * promised * cheapest[jobs.workload])[own].sum()))
    return dearest
