"""Asks an optimiser for a plan, and believes nothing of what it answers before it is checked here.

An optimiser is a child process of this one, or a Quartermaster service. It may be late, gone or wrong: then the round has no plan,
which is counted and told, and the cluster goes on as it would without us.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from models.contract import Reason, Sense
from models.placement.carried import carried
from models.placement.heuristic import heuristic
from models.placement.schema import JobPlacement, Plan, Problem, WorkerPlace
from models.placement.verify import goals, verify
from service.plugins.orders import Order, Orders, Seat, Wait

if TYPE_CHECKING:
    from optimizer.limits import Limits
    from service.plugins.problem import Asked

Trouble = Literal["late", "gone", "no_plan", "rubbish", "infeasible", "wrong_objective", "wrong_bound", "poor", "fault"]
TROUBLES: tuple[Trouble, ...] = ("late", "gone", "no_plan", "rubbish", "infeasible", "wrong_objective", "wrong_bound", "poor", "fault")
CROSSING = 1e-6  # relative: sums of the same amounts in another order
FLOOR = 0.5  # of what greedy placement reaches at once: a plan worth less comes from an optimiser that does not work
FLOOR_S = 0.5
LONGEST_TEXT = 4_000
MOST_NAMES = 4


class NoPlanError(RuntimeError):
    """The round has no plan; ``trouble`` is stable, the message says what happened."""

    def __init__(self, trouble: Trouble, message: str) -> None:
        super().__init__(message)
        self.trouble: Trouble = trouble


@dataclass(frozen=True, slots=True)
class Answer:
    """What an optimiser says, unchecked: a plan in JSON, figures of the first goal, and its explanations in JSON."""

    plan: bytes | str
    objective: float | None = None
    bound: float | None = None
    explanations: bytes | str = b""
    optimal: bool = False


class Optimiser(Protocol):
    """Solves placement problems. Used by one thread at a time."""

    def solve(self, problem: Problem, limits: Limits, warm_start: Plan | None = None) -> Answer:
        """A plan within about ``limits.time_limit_s``, at most a few seconds later. Raises NoPlanError."""
        ...

    def close(self) -> None:
        """Give back what it holds; may be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan that was verified here. ``bound`` and ``gap`` are None when nothing was proved; ``reasons`` may be empty."""

    plan: Plan
    goal: str
    objective: float
    bound: float | None = None
    gap: float | None = None
    reasons: tuple[Reason, ...] = ()
    kept: bool = False  # whether it is the plan in force carried on, because the new one is no better
    placements: Mapping[str, JobPlacement] = field(default_factory=dict)  # by job


def planned(asked: Asked, optimiser: Optimiser, limits: Limits, in_force: Orders | None = None) -> Planned:
    """A verified plan of ``asked``, which has a problem. Starts from the orders in force, and keeps to them unless another is better.

    Raises NoPlanError when there is none.
    """
    problem = asked.problem
    if problem is None:
        raise NoPlanError("no_plan", "there is nothing to plan")
    start = started_from(asked, in_force)
    try:
        answer = optimiser.solve(problem, limits, start)
    except NoPlanError:
        raise
    except Exception as error:  # whatever an optimiser runs into is no reason to stop
        raise NoPlanError("fault", f"the optimiser failed: {type(error).__name__}: {error}"[:LONGEST_TEXT]) from error
    found = checked(problem, answer)
    return filled(problem, kept_to(problem, found, start) if start is not None else not_poor(problem, found))


def started_from(asked: Asked, in_force: Orders | None) -> Plan | None:
    """The orders in force as a plan of the new problem, with what else fits; None when none of them can still be carried out."""
    problem = asked.problem
    if problem is None or in_force is None or not in_force.orders:
        return None
    placements = []
    for name in asked.planned:
        order = in_force.orders.get(name)
        if order is not None and order.identity == asked.jobs[name].identity:
            workers = tuple(WorkerPlace.model_construct(node=seat.node, gpus=seat.gpus) for seat in order.seats)
            placements.append(JobPlacement.model_construct(job=name, workers=workers))
    if not placements:
        return None
    try:
        return carried(problem, Plan.model_construct(schema_version=1, placements=tuple(placements), moved=(), evicted=()), FLOOR_S)
    except (KeyError, IndexError, ValueError):  # seats that this cluster does not have
        return None


# ---------------------------------------------------------------- checking


def checked(problem: Problem, answer: Answer) -> Planned:
    """The answer as a plan, if it stands up to ``verify`` and its figures are true. Raises NoPlanError, and nothing else."""
    try:
        plan = Plan.model_validate_json(answer.plan)
        verdict = verify(problem, plan)
    except NoPlanError:
        raise
    except Exception as error:  # verify promises not to raise, but this is the last gate before a cluster
        raise NoPlanError("rubbish", f"the answer is no plan: {type(error).__name__}: {error}"[:LONGEST_TEXT]) from error
    if not verdict.ok:
        first = verdict.violations[0]
        raise NoPlanError(
            "infeasible", f"the plan breaks {verdict.violation_count} rules; first {first.rule}: {first.message}"[:LONGEST_TEXT]
        )
    goal = goals(problem)[0]
    objective = verdict.objectives[goal.name]
    told = _number(answer.objective, "objective")
    slack = CROSSING * max(1.0, abs(objective))
    if told is not None and abs(told - objective) > slack:
        raise NoPlanError(
            "wrong_objective", f"the plan is said to have {goal.name} {told:g} and has {objective:g}: it is that of another problem"
        )
    bound = _number(answer.bound, "bound")
    if bound is not None and (objective - bound if goal.sense is Sense.maximise else bound - objective) > slack:
        raise NoPlanError("wrong_bound", f"{goal.name} is {objective:g}, beyond its bound {bound:g}: what was proved is wrong")
    gap = None if bound is None else abs(bound - objective) / max(1.0, abs(objective))
    return Planned(plan, goal.name, objective, bound, gap, _reasons(answer.explanations), placements=_by_job(plan))


def _number(value: object, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise NoPlanError("rubbish", f"the {name} is {str(value)[:100]}, which is no number")
    return float(value)


def _reasons(told: bytes | str) -> tuple[Reason, ...]:
    """The explanations, as far as they are any: they only end in sentences."""
    try:
        listed = json.loads(told)["explanations"] if told else []
        return tuple(_reason(one) for one in listed)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()


def _reason(told: Mapping[str, Any]) -> Reason:
    status: Literal["proved", "heuristic"] = "proved" if told["status"] == "proved" else "heuristic"
    ids = tuple(str(one) for one in told["ids"])
    return Reason(str(told["subject"]), str(told["code"]), str(told["rule"]), ids, str(told["text"])[:LONGEST_TEXT], status)


def _by_job(plan: Plan) -> dict[str, JobPlacement]:
    return {placement.job: placement for placement in plan.placements}


def filled(problem: Problem, found: Planned) -> Planned:
    """The plan with what else fits. A solve that ends within its gap may leave jobs out that there is room for, above all small ones."""
    if found.gap == 0 or len(found.placements) == len(problem.jobs):
        return found
    fuller = carried(problem, found.plan, FLOOR_S)
    if fuller is None or len(fuller.placements) <= len(found.placements):
        return found
    verdict = verify(problem, fuller)
    objective = verdict.objectives.get(found.goal, -math.inf)
    if not verdict.ok or objective < found.objective:
        return found
    return replace(found, plan=fuller, objective=objective, gap=_gap(found, objective), placements=_by_job(fuller))


def _gap(found: Planned, objective: float) -> float | None:
    """The gap of a plan of that objective to the bound that was proved. Raises NoPlanError: it is beyond the bound."""
    if found.bound is None:
        return None
    if objective > found.bound + CROSSING * max(1.0, abs(objective)):
        raise NoPlanError("wrong_bound", f"a plan has {found.goal} {objective:g}, beyond the bound {found.bound:g} of the new one")
    return abs(found.bound - objective) / max(1.0, abs(objective))


def kept_to(problem: Problem, found: Planned, start: Plan) -> Planned:
    """The plan in force carried on, unless the new one is better in some goal and as good in those before it."""
    mine, new = verify(problem, start), verify(problem, found.plan)
    if not mine.ok:
        return not_poor(problem, found)
    _not_below(found, mine.objectives[found.goal])
    for goal in goals(problem):
        if goal.better(new.objectives[goal.name], mine.objectives[goal.name]):
            return found
        if goal.better(mine.objectives[goal.name], new.objectives[goal.name]):
            break
    objective = mine.objectives[found.goal]
    gap = _gap(found, objective)
    return Planned(start, found.goal, objective, found.bound, gap, found.reasons, kept=True, placements=_by_job(start))


def not_poor(problem: Problem, found: Planned) -> Planned:
    """The plan, if it is not far below what can be had at once: an empty plan is feasible, and would let everyone wait for ever."""
    floor = heuristic(problem, 0, FLOOR_S)
    return found if floor is None else _not_below(found, verify(problem, floor).objectives[found.goal])


def _not_below(found: Planned, reached: float) -> Planned:
    if found.objective < FLOOR * reached - CROSSING:
        message = f"the plan has {found.goal} {found.objective:g}, and placing jobs one after another has {reached:g} at once"
        raise NoPlanError("poor", message)
    return found


# ---------------------------------------------------------------- orders


def orders(asked: Asked, found: Planned | None, version: int, now: float, ttl_s: float, waits: Mapping[str, Wait] | None = None) -> Orders:
    """What the plan says as orders: who starts where, and who waits and why (``waits`` where there is a sentence, else a plain one).

    The highest priority comes first: what has become too little meanwhile goes to it.

    ``found`` is None when there was nothing to plan.
    """
    told = waits or {}
    starts: dict[str, Order] = {}
    stays: dict[str, Wait] = {}
    for name in sorted(asked.planned, key=lambda name: -asked.jobs[name].priority):
        job = asked.jobs[name]
        placement = found.placements.get(name) if found is not None else None
        if placement is None:
            stays[name] = told.get(name) or Wait(name, job.identity, "waiting: it does not fit beside what runs and what goes first")
            continue
        seats = tuple(Seat(worker.node, worker.gpus) for worker in placement.workers)
        versions = {seat.node: asked.nodes[seat.node].version for seat in seats}
        starts[name] = Order(name, job.identity, seats, versions, _placed(seats, found, version))
    for name, why in asked.left_out.items():
        stays[name] = told.get(name) or Wait(name, asked.jobs[name].identity, why, "proved")
    if found is None:
        return Orders(version, now, ttl_s, starts, stays)
    return Orders(version, now, ttl_s, starts, stays, found.objective, found.bound, found.gap, found.goal)


def _placed(seats: tuple[Seat, ...], found: Planned | None, version: int) -> str:
    names = list(dict.fromkeys(seat.node for seat in seats))
    where = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
    proof = "" if found is None or found.gap is None else f", proved within {100 * found.gap:.2g}% of the best"
    return f"starts on {where} (plan {version}{proof})"
