"""What is wrong with a fairshare Problem: mistakes that no field can see alone, and what is legal but suspicious.

Every finding has a JSON pointer to its place, in the list or in the table that the user gave, a stable code, and one sentence that
names the cure.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from models.contract import Warned
from models.fairshare.market import job_column, market_of, workload_column
from models.repeated import repeated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.fairshare.schema import Plan, Problem, WorkloadTable
    from models.program import Bools

MAX_ERRORS = 10  # enough to correct a file in one go; a broken generator makes the same mistake 10,000 times
MAX_WARNINGS = 100
TIMED = ("finish_time_fair", "makespan")  # policies that need to know what work remains
BUDGETED = ("max_min_fair", "finish_time_fair", "makespan")  # policies that know the robust budget
SCENARIOS = (*BUDGETED, "throughput", "least_cost")


def errors(problem: Problem) -> tuple[Warned, ...]:
    """The first MAX_ERRORS mistakes; where lists do not fit together or ids are unknown, only those."""
    for stage in (_shapes, _ids, _references):
        found = tuple(islice(stage(problem), MAX_ERRORS))
        if found:
            return found
    return tuple(islice(chain(_speeds(problem), _pairs(problem), _options(problem), _jobs(problem)), MAX_ERRORS))


def plan_errors(plan: Plan) -> tuple[Warned, ...]:
    """What a plan says twice, and columns of its tables that differ in length."""
    return tuple(islice(_plan_shapes(plan), MAX_ERRORS))


def warnings(problem: Problem) -> tuple[Warned, ...]:
    """The first MAX_WARNINGS things in a valid problem that are legal but probably not meant."""
    from models.fairshare.checks_odd import odd

    return tuple(islice(odd(problem), MAX_WARNINGS))


def job_pointer(problem: Problem, place: int, name: str) -> str:
    """``/jobs/3/workload``, or ``/job_table/workload/3``."""
    return f"/job_table/{name}/{place}" if problem.job_table is not None else f"/jobs/{place}/{name}"


def workload_pointer(problem: Problem, place: int, name: str) -> str:
    """``/workloads/3/gpus``, or ``/workload_table/gpus/3``."""
    return f"/workload_table/{name}/{place}" if problem.workload_table is not None else f"/workloads/{place}/{name}"


# ---------------------------------------------------------------- tables and names


def _shapes(problem: Problem) -> Iterator[Warned]:
    for part in ("workload", "job"):
        table = getattr(problem, f"{part}_table")
        if table is not None and getattr(problem, f"{part}s"):
            yield Warned(f"/{part}_table", "given_twice", f"both {part}s and {part}_table are given; keep one of the two")
    if problem.job_table is not None:
        yield from _columns("/job_table", problem.job_table, len(problem.job_table.workload), "workload")
    if problem.workload_table is not None:
        count = len(problem.workload_table.id)
        if problem.workload_table.gpus is not None and len(problem.workload_table.gpus) != count:
            yield _wrong_length("/workload_table/gpus", len(problem.workload_table.gpus), count, "id")
        for place, column in enumerate(problem.workload_table.speeds):
            yield from _columns(f"/workload_table/speeds/{place}", column, count, "id of the table")
    if not problem.accelerators:
        yield Warned("/accelerators", "no_accelerators", "there are no accelerators; give at least one")
    if not len(job_column(problem, "id")):
        yield Warned("/jobs", "no_jobs", "there are no jobs to share anything; give at least one")


def _columns(at: str, table: object, count: int, leader: str) -> Iterator[Warned]:
    for name in type(table).model_fields:  # type: ignore[attr-defined]
        values = getattr(table, name)
        if isinstance(values, tuple) and len(values) != count:
            yield _wrong_length(f"{at}/{name}", len(values), count, leader)


def _wrong_length(at: str, found: int, count: int, leader: str) -> Warned:
    detail = f"has {found:,} items, expected {count:,}, one for each {leader}; make the columns equally long"
    return Warned(at, "wrong_length", detail)


def _ids(problem: Problem) -> Iterator[Warned]:
    yield from repeated([one.id for one in problem.accelerators], "accelerators", "/accelerators/{}/id")
    at = "/workload_table/id/{}" if problem.workload_table is not None else "/workloads/{}/id"
    yield from repeated(workload_column(problem, "id"), "workloads", at)
    yield from repeated([one.id for one in problem.tenants], "tenants", "/tenants/{}/id")
    at = "/job_table/id/{}" if problem.job_table is not None else "/jobs/{}/id"
    yield from repeated(job_column(problem, "id"), "jobs", at)
    if problem.robust is not None:
        yield from repeated([one.id for one in problem.robust.scenarios], "scenarios", "/robust/scenarios/{}/id")


def _references(problem: Problem) -> Iterator[Warned]:
    accelerators = {one.id for one in problem.accelerators}
    workloads = set(workload_column(problem, "id"))
    for place, workload in enumerate(problem.workloads):
        listed = [one.accelerator for one in workload.speeds]
        yield from _unknown(listed, accelerators, "accelerator", f"/workloads/{place}/speeds/{{}}/accelerator")
        yield from _twice(listed, f"/workloads/{place}/speeds/{{}}/accelerator")
    if problem.workload_table is not None:
        listed = [one.accelerator for one in problem.workload_table.speeds]
        yield from _unknown(listed, accelerators, "accelerator", "/workload_table/speeds/{}/accelerator")
        yield from _twice(listed, "/workload_table/speeds/{}/accelerator")
    yield from _unknown([one.accelerator for one in problem.pairs], accelerators, "accelerator", "/pairs/{}/accelerator")
    yield from _unknown([one.first for one in problem.pairs], workloads, "workload", "/pairs/{}/first")
    yield from _unknown([one.second for one in problem.pairs], workloads, "workload", "/pairs/{}/second")
    table = problem.job_table is not None
    at = "/job_table/workload/{}" if table else "/jobs/{}/workload"
    yield from _unknown(job_column(problem, "workload"), workloads, "workload", at)
    at = "/job_table/tenant/{}" if table else "/jobs/{}/tenant"
    yield from _unknown(job_column(problem, "tenant"), {None, *(one.id for one in problem.tenants)}, "tenant", at)
    for number, scenario in enumerate(problem.robust.scenarios if problem.robust else ()):
        at = f"/robust/scenarios/{number}/factors/{{}}"
        yield from _unknown([one.workload for one in scenario.factors], {None, *workloads}, "workload", f"{at}/workload")
        yield from _unknown([one.accelerator for one in scenario.factors], {None, *accelerators}, "accelerator", f"{at}/accelerator")


def _unknown(names: Sequence[str | None], known: set[str] | set[str | None], what: str, at: str) -> Iterator[Warned]:
    if known.issuperset(names):
        return
    for place, name in enumerate(names):
        if name not in known:
            yield Warned(at.format(place), f"unknown_{what}", f"there is no {what} '{name}'; add it to the {what}s or correct the name")


def _twice(names: Sequence[str], at: str) -> Iterator[Warned]:
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    for place, name in enumerate(names):
        if name in seen:
            yield Warned(at.format(place), "speed_twice", f"the speed on '{name}' is given twice; keep one of the two")
        seen.add(name)


# ---------------------------------------------------------------- speeds and pairs


def _speeds(problem: Problem) -> Iterator[Warned]:
    for place, one in enumerate(problem.accelerators):
        if one.packed_gpus is not None and one.packed_gpus > one.count:
            detail = f"'{one.id}' has {one.count:,} GPUs, and {one.packed_gpus:,} of them in whole blocks; give at most the count"
            yield Warned(f"/accelerators/{place}/packed_gpus", "too_many_packed", detail)
    for row, workload in enumerate(problem.workloads):
        for place, speed in enumerate(workload.speeds):
            slow, spread, usual = speed.slow_steps_per_s, speed.spread_steps_per_s, speed.steps_per_s
            if slow is not None and slow > usual:
                yield _faster(f"/workloads/{row}/speeds/{place}/slow_steps_per_s", workload.id, slow, usual)
            if spread is not None and spread > usual:
                yield _faster(f"/workloads/{row}/speeds/{place}/spread_steps_per_s", workload.id, spread, usual)
    if problem.workload_table is not None:
        yield from _table_speeds(problem.workload_table)


def _table_speeds(table: WorkloadTable) -> Iterator[Warned]:
    for place, column in enumerate(table.speeds):
        usual = np.array(column.steps_per_s, dtype=np.float64)
        for kind, given in (("slow_steps_per_s", column.slow_steps_per_s), ("spread_steps_per_s", column.spread_steps_per_s)):
            lesser = np.array(given if given is not None else (), dtype=np.float64)
            for row in _places(~np.isnan(lesser) & ~(lesser <= usual)) if len(lesser) else ():
                at = f"/workload_table/speeds/{place}/{kind}/{row}"
                yield _faster(at, table.id[row], float(lesser[row]), float(np.nan_to_num(usual[row])))


def _faster(at: str, name: str, lesser: float, usual: float) -> Warned:
    detail = f"'{name}' runs at {usual:g} steps/s there alone and consolidated, and {lesser:g} is more; give at most steps_per_s"
    return Warned(at, "faster_than_usual", detail)


def _pairs(problem: Problem) -> Iterator[Warned]:
    gpus = dict(zip(workload_column(problem, "id"), workload_column(problem, "gpus"), strict=True)) if problem.pairs else {}
    seen: dict[tuple[str, str, str], int] = {}
    for place, pair in enumerate(problem.pairs):
        if gpus[pair.first] != gpus[pair.second]:
            detail = (
                f"'{pair.first}' holds {gpus[pair.first]} GPUs and '{pair.second}' {gpus[pair.second]}; only gangs of one size share GPUs: "
                "leave the pair out"
            )
            yield Warned(f"/pairs/{place}", "unequal_gangs", detail)
        if pair.first == pair.second and abs(pair.first_steps_per_s - pair.second_steps_per_s) > 1e-9 * pair.first_steps_per_s:
            detail = f"two jobs of '{pair.first}' are alike, but have different speeds here; give both the mean of the two"
            yield Warned(f"/pairs/{place}/second_steps_per_s", "unlike_twins", detail)
        key = (pair.accelerator, *sorted((pair.first, pair.second)))
        earlier = seen.setdefault(key, place)  # type: ignore[arg-type]
        if earlier != place:
            detail = f"'{pair.first}' and '{pair.second}' on '{pair.accelerator}' are item {earlier} already; keep one of the two"
            yield Warned(f"/pairs/{place}", "pair_twice", detail)


# ---------------------------------------------------------------- policy and jobs


def _options(problem: Problem) -> Iterator[Warned]:
    policy = problem.policy.value
    if problem.least_share > 0.0 and policy != "least_cost":
        yield Warned("/least_share", "not_of_policy", f"least_share is for the policy least_cost, not for {policy}; leave it out")
    robust = problem.robust
    if robust is None:
        return
    if (robust.budget is None) == (not robust.scenarios):
        yield Warned("/robust", "budget_or_scenarios", "give either a budget or scenarios, exactly one of the two")
    elif robust.budget is not None and policy not in BUDGETED:
        detail = f"a robust budget is for {', '.join(BUDGETED)}, not for {policy}; use scenarios, or leave robust out"
        yield Warned("/robust/budget", "not_of_policy", detail)
    elif robust.scenarios and policy not in SCENARIOS:
        detail = f"scenarios are for {', '.join(SCENARIOS)}, not for {policy}; leave robust out"
        yield Warned("/robust/scenarios", "not_of_policy", detail)
    elif robust.budget is not None and (market_of(problem).workloads.slow_factor == 1.0).all():
        detail = "no speed has a slower slow_steps_per_s, so there is nothing to be robust against; give them, or leave robust out"
        yield Warned("/robust/budget", "no_slow_speeds", detail)


def _jobs(problem: Problem) -> Iterator[Warned]:
    market = market_of(problem)
    jobs = market.jobs
    for place in _places(jobs.best <= 0.0):
        yield _fits_nowhere(problem, place)
    if problem.policy.value in TIMED:
        for place in _places(np.isnan(jobs.remaining)):
            detail = (
                f"the policy {problem.policy.value} needs to know how many steps job '{jobs.ids[place]}' still has; give remaining_steps"
            )
            yield Warned(job_pointer(problem, place, "remaining_steps"), "no_remaining_steps", detail)
    bounded = np.isfinite(jobs.deadline_s)
    for place in _places(bounded & np.isnan(jobs.remaining)):
        detail = f"job '{jobs.ids[place]}' has a deadline, and nobody knows how many steps it still has; give remaining_steps"
        yield Warned(job_pointer(problem, place, "remaining_steps"), "no_remaining_steps", detail)
    for place in _places(bounded & (jobs.deadline_s <= problem.now_s)):
        detail = f"the deadline of job '{jobs.ids[place]}', {jobs.deadline_s[place]:g} s, is not after now, {problem.now_s:g} s; move it"
        yield Warned(job_pointer(problem, place, "deadline_s"), "deadline_past", detail)
    for place in _places(jobs.arrival_s > problem.now_s):
        detail = (
            f"job '{jobs.ids[place]}' arrives at {jobs.arrival_s[place]:g} s, after now, {problem.now_s:g} s; leave out who is not there"
        )
        yield Warned(job_pointer(problem, place, "arrival_s"), "arrival_later", detail)
    for place in _places(jobs.total < jobs.remaining):
        detail = f"job '{jobs.ids[place]}' has {jobs.remaining[place]:g} steps to do of {jobs.total[place]:g} in all; give at least as many"
        yield Warned(job_pointer(problem, place, "total_steps"), "less_than_remaining", detail)
    total = np.array(job_column(problem, "total_steps"), dtype=np.float64)
    for place in _places(~np.isnan(total) & np.isnan(jobs.remaining)):
        detail = f"job '{jobs.ids[place]}' has total_steps and no remaining_steps; give both"
        yield Warned(job_pointer(problem, place, "remaining_steps"), "no_remaining_steps", detail)


def _fits_nowhere(problem: Problem, place: int) -> Warned:
    market = market_of(problem)
    workload = int(market.jobs.workload[place])
    name, gpus = market.workloads.ids[workload], market.workloads.gpus[workload]
    most = market.accelerators.count_gpus.max(initial=0.0)
    if gpus > most:
        why = f"its gang of {gpus:g} GPUs is larger than every accelerator ({most:g} at most); make it smaller, or leave the job out"
    else:
        why = "no accelerator with a speed for it has enough GPUs for its gang; give a speed where it fits, or leave the job out"
    job = market.jobs.ids[place]
    return Warned(job_pointer(problem, place, "workload"), "fits_nowhere", f"job '{job}' of workload '{name}' can run nowhere: {why}")


def _places(mask: Bools) -> list[int]:
    """The first MAX_ERRORS places where ``mask`` holds."""
    found: list[int] = np.flatnonzero(mask)[:MAX_ERRORS].tolist()
    return found


# ---------------------------------------------------------------- plans


def _plan_shapes(plan: Plan) -> Iterator[Warned]:
    table = plan.share_table
    if table is not None:
        if plan.shares:
            yield Warned("/share_table", "given_twice", "both shares and share_table are given; keep one of the two")
        yield from _columns("/share_table", table, len(table.first), "first")
    for number, level in enumerate(plan.rounds):
        if level.slopes is not None:
            yield from _columns(f"/rounds/{number}/slopes", level.slopes, len(level.slopes.job), "job")
        for place, worth in enumerate(level.worths):
            if (worth.job is None) == (worth.workload is None):
                at = f"/rounds/{number}/worths/{place}"
                yield Warned(at, "job_or_workload", "a worth is that of a job or of a workload; name exactly one of the two")
