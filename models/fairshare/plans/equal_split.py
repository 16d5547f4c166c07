"""Equal split: every job gets the same number of GPUs of every accelerator, whatever it is worth there. The baseline of all policies.

With n jobs, copies counted, each gets ``count_a / n`` GPUs of accelerator a where it can run: its gang of g GPUs runs there for the part
``count_a / (n g)`` of the time, scaled down where that is more than all its time. Isolation is the usual name: nobody is worse off than
with a part of the cluster of its own (M. Mahajan et al., "Themis", 2020; D. Narayanan et al., "Gavel", 2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.market import market_of
from models.fairshare.plans.division import Division

if TYPE_CHECKING:
    from models.fairshare.market import Market
    from models.fairshare.schema import Problem
    from models.program import Floats


def equal_work(market: Market) -> Floats:
    """Steps/s of one copy on each accelerator under equal split, shape (jobs, accelerators)."""
    return (market.equal_share * market.workloads.usual)[market.jobs.workload]


def equal_cost(market: Market) -> Floats:
    """USD per hour of one copy under equal split, shape (jobs,)."""
    by_workload = (market.equal_share * market.workloads.gpus[:, None]) @ market.accelerators.usd_per_hour
    return by_workload[market.jobs.workload]


def equal_division(problem: Problem) -> Division:
    """Equal split as far as it can be: scaled down where gangs find too few whole blocks, and to every job's budget."""
    market = market_of(problem)
    jobs, ways = market.jobs, market.ways
    workload, accelerator = np.nonzero(market.equal_share > 0.0)
    spread = market.workloads.speed[workload, accelerator] <= 0.0
    way_at = np.full(market.equal_share.shape, -1, dtype=np.int64)
    way_at[workload, accelerator] = ways.find(workload, np.full(len(workload), -1), accelerator, spread)
    rows = way_at[jobs.workload]
    job, place = np.nonzero(rows >= 0)
    way = rows[job, place]
    gangs = market.equal_share[jobs.workload[job], place] * jobs.copies[job]
    packed = ways.packed[way]
    needed = (gangs * ways.gpus[way])[packed]
    wanted = np.bincount(place[packed], weights=needed, minlength=market.accelerators.count).astype(np.float64)
    fits = _part(wanted, market.accelerators.packed_gpus)
    gangs = gangs * np.where(packed, fits[place], 1.0)
    division = Division(market, job, np.full(len(job), -1, dtype=np.int64), way, gangs)
    affordable = _part(division.spending, jobs.budget)
    return Division(market, job, division.second, way, gangs * affordable[job])


def _part(wanted: Floats, room: Floats) -> Floats:
    """The part of what is wanted that there is room for."""
    over = wanted > room
    return np.where(over, room / np.where(over, wanted, 1.0), 1.0)
