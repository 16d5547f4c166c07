"""The questions of a study file, from its axes to their answers, with everything that was solved kept."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from models.catalogue import kind
from models.contract import Sense
from models.linear.schema import Columns, Entries, Problem, Rows
from optimizer.limits import Limits
from optimizer.study.executors.in_process import InProcess
from optimizer.study.questions.answering import (
    AskingStoppedError,
    StudyAsker,
    ladder_of,
    pareto_answer,
    scenario_at,
    sweep_answer,
    target_answer,
)
from optimizer.study.run import Answerer
from optimizer.study.schema import ParetoAsk, Study, StudyLimits, SweepAsk, TargetAsk
from optimizer.study.store import Memory

if TYPE_CHECKING:
    from optimizer.study.rows import Row

UPPER = "/rows/upper/0"
LIMITS = StudyLimits(time_limit_s=20.0, gap=1e-6)
EDITS = [{"op": "set", "at": UPPER, "to": "$value"}]
WHOLE = {"name": "most", "range": {"least": 1, "most": 90, "steps": 10, "whole": True}, "edits": EDITS, "unit": "units"}


def base() -> Problem:
    """Maximise x with x <= 4 by a row and x <= 100 by its bound."""
    columns = Columns(names=("x",), cost=(1.0,), lower=(1.0,), upper=(100.0,))
    return Problem(sense=Sense.maximise, columns=columns, rows=Rows(upper=(4.0,)), entries=Entries(rows=(0,), columns=(0,), values=(1.0,)))


def study(*given: dict[str, Any], kind_name: str = "program") -> Study:
    return Study.model_validate({"name": "asking", "kind": kind_name, "base": {"file": "base.json"}, "axes": list(given)})


def test_a_target_is_found_and_a_second_time_from_what_is_kept() -> None:
    kept = Memory()
    question = TargetAsk(ask="target", axis="most", metric="objective", at_least=37.0)
    for solved in (True, False):
        with Answerer(base(), LIMITS, kept, InProcess()) as answers:
            found = target_answer(study(WHOLE), base(), question, answers)
            assert (found.value, found.proved) == (37.0, True)
            assert found.sentence.startswith("37 units (proved least: at 36 units no plan can reach it, objective is bounded by 36 of 37)")
            assert (answers.solved > 0) is solved
            assert answers.solved + answers.reused == len(found.asked)


def test_values_that_break_the_problem_are_rows() -> None:
    with Answerer(base(), LIMITS, Memory(), InProcess()) as answers:
        asker = StudyAsker(study({"name": "most", "values": [3.0, "many"], "edits": EDITS}), base(), answers)
        rows = asker.ask_all([{"most": "many"}, {"most": 3.0}, {}])
        assert "its changes break the problem" in (rows[0].failure or "")
        assert [row.goals[0].objective for row in rows[1:]] == [3.0, 4.0]
        with pytest.raises(KeyError, match="the study has no axis 'least'; it has most"):
            asker.ask({"least": 3.0})


def test_options_are_asked_by_their_label() -> None:
    options = {"name": "plan", "options": [{"label": "as_is"}, {"label": "more", "edits": [{"op": "set", "at": UPPER, "to": 9}]}]}
    assert scenario_at(study(options), base(), {"plan": "as_is"}).changes == ()
    assert [change.value for change in scenario_at(study(options), base(), {"plan": "more"}).changes] == [9]


def test_a_cancelled_question_has_no_answer() -> None:
    cancel = threading.Event()
    cancel.set()
    with Answerer(base(), LIMITS, Memory(), InProcess(), cancel=cancel) as answers, pytest.raises(AskingStoppedError):
        StudyAsker(study(WHOLE), base(), answers).ask({"most": 3})


def test_ladders_of_axes() -> None:
    assert ladder_of(study(WHOLE).axes[0]).count == 90
    ranged = study({"name": "most", "range": {"least": 0, "most": 1, "steps": 5}, "edits": EDITS}).axes[0]
    assert ladder_of(ranged).count == 5
    assert ladder_of(ranged, 0.01).count == 101
    assert ladder_of(study({"name": "most", "values": [4, 2], "edits": EDITS}).axes[0]).given == (2.0, 4.0)
    with pytest.raises(ValueError, match="needs values with an order"):
        ladder_of(study({"name": "most", "values": [4, "two"], "edits": EDITS}).axes[0])


def test_a_sweep_goes_over_all_numbers_between() -> None:
    found = sweep_answer(
        study(WHOLE | {"range": {"least": 1, "most": 150, "whole": True}}), base(), SweepAsk(ask="sweep", axis="most"), Limits()
    )
    assert [piece.slope for piece in found.pieces] == pytest.approx([1.0, 0.0])
    assert found.breakpoints == pytest.approx((100.0,))
    assert found.exact


def test_a_trade_off_of_the_base_problem() -> None:
    problem = kind("placement").part("examples").examples()["repack"]
    found = pareto_answer(problem, ParetoAsk(ask="pareto", first="allocated_gpus", second="moves"), Limits(time_limit_s=20.0))
    assert [(point.first, point.second) for point in found.points] == [(9.0, 1.0), (5.0, 0.0)]


def test_rows_are_asked_together() -> None:
    class Counting:
        batches: list[int] = []  # noqa: RUF012  (one test)

        def ask(self, scenarios: Any) -> list[Row | None]:
            self.batches.append(len(scenarios))
            with Answerer(base(), LIMITS, Memory(), InProcess()) as answers:
                return list(answers.ask(scenarios))

    counting = Counting()
    target_answer(study(WHOLE), base(), TargetAsk(ask="target", axis="most", metric="objective", at_least=60.0), counting, workers=2)
    assert max(counting.batches) == 2
