"""A search of failures driven by itself, and random problems for it."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from models.catalogue import kind
from models.flow.failures import search as failure_search
from models.flow.schema import Demand, Direction, Failures, Link, ListedPath, Node, Objective, PathChoice, Paths, Problem, Scenario
from optimizer.conversation import Talk
from optimizer.incumbents import Incumbents
from optimizer.limits import Deadline, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.contract import Goal
    from models.conversation import Conversation
    from models.flow.schema import FailureMode, Plan

OBJECTIVES = tuple(Objective[name] for name in ("max_throughput", "max_concurrent", "min_cost", "min_max_utilisation"))


class Ended:
    """Where a search ended."""

    def __init__(self, incumbents: Incumbents, messages: list[Any], refuted: bool) -> None:
        self.plan: Plan | None = incumbents.plan
        self.objectives, self.bounds, self.refuted = incumbents.objectives, incumbents.bounds, refuted
        self.rejected, self.complaint, self.messages = incumbents.rejected, incumbents.complaint, messages
        self.goals: tuple[Goal, ...] = incumbents.goals

    @property
    def endless(self) -> bool:
        """Whether a goal has no limit."""
        return any(type(message).__name__ == "Unlimited" for message in self.messages)


def talked(problem: Problem, search: Callable[..., Conversation] = failure_search.converse, seconds: float = 60.0) -> Ended:
    """What a search comes to, with every plan verified."""
    real = kind("flow")
    scale = SimpleNamespace(converse=search)
    shown: Any = SimpleNamespace(
        name="flow", part=lambda name: scale if name == "scale" else real.part(name), goals=real.goals, verify=real.verify
    )
    messages: list[Any] = []
    refuted: list[bool] = []
    incumbents = Incumbents(shown, problem, messages.append)
    limits = Limits(time_limit_s=seconds)
    Talk(shown, incumbents, limits, Deadline.after(seconds), threading.Event(), lambda: refuted.append(True)).run()
    return Ended(incumbents, messages, bool(refuted))


def links_of(*ends: str, capacity: float | None = 10.0, direction: Direction = Direction.each) -> tuple[Link, ...]:
    """Links ``ab`` from a to b, each with the capacity and the cost 1."""
    return tuple(Link(id=name, source=name[0], target=name[1], capacity_gbps=capacity, direction=direction, cost=1.0) for name in ends)


def nodes_of(names: str) -> tuple[Node, ...]:
    """A node for each letter."""
    return tuple(Node(id=name) for name in names)


def triangle(objective: Objective, failures: Failures, size: float = 6.0) -> Problem:
    """Three nodes, all joined by links of 10 Gbit/s each way; demands from a to b and from a to c."""
    demands = (Demand(id="d", source="a", target="b", size_gbps=size), Demand(id="e", source="a", target="c", size_gbps=size))
    return Problem(nodes=nodes_of("abc"), links=links_of("ab", "bc", "ac"), demands=demands, objective=objective, failures=failures)


def anything(seed: int, mode: FailureMode) -> Problem:
    """A random small problem."""
    draw = random.Random(seed)
    names = "abcde"[: draw.randint(2, 5)]
    links = tuple(_any_link(draw, number, names) for number in range(draw.randint(len(names) - 1, 8)))
    demands = tuple(_any_demand(draw, number, names) for number in range(draw.randint(1, 4)))
    groups = sorted({group for link in links for group in link.risk_groups})
    cvar = mode == "cvar"
    scenarios = tuple(
        Scenario(
            id=f"s{number}",
            links=tuple(sorted(draw.sample([link.id for link in links], draw.randint(0, min(3, len(links)))))),
            risk_groups=tuple(group for group in groups if draw.random() < 0.2),
            probability=draw.choice([0.0, 0.01, 0.05, 0.1, 0.2]) if cvar else None,
        )
        for number in range(draw.randint(1, 5) if cvar else draw.randint(0, 3))
    )
    any_groups = draw.choice([0, 1, 2]) if groups and not cvar else 0
    any_links = 0 if cvar else draw.choice([0, 1, 1, 2]) or int(not scenarios and not any_groups)
    return Problem(
        nodes=nodes_of(names),
        links=links,
        demands=demands,
        objective=draw.choice(OBJECTIVES) if mode == "protect" else Objective.max_throughput,
        failures=Failures(
            mode=mode,
            scenarios=scenarios,
            any_links=any_links,
            any_risk_groups=any_groups,
            beta=draw.choice([0.0, 0.5, 0.9, 0.95, 0.99]),
        ),
    )


def _any_link(draw: random.Random, number: int, names: str) -> Link:
    source, target = draw.sample(names, 2)
    return Link(
        id=f"l{number}",
        source=source,
        target=target,
        capacity_gbps=draw.choice([None, 0.0, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0]) if draw.random() < 0.4 else float(draw.randint(1, 12)),
        cost=float(draw.randint(0, 5)),
        latency_ms=float(draw.randint(0, 4)),
        direction=draw.choice([Direction.directed, Direction.shared, Direction.each, Direction.each]),
        risk_groups=tuple(group for group in ("g", "h") if draw.random() < 0.25),
    )


def _any_demand(draw: random.Random, number: int, names: str) -> Demand:
    source, target = draw.sample(names, 2)
    return Demand(
        id=f"d{number}",
        source=source,
        target=target,
        size_gbps=draw.choice([0.5, 1.0, 2.0, 3.0, 5.0]),
        priority=draw.choice([0, 0, 0, 1]),
        value=draw.choice([1.0, 1.0, 2.0]),
        latency_limit_ms=draw.choice([None, None, None, 5.0]),
    )


def listed(problem: Problem, paths: dict[str, list[tuple[str, ...]]]) -> Problem:
    """The problem with only these paths."""
    every = tuple(ListedPath(demand=name, links=links) for name, some in paths.items() for links in some)
    return problem.model_copy(update={"paths": Paths(choice=PathChoice.listed, listed=every)})
