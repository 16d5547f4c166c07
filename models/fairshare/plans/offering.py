"""Plans are looked at before they are offered: where numbers of very unlike size leave a rule broken by rounding, there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.fairshare.verify import verify

if TYPE_CHECKING:
    from models.fairshare.schema import Plan, Problem


def right_of(problem: Problem, *plans: Plan) -> Plan | None:
    """The first of the plans that breaks no rule."""
    return next((plan for plan in plans if verify(problem, plan).ok), None)
