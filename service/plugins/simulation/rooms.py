"""Whether jobs find room beside others that stay where they are: counted where one job is asked about, else solved."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from models.contract import ContradictionError
from models.placement.explain_refusal import why_not
from models.placement.explain_rest import Layout, Rest
from models.placement.explain_room import Room
from models.placement.schema import GoalName, Plan, Problem
from optimizer.limits import Limits
from optimizer.solve import solve
from service.plugins.simulation.situation import as_they_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.placement.schema import Job
    from optimizer.result import Result

LEVELS_OF_WEIGHT = 9  # that the priorities of waiting jobs are told apart by where some of them must wait
HALF = 0.5
SMALL = 2_000  # jobs times nodes: a search is over sooner than a process for it has started
WHOLE = 1e-6  # below this two sums of whole numbers are the same


class TooLargeError(ValueError):
    """A job that no cluster of these nodes could hold, or that names what is not there; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Found:
    """Whether there is room. ``plan`` is verified against ``problem``; ``proved`` says that a missing plan does not exist.

    ``counted``: there is room by a count, and nobody has asked for the plan yet.
    """

    problem: Problem
    plan: Plan | None = None
    proved: bool = True
    reasons: tuple[str, ...] = ()
    counted: bool = False

    @property
    def possible(self) -> bool | None:
        """Whether there is room; None: not known."""
        return True if self.plan is not None or self.counted else False if self.proved else None


@dataclass(frozen=True, slots=True)
class Rooms:
    """A cluster in which jobs ask for room. Each search keeps ``limits``; ``cancel`` may be set from any thread.

    ``isolate=False`` searches in this process, as in ``optimizer.solve.solve``; small problems always are.
    """

    cluster: Problem
    limits: Limits = field(default_factory=Limits)
    cancel: threading.Event = field(default_factory=threading.Event)
    isolate: bool = True

    def problem(self, jobs: Sequence[Job], goals: tuple[GoalName, ...] = (GoalName.placed_value,), **parts: object) -> Problem:
        """The cluster with these jobs and no others. Raises TooLargeError for a job that is larger than the cluster."""
        kept = {name: getattr(self.cluster, name) for name in ("nodes", "tenants", "power_cap_kw")}
        try:
            return Problem.model_validate({**kept, "jobs": _apart(jobs), "goals": goals, **parts})
        except ValidationError as error:
            cause = error.errors(include_url=False)[0].get("ctx", {}).get("error")
            told = cause.mistakes[0].detail if isinstance(cause, ContradictionError) else error.errors(include_url=False)[0]["msg"]
            raise TooLargeError(told) from None

    def solved(self, problem: Problem, *, counts: float = 1.0, start: Plan | None = None) -> Result:
        """The result, with a gap that tells apart two plans of which one has one job more; ``counts`` is the largest sum there may be.

        ``start`` is a plan to improve on.
        """
        gap = min(self.limits.gap, HALF / 2 / max(1.0, counts))
        isolate = self.isolate and not is_small(problem)
        return solve(problem, replace(self.limits, gap=gap), cancel=self.cancel, isolate=isolate, warm_start=start)

    def for_one(self, running: Sequence[Job], job: Job, *, planned: bool = True) -> Found:
        """Whether ``job`` finds room beside ``running``. That it does not is proved by counting wherever it can be counted.

        Without ``planned`` a count is enough for a yes too.
        """
        goals = (GoalName.placed_value, *((GoalName.topology_distance,) if _prefers(job) else ()))
        problem = self.problem((*map(worthless, running), worth(job, 1, 1.0)), goals)
        layout = Layout(problem)
        beside = Room.of(Rest(layout, as_they_run(running)), len(running))
        if beside.impossible:
            told = why_not(beside, Room.of(Rest(layout), len(running)))
            return Found(problem, reasons=tuple(reason.text for reason in told))
        if not planned and beside.fits is not None:
            return Found(problem, counted=True)
        result = self.solved(problem)
        if isinstance(result.plan, Plan) and _placed(result.plan, job.id):
            return Found(problem, result.plan)
        proved = result.certificate is not None and result.certificate.bound < 1 - WHOLE
        return Found(problem, None, proved, tuple(reason.text for reason in result.reasons if reason.subject == job.id))

    def for_all(self, running: Sequence[Job], jobs: Sequence[Job]) -> Found:
        """Whether all ``jobs`` find room beside ``running`` at the same time."""
        problem = self.problem((*map(worthless, running), *(worth(job, 1, 1.0) for job in jobs)))
        result = self.solved(problem, counts=len(jobs))
        if isinstance(result.plan, Plan) and all(_placed(result.plan, job.id) for job in jobs):
            return Found(problem, result.plan)
        proved = result.certificate is not None and result.certificate.bound < len(jobs) - WHOLE
        return Found(problem, None, proved)

    def in_turn(self, running: Sequence[Job], ahead: Sequence[Job], job: Job) -> tuple[Found, Plan | None]:
        """Whether ``job`` starts in a plan that starts of those ``ahead`` what can be started best; that plan, with or without the job.

        They weigh 1 to 9 by the rank of their priority, the job itself half of the least: so it never takes the place of another.
        """
        weights = weights_of(ahead)
        jobs = (*map(worthless, running), *(worth(one, weights[one.id], 1.0) for one in ahead), worth(job, 1, HALF))
        problem = self.problem(jobs)
        result = self.solved(problem, counts=sum(weights.values()) + 1)
        if not isinstance(result.plan, Plan) or result.certificate is None:
            return Found(problem, None, proved=False), None
        placed = {placement.job for placement in result.plan.placements}
        started = sum(weights[one.id] for one in ahead if one.id in placed)
        if job.id not in placed:
            return Found(problem, None, result.certificate.bound < started + HALF - WHOLE), result.plan
        best = result.certificate.bound < started + 1 - WHOLE  # nobody starts more of those ahead
        return Found(problem, result.plan if best else None, best), result.plan


def is_small(problem: Problem) -> bool:
    """Whether a search over it is a matter of an instant."""
    return len(problem.jobs) * len(problem.nodes) <= SMALL


def worthless(job: Job) -> Job:
    """A running job that no goal counts, at the size that it has."""
    workers = len(job.running.workers) if job.running is not None else job.workers
    return job.model_copy(update={"value": 0.0, "workers": workers, "workers_min": None})


def counted_once(job: Job) -> Job:
    """As ``worthless``, and a move of it counts 1, whatever it costs: the goal ``moves`` adds up costs."""
    stays = worthless(job)
    return stays.model_copy(update={"running": job.running.model_copy(update={"move_cost": 1.0})}) if job.running is not None else stays


def worth(job: Job, priority: int, value: float) -> Job:
    """A waiting job that counts ``priority`` times ``value``, on whichever accepted GPUs it runs, with all its workers."""
    speeds = dict.fromkeys(job.model_speeds, 1.0)
    return job.model_copy(update={"priority": priority, "value": value, "workers_min": None, "model_speeds": speeds})


def weights_of(jobs: Sequence[Job]) -> dict[str, int]:
    """1 to LEVELS_OF_WEIGHT for each job, by the rank of its priority among the different priorities."""
    ranks = {priority: rank for rank, priority in enumerate(sorted({job.priority for job in jobs}))}
    step = max(1, len(ranks) - 1)
    return {job.id: 1 + (LEVELS_OF_WEIGHT - 1) * ranks[job.priority] // step for job in jobs}


def hopeful(rooms: Rooms, running: Sequence[Job], jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Those of ``jobs`` that are not proved, by counting, to find no room beside ``running`` even alone."""
    fits: dict[str, bool] = {}
    base = as_they_run(running)
    kept = []
    for job in jobs:
        wish = job.model_copy(update={"id": "?", "priority": 1, "value": 1.0}).model_dump_json()
        if wish not in fits:
            layout = Layout(rooms.problem((*map(worthless, running), worth(job, 1, 1.0))))
            fits[wish] = not Room.of(Rest(layout, base), len(running)).impossible
        if fits[wish]:
            kept.append(job)
    return tuple(kept)


def earliest(count: int, test: Callable[[int], Found]) -> tuple[int | None, int | None, Found | None]:
    """The first of ``count`` ascending times at which ``test`` finds room, by bisection: room once there stays there.

    Returns the position (None: at none), the last position at which it is proved that there is none, and what was found there.
    Valid because the jobs that run at a later time are some of those that run at an earlier one, so that a plan stays a plan.
    """
    if count == 0:
        return None, None, None
    last = test(count - 1)
    if not last.possible:
        return None, count - 1 if last.proved else None, last
    low, high, best, refuted = -1, count - 1, last, None
    while high - low > 1:
        middle = (low + high) // 2
        found = test(middle)
        if found.possible:
            high, best = middle, found
        else:
            low = middle
            refuted = middle if found.proved else refuted
    return high, refuted, best


def _apart(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """The jobs, keeping away from each other only: a job that has ended is nobody's neighbour."""
    if all(job.anti_affinity is None for job in jobs):
        return tuple(jobs)
    names = {job.id for job in jobs}
    kept = []
    for job in jobs:
        rivals = tuple(other for other in job.anti_affinity.jobs if other in names) if job.anti_affinity is not None else ()
        wish = job.anti_affinity.model_copy(update={"jobs": rivals}) if job.anti_affinity is not None and rivals else None
        kept.append(job.model_copy(update={"anti_affinity": wish}))
    return tuple(kept)


def _prefers(job: Job) -> bool:
    return job.colocate is not None and not job.colocate.required


def _placed(plan: Plan, job: str) -> bool:
    return any(placement.job == job for placement in plan.placements)
