"""A problem as arrays: what every other module of the kind reckons with.

A **way** is how a workload's gang may run: alone on an accelerator, consolidated or spread, or together with a gang of another job on the
same GPUs. A column of the program is a way with the jobs that run so. Ways that cannot be are not there: no speed is known, the gang is
larger than the accelerator (or, consolidated, than what stands in whole blocks), or sharing is switched off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from models.kept import Kept
from models.named import Named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.fairshare.schema import Problem
    from models.program import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Accelerators(Named):
    """Types of GPU by position, each array of shape (accelerators,). ``packed`` is ``count`` where nothing is said."""

    ids: tuple[str, ...]
    count_gpus: Floats
    packed_gpus: Floats
    usd_per_hour: Floats
    limits_packing: Bools


@dataclass(frozen=True, eq=False)
class Workloads(Named):
    """Workloads by position. ``gpus``, ``best``: (workloads,); ``speed``, ``spread``, ``slow_factor``: (workloads, accelerators).

    Speeds are in steps/s, 0 where the gang cannot run so. ``slow_factor`` is ``slow_steps_per_s / steps_per_s``, 1 where nothing is said.
    ``best`` is the largest speed alone.
    """

    ids: tuple[str, ...]
    gpus: Floats
    speed: Floats
    spread: Floats
    slow_factor: Floats

    @cached_property
    def usual(self) -> Floats:
        """Steps/s alone: consolidated where that is possible, otherwise spread; shape (workloads, accelerators)."""
        return np.where(self.speed > 0.0, self.speed, self.spread)

    @cached_property
    def best(self) -> Floats:
        """The largest speed alone, shape (workloads,)."""
        found: Floats = np.maximum(self.speed, self.spread).max(axis=1, initial=0.0)
        return found


@dataclass(frozen=True, eq=False)
class Ways:
    """How gangs may run, each array of shape (ways,): those alone first, by workload, accelerator and consolidated before spread.

    ``second`` is -1 for ways alone. ``gpus`` is what one gang (or pair of gangs on the same GPUs) holds, ``packed`` says whether it needs
    GPUs in a whole block: gangs of several GPUs that are consolidated. Speeds are in steps/s; ``second_speed`` is 0 for ways alone.
    """

    first: Ints
    second: Ints
    accelerator: Ints
    spread: Bools
    packed: Bools
    gpus: Floats
    first_speed: Floats
    second_speed: Floats
    alone: int
    workloads: int

    @property
    def count(self) -> int:
        """How many."""
        return len(self.first)

    @cached_property
    def alone_starts(self) -> Ints:
        """Workload w has the ways alone ``alone_starts[w]:alone_starts[w + 1]``, shape (workloads + 1,)."""
        return np.searchsorted(self.first[: self.alone], np.arange(self.workloads + 1)).astype(np.int64)

    @cached_property
    def places(self) -> tuple[Ints, Ints]:
        """Sorted keys of all ways, and the way of each: see ``find``."""
        keys = self._key(self.first, self.second, self.accelerator, self.spread)
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def find(self, first: Ints, second: Ints, accelerator: Ints, spread: Bools) -> Ints:
        """The way of each, -1 where there is none; ``second`` is -1 for ways alone. Pairs must be named in the order of the way."""
        keys, order = self.places
        if not len(keys):
            return np.full(len(first), -1, dtype=np.int64)
        wanted = self._key(first, second, accelerator, spread)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, order[place], -1)

    def _key(self, first: Ints, second: Ints, accelerator: Ints, spread: Bools) -> Ints:
        most = int(self.accelerator.max(initial=0)) + 1
        inside = accelerator < most  # an accelerator beyond the last one in use has no way: its key must meet no other
        key = ((first * (self.workloads + 1) + second + 1) * most + accelerator) * 2 + spread
        return np.where(inside, key, -1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Jobs(Named):
    """Jobs by position, each array of shape (jobs,).

    ``remaining`` and ``total`` are NaN where unknown, ``deadline_s`` and ``budget`` inf where there is none, ``tenant`` -1.
    ``due_speed`` is the speed that just meets the deadline, 0 without one. ``equal`` is the speed of one copy under equal split,
    ``par`` what counts as a share of 1, ``best`` its largest speed alone.
    """

    ids: tuple[str, ...]
    workload: Ints
    copies: Floats
    weight: Floats
    tenant: Ints
    priority: Ints
    remaining: Floats
    total: Floats
    arrival_s: Floats
    elapsed_s: Floats
    deadline_s: Floats
    due_speed: Floats
    budget: Floats
    equal: Floats
    par: Floats
    best: Floats

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """The priorities, the most important first."""
        return tuple(np.unique(self.priority)[::-1].tolist())


@dataclass(frozen=True, eq=False)
class Groups:
    """Who shares as one under ``hierarchical``: the tenants, then each copy of a job without a tenant by itself.

    ``of``: (jobs,) the group of each job; ``weight``, ``fifo``: (groups,). A group made for a job stands for all its copies, each of which
    has the job's weight: its own weight is the job's times its copies.
    """

    of: Ints
    weight: Floats
    fifo: Bools


@dataclass(frozen=True, eq=False)
class Market:
    """All of it. ``equal_share`` (workloads, accelerators) is the part of its time that equal split gives one copy there.

    ``factors`` (scenarios, workloads, accelerators) multiply speeds; without scenarios there is one, of ones. ``budget`` is how many
    accelerators may be slow at once, None without a robust budget.
    """

    accelerators: Accelerators
    workloads: Workloads
    ways: Ways
    jobs: Jobs
    equal_share: Floats
    factors: Floats
    scenario_ids: tuple[str, ...]
    budget: float | None

    @cached_property
    def affordable(self) -> Bools:
        """The jobs that can pay for some way to run: all but those that may spend nothing where all GPUs cost; shape (jobs,)."""
        ways, free = self.ways, np.zeros(self.workloads.count, dtype=np.bool_)
        costless = self.accelerators.usd_per_hour[ways.accelerator] == 0.0
        free[ways.first[costless]] = True
        free[ways.second[costless & (ways.second >= 0)]] = True
        return (self.jobs.budget > 0.0) | free[self.jobs.workload]

    @property
    def copies(self) -> float:
        """How many jobs there are, counting copies."""
        return float(self.jobs.copies.sum())


def market_of(problem: Problem) -> Market:
    """The market of a problem, kept as long as the problem lives. Ids must be known and columns equally long (``checks``)."""
    return _markets.of(problem)


def groups_of(problem: Problem) -> Groups:
    """Tenants and jobs without one, for ``hierarchical``."""
    return _groups.of(problem)


def job_column(problem: Problem, name: str) -> Sequence[Any]:
    """One column of the jobs, whichever way they are given; what is left out has its default."""
    from models.fairshare.schema import Job

    table = problem.job_table
    if table is None:
        return [getattr(job, name) for job in problem.jobs]
    given = getattr(table, name)
    if given is not None:
        return given  # type: ignore[no-any-return]
    if name == "id":
        return [f"j{place}" for place in range(len(table.workload))]
    return [Job.model_fields[name].default] * len(table.workload)


def workload_column(problem: Problem, name: str) -> Sequence[Any]:
    """``id`` or ``gpus`` of the workloads, whichever way they are given."""
    table = problem.workload_table
    if table is None:
        return [getattr(one, name) for one in problem.workloads]
    given = getattr(table, name)
    return given if given is not None else [1] * len(table.id)


def floats(column: Sequence[float | None], missing: float) -> Floats:
    """A column as an array, with ``missing`` for what is not there."""
    found = np.array(column, dtype=np.float64)  # None becomes NaN
    return np.where(np.isnan(found), missing, found) if missing == missing else found  # noqa: PLR0124  (missing may be NaN itself)


def _market(problem: Problem) -> Market:
    accelerators = _accelerators(problem)
    workloads = _workloads(problem, accelerators)
    at = workloads.at
    workload = np.fromiter((at[name] for name in job_column(problem, "workload")), np.int64)
    copies = floats(job_column(problem, "count"), 1.0)
    equal_share = _equal_share(accelerators, workloads, float(copies.sum()))
    equal = (equal_share * workloads.usual).sum(axis=1)
    return Market(
        accelerators=accelerators,
        workloads=workloads,
        ways=_ways(problem, accelerators, workloads),
        jobs=_jobs(problem, workload, copies, equal, _par(accelerators, float(copies.sum()), equal), workloads.best),
        equal_share=equal_share,
        factors=_factors(problem, accelerators, workloads),
        scenario_ids=tuple(one.id for one in problem.robust.scenarios) if problem.robust else (),
        budget=problem.robust.budget if problem.robust else None,
    )


def _accelerators(problem: Problem) -> Accelerators:
    given = problem.accelerators
    count = np.array([one.count for one in given], dtype=np.float64)
    packed = floats([one.packed_gpus for one in given], np.inf)
    return Accelerators(
        ids=tuple(one.id for one in given),
        count_gpus=count,
        packed_gpus=np.minimum(packed, count),
        usd_per_hour=np.array([one.usd_per_hour for one in given], dtype=np.float64),
        limits_packing=packed < count,
    )


def _workloads(problem: Problem, accelerators: Accelerators) -> Workloads:
    ids, gpus = tuple(workload_column(problem, "id")), floats(workload_column(problem, "gpus"), 1.0)
    shape = (len(ids), accelerators.count)
    speed, slow, spread = np.zeros(shape), np.full(shape, np.nan), np.zeros(shape)
    table, at = problem.workload_table, accelerators.at
    if table is not None:
        for column in table.speeds:
            place = at[column.accelerator]
            speed[:, place] = floats(column.steps_per_s, 0.0)
            if column.slow_steps_per_s is not None:
                slow[:, place] = floats(column.slow_steps_per_s, np.nan)
            if column.spread_steps_per_s is not None:
                spread[:, place] = floats(column.spread_steps_per_s, 0.0)
    else:
        for row, workload in enumerate(problem.workloads):
            for one in workload.speeds:
                place = at[one.accelerator]
                speed[row, place] = one.steps_per_s
                slow[row, place] = np.nan if one.slow_steps_per_s is None else one.slow_steps_per_s
                spread[row, place] = one.spread_steps_per_s or 0.0
    known = (speed > 0.0) & ~np.isnan(slow)
    factor = np.where(known, slow / np.where(speed > 0.0, speed, 1.0), 1.0)
    fits = gpus[:, None] <= accelerators.count_gpus
    whole = gpus[:, None] <= np.where(gpus[:, None] > 1.0, accelerators.packed_gpus, accelerators.count_gpus)
    spread = np.where(fits & (gpus[:, None] > 1.0), spread, 0.0)
    return Workloads(ids=ids, gpus=gpus, speed=np.where(fits & whole, speed, 0.0), spread=spread, slow_factor=factor)


def _equal_share(accelerators: Accelerators, workloads: Workloads, copies: float) -> Floats:
    """Each copy gets the same number of GPUs of every accelerator, as far as it can run there and has the time."""
    part = accelerators.count_gpus / (max(copies, 1.0) * workloads.gpus[:, None])
    part = np.where(workloads.usual > 0.0, part, 0.0)
    scaled: Floats = part / np.maximum(1.0, part.sum(axis=1, keepdims=True))
    return scaled


def _par(accelerators: Accelerators, copies: float, equal: Floats) -> Floats:
    """The speed that counts as a share of 1, (workloads,): equal split, of as many times the GPUs as it takes to have one for each copy."""
    return equal * max(1.0, copies / max(float(accelerators.count_gpus.sum()), 1.0))


def _ways(problem: Problem, accelerators: Accelerators, workloads: Workloads) -> Ways:
    both = np.stack((workloads.speed, workloads.spread), axis=2)
    first, accelerator, spread = (axis.astype(np.int64) for axis in np.nonzero(both > 0.0))
    speed = both[first, accelerator, spread]
    pairs = problem.pairs if problem.share_gpus else ()
    work, place = workloads.at, accelerators.at
    pair_first, pair_second, pair_place = (
        np.fromiter(found, np.int64, len(pairs))
        for found in ((work[one.first] for one in pairs), (work[one.second] for one in pairs), (place[one.accelerator] for one in pairs))
    )
    gpus = workloads.gpus[pair_first]
    fits = gpus <= np.where(gpus > 1.0, accelerators.packed_gpus[pair_place], accelerators.count_gpus[pair_place])
    pair_first, pair_second, pair_place = pair_first[fits], pair_second[fits], pair_place[fits]
    pair_speeds = np.array([(one.first_steps_per_s, one.second_steps_per_s) for one in pairs], dtype=np.float64).reshape(-1, 2)[fits]
    alone, shared = len(first), len(pair_first)
    first = np.concatenate((first, pair_first))
    is_spread = np.concatenate((spread == 1, np.zeros(shared, dtype=np.bool_)))
    gpus = workloads.gpus[first]
    return Ways(
        first=first,
        second=np.concatenate((np.full(alone, -1, dtype=np.int64), pair_second)),
        accelerator=np.concatenate((accelerator, pair_place)),
        spread=is_spread,
        packed=(gpus > 1.0) & ~is_spread,
        gpus=gpus,
        first_speed=np.concatenate((speed, pair_speeds[:, 0])),
        second_speed=np.concatenate((np.zeros(alone), pair_speeds[:, 1])),
        alone=alone,
        workloads=workloads.count,
    )


def _jobs(problem: Problem, workload: Ints, copies: Floats, equal: Floats, par: Floats, best: Floats) -> Jobs:
    tenant_at = {tenant.id: place for place, tenant in enumerate(problem.tenants)}
    tenant = np.fromiter((-1 if name is None else tenant_at[name] for name in job_column(problem, "tenant")), np.int64)
    remaining, total = (floats(job_column(problem, name), np.nan) for name in ("remaining_steps", "total_steps"))
    arrival = floats(job_column(problem, "arrival_s"), 0.0)
    deadline = floats(job_column(problem, "deadline_s"), np.inf)
    due = np.isfinite(deadline) & (deadline > problem.now_s)
    due_speed = np.zeros(len(workload))
    due_speed[due] = remaining[due] / (deadline[due] - problem.now_s)
    return Jobs(
        ids=tuple(job_column(problem, "id")),
        workload=workload,
        copies=copies,
        weight=floats(job_column(problem, "weight"), 1.0),
        tenant=tenant,
        priority=np.array(job_column(problem, "priority"), dtype=np.int64),
        remaining=remaining,
        total=np.where(np.isnan(total), remaining, total),
        arrival_s=arrival,
        elapsed_s=problem.now_s - arrival,
        deadline_s=deadline,
        due_speed=np.nan_to_num(due_speed, nan=0.0),
        budget=floats(job_column(problem, "budget_usd_per_hour"), np.inf),
        equal=equal[workload],
        par=par[workload],
        best=best[workload],
    )


def _factors(problem: Problem, accelerators: Accelerators, workloads: Workloads) -> Floats:
    scenarios = problem.robust.scenarios if problem.robust else ()
    found = np.ones((max(1, len(scenarios)), workloads.count, accelerators.count))
    for number, scenario in enumerate(scenarios):
        for one in scenario.factors:
            rows = slice(None) if one.workload is None else workloads.at[one.workload]
            columns = slice(None) if one.accelerator is None else accelerators.at[one.accelerator]
            found[number, rows, columns] *= one.factor
    return found


def _make_groups(problem: Problem) -> Groups:
    jobs, tenants = market_of(problem).jobs, problem.tenants
    lonely = jobs.tenant < 0
    of = jobs.tenant.copy()
    of[lonely] = len(tenants) + np.arange(int(lonely.sum()))
    return Groups(
        of=of,
        weight=np.concatenate(([tenant.weight for tenant in tenants], (jobs.weight * jobs.copies)[lonely])),
        fifo=np.array([tenant.within == "fifo" for tenant in tenants] + [False] * int(lonely.sum()), dtype=np.bool_),
    )


_markets = Kept(_market)
_groups = Kept(_make_groups)
