"""One sentence for everything that stays behind."""

from __future__ import annotations

from models.contract import Reason
from tests.optimizer.toy_kind.schema import Plan, Problem, Rule


def explain(problem: Problem, plan: Plan, subject: str | None = None) -> tuple[Reason, ...]:
    packed = {one.thing for one in plan.packed}
    behind = [thing.id for thing in problem.things if thing.id not in packed and subject in (None, thing.id)]
    return tuple(Reason(name, "why_not", Rule.bag_capacity, (name,), f"{name} found no better place", "heuristic") for name in behind)
