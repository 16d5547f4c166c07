"""Workers: what they answer, in which order, and what a lost, deaf or greedy one costs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.linear.schema import Plan
from models.vocabulary import Document
from optimizer.child import Child
from optimizer.incumbents import Bounded, Found, Message
from optimizer.limits import Limits
from optimizer.result import Result
from optimizer.solve import solve
from optimizer.study.executors import desk, pool, pool_worker
from optimizer.study.executors.blocks import Blocks
from optimizer.study.executors.engine import Asked, Done, Engine, EngineError, Held, Step, Workers
from optimizer.study.executors.in_process import InProcess
from optimizer.study.executors.pool import LocalPool, LocalWorkers
from optimizer.study.rows import Change, Row
from tests.optimizer.study.small import LIMITS, asked, held, objective, odd

FOUND = Found(0.0, "heuristic", Plan(values=(50.0,)), (50.0,))
ROGUE = "tests.optimizer.study.rogue_worker"


@pytest.fixture(scope="module")
def two() -> Iterator[LocalWorkers]:
    """Two workers, started once."""
    with LocalPool(2).open(held()) as workers:
        yield workers


@pytest.fixture(scope="module")
def one() -> Iterator[LocalWorkers]:
    """One worker that goes astray when asked to, and is replaced then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "WORKER", ROGUE)
        with LocalPool(1, attempts=2).open(held()) as workers:
            yield workers


@pytest.fixture
def rogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "WORKER", ROGUE)


def answers(workers: Workers, work: list[Asked], cancel: threading.Event | None = None) -> tuple[dict[str, Row], list[Step]]:
    """Rows by key, and the steps."""
    rows: dict[str, Row] = {}
    steps: list[Step] = []

    def on_done(done: Done) -> None:
        assert done.row.key not in rows
        assert (done.plan is None) == (not done.row.goals)
        rows[done.row.key] = done.row

    workers.run(work, on_done=on_done, on_step=steps.append, cancel=cancel or threading.Event())
    return rows, steps


# ------------------------------------------------------------ who takes what


@given(st.integers(0, 40), st.integers(1, 7), st.randoms(use_true_random=False))
def test_everything_is_taken_once_whoever_asks(count: int, workers: int, random: Random) -> None:
    blocks = Blocks(range(count), workers)
    taken: list[int] = []
    while blocks.left:
        one = blocks.take(random.randrange(workers))
        assert one is not None
        taken.append(one)
    assert sorted(taken) == list(range(count))
    assert all(blocks.take(worker) is None for worker in range(workers))


def test_each_worker_has_its_own_stretch_and_then_the_far_half_of_the_longest() -> None:
    blocks = Blocks(range(10), 2)
    assert [blocks.take(0) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert blocks.take(1) == 5
    assert [blocks.take(0), blocks.take(1), blocks.take(0)] == [8, 6, 9]  # of 6, 7, 8, 9
    blocks.give_back(0, 9)
    assert [blocks.take(0), blocks.take(0), blocks.take(0)] == [9, 7, None]


# ------------------------------------------------------------ answers


@pytest.mark.parametrize("engine", [InProcess(), LocalPool(1), LocalPool(2)], ids=["in process", "one", "two"])
def test_every_engine_answers_all(engine: Engine) -> None:
    work = [asked(float(most)) for most in range(1, 8)]
    with engine.open(held()) as workers:
        rows, steps = answers(workers, work)
    assert {key: objective(row) for key, row in rows.items()} == {f"{most}": pytest.approx(most) for most in range(1, 8)}
    assert all((row.outcome, row.verified, row.attempts) == ("optimal", True, 1) for row in rows.values())
    assert sorted(step.key for step in steps if step.state == "started") == sorted(rows)


def test_workers_stay_between_runs(two: LocalWorkers) -> None:
    answers(two, [asked(1.0), asked(2.0)])
    before = two.pids
    assert len(before) == 2
    assert answers(two, [])[0] == {}
    rows, steps = answers(two, [asked(3.0)])
    assert objective(rows["3"]) == pytest.approx(3.0)
    assert two.pids == before
    assert {step.worker for step in steps} == {0}


@pytest.mark.parametrize("engine", [InProcess(), LocalPool(1)], ids=["in process", "one"])
def test_changes_that_break_the_problem_are_a_row_with_the_reason(engine: Engine) -> None:
    broken = [
        Asked("text", (Change("set", "/rows/upper/0", "much"),)),
        Asked("nowhere", (Change("set", "/nodes/0/gpus", 1.0),)),
        Asked("crossed", (Change("set", "/columns/upper/0", 0.5),)),
    ]
    with engine.open(held()) as workers:
        rows, _ = answers(workers, [*broken, asked(2.0)])
    assert all((rows[key].failure or "").startswith("its changes break the problem: ") for key in ("text", "nowhere", "crossed"))
    assert "upper" in (rows["text"].failure or "")
    assert not rows["text"].answered
    assert objective(rows["2"]) == pytest.approx(2.0)


def test_no_plan_is_an_answer(two: LocalWorkers) -> None:
    rows, _ = answers(two, [asked(0.5)])  # and x is at least 1
    assert (rows["0.5"].outcome, rows["0.5"].failure, rows["0.5"].answered) == ("infeasible", None, True)


@pytest.mark.parametrize(("workers", "attempts"), [(0, 1), (1, 0)])
def test_a_pool_has_at_least_one_worker(workers: int, attempts: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        LocalPool(workers, attempts)


class Talking:
    """A solver that finds a plan and a bound, and then takes its time."""

    def __init__(self, base: Document, limits: Limits, *, diagnosing: bool) -> None:
        self.base, self.limits, self.diagnosing = base, limits, diagnosing

    def solve(self, problem: Document, *, limits: Limits, cancel: threading.Event, on_message: Callable[[Message], None]) -> Result:
        del cancel
        for message in (Bounded(0.0, "counting", "objective", 60.0, "counting"), FOUND):
            time.sleep(0.01)
            on_message(message)
        time.sleep(0.2)
        return solve(problem, limits, isolate=False)


def test_a_long_solve_tells_its_plans_and_steps_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "HotSolver", Talking)
    monkeypatch.setattr(desk, "TELL_S", 0.0)
    monkeypatch.setattr(pool_worker, "QUIET_S", 0.1)
    sent: list[object] = []
    pool_worker.hold(held(), sent.append, threading.Event())
    done = pool_worker.answer(asked(2.0), sent.append, threading.Event())
    assert objective(done.row) == pytest.approx(2.0)
    assert [one for one in sent if not isinstance(one, Step)] == [Bounded(0.0, "counting", "objective", 60.0, "counting"), FOUND]
    assert [(one.incumbent, one.bound) for one in sent if isinstance(one, Step)] == [(None, 60.0), (50.0, 60.0)]


# ------------------------------------------------------------ losses


def test_a_lost_process_costs_one_try_of_one_scenario(one: LocalWorkers, tmp_path: Path) -> None:
    rows, steps = answers(one, [asked(1.0), odd("killed_once", str(tmp_path / "mark")), asked(2.0), asked(3.0)])
    assert {key: row.attempts for key, row in rows.items()} == {"1": 1, "killed_once": 2, "2": 1, "3": 1}
    assert objective(rows["killed_once"]) == pytest.approx(50.0)
    assert [step.key for step in steps if step.state == "lost"] == ["killed_once"]


@pytest.mark.parametrize(("what", "reason"), [("killed", "SIGKILL"), ("segfault", "SIGSEGV")])
def test_a_scenario_that_kills_its_process_is_a_row_after_so_many_tries(one: LocalWorkers, what: str, reason: str) -> None:
    rows, _ = answers(one, [odd(what), asked(1.0)])
    assert (rows[what].outcome, rows[what].attempts, rows[what].answered) == (None, 2, False)
    assert f"its process died 2 times over it: killed by {reason}" in (rows[what].failure or "")
    assert objective(rows["1"]) == pytest.approx(1.0)


def test_a_process_killed_while_it_waits_costs_nothing(one: LocalWorkers) -> None:
    answers(one, [asked(1.0)])
    psutil.Process(one.pids[0]).kill()
    os.waitid(os.P_PID, one.pids[0], os.WEXITED | os.WNOWAIT)  # until all its threads are gone
    rows, _ = answers(one, [asked(2.0)])
    assert objective(rows["2"]) == pytest.approx(2.0)
    assert rows["2"].attempts == 1


def test_an_exception_of_ours_is_a_row_with_the_report(one: LocalWorkers) -> None:
    rows, _ = answers(one, [odd("raises"), asked(1.0)])
    assert "a fault of this program" in (rows["raises"].failure or "")
    assert "ValueError: a fault in the worker" in (rows["raises"].failure or "")
    assert objective(rows["1"]) == pytest.approx(1.0)


@pytest.mark.usefixtures("rogue")
def test_a_deaf_solver_is_stopped_and_its_best_plan_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALLOWANCE_S", "GRACE_S"):
        monkeypatch.setattr(pool, name, 0.2)
    with LocalPool(2).open(held(replace(LIMITS, time_limit_s=1.0))) as workers:
        rows, _ = answers(workers, [odd("deaf"), odd("deaf_with_a_plan")])
        again, _ = answers(workers, [asked(1.0)])
    none, best = rows["deaf"], rows["deaf_with_a_plan"]
    assert (none.outcome, none.stop_reason, none.failure) == ("no_plan", "deadline", None)
    assert (best.outcome, best.stop_reason, best.verified) == ("feasible", "deadline", True)
    assert [(goal.objective, goal.bound) for goal in best.goals] == [(50.0, 60.0)]
    assert objective(again["1"]) == pytest.approx(1.0)


@pytest.mark.usefixtures("rogue")
def test_a_greedy_scenario_is_told_so_at_once() -> None:
    limits = replace(LIMITS, memory_gib=0.5)
    with LocalPool(1).open(held(limits)) as workers:
        rows, _ = answers(workers, [odd("eats"), asked(1.0)])
    assert (rows["eats"].outcome, rows["eats"].stop_reason, rows["eats"].attempts) == ("no_plan", "memory", 1)
    assert objective(rows["1"]) == pytest.approx(1.0)


def test_a_base_too_large_for_its_limit_is_one_clear_error() -> None:
    with (
        LocalPool(2).open(held(Limits(memory_gib=0.001))) as workers,
        pytest.raises(EngineError, match=r"needs more than memory_gib=0\.001 to hold the base problem alone"),
    ):
        answers(workers, [asked(1.0), asked(2.0)])


@pytest.mark.usefixtures("rogue")
def test_a_base_that_kills_every_process_is_one_clear_error() -> None:
    dying = Held("dying", held().base, LIMITS)
    with LocalPool(1, attempts=2).open(dying) as workers, pytest.raises(EngineError, match="died 2 times before it had read the base"):
        answers(workers, [asked(1.0)])


def test_one_worker_that_cannot_start_leaves_the_work_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = Child.start, list[int]()

    def failing(*arguments: Any, **named: Any) -> Child:
        started.append(1)
        if len(started) > 1:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return start(*arguments, **named)

    monkeypatch.setattr(Child, "start", failing)
    with LocalPool(2).open(held()) as workers:
        rows, _ = answers(workers, [asked(float(most)) for most in range(1, 7)])
    assert len(rows) == 6
    with LocalPool(1).open(held()) as workers, pytest.raises(EngineError, match="no worker process can be started: Resource temporarily"):
        answers(workers, [asked(1.0)])


# ------------------------------------------------------------ stopping


@pytest.mark.usefixtures("rogue")
def test_a_cancel_keeps_what_is_done_and_drops_what_runs() -> None:
    cancel = threading.Event()
    with LocalPool(2).open(held()) as workers:
        rows: list[str] = []

        def on_done(done: Done) -> None:
            rows.append(done.row.key)
            cancel.set()

        workers.run([asked(1.0), odd("waits")], on_done=on_done, on_step=lambda _step: None, cancel=cancel)
        assert rows == ["1"]
        assert len(workers.pids) == 2  # which heard, and can go on
        assert set(answers(workers, [asked(1.0), asked(2.0)])[0]) == {"1", "2"}


def test_what_is_cancelled_before_it_begins_does_nothing(two: LocalWorkers) -> None:
    cancel = threading.Event()
    cancel.set()
    assert answers(two, [asked(1.0)], cancel) == ({}, [])


def test_what_the_caller_raises_ends_the_run_and_loses_no_answer(two: LocalWorkers) -> None:
    kept: list[str] = []

    def on_done(done: Done) -> None:
        kept.append(done.row.key)
        if len(kept) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        two.run([asked(float(n)) for n in range(1, 40)], on_done=on_done, on_step=lambda _step: None, cancel=threading.Event())
    assert 1 <= len(kept) < 39
    assert len(set(kept)) == len(kept)
    assert set(answers(two, [asked(1.0)])[0]) == {"1"}


def test_closed_workers_leave_no_process() -> None:
    workers = LocalPool(2).open(held())
    answers(workers, [asked(1.0), asked(2.0)])
    pids = workers.pids
    workers.close()
    workers.close()
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
