"""The worker: answers within the limits whatever the child does, hands runs on, and loses none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update

from benchmarks.service.auditor import findings
from service.children import ChildPool
from service.errors import Unavailable
from service.runs import assignment, queries, store
from service.runs.assignment import sentence
from service.runs.bulletin import Bulletin
from service.runs.database import Database, NotStoredError
from service.runs.migrate import migrate
from service.runs.records import Run, StoredProblem
from service.runs.states import CancelMode, State
from service.runs.tables import problems
from service.runs.tables import runs as runs_table
from service.runs.worker import Worker, _Watch, is_dead, new_name
from service.settings import Settings
from service.telemetry import Telemetry
from tests.service.runs import rogue_tasks as rogue
from tests.service.runs.requests import LIMITS, incumbent_note, request

TASKS = "tests.service.runs.rogue_tasks"
PATIENCE_S = 60.0


class House:
    """A database with a worker, as one process would have it."""

    def __init__(self, url: str, pool: ChildPool, **fields: Any) -> None:
        self.settings = Settings(**{"slots": 2, "heartbeat_s": 0.1, "lease_s": 1.0, "poll_s": 0.05, "attempts": 2} | fields)
        self.database = Database(url, durability="crash")
        migrate(self.database)
        self.bulletin, self.pool, self.telemetry = Bulletin(), pool, Telemetry()
        self.worker = Worker(self.database, self.settings, self.bulletin, pool, self.telemetry)

    def close(self) -> None:
        self.worker.stop()
        self.database.close()

    def accept(self, seed: int = rogue.FINE, **limits: Any) -> Run:
        new = request(limits=LIMITS | {"seed": seed} | limits)
        run = self.database.write(lambda connection: store.accept(connection, new)).run
        self.worker.wake()
        return run

    def now(self, run: Run) -> Run:
        return self.database.read(lambda connection: store.run_of(connection, run.tenant, run.id))

    def until(self, run: Run, wanted: Callable[[Run], bool]) -> Run:
        give_up = time.monotonic() + PATIENCE_S
        while not wanted(found := self.now(run)):
            assert time.monotonic() < give_up, f"{run.id} stays {found}"
            time.sleep(0.01)
        return found

    def ended(self, run: Run) -> Run:
        return self.until(run, lambda found: found.is_terminal)

    def events(self, run: Run) -> list[str]:
        return [event.type for event in self.database.read(lambda connection: queries.events_after(connection, run.position, 0))]

    def cancel(self, run: Run, mode: CancelMode) -> None:
        self.worker.cancelled(self.database.write(lambda connection: store.cancel(connection, run.tenant, run.id, mode)))


@pytest.fixture(scope="module")
def pool() -> Iterator[ChildPool]:
    made = ChildPool(3, imports=(TASKS,))
    made.start()
    yield made
    made.close()


@pytest.fixture
def house(tmp_path: Path, pool: ChildPool, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(assignment, "TASKS", TASKS)
    made = House(f"sqlite:///{tmp_path / 'runs.db'}", pool)
    yield made
    made.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("slot", "keeper", "scribe", "database"))]


# ---------------------------------------------------------------- what a child may do


def test_a_run_is_solved_verified_and_told(house: House) -> None:
    house.worker.start()
    run = house.ended(house.accept())
    assert (run.state, run.outcome, run.stop_reason, run.verified, run.failure) == (State.succeeded, "optimal", "gap", True, None)
    assert {"state", "incumbent"} <= set(house.events(run))
    assert findings(house.database, [run.id]) == []


@pytest.mark.parametrize(
    ("seed", "state", "outcome", "stop_reason"),
    [
        (rogue.DEAF, State.failed, "no_plan", "deadline"),
        (rogue.DEAF_WITH_A_PLAN, State.succeeded, "optimal", "gap"),
        (rogue.CRASHING, State.failed, "no_plan", "crash"),
        (rogue.CRASHING_WITH_A_PLAN, State.succeeded, "optimal", "gap"),
        (rogue.GROWING, State.failed, "no_plan", "memory"),
        (rogue.FAILING, State.failed, "no_plan", "crash"),
        (rogue.DEAF_AND_REFUTED, State.succeeded, "infeasible", "gap"),
        (rogue.WRONG, State.failed, "no_plan", "crash"),
    ],
)
def test_whatever_the_child_does_the_run_is_answered(house: House, seed: int, state: State, outcome: str, stop_reason: str) -> None:
    house.worker.start()
    ends_by_its_deadline = seed in (rogue.DEAF, rogue.DEAF_WITH_A_PLAN, rogue.DEAF_AND_REFUTED)
    run = house.ended(house.accept(seed, time_limit_s=1.0 if ends_by_its_deadline else 50.0, memory_gib=1.0))
    assert (run.state, run.outcome, run.stop_reason) == (state, outcome, stop_reason)
    assert (run.failure is not None) == (seed in (rogue.CRASHING, rogue.CRASHING_WITH_A_PLAN, rogue.FAILING, rogue.WRONG))
    told = [finding.partition(": ")[2] for finding in findings(house.database, [run.id])]
    assert told == (["its plan is lost"] if seed == rogue.WRONG else [])  # of a plan that broke a rule nothing is kept
    conflict = house.database.read(lambda connection: store.part_of(connection, run, "conflict"))
    assert (conflict is not None) == (outcome == "infeasible")


def test_a_child_that_stops_at_its_deadline_is_not_said_to_be_cancelled(house: House) -> None:
    house.worker.start()
    run = house.ended(house.accept(rogue.PATIENT, time_limit_s=1.0))
    assert (run.state, run.stop_reason) == (State.succeeded, "deadline")


# ---------------------------------------------------------------- cancelling


@pytest.mark.parametrize("seed", [rogue.PATIENT, rogue.DEAF_WITH_A_PLAN])
@pytest.mark.parametrize("mode", list(CancelMode))
def test_a_cancelled_run_keeps_its_best_plan_or_not(house: House, seed: int, mode: CancelMode) -> None:
    house.worker.start()
    run = house.accept(seed, time_limit_s=50.0)
    house.until(run, lambda found: found.objective is not None)
    house.cancel(run, mode)
    ended = house.ended(run)
    # Everything was proved before the cancellation came: a deaf child's answer is concluded to be the optimum.
    kept = mode is CancelMode.keep_best
    assert ended.state is (State.succeeded if kept and seed == rogue.DEAF_WITH_A_PLAN else State.cancelled)
    assert (ended.outcome in ("optimal", "feasible")) == kept
    assert (house.database.read(lambda connection: store.part_of(connection, ended, "plan")) is not None) == kept
    assert findings(house.database, [run.id]) == []


def test_a_cancellation_by_another_process_is_seen_by_the_keeper(house: House) -> None:
    house.worker.start()
    run = house.accept(rogue.DEAF, time_limit_s=50.0)
    house.until(run, lambda found: found.state is State.solving)
    house.database.write(lambda connection: store.cancel(connection, run.tenant, run.id, CancelMode.discard))
    assert house.ended(run).state is State.cancelled


# ---------------------------------------------------------------- leases


def test_a_run_of_a_dead_worker_is_taken_up_and_starts_from_its_plan(house: House) -> None:
    run = house.accept()
    gone = house.database.write(lambda connection: store.claim(connection, "elsewhere/boot/1/1/x", 2))
    assert gone is not None
    house.database.write(lambda connection: store.progress(connection, gone.lease, [incumbent_note()]))
    house.worker.start()
    ended = house.ended(run)
    assert (ended.state, ended.attempt, ended.losses) == (State.succeeded, 2, 1)
    assert findings(house.database, [run.id]) == []


def test_a_worker_whose_run_was_given_away_writes_nothing(house: House) -> None:
    house.worker.start()
    run = house.accept(rogue.DEAF, time_limit_s=50.0)
    seen = house.until(run, lambda found: found.state is State.solving)
    give_up = time.monotonic() + PATIENCE_S
    while house.database.write(lambda connection: store.give_back(connection, house.now(seen), store.LOST, 2)) is None:
        assert time.monotonic() < give_up
    house.worker.wake()
    again = house.until(run, lambda found: found.attempt == 2)
    assert again.losses == 1
    house.cancel(run, CancelMode.discard)
    assert house.ended(run).state is State.cancelled
    assert findings(house.database, [run.id]) == []


def test_a_stopping_worker_finishes_what_it_can_and_hands_the_rest_back(house: House) -> None:
    house.worker.start()
    short = house.accept()
    long = house.accept(rogue.DEAF_WITH_A_PLAN, time_limit_s=50.0)
    house.until(long, lambda found: found.objective is not None)
    house.worker.drain(2.0)
    assert house.now(short).state is State.succeeded
    back = house.now(long)
    assert (back.state, back.losses, back.worker) == (State.queued, 0, None)
    kept = house.database.read(lambda connection: store.incumbent_of(connection, long.position))
    assert kept is not None
    assert findings(house.database, [short.id, long.id]) == []


def test_names_tell_the_dead_of_this_machine_from_the_rest() -> None:
    mine = new_name()
    host, boot, namespace, pid, start, _ = mine.split("/")
    assert not is_dead(mine)
    assert is_dead(f"{host}/{boot}/{namespace}/{pid}/0/x")  # the same process id, another process
    assert is_dead(f"{host}/{boot}/{namespace}/4194400/1/x")  # beyond every process id
    for place in (f"elsewhere/{boot}/{namespace}", f"{host}/another-boot/{namespace}", f"{host}/{boot}/another-container"):
        assert not is_dead(f"{place}/4194400/{start}/x")
    for unknown in (None, "", "somebody"):
        assert not is_dead(unknown)


def test_a_plan_of_an_earlier_attempt_is_concluded(house: House) -> None:
    """Lost too often, or cancelled while it waited, or stuck before it found another: the plan that is known is the answer."""
    runs = [house.accept(rogue.DEAF, time_limit_s=1.0) for _ in range(3)]
    claims = [house.database.write(lambda connection: store.claim(connection, "elsewhere/boot/1/1/1/x", 2)) for _ in runs]
    for losses, work in zip((2, 0, 0), claims, strict=True):
        assert work is not None
        house.database.write(partial(store.progress, lease=work.lease, notes=[incumbent_note()]))
        house.database.write(partial(store.hand_back, lease=work.lease, why="a test"))
        house.database.write(partial(_lose, position=work.lease.position, losses=losses))
    cancelled = house.database.write(lambda connection: store.cancel(connection, "default", runs[1].id, CancelMode.keep_best))
    assert cancelled.state is State.queued
    house.worker.start()
    ended = [house.ended(run) for run in runs]
    assert [(run.state, run.stop_reason) for run in ended] == [
        (State.succeeded, "crash"),
        (State.cancelled, "cancelled"),
        (State.succeeded, "deadline"),
    ]
    assert [(run.outcome, run.verified) for run in ended] == [("feasible", True)] * 3
    assert findings(house.database, [run.id for run in runs]) == []


def _lose(connection: Connection, position: int, losses: int) -> None:
    connection.execute(update(runs_table).where(runs_table.c.position == position).values(losses=losses))


def test_a_run_cancelled_while_it_waits_is_not_held_up_by_busy_slots(house: House) -> None:
    kept = house.accept(rogue.DEAF, time_limit_s=50.0)
    work = house.database.write(lambda connection: store.claim(connection, "elsewhere/boot/1/1/1/x", 2))
    assert work is not None
    house.database.write(partial(store.progress, lease=work.lease, notes=[incumbent_note()]))
    house.database.write(partial(store.hand_back, lease=work.lease, why="a test"))
    busy = [house.accept(rogue.PATIENT, time_limit_s=50.0) for _ in range(2)]
    house.database.write(partial(_first, positions=[run.position for run in busy]))
    house.worker.start()
    for run in busy:
        house.until(run, lambda found: found.objective is not None)
    house.cancel(kept, CancelMode.keep_best)
    house.worker.wake()
    assert (house.ended(kept).state, house.ended(kept).outcome) == (State.cancelled, "feasible")
    assert all(not house.now(run).is_terminal for run in busy)


def _first(connection: Connection, positions: list[int]) -> None:
    connection.execute(update(runs_table).where(runs_table.c.position.in_(positions)).values(priority=9))


def test_a_run_that_cannot_be_read_fails_and_stops_nobody(house: House) -> None:
    other = request(problem=StoredProblem("prob_spoilt", "placement", b"x" * 100_000))
    spoilt = house.database.write(lambda connection: store.accept(connection, other)).run
    damage = update(problems).where(problems.c.id == "prob_spoilt").values(body=b"no zlib data")
    house.database.write(lambda connection: connection.execute(damage).rowcount)
    house.worker.start()
    fine = house.accept()
    assert house.ended(fine).state is State.succeeded
    ended = house.ended(spoilt)
    assert (ended.state, ended.stop_reason) == (State.failed, "crash")
    assert "cannot be read" in (ended.failure or "")
    assert house.worker.alive


def test_a_shortage_of_processes_burns_no_run(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    short = threading.Event()
    take = house.pool.run

    def scarce(*arguments: Any, **named: Any) -> Any:
        if not short.is_set():
            raise OSError(24, "Too many open files")
        return take(*arguments, **named)

    monkeypatch.setattr(house.pool, "run", scarce)
    monkeypatch.setattr("service.runs.worker.AGAIN_S", 0.2)
    runs = [house.accept() for _ in range(6)]
    house.worker.start()
    time.sleep(1.0)
    seen = [house.now(run) for run in runs]
    assert {run.losses for run in seen} == {0}
    assert sum(run.attempt for run in seen) < 20  # with pauses that grow, not as fast as it can
    short.set()
    assert {house.ended(run).state for run in runs} == {State.succeeded}


def test_a_watcher_that_slept_takes_nothing_away() -> None:
    run = house_run()
    watch = _Watch(lease_s=0.3, asleep_s=0.2)
    assert watch.lost([run]) == []
    time.sleep(0.4)  # the database rested: nobody could beat
    assert watch.lost([run]) == []
    looks = []
    for _ in range(4):
        time.sleep(0.1)
        looks.append(watch.lost([run]))
    assert looks[-1] == [run]  # seen to stand still, look after look


def house_run() -> Run:
    fields: dict[str, Any] = dict.fromkeys(Run.__slots__)
    return Run(**fields | {"position": 1, "attempt": 1, "beat": 7, "worker": "elsewhere/boot/1/1/1/x", "state": State.solving})


@pytest.mark.parametrize(
    ("report", "told"),
    [
        ("killed by SIGSEGV\nFatal Python error: Segmentation fault", "killed by SIGSEGV"),
        ('Traceback (most recent call last):\n  File "/srv/x/y.py", line 3\nValueError: /srv/data/a.json is bad', "ValueError: ... is bad"),
        ("", "no report"),
    ],
)
def test_a_crash_report_is_one_sentence_without_paths(report: str, told: str) -> None:
    assert sentence(report) == told


# ---------------------------------------------------------------- when the database rests


def test_what_was_heard_while_the_database_rested_is_written_afterwards(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    rests = threading.Event()
    rests.set()
    progress = store.progress

    def resting(*arguments: Any, **named: Any) -> Run:
        if rests.is_set():
            raise Unavailable("locked")
        return progress(*arguments, **named)

    monkeypatch.setattr(store, "progress", resting)
    house.worker.start()
    run = house.accept(rogue.PATIENT, time_limit_s=50.0)
    time.sleep(1.0)
    assert house.now(run).state is State.starting
    rests.clear()
    house.until(run, lambda found: found.state is State.solving and found.objective is not None)
    assert house.database.read(lambda connection: store.incumbent_of(connection, run.position)) is not None
    house.cancel(run, CancelMode.keep_best)
    house.ended(run)
    assert findings(house.database, [run.id]) == []


def test_an_answer_that_the_database_refuses_ends_the_run(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = store.finish

    def refusing(*arguments: Any, **named: Any) -> Run:
        if named["answer"].parts:
            raise NotStoredError("no such text")
        return finish(*arguments, **named)

    monkeypatch.setattr(store, "finish", refusing)
    house.worker.start()
    run = house.ended(house.accept())
    assert (run.state, run.outcome) == (State.failed, "no_plan")
    assert "refused" in (run.failure or "")


def test_an_answer_waits_for_the_database(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = iter(range(3))
    finish = store.finish

    def resting(*arguments: Any, **named: Any) -> Run:
        if next(refusals, None) is not None:
            raise Unavailable("the disk is full")
        return finish(*arguments, **named)

    monkeypatch.setattr(store, "finish", resting)
    monkeypatch.setattr(assignment, "AGAIN_S", 0.01)
    house.worker.start()
    run = house.ended(house.accept())
    assert run.state is State.succeeded
    assert next(refusals, None) is None


def test_a_slot_survives_what_it_did_not_expect(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    once = iter([True])
    run_it = assignment.Assignment.run

    def failing(self: Any) -> None:
        if next(once, False):
            raise ArithmeticError("nobody expected this")
        run_it(self)

    monkeypatch.setattr(assignment.Assignment, "run", failing)
    house.worker.start()
    run = house.accept()
    assert house.ended(run).state is State.succeeded  # given up by the slot, found again by the keeper
    assert findings(house.database, [run.id]) == []
