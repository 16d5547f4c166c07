"""What a flow problem is best in: its goals in order, with their sense and unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.contract import Goal, Sense
from models.flow.network.arrays import traffic_of
from models.goal_classes import in_classes, named_class, plain_name

if TYPE_CHECKING:
    from models.flow.schema import Problem

__all__ = ["goal_class", "goal_names", "goals", "plain_name", "sense_of"]

_SENSES = {
    "cost": Sense.minimise,
    "throughput": Sense.maximise,
    "concurrent": Sense.maximise,
    "max_utilisation": Sense.minimise,
    "fair_rate": Sense.maximise,
    "fair_slack": Sense.minimise,
    "loss_cvar": Sense.minimise,
    "design_cost": Sense.minimise,
    "transfer_value": Sense.maximise,
    "transfer_cost": Sense.minimise,
}
_UNITS = {"throughput": "Gbit/s", "fair_rate": "Gbit/s", "transfer_cost": "USD"}
_BY_OBJECTIVE = {
    "min_cost": ("cost",),
    "max_throughput": ("throughput",),
    "max_concurrent": ("concurrent",),
    "min_max_utilisation": ("max_utilisation",),
    "max_min_fair": ("fair_rate", "fair_slack"),
}


def goal_names(problem: Problem) -> tuple[str, ...]:
    """The names of the goals, the most important first; ``throughput[2]`` is that of priority 2 where there are several priorities."""
    if problem.use == "design":
        return ("design_cost",)
    if problem.use == "transfer":
        valued = any(one.value is not None for one in problem.transfers)
        return ("transfer_value", "transfer_cost") if valued else ("transfer_cost",)
    if problem.failures is not None and problem.failures.mode == "cvar":
        return ("loss_cvar",)
    names = _BY_OBJECTIVE[problem.objective]
    classes = traffic_of(problem).classes
    return in_classes(names, classes)


def goals(problem: Problem) -> tuple[Goal, ...]:
    """The goals of a problem. Throughput has the unit Gbit/s only when every demand has the value 1."""
    plain = problem.objective != "max_throughput" or bool((traffic_of(problem).value == 1.0).all())
    return tuple(Goal(name, sense_of(name), _UNITS.get(plain_name(name), "") if plain else "") for name in goal_names(problem))


def sense_of(name: str) -> Sense:
    """Which way a goal is better; the name may end with a class."""
    return _SENSES[plain_name(name)]


def goal_class(problem: Problem, name: str) -> int:
    """The priority that a goal is about: the one in its name, or the only one (0 for supplies)."""
    told = named_class(name)
    return told if told is not None else next(iter(traffic_of(problem).classes), 0)
