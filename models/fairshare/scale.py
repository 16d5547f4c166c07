"""The searches of the kind: which one answers a problem. Nothing is solved here; see ``models.conversation``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.fairshare.schema import LEVEL_POLICIES, Policy

if TYPE_CHECKING:
    from models.conversation import Conversation
    from models.fairshare.schema import Plan, Problem

METHOD = "duals of the program over classes of jobs, with threshold rows"

__all__ = ["METHOD", "applies", "carried", "converse"]


def applies(problem: Problem) -> bool:
    """Every problem of the kind is answered by a conversation."""
    del problem
    return True


def carried(problem: Problem, plan: Plan, seconds: float) -> Plan:
    """The plan of a problem much alike as one of this: what is left of it where there is less of something. It may break a rule."""
    from models.fairshare.plans.carrying import cut_down

    del seconds
    return cut_down(problem, plan)


def converse(problem: Problem, plan: Plan | None, seed: int, seconds: float, gap: float) -> Conversation:
    """The search for a problem, whatever its policy."""
    del seed, seconds
    if problem.policy in LEVEL_POLICIES or problem.policy is Policy.hierarchical:
        from models.fairshare.levels import search as level_search

        yield from level_search.converse(problem, plan, METHOD)
    else:
        from models.fairshare.sums import search as sum_search

        yield from sum_search.converse(problem, gap, METHOD)
