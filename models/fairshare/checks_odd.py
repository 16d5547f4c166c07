"""What is legal in a fairshare Problem but probably not meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import Warned
from models.fairshare.checks import MAX_ERRORS, job_pointer
from models.fairshare.market import market_of, workload_column

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.fairshare.market import Market
    from models.fairshare.schema import Problem
    from models.program import Bools

WEIGHT_SPREAD = 1e4  # between the largest and the usual weight, beyond which one of them is probably a slip
SPEED_SPREAD = 1e6  # beyond it tolerances blur the slow ones
USES_TENANTS, USES_WEIGHTS = ("hierarchical",), ("max_min_fair", "throughput", "proportional_fair", "hierarchical")


def odd(problem: Problem) -> Iterator[Warned]:
    """All that is odd, in the order of the document."""
    market = market_of(problem)
    yield from _accelerators(problem, market)
    yield from _speeds(problem, market)
    yield from _pairs(problem, market)
    yield from _jobs(problem, market)
    yield from _policy(problem, market)


def _accelerators(problem: Problem, market: Market) -> Iterator[Warned]:
    wanted = np.zeros(market.accelerators.count, dtype=np.bool_)
    held = np.bincount(market.jobs.workload, minlength=market.workloads.count) > 0
    wanted[market.ways.accelerator[held[market.ways.first]]] = True
    for place in _places(~wanted & (market.accelerators.count_gpus > 0.0)):
        name = market.accelerators.ids[place]
        detail = f"no job can run on '{name}', so its GPUs stay idle; give speeds for it, or leave it out"
        yield Warned(f"/accelerators/{place}", "unused_accelerator", detail)
    for place in _places(market.accelerators.count_gpus == 0.0):
        name = market.accelerators.ids[place]
        yield Warned(f"/accelerators/{place}/count", "no_gpus", f"there are no GPUs of '{name}'; give how many there are, or leave it out")
    if problem.policy == "least_cost" and not market.accelerators.usd_per_hour.any():
        detail = "no accelerator costs anything, so every plan that keeps the deadlines is as cheap; give usd_per_hour"
        yield Warned("/accelerators", "no_prices", detail)


def _speeds(problem: Problem, market: Market) -> Iterator[Warned]:
    speeds = market.workloads.speed[market.workloads.speed > 0.0]
    at = "/workload_table/speeds" if problem.workload_table is not None else "/workloads"
    if len(speeds) and speeds.max() > SPEED_SPREAD * speeds.min():
        detail = f"speeds range from {speeds.min():g} to {speeds.max():g} steps/s: tolerances blur the slow ones; choose steps of like size"
        yield Warned(at, "wide_range", detail)
    used = np.bincount(market.jobs.workload, minlength=market.workloads.count) > 0
    for place in _places(~used):
        name = workload_column(problem, "id")[place]
        where = f"/workload_table/id/{place}" if problem.workload_table is not None else f"/workloads/{place}"
        yield Warned(where, "unused_workload", f"no job is of workload '{name}'; leave it out, or correct the jobs' workloads")


def _pairs(problem: Problem, market: Market) -> Iterator[Warned]:
    """Pairs that are worse than taking turns: then sharing the GPUs in time gives both more."""
    speed = market.workloads.usual
    for place, pair in enumerate(problem.pairs):
        first, second = market.workloads.at[pair.first], market.workloads.at[pair.second]
        where = market.accelerators.at[pair.accelerator]
        alone = speed[first, where], speed[second, where]
        if min(alone) <= 0.0:
            detail = f"'{pair.first}' or '{pair.second}' has no speed alone on '{pair.accelerator}', where they are a pair; give it"
            yield Warned(f"/pairs/{place}", "pair_without_speed", detail)
            continue
        together = pair.first_steps_per_s / alone[0] + pair.second_steps_per_s / alone[1]
        if together < 1.0:
            detail = (
                f"'{pair.first}' and '{pair.second}' together on '{pair.accelerator}' do {together:.3g} of what taking turns does; no plan "
                "uses this pair: leave it out, or check its speeds"
            )
            yield Warned(f"/pairs/{place}", "slower_than_turns", detail)
        elif pair.first_steps_per_s > alone[0] * (1 + 1e-9) or pair.second_steps_per_s > alone[1] * (1 + 1e-9):
            detail = f"one of '{pair.first}' and '{pair.second}' is faster in company on '{pair.accelerator}' than alone; check the speeds"
            yield Warned(f"/pairs/{place}", "faster_in_company", detail)


def _jobs(problem: Problem, market: Market) -> Iterator[Warned]:
    jobs = market.jobs
    if problem.policy.value in USES_WEIGHTS:
        usual = float(np.median(jobs.weight))
        for place in _places((jobs.weight > WEIGHT_SPREAD * usual) | (jobs.weight * WEIGHT_SPREAD < usual)):
            detail = f"job '{jobs.ids[place]}' weighs {jobs.weight[place]:g} where {usual:g} is usual; check it"
            yield Warned(job_pointer(problem, place, "weight"), "odd_weight", detail)
    elif (jobs.weight != 1.0).any():
        place = _places(jobs.weight != 1.0)[0]
        detail = f"the policy {problem.policy.value} knows no weights; leave them out, or choose another policy"
        yield Warned(job_pointer(problem, place, "weight"), "weight_unused", detail)
    if problem.policy != "least_cost" and np.isfinite(jobs.deadline_s).any():
        place = _places(np.isfinite(jobs.deadline_s))[0]
        detail = f"the policy {problem.policy.value} does not keep deadlines; choose least_cost, or leave them out"
        yield Warned(job_pointer(problem, place, "deadline_s"), "deadline_unused", detail)
    if problem.policy == "least_cost":
        for place in _places(jobs.due_speed > jobs.best):
            detail = f"job '{jobs.ids[place]}' misses its deadline even at {jobs.best[place]:g} steps/s, its best alone; give it more time"
            yield Warned(job_pointer(problem, place, "deadline_s"), "deadline_too_near", detail)


def _policy(problem: Problem, market: Market) -> Iterator[Warned]:
    if problem.policy.value not in USES_TENANTS and problem.tenants:
        yield Warned("/tenants", "tenants_unused", f"the policy {problem.policy.value} knows no tenants; choose hierarchical for them")
    if problem.policy == "least_cost" and problem.least_share == 0.0 and not np.isfinite(market.jobs.deadline_s).any():
        detail = "no job has a deadline and least_share is 0, so that running nothing is cheapest; give deadlines or a least share"
        yield Warned("/policy", "nothing_to_do", detail)
    if problem.pairs and not problem.share_gpus:
        yield Warned("/share_gpus", "pairs_unused", "pairs are given, and share_gpus is false: no two jobs share GPUs; set it to true")


def _places(mask: Bools) -> list[int]:
    found: list[int] = np.flatnonzero(mask)[:MAX_ERRORS].tolist()
    return found
