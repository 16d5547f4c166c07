"""Asks that cannot be answered are refused before anything is solved, each with its place; and how many solves asks may take."""

from __future__ import annotations

from typing import Any

import pytest

from models.catalogue import kind
from models.contract import ContradictionError
from models.linear.schema import Problem
from optimizer.study.questions import beforehand
from optimizer.study.questions.asks import most_solves
from optimizer.study.questions.beforehand import check_asks
from optimizer.study.schema import Study
from tests.optimizer.study.small import UPPER, base

AXIS = {"name": "most", "range": {"least": 1, "most": 40}, "edits": [{"op": "set", "at": UPPER, "to": "$value"}]}
SWEEP = {"ask": "sweep", "axis": "most"}


def study(*asks: dict[str, Any], axis: dict[str, Any] | None = None, name: str = "program") -> Study:
    told = {"name": "s", "kind": name, "base": {"file": "base.json"}, "axes": [axis or AXIS], "asks": list(asks)}
    return Study.model_validate(told)


def target(**fields: Any) -> dict[str, Any]:
    return {"ask": "target", "axis": "most", "metric": "objective", "at_least": 3} | fields


def whole() -> Problem:
    """The small program with a whole-number column."""
    told = base().model_dump(mode="json")
    told["columns"]["integer"] = [True]
    return Problem.model_validate(told)


def test_what_can_be_asked_passes() -> None:
    check_asks(study(SWEEP, target()), base())


@pytest.mark.parametrize(
    ("ask", "axis", "word"),
    [
        (target(tolerance=1e-12), None, "coarser"),
        (SWEEP, AXIS | {"range": None, "values": [5]}, "nothing to sweep"),
        ({"ask": "pareto", "first": "objective", "second": "spend_usd"}, None, "no goal 'spend_usd'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(ask: dict[str, Any], axis: dict[str, Any] | None, word: str) -> None:
    with pytest.raises(ContradictionError) as refused:
        check_asks(study(target(), ask, axis=axis), base())
    (mistake,) = refused.value.mistakes
    assert (mistake.pointer, mistake.code) == ("/asks/1", "cannot_be_asked")
    assert word in mistake.detail


def test_a_sweep_of_whole_numbers_is_refused_unless_the_program_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ContradictionError, match="whole-number"):
        check_asks(study(SWEEP), whole())
    monkeypatch.setattr(beforehand, "LARGEST_CHECKED", 0)
    check_asks(study(SWEEP), whole())  # the sweep itself says so then


def test_two_goals_that_are_not_held_by_one_row_each_are_refused() -> None:
    edits = {"name": "most", "values": [1, 2], "edits": [{"at": "/x", "to": "$value"}]}
    for name, fits in (("tiering", True), ("placement", True), ("fairshare", False)):
        problem = kind(name).part("schema").example()
        first, second = (goal.name for goal in kind(name).goals(problem)[:2])
        asked = study({"ask": "pareto", "first": first, "second": second}, axis=edits, name=name)
        if fits:
            check_asks(asked, problem)
            continue
        with pytest.raises(ContradictionError, match="held by one row each"):
            check_asks(asked, problem)


def test_the_solves_of_asks_are_known_beforehand() -> None:
    assert most_solves(study(SWEEP), study(SWEEP).asks[0]) == 1
    steps = AXIS | {"range": {"least": 1, "most": 40, "whole": True}}
    few = study(target(), axis=steps)
    assert most_solves(few, few.asks[0]) == 40
    many = study(target(tolerance=1e-6))
    assert 1_000 < most_solves(many, many.asks[0]) < 1_100
    front = study({"ask": "pareto", "first": "a", "second": "b", "points": 9})
    assert most_solves(front, front.asks[0]) == 21
