"""What one more GPU would be worth, and how firmly each job stands: from the prices of a plan's rounds, worked out again.

The first round of the most important class proves its level L by ``sum_j count_j phi_j(need_j(L)) <= most``. One more GPU of an accelerator
raises the right side by its price, and the left side is convex in L: so the level gains at most the price over the left side's slope at L.
That is told only where the proof is tight, so that L itself is the best level there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.broken import Broken
from models.fairshare.levels.scales import job_levels
from models.fairshare.levels.tenants import starting_rates
from models.fairshare.market import market_of
from models.fairshare.proofs.prices import proof_of
from models.fairshare.proofs.verify import proved_slack
from models.fairshare.schema import LEVEL_POLICIES, Policy

if TYPE_CHECKING:
    from models.fairshare.proofs.schema import Round
    from models.fairshare.schema import Plan, Problem
    from models.program import Bools, Floats

TIGHT = 1e-6  # relative: how far a proof may be above the level that it proves
STANDS = 1e-5  # relative: a job that could rise by less is settled


def gpu_worth(problem: Problem, plan: Plan) -> Floats | None:
    """The most by which one more GPU of each accelerator improves the first goal, shape (accelerators,); None where that is not proved."""
    market = market_of(problem)
    fair = problem.policy in LEVEL_POLICIES or problem.policy is Policy.hierarchical
    if not fair or not plan.rounds or plan.rounds[0].priority != market.jobs.classes[0]:
        return None
    first = plan.rounds[0]
    proof = proof_of(problem, first)
    if isinstance(proof, str):
        return None
    own = market.jobs.priority == first.priority
    levels = job_levels(problem.policy, market.jobs)
    level = levels.meant(first.level)
    if problem.policy is Policy.hierarchical:
        steep = starting_rates(problem) * market.jobs.par
        need = steep * level
    else:
        need, steep = levels.need(level), levels.steepness(level)
    value, slope = proof.worth(proof.group, np.where(own, need, 0.0))
    weight = np.where(own, market.jobs.copies, 0.0)
    total, rate = float(weight @ value), float(weight @ np.where(slope > 0.0, slope * np.where(own, steep, 0.0), 0.0))
    if level <= 0.0 or not np.isfinite(total) or rate <= 0.0 or abs(proof.most - total) > TIGHT * max(abs(total), rate * level):
        return None
    gain = _prices(problem, first) / rate
    if not levels.inverse:
        return gain
    return np.asarray(1.0 / level - 1.0 / (level + gain))  # a makespan, or a ratio: what it falls by


def _prices(problem: Problem, one: Round) -> Floats:
    """The price of one more GPU in a round's scale; one that comes in a whole block, where these are few."""
    accelerators = market_of(problem).accelerators
    found = np.zeros(accelerators.count)
    for price in one.prices:
        place = accelerators.at[price.accelerator]
        found[place] += price.price + (price.packed_price if accelerators.limits_packing[place] else 0.0)
    return found


def stands(problem: Problem, plan: Plan, speed: Floats) -> Bools:
    """Whether the rounds prove of each job that it alone cannot rise while the others keep their levels, shape (jobs,)."""
    if problem.policy not in LEVEL_POLICIES and problem.policy is not Policy.hierarchical:
        return np.zeros(len(speed), dtype=np.bool_)
    settled: Bools = proved_slack(problem, plan, speed, Broken()).alone <= STANDS
    return settled
