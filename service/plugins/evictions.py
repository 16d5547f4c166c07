"""The fewest evictions that would make room for a waiting job: told to people, and never carried out by a plugin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from models.placement.schema import Job, Problem, Running, Use
from service.plugins.planner import NoPlanError, checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from models.placement.schema import Plan
    from optimizer.limits import Limits
    from service.plugins.planner import Optimiser
    from service.plugins.problem import Asked

SHORTEST_S = 0.1  # a solve shorter than that finds nothing


@dataclass(frozen=True, slots=True)
class Evictions:
    """Jobs whose eviction makes room for one other. ``fewest``: it is proved that no smaller number does."""

    jobs: tuple[str, ...]
    fewest: bool


def evictions(
    asked: Asked, plan: Plan, names: Iterable[str], optimiser: Optimiser, limits: Limits, clock: Callable[[], float]
) -> dict[str, Evictions]:
    """For each of ``names``, in turn while ``limits.time_limit_s`` lasts; without those for whom no evictions help, or none were found.

    Only running jobs that may be evicted and have a lower priority go; what the plan starts stays. ``clock`` is a monotonic one.
    """
    began = clock()
    found: dict[str, Evictions] = {}
    for name in names:
        left = limits.time_limit_s - (clock() - began)
        if left < SHORTEST_S:
            break
        made = preemption(asked, plan, name)
        if made is None:
            continue
        try:
            answered = checked(made, optimiser.solve(made, replace(limits, time_limit_s=left)))
        except NoPlanError:
            continue  # nobody has to be evicted: it is only not told
        if answered.plan.evicted:
            proved = answered.bound is not None and answered.bound > answered.objective - 1 + 1e-6
            found[name] = Evictions(tuple(answered.plan.evicted), proved)
    return found


class Remembered:
    """Asks for the evictions of each job only now and then: the answer seldom changes, and looking for it takes time each round."""

    def __init__(self, again_s: float) -> None:
        self.again_s = again_s
        self._known: dict[tuple[str, str], tuple[float, Evictions | None]] = {}

    def evictions(
        self, asked: Asked, plan: Plan, names: Iterable[str], optimiser: Optimiser, limits: Limits, clock: Callable[[], float]
    ) -> dict[str, Evictions]:
        """As ``evictions``; what was found less than ``again_s`` ago is told again as long as all who would have to go still run."""
        now = clock()
        keys = {name: (name, asked.jobs[name].identity) for name in names}
        self._known = {key: known for key, known in self._known.items() if key in keys.values() and self._holds(asked, known, now)}
        new = [name for name, key in keys.items() if key not in self._known]
        found = evictions(asked, plan, new, optimiser, limits, clock)
        self._known |= {keys[name]: (now, found.get(name)) for name in new}
        told = {name: self._known[key][1] for name, key in keys.items()}
        return {name: one for name, one in told.items() if one is not None}

    def _holds(self, asked: Asked, known: tuple[float, Evictions | None], now: float) -> bool:
        at, found = known
        return now - at < self.again_s and all(name in asked.occupied.seats for name in (found.jobs if found is not None else ()))


def preemption(asked: Asked, plan: Plan, name: str) -> Problem | None:
    """The problem of making room for one waiting job; None when nobody may be evicted for it."""
    problem = asked.problem
    named = next((job for job in problem.jobs if job.id == name), None) if problem is not None else None
    if problem is None or named is None:
        return None
    placed = {placement.job: placement.workers for placement in plan.placements}
    jobs: list[Job] = []
    anyone = False
    for job in problem.jobs:
        if job.running is not None:
            jobs.append(job)
            anyone = anyone or (job.running.evictable and job.priority < named.priority)
        elif job.id == name:
            jobs.append(job)
        elif job.id in placed:  # about to start, with rules that it keeps where it goes
            running = Running.model_construct(workers=placed[job.id], move_cost=1.0, evictable=False)
            jobs.append(job.model_copy(update={"running": running}))
    if not anyone or name in placed:
        return None
    return Problem.model_construct(
        schema_version=1,
        use=Use.preempt,
        nodes=problem.nodes,
        jobs=tuple(jobs),
        tenants=problem.tenants,
        preempt_for=name,
        max_moves=None,
        max_evictions=None,
        power_cap_kw=None,
        interference=None,
        goals=(),
    )
