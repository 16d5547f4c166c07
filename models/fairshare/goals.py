"""What a division of GPU time is best in: its goals in order, with their sense and unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.contract import Goal, Sense
from models.fairshare.market import market_of
from models.goal_classes import in_classes, named_class, plain_name

if TYPE_CHECKING:
    from models.fairshare.schema import Problem

__all__ = ["goal_class", "goal_names", "goals", "plain_name", "sense_of"]

_SENSES = {
    "fair_share": Sense.maximise,
    "finish_time_ratio": Sense.minimise,
    "makespan": Sense.minimise,
    "fair_slack": Sense.minimise,
    "throughput": Sense.maximise,
    "cost": Sense.minimise,
    "geometric_mean": Sense.maximise,
}
_UNITS = {"makespan": "s", "throughput": "jobs at full speed", "cost": "USD/h"}
_BY_POLICY = {
    "max_min_fair": ("fair_share", "fair_slack"),
    "finish_time_fair": ("finish_time_ratio", "fair_slack"),
    "makespan": ("makespan", "fair_slack"),
    "hierarchical": ("fair_share", "fair_slack"),
    "throughput": ("throughput",),
    "least_cost": ("cost",),
    "proportional_fair": ("geometric_mean",),
}


def goal_names(problem: Problem) -> tuple[str, ...]:
    """The names of the goals, the most important first; ``throughput[2]`` is that of priority 2 where there are several priorities."""
    return in_classes(_BY_POLICY[problem.policy], market_of(problem).jobs.classes)


def goals(problem: Problem) -> tuple[Goal, ...]:
    """The goals of a problem."""
    return tuple(Goal(name, sense_of(name), _UNITS.get(plain_name(name), "")) for name in goal_names(problem))


def sense_of(name: str) -> Sense:
    """Which way a goal is better; the name may end with a class."""
    return _SENSES[plain_name(name)]


def goal_class(problem: Problem, name: str) -> int:
    """The priority that a goal is about: the one in its name, or the only one."""
    told = named_class(name)
    return told if told is not None else market_of(problem).jobs.classes[0]
