"""The worker: answers within the limits whatever the child does, hands runs on, and loses none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.service.auditor import findings
from service.children import ChildPool
from service.errors import Unavailable
from service.runs import assignment, queries, store
from service.runs.bulletin import Bulletin
from service.runs.database import Database
from service.runs.migrate import migrate
from service.runs.records import Run
from service.runs.states import CancelMode, State
from service.runs.worker import Worker, is_dead, new_name
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
    assert findings(house.database, [run.id]) == []
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
    host, boot, pid, start, _ = mine.split("/")
    assert not is_dead(mine)
    assert is_dead(f"{host}/{boot}/{pid}/0/x")  # the same process id, another process
    assert is_dead(f"{host}/{boot}/4194400/1/x")  # beyond every process id
    for unknown in (None, "", "somebody", f"elsewhere/{boot}/{pid}/{start}/x", f"{host}/another-boot/{pid}/{start}/x"):
        assert not is_dead(unknown)


# ---------------------------------------------------------------- when the database rests


def test_an_answer_waits_for_the_database(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = iter(range(3))
    finish = store.finish

    def resting(*arguments: Any) -> Run:
        if next(refusals, None) is not None:
            raise Unavailable("the disk is full")
        return finish(*arguments)

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
