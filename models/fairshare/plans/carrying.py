"""The plan of one problem as a start for another that is much alike: every share cut down until there are GPUs, time and money for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.heuristic import plan_of
from models.fairshare.market import market_of
from models.fairshare.plans.division import division_of

if TYPE_CHECKING:
    from models.fairshare.schema import Plan, Problem
    from models.program import Floats


def cut_down(problem: Problem, plan: Plan) -> Plan:
    """What ``plan`` gives, as far as ``problem`` has it; with its prices, and without its proofs, which are about other numbers.

    Shares of who is not there any more, or cannot run so, are left out. A deadline that it does not keep it breaks still.
    """
    market = market_of(problem)
    division = division_of(problem, plan)
    accelerators, jobs = market.accelerators, market.jobs
    place = market.ways.accelerator[division.way]
    part = _fitting(division.gpus_used, accelerators.count_gpus)[place]
    whole = np.where(accelerators.limits_packing, _fitting(division.packed_used, accelerators.packed_gpus), 1.0)[place]
    part = np.where(market.ways.packed[division.way], np.minimum(part, whole), part)
    own = np.minimum(_fitting(division.time, jobs.copies), _fitting(division.spending, jobs.budget))
    part = np.minimum(part, np.minimum(own[division.first], np.where(division.second >= 0, own[division.second], 1.0)))
    smaller = replace(division, gangs=division.gangs * part, odd=())
    return plan_of(smaller).model_copy(update={"prices": tuple(one for one in plan.prices if one.accelerator in accelerators.at)})


def _fitting(used: Floats, there: Floats) -> Floats:
    """Which part of what is used there is, at most 1."""
    return np.where(used > there, there / np.where(used > 0.0, used, 1.0), 1.0)
