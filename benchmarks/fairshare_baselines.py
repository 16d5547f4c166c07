"""What one would do today: Gavel's program with a column for each job, POP's random splitting of it, and equal split.

Each takes (problem, seconds) and gives a plan that is verified like ours. They refuse, with a ValueError, what they cannot state.
"""

from __future__ import annotations

import importlib
import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from models.fairshare.market import market_of
from models.fairshare.schema import Plan, Policy, Problem, ShareTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.fairshare.market import Market
    from models.program import Bools, Floats, Ints

LEAST = 1e-9  # gangs: what is less is rounding
SEED = 0


def _stated(problem: Problem) -> Market:
    market = market_of(problem)
    if problem.policy is not Policy.max_min_fair or problem.robust is not None or len(market.jobs.classes) > 1:
        raise ValueError("this baseline knows max-min fairness of one class of jobs only, with usual speeds")
    if np.isfinite(market.jobs.budget).any() or market.accelerators.limits_packing.any():
        raise ValueError("this baseline knows no budgets and no blocks of GPUs")
    return market


def _columns(market: Market, jobs: Ints) -> tuple[Ints, Ints, Ints]:
    """Every way with every job, or two jobs, that it fits: way, first job, second job (-1: none)."""
    ways, by_workload = market.ways, [jobs[market.jobs.workload[jobs] == place] for place in range(market.workloads.count)]
    way: list[Ints] = []
    first: list[Ints] = []
    second: list[Ints] = []
    for place in range(ways.count):
        one = by_workload[int(ways.first[place])]
        if ways.second[place] < 0:
            here, there = one, np.full(len(one), -1, dtype=np.int64)
        else:
            other = by_workload[int(ways.second[place])]
            here, there = np.repeat(one, len(other)), np.tile(other, len(one))
            kept: Bools = here < there if ways.first[place] == ways.second[place] else np.ones(len(here), dtype=np.bool_)
            here, there = here[kept], there[kept]
        way.append(np.full(len(here), place, dtype=np.int64))
        first.append(here)
        second.append(there)
    return np.concatenate(way), np.concatenate(first), np.concatenate(second)


def _gangs(market: Market, jobs: Ints, part: float, seconds: float) -> tuple[Ints, Ints, Ints, Floats] | None:
    """Gavel's max-min program in cvxpy for some of the jobs on ``part`` of the GPUs; None when HiGHS ran out of time."""
    from scipy import sparse

    cp: Any = importlib.import_module("cvxpy")

    way, first, second = _columns(market, jobs)
    ways, count, shared = market.ways, len(way), np.flatnonzero(second >= 0)
    at = {job: place for place, job in enumerate(jobs.tolist())}
    row = np.array([at[job] for job in first.tolist()])
    other = np.array([at[job] for job in second[shared].tolist()], dtype=np.int64)
    every = np.arange(count)
    rows, columns = np.concatenate((row, other)), np.concatenate((every, shared))
    time = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(jobs), count))
    pace = np.concatenate((ways.first_speed[way], ways.second_speed[way[shared]]))
    speed = sparse.csr_matrix((pace / (market.jobs.weight * market.jobs.par)[jobs][rows], (rows, columns)), shape=(len(jobs), count))
    gpus = sparse.csr_matrix((ways.gpus[way], (ways.accelerator[way], every)), shape=(market.accelerators.count, count))
    gangs = cp.Variable(count, nonneg=True)
    rules = [gpus @ gangs <= part * market.accelerators.count_gpus, time @ gangs <= market.jobs.copies[jobs]]
    copies = sparse.diags(1.0 / market.jobs.copies[jobs])
    problem = cp.Problem(cp.Maximize(cp.min(copies @ speed @ gangs)), rules)
    try:
        # Interior point: the simplex method takes many times as long on such programs, and a baseline is run at its best.
        problem.solve(solver=cp.HIGHS, time_limit=seconds, highs_options={"solver": "ipm"})
    except cp.error.SolverError:
        return None
    if problem.status != cp.OPTIMAL or gangs.value is None:  # out of time HiGHS leaves a point that may break every rule
        return None
    return way, first, second, np.maximum(gangs.value, 0.0)


def _plan(market: Market, parts: list[tuple[Ints, Ints, Ints, Floats]]) -> Plan:
    way, first, second, gangs = (np.concatenate([part[place] for part in parts]) for place in range(4))
    kept = np.flatnonzero(gangs > LEAST)
    ids, places, ways = market.jobs.ids, market.accelerators.ids, market.ways
    return Plan(
        share_table=ShareTable(
            first=tuple(ids[job] for job in first[kept].tolist()),
            second=tuple(None if job < 0 else ids[job] for job in second[kept].tolist()),
            accelerator=tuple(places[place] for place in ways.accelerator[way[kept]].tolist()),
            spread=tuple(ways.spread[way[kept]].tolist()),
            gangs=tuple(gangs[kept].tolist()),
        )
    )


def gavel_lp(problem: Problem, seconds: float) -> Plan | None:
    """One program with a column for each job and pair of jobs, as Gavel writes it, in cvxpy with HiGHS."""
    market = _stated(problem)
    return _split(market, 1, seconds)


def pop_k(problem: Problem, seconds: float, *, parts: int) -> Plan | None:
    """POP: jobs and GPUs in ``parts`` random parts of equal size, each solved by itself (D. Narayanan et al., SOSP 2021)."""
    return _split(_stated(problem), parts, seconds)


def _split(market: Market, parts: int, seconds: float) -> Plan | None:
    pairs = Counter(market.jobs.workload.tolist())
    ways = market.ways
    size = sum(pairs[int(one)] * (pairs[int(other)] if other >= 0 else 1) for one, other in zip(ways.first, ways.second, strict=True))
    if size / parts**2 > MOST_COLUMNS:
        raise ValueError(f"a program of about {size / parts**2:,.0f} columns does not fit this machine")
    order = list(range(market.jobs.count))
    random.Random(SEED).shuffle(order)
    found = []
    for place in range(parts):
        part = _gangs(market, np.sort(np.array(order[place::parts], dtype=np.int64)), 1.0 / parts, seconds / parts)
        if part is None:
            return None
        found.append(part)
    return _plan(market, found)


MOST_COLUMNS = 2_000_000  # beyond which cvxpy needs more memory than there is


def equal_split(problem: Problem, _seconds: float) -> Plan:
    """Every copy of a job gets the same number of GPUs of every type, as far as it can run there and has the time."""
    market = market_of(problem)
    ways, workload = market.ways, market.jobs.workload
    usual = np.flatnonzero(~ways.spread[: ways.alone] | (market.workloads.speed[ways.first, ways.accelerator] <= 0.0)[: ways.alone])
    parts = []
    for way in usual.tolist():
        jobs = np.flatnonzero(workload == ways.first[way])
        share = market.equal_share[ways.first[way], ways.accelerator[way]]
        parts.append((np.full(len(jobs), way), jobs, np.full(len(jobs), -1), share * market.jobs.copies[jobs]))
    return _plan(market, parts)


BASELINES: dict[str, Callable[[Any, float], Any]] = {
    "gavel_lp": gavel_lp,
    **{f"pop_{parts}": partial(pop_k, parts=parts) for parts in (4, 8)},
    "equal_split": equal_split,
}
