"""The searches of the kind: which one answers a problem. Nothing is solved here; see ``models.conversation``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.flow.network.arrays import is_supplied
from models.flow.routing.field import METHOD
from models.flow.schema import Use

if TYPE_CHECKING:
    from models.conversation import Conversation
    from models.flow.schema import Plan, Problem

__all__ = ["METHOD", "applies", "converse", "starts_from"]


def applies(problem: Problem) -> bool:
    """Every problem of the kind is answered by a conversation."""
    del problem
    return True


def starts_from(problem: Problem) -> bool:
    """Whether the search makes use of a plan to start from: column generation over paths has a start of its own."""
    return problem.use is not Use.route or problem.failures is not None


def converse(problem: Problem, plan: Plan | None, seed: int, seconds: float, gap: float) -> Conversation:
    """The search for a problem, whatever its use."""
    if problem.use is Use.design:
        from models.flow.design import search as design_search

        yield from design_search.converse(problem, plan, seed, seconds, gap)
    elif problem.use is Use.transfer:
        from models.flow.transfers import search as transfer_search

        yield from transfer_search.converse(problem, plan, seed, seconds, gap)
    elif problem.failures is not None:
        from models.flow.failures import search as failure_search

        yield from failure_search.converse(problem, plan, seed, seconds, gap)
    elif is_supplied(problem):
        from models.flow.routing import single

        yield from single.converse(problem)
    else:
        from models.flow.routing import objectives

        yield from objectives.converse(problem)
