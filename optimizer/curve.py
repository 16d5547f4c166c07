"""One quantity of a problem at many values: a proved bound and a verified plan at each.

A kind that knows a short way answers all values from one conversation (``curve.py`` of the kind). What that leaves open, or a problem for
which there is no short way, is solved value by value in the time that is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from models.catalogue import kind_of
from optimizer.conversation import answered
from optimizer.limits import Deadline
from optimizer.result import Outcome, relative_gap
from optimizer.solve import solve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.contract import Kind
    from models.vocabulary import Document
    from optimizer.limits import Limits

TOLERANCE = 1e-6  # relative: how far a point's value may be from that of its plan
LEAST_S = 0.2  # for one value: less is not worth a solve


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The first goal at one ``value`` of the quantity: no plan is better than ``bound``, and one that was verified attains ``objective``.

    ``price`` is what one more of the quantity is worth there, in the goal's unit; None where it is not known. ``no_plan``: it is proved
    that there is none. Without a plan ``objective`` and ``gap`` are None.
    """

    value: float
    objective: float | None = None
    bound: float | None = None
    gap: float | None = None
    price: float | None = None
    no_plan: bool = False


class NoCurveError(LookupError):
    """A kind has no quantity that could be varied."""


class WrongPointError(RuntimeError):
    """A plan behind a point does not keep the rules, or is worth something else: a fault of ours."""


def curve(problem: Document, name: str, values: Sequence[float], limits: Limits) -> list[CurvePoint]:
    """The points at ``values`` of the quantity that the kind varies of ``name``, in their order.

    ``limits.time_limit_s`` is for all together; values that it does not suffice for have a point that knows nothing. Raises KeyError for
    a name that nothing has, and NoCurveError for a kind without curves.
    """
    kind = kind_of(problem)
    if not kind.has("curve"):
        raise NoCurveError(f"{kind.name} has no curve")
    part = kind.part("curve")
    part.varied(problem, name, 0.0)  # the name is looked up before anything is solved
    deadline = Deadline.after(limits.time_limit_s)
    ascending = sorted(set(values))
    known = {one: CurvePoint(one) for one in ascending}
    if part.quick(problem):
        points = answered(
            part.converse_curve(problem, name, ascending, gap=limits.gap, seed=limits.seed, seconds=limits.time_limit_s), limits
        )
        known |= {value: _checked(kind, problem, name, value, point) for value, point in zip(ascending, points, strict=False)}
    open_values = [value for value in ascending if not known[value].no_plan and not _close(known[value], limits)]
    for done, value in enumerate(open_values):
        share = deadline.remaining_s() / (len(open_values) - done)
        if share < LEAST_S:
            break
        known[value] = _solved(part.varied(problem, name, value), known[value], replace(limits, time_limit_s=share))
    return [known[value] for value in values]


def _close(point: CurvePoint, limits: Limits) -> bool:
    return point.gap is not None and point.gap <= limits.gap


def _checked(kind: Kind, problem: Document, name: str, value: float, point: Any) -> CurvePoint:  # noqa: ANN401  (each kind has its own)
    """A kind's point once its plan is verified. Raises WrongPointError."""
    if point.bound == math.inf:
        return CurvePoint(value, no_plan=True)
    made = kind.part("curve").plan_at(problem, point, name)
    if made is None:
        return CurvePoint(value, None, point.bound, None, point.price)
    verdict = kind.verify(*made)
    told = next(iter(verdict.objectives.values()))
    if not verdict.ok or abs(told - point.value) > TOLERANCE * max(1.0, abs(told)):
        raise WrongPointError(
            f"at {value:g} of {name}: {verdict.violations[0].message if verdict.violations else f'{told} for {point.value}'}"
        )
    return CurvePoint(value, told, point.bound, relative_gap(told, point.bound), point.price)


def _solved(problem: Document, before: CurvePoint, limits: Limits) -> CurvePoint:
    """The point from a solve of its own, or the one before where that is better."""
    result = solve(problem, limits)
    if result.outcome is Outcome.infeasible:
        return replace(before, no_plan=True)
    if result.certificate is None:
        return before
    goal = kind_of(problem).goals(problem)[0]
    objective, bound = result.certificate.objective, result.certificate.bound
    if before.objective is not None and goal.better(before.objective, objective):
        objective = before.objective
    if before.bound is not None and goal.better(bound, before.bound):
        bound = before.bound
    return CurvePoint(before.value, objective, bound, relative_gap(objective, bound), before.price)
