"""The exact program of a kind's problem, and the way back: column values to a verified plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.catalogue import kind_of
from models.garbage import collection_paused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.contract import Goal, Verdict
    from models.program import Floats
    from models.vocabulary import Document
    from optimizer.compile import Compiled

LARGEST_PROGRAM = 400_000  # columns, as for sensitivity


class TooLargeProgramError(ValueError):
    """The exact program is too large to write down; the message says what to do."""


def exact(
    problem: Document, goal: str, floors: Mapping[str, float] | None = None, *, hasten: bool, most: int = LARGEST_PROGRAM
) -> Compiled:
    """The exact program with one goal as its objective, those of ``floors`` held at values; ``hasten`` as in ``formulation.build``.

    Raises TooLargeProgramError above ``most`` columns and KeyError for a goal that the problem does not have.
    """
    from optimizer.compile import compile_model

    kind = kind_of(problem)
    formulation = kind.part("formulation")
    if (columns := formulation.size(problem)) > most:
        raise TooLargeProgramError(f"use values: the exact program has about {columns:,} columns, more than the {most:,} that are swept")
    names = ordered(problem)
    for name in (goal, *(floors or {})):
        if name not in names:
            raise KeyError(f"there is no goal '{name}'; there are: {', '.join(names)}")
    with collection_paused():
        return compile_model(
            formulation.build(problem, names[goal], {names[name]: value for name, value in (floors or {}).items()}, hasten=hasten)
        )


def ordered(problem: Document) -> dict[str, Any]:
    """The problem's goals by name, as ``formulation.build`` takes them."""
    goals: Any = problem
    return dict(zip((goal.name for goal in kind_of(problem).goals(problem)), goals.ordered_goals(), strict=True))


def goal_of(problem: Document, name: str | None) -> Goal:
    """The goal of this name, the first by default. Raises KeyError."""
    goals = kind_of(problem).goals(problem)
    if name is None:
        return goals[0]
    for goal in goals:
        if goal.name == name:
            return goal
    raise KeyError(f"there is no goal '{name}'; there are: {', '.join(goal.name for goal in goals)}")


def plan_of(problem: Document, compiled: Compiled, values: Floats) -> tuple[Any, Verdict]:
    """The plan of column values, with its independent check."""
    kind = kind_of(problem)
    plan = kind.part("formulation").extract(problem, compiled.values_by_ids(values))
    return plan, kind.verify(problem, plan)
