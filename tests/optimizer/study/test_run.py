"""A study from file to table: what is asked, what is used again, what is told, and what the folder alone gives back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from models.linear.schema import Problem
from optimizer.study.executors.engine import Asked, Done, Engine, Held, Step
from optimizer.study.executors.in_process import InProcess
from optimizer.study.executors.pool import LocalPool
from optimizer.study.questions.answering import StudyAsker
from optimizer.study.rows import Change, Row, Scenario
from optimizer.study.run import Answerer, StudyProgress, Table, load_table, run_study
from optimizer.study.schema import Study, StudyLimits
from optimizer.study.store import Memory
from service.studies.shelf import Shelf, ShelfError
from tests.optimizer.study.small import base, objective, scenario, study

LIMITS = StudyLimits(time_limit_s=20.0)


class Counting:
    """The engine without processes, which counts what it is asked and how often it is opened."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.opened = 0
        self.closed = 0
        self._inner = InProcess()

    def open(self, held: Held) -> CountingWorkers:
        self.opened += 1
        return CountingWorkers(self, held)


class CountingWorkers:
    def __init__(self, counting: Counting, held: Held) -> None:
        self._counting, self._workers = counting, InProcess().open(held)

    def run(
        self,
        work: Sequence[Asked],
        *,
        on_done: Callable[[Done], None],
        on_step: Callable[[Step], None],
        cancel: threading.Event,
    ) -> None:
        self._counting.asked += work
        self._workers.run(work, on_done=on_done, on_step=on_step, cancel=cancel)

    def close(self) -> None:
        self._counting.closed += 1
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def values(table: Table) -> dict[object, float | None]:
    """Optimum by value of the axis; the baseline's under None."""
    return {one.scenario.values.get("most") if one.scenario.changes else None: objective(one.row) for one in table.answered}


def run(folder: Path, asked: Study, engine: Engine | None = None, *, again: Callable[[Row], bool] = lambda _row: False) -> Table:
    with Shelf.opened(folder, asked, base()) as shelf:
        return run_study(asked, base(), shelf, engine or InProcess(), again=again)


# ------------------------------------------------------------ a study


@pytest.mark.parametrize("engine", [InProcess(), LocalPool(2)], ids=["in process", "two"])
def test_a_study_becomes_a_table_which_the_folder_gives_back(tmp_path: Path, engine: Engine) -> None:
    asked = study(5)
    table = run(tmp_path / "out", asked, engine)
    assert values(table) == {None: pytest.approx(50.0)} | {float(most): pytest.approx(most) for most in range(1, 6)}
    assert (table.missing, table.failed, table.complaints, table.study) == (0, 0, (), asked)
    assert table.reused + table.solved == len(set(table.keys))
    loaded = load_table(Shelf.read(tmp_path / "out"))
    assert (loaded.study, loaded.scenarios, loaded.keys, loaded.rows) == (table.study, table.scenarios, table.keys, table.rows)
    plans = Shelf.read(tmp_path / "out")
    assert all(plans.plan(key) for key in table.keys)


def test_a_study_that_ran_asks_nothing_and_starts_nobody(tmp_path: Path) -> None:
    first = run(tmp_path, study(4))
    counting = Counting()
    second = run(tmp_path, study(4), counting)
    assert (counting.opened, second.solved, second.reused) == (0, 0, first.solved)
    assert second.rows == first.rows


def test_an_enlarged_study_solves_only_what_is_new(tmp_path: Path) -> None:
    first = run(tmp_path, study(3))
    counting = Counting()
    second = run(tmp_path, study(6), counting)
    assert sorted(str(one.changes[0].value) for one in counting.asked) == ["4", "5", "6"]
    assert (second.reused, second.solved) == (first.solved, 3)
    assert dict(zip(first.keys, first.rows, strict=True)).items() <= dict(zip(second.keys, second.rows, strict=True)).items()
    assert (counting.opened, counting.closed) == (1, 1)


def test_other_limits_are_other_questions_and_both_are_kept(tmp_path: Path) -> None:
    first = run(tmp_path, study(3))
    other = run(tmp_path, study(3, limits={"time_limit_s": 20.0, "gap": 0.5}))
    assert not set(first.keys) & set(other.keys)
    assert (other.reused, run(tmp_path, study(3)).reused) == (0, first.solved)


def test_what_was_not_believed_is_told_and_solved_anew(tmp_path: Path) -> None:
    first = run(tmp_path, study(3))
    spoilt = tmp_path / "rows" / f"{first.keys[1]}.json"
    spoilt.write_bytes(spoilt.read_bytes()[:50])
    second = run(tmp_path, study(3))
    assert (second.solved, second.missing) == (1, 0)
    assert len(second.complaints) == 1
    assert first.keys[1] in second.complaints[0]
    assert objective(second.rows[1]) == objective(first.rows[1])


def test_scenarios_that_fail_are_rows_and_may_be_asked_again() -> None:
    broken = Scenario("broken", {"least": 200.0}, {}, 0, 0, (Change("set", "/columns/lower/0", 200.0),))
    kept = Memory()
    with Answerer(base(), LIMITS, kept, InProcess()) as answerer:
        good, bad = answerer.ask([scenario(2.0), broken])
        assert objective(good) == pytest.approx(2.0)
        assert bad is not None
        assert (bad.failure or "").startswith("its changes break the problem: /columns/")
        answerer.ask([scenario(2.0), broken])
        assert (answerer.solved, answerer.reused) == (2, 2)
    with Answerer(base(), LIMITS, kept, InProcess(), again=lambda row: row.failure is not None) as answerer:
        answerer.ask([scenario(2.0), broken])
        assert (answerer.solved, answerer.reused) == (1, 1)


# ------------------------------------------------------------ questions one by one


def test_scenarios_that_ask_the_same_are_solved_once() -> None:
    counting = Counting()
    with Answerer(base(), LIMITS, Memory(), counting) as answerer:
        rows = answerer.ask([scenario(2.0), scenario(3.0), scenario(2.0)])
        assert [objective(row) for row in rows] == [pytest.approx(2), pytest.approx(3), pytest.approx(2)]
        assert rows[0] is rows[2]
        assert objective(answerer.solve_at(scenario(3.0).changes)) == pytest.approx(3.0)
        assert objective(answerer.solve_at(())) == pytest.approx(50.0)
        assert [objective(row) for row in answerer.ask([scenario(2.0, seed=1)])] == [pytest.approx(2.0)]  # another seed: another question
    assert (len(counting.asked), counting.opened, counting.closed) == (4, 1, 1)
    assert (answerer.solved, answerer.reused) == (4, 1)


def test_progress_tells_every_step_and_counts_up() -> None:
    told: list[StudyProgress] = []
    kept = Memory()
    with Answerer(base(), LIMITS, kept, InProcess()) as answerer:
        answerer.ask([scenario(1.0)])
    with Answerer(base(), LIMITS, kept, InProcess(), on_progress=told.append) as answerer:
        answerer.ask([scenario(1.0), scenario(2.0), scenario(3.0)])
    assert [(one.state, one.reused, one.solved, one.left) for one in told if one.state != "searching"] == [
        ("looked_up", 1, 0, 2),
        ("started", 1, 0, 2),
        ("done", 1, 1, 1),
        ("started", 1, 1, 1),
        ("done", 1, 2, 0),
    ]
    assert [one.scenario.label for one in told if one.state == "done" and one.scenario is not None] == ["most=2.0", "most=3.0"]
    assert told[0].remaining_s is None
    assert told[-1].remaining_s == 0.0


def test_a_cancel_leaves_rows_open_and_the_next_run_closes_them(tmp_path: Path) -> None:
    cancel = threading.Event()

    def on_progress(progress: StudyProgress) -> None:
        if progress.solved == 2:
            cancel.set()

    with Shelf.opened(tmp_path, study(5), base()) as shelf:
        table = run_study(study(5), base(), shelf, InProcess(), on_progress=on_progress, cancel=cancel)
    assert (table.solved, table.missing > 0) == (2, True)
    loaded = load_table(Shelf.read(tmp_path))
    assert loaded.rows == table.rows
    rest = run(tmp_path, study(5))
    assert (rest.reused, rest.missing) == (2, 0)


def test_a_disk_that_takes_no_more_ends_the_study_and_keeps_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, taken = Shelf.put, 0

    def filling(shelf: Shelf, done: Done) -> None:
        nonlocal taken
        if taken >= 2:
            raise ShelfError("there is no room")
        taken += 1
        put(shelf, done)

    monkeypatch.setattr(Shelf, "put", filling)
    for engine in (InProcess(), LocalPool(2)):
        taken = 0
        with pytest.raises(ShelfError, match="there is no room"):
            run(tmp_path / type(engine).__name__, study(8), engine)
        assert load_table(Shelf.read(tmp_path / type(engine).__name__)).missing < 9
    monkeypatch.undo()
    for engine in (InProcess(), LocalPool(2)):
        table = run(tmp_path / type(engine).__name__, study(8), engine)
        assert (table.reused, table.missing) == (2, 0)


def test_plans_may_be_left_out(tmp_path: Path) -> None:
    for engine in (InProcess(), LocalPool(1)):
        folder = tmp_path / type(engine).__name__
        with Shelf.opened(folder, study(2), base()) as shelf:
            table = run_study(study(2), base(), shelf, engine, plans=False)
            assert all(row is not None and row.verified and shelf.plan(row.key) is None for row in table.rows)
        assert (table.complaints, list((folder / "plans").iterdir())) == ((), [])


def test_a_base_without_scenarios_is_one_row() -> None:
    alone = Study.model_validate({"name": "alone", "kind": "program", "base": {"file": "base.json"}})
    table = run_study(alone, base(), Memory(), InProcess())
    assert all(objective(row) == pytest.approx(50.0) for row in table.rows)
    assert table.solved == 1


def test_the_base_is_the_one_given_whatever_the_study_says() -> None:
    larger = Problem.model_validate(base().model_dump() | {"offset": 1.0})
    kept = Memory()
    assert values(run_study(study(2), larger, kept, InProcess()))[2.0] == pytest.approx(3.0)
    assert values(run_study(study(2), base(), kept, InProcess()))[2.0] == pytest.approx(2.0)  # nothing of another base is used


def test_questions_about_the_axes_are_answered_from_what_is_kept(tmp_path: Path) -> None:
    run(tmp_path, study(2))
    counting, asked = Counting(), study(3)
    with Shelf.opened(tmp_path, asked, base()) as shelf, Answerer(base(), asked.limits, shelf, counting) as answerer:
        rows = StudyAsker(asked, base(), answerer).ask_all([{"most": 2.0}, {"most": 3.0}, {}, {"most": 3.0}])
        assert [objective(row) for row in rows] == [pytest.approx(one) for one in (2.0, 3.0, 50.0, 3.0)]
    assert [one.changes[0].value for one in counting.asked] == [3]


def test_a_batch_may_leave_goals_out_and_another_engine_does_not_take_that_for_an_answer() -> None:
    """What it closed is taken by all."""
    kept = Memory()
    first = run_study(study(2), base(), kept, InProcess())
    for row, outcome in zip(first.rows, ("feasible", "optimal", "optimal"), strict=True):
        assert row is not None
        kept.put(Done(replace(row, strategy="batch", outcome=outcome)))

    class Leaving(InProcess):
        leaves_goals = True

    assert run_study(study(2), base(), kept, Leaving()).reused == 3
    again = run_study(study(2), base(), kept, InProcess())
    assert (again.reused, again.solved) == (2, 1)
    assert run_study(study(2), base(), kept, InProcess()).reused == 3
