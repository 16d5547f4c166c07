"""The fewest running jobs that would have to move, or to be evicted, so that one more finds room; and how few could ever do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from models.placement.schema import GoalName, JobPlacement, Plan, Use
from optimizer.result import Outcome
from service.plugins.simulation.rooms import Rooms, counted_once, is_small, worth, worthless
from service.plugins.simulation.situation import as_running, pinned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.placement.schema import Job, Problem
    from optimizer.result import Result
    from service.plugins.simulation.situation import Situation

ROUNDING = 1e-6
SHARE = 0.25  # of a search's time, for each of the two quick ways to a first plan


@dataclass(frozen=True, slots=True)
class Made:
    """How room is made. ``bound``: no plan changes fewer jobs; None: it is proved that none makes room at all."""

    problem: Problem
    plan: Plan | None
    bound: int | None

    @property
    def proved(self) -> bool:
        """Whether no plan changes fewer jobs than this one."""
        return self.plan is not None and self.bound is not None and len(self.plan.moved) <= self.bound

    def better(self, plan: Plan | None, bound: int) -> Made:
        """With the plan of fewer moves of the two, and the larger of the bounds."""
        plans = [one for one in (self.plan, plan) if one is not None]
        return Made(self.problem, min(plans, key=lambda one: len(one.moved), default=None), max(self.bound or 0, bound))


@dataclass(frozen=True)
class Making:
    """One job that finds no room in this situation."""

    rooms: Rooms
    situation: Situation
    job: Job

    @property
    def above_all(self) -> int:
        """The least priority above that of all running jobs that may be evicted."""
        return max((job.priority for job in self.situation.running if job.running and job.running.evictable), default=-1) + 1

    def evicted(self, priority: int | None = None) -> Made:
        """With the fewest evictions of jobs of lower priority, its own or the one that is given."""
        job = self.job if priority is None else self.job.model_copy(update={"priority": priority})
        problem = self._preemption(job, tuple(map(worthless, self.situation.running)), ())
        result = self.rooms.solved(problem, counts=len(problem.jobs))
        if isinstance(result.plan, Plan):
            return Made(problem, result.plan, _bound(result, GoalName.evictions))
        return Made(problem, None, None if result.outcome is Outcome.infeasible else 0)

    def moved(self) -> Made:
        """With the fewest moves: no fewer than the evictions that any priority would need, because who moves away is gone too."""
        small = is_small(self._repack)
        found = self._searched(None) if small else Made(self._repack, None, 0)
        if found.bound is None or found.proved:
            return found
        evicted = self.evicted(priority=self.above_all)
        if evicted.bound is None:
            return Made(self._repack, None, None)
        found = found.better(self._seated_elsewhere(evicted.plan), evicted.bound)
        if not found.proved:
            found = found.better(self._seated_elsewhere(self._lightest()), evicted.bound)
        if small or found.proved:
            return found
        searched = self._searched(found.plan)
        return searched if searched.bound is None else found.better(searched.plan, searched.bound)

    def _searched(self, start: Plan | None) -> Made:
        """By the search for a whole repack, from the plan ``start``."""
        result = self.rooms.solved(self._repack, counts=len(self._repack.jobs), start=start)
        plan = self._right(result.plan)
        certificate = result.certificate
        none = result.outcome is Outcome.infeasible or (certificate is not None and certificate.bound < 1 - ROUNDING)
        if plan is None and none:
            return Made(self._repack, None, None)
        # The bound is of plans that place the job: of those that do not, it says nothing.
        placed = isinstance(result.plan, Plan) and any(placement.job == self.job.id for placement in result.plan.placements)
        return Made(self._repack, plan, _bound(result, GoalName.moves) if placed else 0)

    # ------------------------------------------------------------ parts

    @cached_property
    def _repack(self) -> Problem:
        """Every job that may be evicted may move, the others are bound to their nodes."""
        nodes, running = pinned(self.situation)
        jobs = (*map(counted_once, running), worth(self.job, 1, 1.0))
        goals = (GoalName.placed_value, GoalName.moves)
        return self.rooms.problem(jobs, goals, use=Use.repack, max_evictions=0, nodes=nodes)

    def _preemption(self, job: Job, running: Sequence[Job], goals: tuple[GoalName, ...]) -> Problem:
        return self.rooms.problem((*running, job.model_copy(update={"workers_min": None})), goals, use=Use.preempt, preempt_for=job.id)

    def _lightest(self) -> Plan | None:
        """The plan that evicts the fewest GPUs: small jobs find another place sooner."""
        running = []
        for job in map(worthless, self.situation.running):
            cost = job.workers * max(job.gpus_per_worker, 1.0 / 8)
            held = job.running.model_copy(update={"move_cost": cost}) if job.running is not None else None
            running.append(job.model_copy(update={"running": held}))
        job = self.job.model_copy(update={"priority": self.above_all})
        problem = self._preemption(job, running, (GoalName.eviction_cost, GoalName.evictions))
        result = self._briefly.solved(problem, counts=len(running))
        return result.plan if isinstance(result.plan, Plan) else None

    def _seated_elsewhere(self, evicting: Plan | None) -> Plan | None:
        """A repack in which those whom a preemption evicts find other places, and the job finds one; None where they do not."""
        if evicting is None:
            return None
        out = set(evicting.evicted)
        stay = [job for job in self.situation.running if job.id not in out]
        seek = [job.model_copy(update={"running": None}) for job in map(worthless, self.situation.running) if job.id in out]
        seats = {placement.job: placement.workers for placement in evicting.placements}
        found = self._briefly.for_all((*stay, as_running(self.job, seats[self.job.id])), seek)
        if found.plan is None:
            found = self._briefly.for_all(stay, (*seek, self.job))
        if found.plan is None:
            return None
        seats = {placement.job: placement.workers for placement in found.plan.placements}
        here = {job.id: job.running.workers for job in self.situation.running if job.running is not None}
        moved = tuple(job.id for job in seek if sorted(map(str, seats[job.id])) != sorted(map(str, here[job.id])))
        placements = tuple(JobPlacement(job=job.id, workers=seats[job.id]) for job in self._repack.jobs)
        return self._right(Plan(placements=placements, moved=moved))

    def _right(self, plan: object) -> Plan | None:
        """The plan, if it is one that breaks no rule, places the job and moves nobody who may not be moved."""
        from models.placement.verify import verify

        if not isinstance(plan, Plan) or all(placement.job != self.job.id for placement in plan.placements):
            return None
        firm = {job.id for job in self.situation.running if job.running is not None and not job.running.evictable}
        return plan if not firm.intersection(plan.moved) and verify(self._repack, plan).ok else None

    @property
    def _briefly(self) -> Rooms:
        return replace(self.rooms, limits=replace(self.rooms.limits, time_limit_s=SHARE * self.rooms.limits.time_limit_s))


def _bound(result: Result, name: GoalName) -> int:
    """The whole number of jobs that no plan stays below."""
    goals = result.certificate.goals if result.certificate is not None else ()
    bound = next((goal.bound for goal in goals if goal.name == name.value), 0.0)
    return max(0, math.ceil(bound - ROUNDING)) if math.isfinite(bound) else 0
