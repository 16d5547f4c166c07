"""Whether a plan of a flow is right, and how good: recomputed in plain numpy from Problem and Plan alone. README.md has the rules.

A side may be exceeded by TOLERANCE times ``max(1, |side|)``. Routes are in ``routing.verify``, the proofs of fairness in
``fairness.verify``; failures, designs and transfers have modules of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.broken import Broken
from models.contract import Verdict
from models.flow.goals import goal_names, goals

if TYPE_CHECKING:
    from models.flow.schema import Plan, Problem

__all__ = ["goals", "verify"]


def prepare(problem: Problem) -> None:
    """Works out the paths that the problem lets demands use: of tens of thousands of demands that takes seconds."""
    if problem.use == "route" and problem.paths.choice != "all":
        from models.flow.paths.admissible import admissible

        admissible(problem)


def verify(problem: Problem, plan: Plan) -> Verdict:
    """Every broken rule and every goal's value; never raises an error, whatever the plan says."""
    if problem.use == "design":
        from models.flow.design.verify import verify_design

        return verify_design(problem, plan)
    if problem.use == "transfer":
        from models.flow.transfers.verify import verify_transfers

        return verify_transfers(problem, plan)
    return _routing(problem, plan)


def _routing(problem: Problem, plan: Plan) -> Verdict:
    from models.flow.network.arrays import is_supplied
    from models.flow.network.tally import tally_of
    from models.flow.routing.verify import demand_goals, demand_rules, link_rules, metrics, supply_goals, supply_rules

    tally = tally_of(problem, plan)
    broken = Broken()
    broken.extend(tally.faults, tally.fault_count)
    link_rules(problem, plan, tally, broken)
    supplied = is_supplied(problem)
    if supplied:
        supply_rules(problem, plan, tally, broken)
        values = supply_goals(problem, tally)
    else:
        demand_rules(problem, plan, tally, broken)
        values = demand_goals(problem, plan, tally, broken)
    facts = metrics(problem, plan, tally)
    if problem.failures is not None:
        from models.flow.failures import verify as verify_failures

        broken.extend(verify_failures.broken(problem, plan, tally))
        if problem.failures.mode == "cvar":
            values = verify_failures.objectives(problem, plan, tally)
        facts |= verify_failures.metrics(problem, plan, tally)
    ordered = {name: values[name] for name in goal_names(problem)}
    return Verdict(ordered, broken.told, broken.count, facts)
