"""Which waiting jobs are passed: they would fit in the place of jobs of lower priority that the plan starts.

Priorities are weights in the goal and no strict order (README.md, "What is planned, and how it is valued"), so many of low priority
may outweigh one of high priority. That is a choice, and never a silent one: whoever is passed is told so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.placement.ledger import Ledger
from models.placement.seating import seat_job
from service.plugins.forecast import wish

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from models.placement.schema import Plan
    from service.plugins.problem import Asked


def passed(asked: Asked, plan: Plan, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """For each of ``names``, waiting jobs that the plan leaves out, the jobs of lower priority that start where it would fit.

    Without those that would not fit even if none of lower priority started. Alike jobs are passed by the same.
    """
    problem = asked.problem
    if problem is None:
        return {}
    ledger = Ledger(problem)
    ledger.book_plan(plan)
    starts = sorted(
        (place for place in ledger.seats if problem.jobs[place].running is None), key=lambda place: problem.jobs[place].priority
    )
    by_node: dict[int, list[int]] = {}
    for place in starts:
        for node in {node for node, _ in ledger.seats[place]}:
            by_node.setdefault(node, []).append(place)
    left = sorted(
        (ledger.position[name] for name in names if name in ledger.position and ledger.position[name] not in ledger.seats),
        key=lambda place: problem.jobs[place].priority,
    )
    known: dict[tuple[int, Hashable], tuple[str, ...]] = {}
    gone = 0
    for place in left:
        job = problem.jobs[place]
        while gone < len(starts) and problem.jobs[starts[gone]].priority < job.priority:
            ledger.unbook(starts[gone])
            gone += 1
        key = (job.priority, wish(job))
        if key not in known:
            known[key] = _instead(ledger, place, by_node, set(starts[:gone]))
    found = {problem.jobs[place].id: known[problem.jobs[place].priority, wish(problem.jobs[place])] for place in left}
    return {name: others for name, others in found.items() if others}


def _instead(ledger: Ledger, place: int, by_node: dict[int, list[int]], lower: set[int]) -> tuple[str, ...]:
    """Those of ``lower`` that start on the nodes where the job would fit without any of them."""
    if not lower or not seat_job(ledger, place):
        return ()
    nodes = {node for node, _ in ledger.unbook(place)}
    others = dict.fromkeys(other for node in sorted(nodes) for other in by_node.get(node, ()) if other in lower)
    return tuple(ledger.problem.jobs[other].id for other in others)


__all__ = ["passed"]
