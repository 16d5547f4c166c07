"""How a question of a study gets its rows, and what a row proves of one goal or metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from optimizer.result import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optimizer.study.rows import Row

SLACK = 1e-9  # relative: values that differ by less are the same, as in ``contract.Goal.better``
CAUTION = 2e-6  # relative: a bound must be beyond a target by this (what plan and bound may each have lost) before it excludes it


class Asker(Protocol):
    """Answers the base problem with some axes at some values: from what is known already, or by a solve."""

    def ask(self, values: Mapping[str, Any]) -> Row:
        """The row with these axes at these values (or labels), and all others as in the base problem."""
        ...

    def ask_all(self, asked: Sequence[Mapping[str, Any]]) -> Sequence[Row]:
        """The rows of several questions in their order, solved at the same time where there are workers for it."""
        ...


class UnknownMetricError(KeyError):
    """A row has no goal or metric of this name; the message lists those there are."""

    def __str__(self) -> str:
        """The message without the quotes that KeyError adds."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Seen:
    """What one row says of a goal or metric.

    ``low`` and ``high``: where ``proved``, which only the first goal can be, the optimum lies between them (infinite: unknown); else both
    are what the plan has. ``attained`` is the value of the plan, None without one. ``no_plan``: it is proved that there is none. ``why``:
    why nothing is known, "" where something is.
    """

    low: float = -math.inf
    high: float = math.inf
    attained: float | None = None
    proved: bool = False
    no_plan: bool = False
    why: str = ""

    def reaches(self, target: float, *, at_least: bool) -> bool:
        """Whether it is certain that the value is at least (or at most) the target."""
        slack = SLACK * max(1.0, abs(target))
        return self.known and (self.low >= target - slack if at_least else self.high <= target + slack)

    def excludes(self, target: float, *, at_least: bool) -> bool:
        """Whether it is certain that the target is not reached: no plan is good enough, or there is none."""
        if self.no_plan:
            return True
        caution = CAUTION * max(1.0, abs(target))
        return self.proved and (self.high < target - caution if at_least else self.low > target + caution)

    @property
    def known(self) -> bool:
        """Whether there is a value, or an interval for it."""
        return not self.no_plan and (self.attained is not None or self.proved)


def seen(row: Row, metric: str) -> Seen:
    """What the row proves of the goal or metric. Raises UnknownMetricError for a name that a row with a plan does not have.

    Only the first goal's bound holds for all plans; that of a later one holds for plans at least as good on the goals before it, which
    another scenario's plan need not be. So later goals are taken as metrics are: what the plan has.
    """
    if row.failure is not None:
        return Seen(why=row.failure)
    if row.outcome == Outcome.infeasible.value:
        return Seen(no_plan=True)
    if not row.goals:
        return Seen(why=row.message or f"no plan was found ({row.stop_reason or row.outcome})")
    goal = row.goal(metric)
    if goal is None and metric not in row.metrics:
        known = ", ".join([one.name for one in row.goals] + sorted(row.metrics))
        raise UnknownMetricError(f"there is no goal or metric '{metric}'; there are: {known}")
    if goal is None or goal.name != row.goals[0].name:
        value = row.metrics[metric] if goal is None else goal.objective
        return Seen(value, value, value)
    low, high = (goal.objective, goal.bound) if goal.sense == "maximise" else (goal.bound, goal.objective)
    return Seen(low, high, goal.objective, proved=True)
