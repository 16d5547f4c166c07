"""One sentence for everything that stays behind."""

from __future__ import annotations

import math
from collections.abc import Sequence

from models.contract import Reason
from tests.optimizer.toy_kind.schema import Plan, Problem, Rule

FIRM_RULES = frozenset({Rule.must_pack.value})
CUT_COLUMNS: frozenset[str] = frozenset()


def rule_units() -> dict[str, str]:
    return {Rule.bag_capacity.value: "g", Rule.packed_once.value: "times", Rule.must_pack.value: "things"}


def repair_text(rule: str, ids: Sequence[str], excess: float) -> str:
    return f"{rule} of {', '.join(ids)}: {excess:g} {rule_units()[rule]} more"


def explain(problem: Problem, plan: Plan, subject: str | None = None, seconds: float = math.inf) -> tuple[Reason, ...]:  # noqa: ARG001
    packed = {one.thing for one in plan.packed}
    behind = [thing.id for thing in problem.things if thing.id not in packed and subject in (None, thing.id)]
    return tuple(Reason(name, "why_not", Rule.bag_capacity, (name,), f"{name} found no better place", "heuristic") for name in behind)
