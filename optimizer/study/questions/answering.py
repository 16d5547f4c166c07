"""The questions of a study file, answered on its base problem: sweep, trade-off, target.

``StudyAsker`` turns values of axes into scenarios, and these into rows, through whoever answers scenarios (``optimizer.study.run``): what
is on the shelf is not solved again, so that a question that was stopped goes on where it was. A sweep and a trade-off solve programs in
this process, and keep nothing: they take few solves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from models.contract import ContradictionError
from optimizer.study.questions.target import Ladder, Wanted, reach
from optimizer.study.rows import Row
from optimizer.study.scenarios import axes
from optimizer.study.scenarios.expansion import applied, expanded
from optimizer.study.schema import Combine, Range

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from models.vocabulary import Document
    from optimizer.limits import Limits
    from optimizer.study.questions.pareto import Front
    from optimizer.study.questions.target import TargetAnswer
    from optimizer.study.rows import Scenario
    from optimizer.study.schema import Axis, ParetoAsk, Study, SweepAsk, TargetAsk
    from optimizer.study.sweeps.parametric import Sweep


class AskingStoppedError(RuntimeError):
    """A scenario was left open by a cancel, so that the question has no answer yet."""


class Answers(Protocol):
    """Answers scenarios, as ``run.Answerer`` does."""

    def ask(self, scenarios: Sequence[Scenario]) -> Sequence[Row | None]:
        """Their rows in their order; None for those that a cancel left open."""
        ...


class StudyAsker:
    """Rows of the base problem with some axes of the study at some values, as ``asking.Asker`` promises."""

    def __init__(self, study: Study, base: Document, answers: Answers) -> None:
        self._study, self._base, self._answers = study, base, answers

    def ask(self, values: Mapping[str, Any]) -> Row:
        """One row. Raises as ``ask_all``."""
        return self.ask_all([values])[0]

    def ask_all(self, asked: Sequence[Mapping[str, Any]]) -> Sequence[Row]:
        """Their rows; a value that breaks the problem has a row that says so.

        Raises KeyError for an axis that the study does not have, PlaceError for a value that the axis does not have, AskingStoppedError,
        and what solving raises.
        """
        scenarios = [self._scenario(values) for values in asked]
        solvable = [one for one in scenarios if not isinstance(one, Row)]
        rows = iter(self._answers.ask(solvable) if solvable else ())
        made: list[Row] = []
        for one in scenarios:
            row = one if isinstance(one, Row) else next(rows)
            if row is None:
                raise AskingStoppedError("the question was cancelled; what was solved so far is kept")
            made.append(row)
        return made

    def _scenario(self, values: Mapping[str, Any]) -> Scenario | Row:
        try:
            return scenario_at(self._study, self._base, values)
        except ContradictionError as error:
            return Row.failed("", f"its changes break the problem: {error}".replace("\n", "; "))


def scenario_at(study: Study, base: Document, values: Mapping[str, Any]) -> Scenario:
    """The scenario of the first replicate with these axes at these values, and no other axis.

    Raises KeyError, PlaceError, and ContradictionError where the value breaks the base problem.
    """
    chosen = tuple(_only(axis_of(study, name), value) for name, value in values.items())
    alone = study.model_copy(
        update={"axes": chosen, "combine": Combine(), "replicates": 1, "baseline": None, "metrics": (), "gates": (), "asks": ()}
    )
    return next(one for one in expanded(alone, base) if not one.is_baseline or not values)


def axis_of(study: Study, name: str) -> Axis:
    """The axis of this name. Raises KeyError."""
    for axis in study.axes:
        if axis.name == name:
            return axis
    raise KeyError(f"the study has no axis '{name}'; it has {', '.join(axis.name for axis in study.axes)}")


def _only(axis: Axis, value: object) -> Axis:
    """The axis with one value left."""
    choice = axes.named(axis, value)
    if axis.options is not None:
        return axis.model_copy(update={"options": tuple(one for one in axis.options if one.label == choice.shown)})
    return axis.model_copy(update={"values": (choice.value,), "range": None, "draw": None})


def target_answer(study: Study, base: Document, ask: TargetAsk, answers: Answers, *, workers: int = 2) -> TargetAnswer:
    """The least value of the axis at which the target is reached; see ``optimizer.study.questions.target``.

    Raises ValueError for an axis without numbers, and as ``StudyAsker`` and ``reach``.
    """
    axis = axis_of(study, ask.axis)
    at_least = ask.at_least is not None
    target = ask.at_least if ask.at_least is not None else ask.at_most
    if target is None:
        raise ValueError("a target has exactly one of at_least and at_most")
    wanted = Wanted(ask.axis, ask.metric, target, at_least=at_least, seek=ask.seek, unit=axis.unit)
    return reach(StudyAsker(study, base, answers), wanted, ladder_of(axis, ask.tolerance), monotone=ask.monotone, workers=workers)


def ladder_of(axis: Axis, tolerance: float | None = None) -> Ladder:
    """The values of an axis that a target is sought among; of a range that is not whole those ``tolerance`` apart, or its steps.

    Raises ValueError for an axis without numbers.
    """
    domain = axis.range
    if domain is not None and domain.whole:
        return Ladder.whole(domain.least, domain.most)
    if domain is not None:
        return Ladder.ranged(domain.least, domain.most, tolerance or (domain.most - domain.least) / (domain.steps - 1))
    numbers = [] if axis.draw is not None else [choice.number for choice in axes.choices(axis)]
    if not numbers or any(number is None for number in numbers):
        raise ValueError(f"axis '{axis.name}' has no range and not only numbers: a target needs values with an order")
    return Ladder.listed(number for number in numbers if number is not None)


def sweep_answer(study: Study, base: Document, ask: SweepAsk, limits: Limits, cancel: threading.Event | None = None) -> Sweep:
    """The first goal from the least value of the axis to the most, all numbers between them included; see ``sweeps.parametric``.

    Raises KeyError, ValueError and ContradictionError as ``ladder_of`` and ``scenario_at``, and as ``parametric_kind.sweep_kind``.
    """
    from optimizer.study.sweeps.parametric_kind import sweep_kind  # with the solver, which the other questions leave to workers

    problem_at, least, most = problem_along(study, base, ask.axis)
    return sweep_kind(problem_at, least, most, limits, cancel=cancel)


def problem_along(study: Study, base: Document, name: str) -> tuple[Callable[[float], Document], float, float]:
    """The base problem as a function of the axis's number, with the least and the most of it, all numbers between them included.

    Raises KeyError and ValueError as ``ladder_of``; the function raises as ``scenario_at``.
    """
    axis = axis_of(study, name)
    ladder = ladder_of(axis)
    domain = Range(least=ladder.least, most=ladder.most) if ladder.least < ladder.most else None
    if domain is None:
        raise ValueError(f"axis '{axis.name}' has one value, {ladder.least:g}: there is nothing to sweep")
    swept = study.model_copy(update={"axes": (axis.model_copy(update={"values": None, "range": domain}),)})

    def problem_at(value: float) -> Document:
        made: Document = applied(base, scenario_at(swept, base, {axis.name: value}).changes)
        return made

    return problem_at, ladder.least, ladder.most


def pareto_answer(base: Document, ask: ParetoAsk, limits: Limits, cancel: threading.Event | None = None) -> Front:
    """The trade-off of two goals of the base problem; see ``optimizer.study.questions.pareto``. Raises as ``goal_front``."""
    from optimizer.study.questions.pareto_pairs import goal_front

    return goal_front(base, ask.first, ask.second, limits, points=ask.points, cancel=cancel)
