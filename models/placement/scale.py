"""How a large placement problem is cut down: its relaxation by groups, the two ways back to a plan, and neighbourhoods.

All of it is pure: the drivers in ``optimizer`` do the solving. ``README.md`` says how the parts fit together.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from models.placement.carried import carried
from models.placement.guided import fill_rest, seat_guided
from models.placement.heuristic import book_all_running, fill, waiting
from models.placement.ledger import Ledger
from models.placement.neighbourhood import neighbourhoods
from models.placement.packing import Packing
from models.placement.part import part
from models.placement.relaxation import COUNTED, Relaxation
from models.placement.repacking import Repacking
from models.placement.schema import GoalName, Use

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.placement.schema import Plan, Problem
    from models.program import Floats, LinearProgram

__all__ = ["applies", "carried", "exchange", "filled", "guided", "neighbourhoods", "packing", "part", "relaxation"]

METHOD = "dual bound of the relaxation by shapes, stocks and slices, recomputed from its row duals"  # what certificates say


def applies(problem: Problem) -> bool:
    """Whether this path serves the problem: not a preemption, whose exact program holds one job's workers and stays small."""
    return problem.use is not Use.preempt


def relaxation(
    problem: Problem, goal: str, floors: Mapping[str, float] | None = None, known: Relaxation | None = None
) -> Relaxation | None:
    """The relaxation for one goal; None for a goal that it does not know, or when the running jobs break a rule.

    A placement keeps its running jobs. A repack or a preemption is relaxed further: every job may go anywhere, at no cost.
    ``known`` is a relaxation that this function made of the same object ``problem`` for an earlier goal.
    """
    name = GoalName(goal)
    if name not in COUNTED:
        return None
    limits = {GoalName(one): value for one, value in (floors or {}).items()}
    if known is not None and known.ledger.problem is problem:
        return Relaxation(known.ledger, known.jobs, name, floors=limits, known=known, granted=known.granted)
    ledger = Ledger(problem)
    jobs = list(range(len(problem.jobs)))
    granted: frozenset[int] = frozenset()
    if problem.use is Use.place:
        if not book_all_running(ledger):
            return None
        jobs = waiting(problem)
    else:
        ledger.close_unready()
        granted = _granted(problem)
        jobs = [place for place in jobs if place not in granted]
    return Relaxation(ledger, jobs, name, floors=limits, granted=granted)


def _granted(problem: Problem) -> frozenset[int]:
    """Running jobs that may stay where no new worker may come: the relaxation grants them in full and asks nothing for them."""
    kept = {node.id for node in problem.nodes if node.state != "drained" and (node.state == "cordoned" or node.reserved_for is not None)}
    return frozenset(
        place
        for place, job in enumerate(problem.jobs)
        if job.running is not None and any(worker.node in kept for worker in job.running.workers)
    )


def guided(problem: Problem, source: Relaxation, values: Floats, seconds: float) -> Plan | None:
    """A plan of the jobs that the relaxation runs at ``values``, then of whatever else fits. None for a repack or preemption."""
    if problem.use is not Use.place:
        return None
    deadline = time.monotonic() + seconds
    ledger = _running_ledger(problem)
    seat_guided(source, values, ledger, deadline)
    fill_rest(source, ledger, deadline)
    return ledger.plan()


class Packed:
    """A dive that packs whole nodes; jobs with rules about domains are seated first, guided by ``values``."""

    def __init__(self, problem: Problem, source: Relaxation, values: Floats, seconds: float) -> None:
        self._ledger = _running_ledger(problem)
        seat_guided(source, values, self._ledger, time.monotonic() + seconds, only=self._ruled)
        jobs = [place for place in waiting(problem) if place not in self._ledger.seats and not self._ruled(place)]
        self._all = source
        self.source = Relaxation(self._ledger, jobs, source.goal)
        self._packing: Packing | None = None

    def _ruled(self, place: int) -> bool:
        """Whether it matters which nodes of a stock the job gets, or how many workers: it is seated by name, not by pattern."""
        job = self._ledger.problem.jobs[place]
        together = job.colocate is not None and job.colocate.required
        return together or job.spread is not None or job.workers_min is not None or self._ledger.has_foes(place)

    def begin(self, program: LinearProgram) -> Packing:
        """The dive over the complete master ``program`` of ``source``."""
        self._packing = Packing(self.source, program)
        return self._packing

    def plan(self, seconds: float) -> Plan:
        """The plan as packed so far, filled up with whatever else fits."""
        if self._packing is not None:
            self._packing.book(self._ledger)
        fill_rest(self._all, self._ledger, time.monotonic() + seconds)
        return self._ledger.plan()


def packing(problem: Problem, source: Relaxation, values: Floats, seconds: float) -> Packed | None:
    """A dive from the relaxation to a plan; None where packing whole nodes does not apply (a repack or preemption)."""
    return Packed(problem, source, values, seconds) if problem.use is Use.place else None


def filled(problem: Problem, plan: Plan, seconds: float) -> Plan:
    """``plan`` and whatever waiting job fits beside it: a search by parts may leave room that no part has seen whole."""
    if problem.use is Use.preempt:
        return plan
    deadline = time.monotonic() + seconds
    ledger = Ledger(problem)
    ledger.book_plan(plan)
    fill(ledger, waiting(problem), deadline)
    return ledger.plan()


def exchange(problem: Problem, plan: Plan) -> Repacking | None:
    """One round of moves around ``plan`` for a repack; None for the other uses and for goals that no move serves."""
    goal = problem.ordered_goals()[0]
    return Repacking(problem, goal, plan) if problem.use is Use.repack and goal in COUNTED else None


def _running_ledger(problem: Problem) -> Ledger:
    ledger = Ledger(problem)
    book_all_running(ledger)
    return ledger
