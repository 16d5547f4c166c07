"""The store, step by step and as a state machine: on SQLite, and on PostgreSQL where there is one."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from benchmarks.service.auditor import findings
from service.errors import Conflict, LeaseLost, NotFound, Unavailable
from service.runs import forgetting, queries, store
from service.runs.database import Database, NotStoredError
from service.runs.records import Claim, Incumbent, Material, NewRun, Run
from service.runs.states import CancelMode, State
from tests.service.runs.requests import answer, best, incumbent_note, plan, request, small, state_note

ATTEMPTS = 2


def accept(database: Database, new: NewRun | None = None, **fields: Any) -> Run:
    wanted = new or request(**fields)
    return database.write(lambda connection: store.accept(connection, wanted)).run


def claim(database: Database, worker: str = "w1", tenant_limit: int | None = None) -> Claim | None:
    return database.write(lambda connection: store.claim(connection, worker, ATTEMPTS, tenant_limit))


def claimed(database: Database, worker: str = "w1") -> Claim:
    found = claim(database, worker)
    assert found is not None
    return found


def material(database: Database, work: Claim) -> Material:
    return database.read(lambda connection: store.material(connection, work.run))


def now(database: Database, run: Run) -> Run:
    return database.read(lambda connection: store.run_of(connection, run.tenant, run.id))


def history(database: Database, run: Run) -> list[Any]:
    found = database.read(lambda connection: queries.events_after(connection, run.position, 0))
    return [event.data["state"] for event in found if event.type == "state"]


# ---------------------------------------------------------------- accepting


def test_a_run_goes_its_way_and_leaves_its_history(database: Database) -> None:
    run = accept(database)
    assert (run.state, run.attempt, run.created_at > 0) == (State.queued, 0, True)
    work = claimed(database)
    assert (work.run.id, work.conclude_only) == (run.id, False)
    assert material(database, work) == Material(small().body)
    notes = [state_note(State.solving), incumbent_note(), state_note(State.verifying)]
    database.write(lambda connection: store.progress(connection, work.lease, notes))
    kept = database.read(lambda connection: store.incumbent_of(connection, run.position))
    assert kept == Incumbent(*best(), 0.1, "heuristic")
    done = database.write(lambda connection: store.finish(connection, work.lease, answer()))
    assert (done.state, done.outcome, done.verified, done.answered_by) == (State.succeeded, "optimal", True, run.position)
    assert history(database, run) == ["queued", "starting", "solving", "verifying", "succeeded"]
    assert database.read(lambda connection: store.part_of(connection, done, "plan")) == plan()[0]
    assert database.read(lambda connection: store.part_of(connection, done, "conflict")) is None
    assert findings(database, [run.id]) == []


def test_a_part_that_is_added_later_stays_and_is_shared(database: Database) -> None:
    run = accept(database, cache_key="c")
    work = claimed(database)
    done = database.write(lambda connection: store.finish(connection, work.lease, answer()))
    hit = accept(database, cache_key="c")
    for body in (b"first", b"second" * 1_000):
        database.write(partial(store.keep_part, run=hit, part="sensitivity", body=body))
    for one in (done, hit):
        assert database.read(partial(store.part_of, run=one, part="sensitivity")) == b"first"
    assert findings(database, [run.id, hit.id]) == []
    database.write(lambda connection: forgetting.forget(connection, time.time() + 1))
    database.write(partial(store.keep_part, run=done, part="sensitivity", body=b"late"))
    assert database.read(partial(store.part_of, run=done, part="sensitivity")) is None


def test_the_same_idempotency_key_gives_the_same_run(database: Database) -> None:
    first = request(idempotency_key="k", fingerprint="f")
    again = request(idempotency_key="k", fingerprint="f")
    one = database.write(lambda connection: store.accept(connection, first))
    two = database.write(lambda connection: store.accept(connection, again))
    assert (one.replayed, two.replayed, one.run.id) == (False, True, two.run.id)
    with pytest.raises(Conflict, match="another body"):
        accept(database, idempotency_key="k", fingerprint="g")
    assert accept(database, tenant="other", idempotency_key="k", fingerprint="g").id != one.run.id
    assert findings(database) == []


def test_an_answered_question_is_answered_at_once(database: Database) -> None:
    first = accept(database, cache_key="c")
    assert accept(database, cache_key="c").state is State.queued  # nothing is answered yet
    work = claimed(database)
    database.write(lambda connection: store.finish(connection, work.lease, answer()))
    hit = accept(database, cache_key="c")
    assert (hit.state, hit.cached, hit.outcome, hit.answered_by) == (State.succeeded, True, "optimal", first.position)
    assert database.read(lambda connection: store.part_of(connection, hit, "plan")) == plan()[0]
    for other in ({"cache_key": "d"}, {"cache_key": "c", "use_cache": False}, {"cache_key": "c", "tenant": "other"}, {"cache_key": None}):
        assert accept(database, **other).state is State.queued
    assert findings(database) == []


@pytest.mark.parametrize(
    "ended",
    [
        answer(State.failed, "no_plan", "deadline"),
        answer(State.succeeded, "feasible", "memory"),
        answer(State.cancelled, "feasible", "cancelled"),
    ],
)
def test_what_another_try_may_better_is_not_given_from_the_cache(database: Database, ended: Any) -> None:
    accept(database, cache_key="c")
    work = claimed(database)
    database.write(lambda connection: store.finish(connection, work.lease, ended))
    assert accept(database, cache_key="c").state is State.queued


def test_tenants_do_not_see_each_other(database: Database) -> None:
    run = accept(database, tenant="blue")
    for ask in (
        lambda connection: store.run_of(connection, "red", run.id),
        lambda connection: store.problem_of(connection, "red", small().id),
        lambda connection: store.cancel(connection, "red", run.id, CancelMode.discard),
    ):
        with pytest.raises(NotFound):
            database.write(ask)
    assert database.read(lambda connection: queries.page_of_runs(connection, "red")) == []
    assert now(database, run).state is State.queued


# ---------------------------------------------------------------- the queue


def test_priority_first_then_the_order_of_arrival(database: Database) -> None:
    arrived = [accept(database, priority=priority) for priority in (0, 5, -3, 5, 0)]
    order = [claimed(database).run.id for _ in arrived]
    assert order == [arrived[place].id for place in (1, 3, 0, 4, 2)]
    assert claim(database) is None


def test_a_tenant_at_its_limit_waits_and_others_do_not(database: Database) -> None:
    first, second = accept(database, tenant="blue"), accept(database, tenant="blue")
    other = accept(database, tenant="red")
    taken = [claim(database, tenant_limit=1) for _ in range(3)]
    assert [work.run.id if work else None for work in taken] == [first.id, other.id, None]
    assert taken[0] is not None
    lease = taken[0].lease
    database.write(lambda connection: store.finish(connection, lease, answer()))
    after = claim(database, tenant_limit=1)
    assert after is not None
    assert after.run.id == second.id


def test_no_run_is_claimed_twice_by_claimants_at_once(database: Database, database_url: str) -> None:
    runs = {accept(database).id for _ in range(40)}
    taken: list[str] = []

    def take(worker: str) -> None:
        mine = Database(database_url, durability="crash")
        try:
            while (work := claim(mine, worker)) is not None:
                taken.append(work.run.id)
        finally:
            mine.close()

    threads = [threading.Thread(target=take, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(runs)


def test_the_queue_is_read_through_its_index(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("the planner of PostgreSQL chooses by the size of the table")
    sql = "EXPLAIN QUERY PLAN SELECT position FROM runs WHERE state = 'queued' ORDER BY priority DESC, position LIMIT 1"
    steps = database.read(lambda connection: [row[-1] for row in connection.exec_driver_sql(sql)])
    assert len(steps) == 1
    assert "ix_runs_queue" in steps[0]


# ---------------------------------------------------------------- leases


def test_a_lost_run_starts_again_from_its_best_plan_and_the_lost_worker_writes_nothing(database: Database) -> None:
    run = accept(database)
    work = claimed(database, "w1")
    database.write(lambda connection: store.progress(connection, work.lease, [state_note(State.solving), incumbent_note()]))
    seen = now(database, run)
    given = database.write(lambda connection: store.give_back(connection, seen, store.LOST, ATTEMPTS))
    assert given is not None
    assert (given.state, given.losses) == (State.queued, 1)
    again = claimed(database, "w2")
    known = material(database, again).incumbent
    assert known is not None
    assert (known.plan, again.conclude_only) == (plan()[0], False)
    for late in (
        lambda connection: store.finish(connection, work.lease, answer()),
        lambda connection: store.progress(connection, work.lease, [incumbent_note()]),
        lambda connection: store.hand_back(connection, work.lease, "late"),
    ):
        with pytest.raises(LeaseLost):
            database.write(late)
    database.write(lambda connection: store.finish(connection, again.lease, answer()))
    with pytest.raises(LeaseLost):
        database.write(lambda connection: store.finish(connection, again.lease, answer()))
    assert findings(database, [run.id]) == []


def test_a_beat_saves_a_run_that_was_thought_lost(database: Database) -> None:
    run = accept(database)
    work = claimed(database, "w1")
    seen = now(database, run)
    mine = database.write(lambda connection: store.beat(connection, "w1", [run.position]))
    assert [found.id for found in mine] == [run.id]
    assert database.write(lambda connection: store.give_back(connection, seen, store.LOST, ATTEMPTS)) is None
    assert now(database, run).is_leased
    database.write(lambda connection: store.finish(connection, work.lease, answer()))


def test_a_run_that_is_lost_again_and_again_is_concluded_or_fails(database: Database) -> None:
    for with_plan in (True, False):
        run = accept(database)
        for loss in range(ATTEMPTS):
            work = claimed(database)
            assert not work.conclude_only
            if with_plan and loss == 0:
                lease = work.lease
                database.write(lambda connection, lease=lease: store.progress(connection, lease, [incumbent_note()]))  # type: ignore[misc]
            seen = now(database, run)
            database.write(lambda connection, seen=seen: store.give_back(connection, seen, store.LOST, ATTEMPTS))  # type: ignore[misc]
        ended = now(database, run)
        for _ in range(ATTEMPTS + 1 if with_plan else 0):
            assert claimed(database).conclude_only
            seen = now(database, run)
            database.write(lambda connection, seen=seen: store.give_back(connection, seen, store.LOST, ATTEMPTS))  # type: ignore[misc]
            ended = now(database, run)
        assert (ended.state, ended.outcome, ended.stop_reason) == (State.failed, "no_plan", "crash")
        assert ended.failure is not None
        assert "lost each time" in ended.failure
        assert [told.partition(": ")[2] for told in findings(database)] == ["its plan is lost"]  # and the audit says so


def test_a_run_handed_back_is_no_loss(database: Database) -> None:
    run = accept(database)
    for _ in range(5):
        work = claimed(database)
        database.write(lambda connection, lease=work.lease: store.hand_back(connection, lease, "its worker stopped"))  # type: ignore[misc]
    assert (now(database, run).state, now(database, run).losses) == (State.queued, 0)
    assert findings(database, [run.id]) == []


# ---------------------------------------------------------------- cancelling, forgetting


def test_cancelling_a_queued_run_ends_it_and_a_finished_one_stays(database: Database) -> None:
    run = accept(database)
    ended = database.write(lambda connection: store.cancel(connection, run.tenant, run.id, CancelMode.keep_best))
    assert (ended.state, ended.outcome, ended.stop_reason) == (State.cancelled, "no_plan", "cancelled")
    assert database.write(lambda connection: store.cancel(connection, run.tenant, run.id, CancelMode.discard)) == ended
    assert claim(database) is None


def test_cancelling_a_run_at_work_tells_its_worker(database: Database) -> None:
    run = accept(database)
    work = claimed(database, "w1")
    for mode in (CancelMode.keep_best, CancelMode.keep_best, CancelMode.discard):
        asked = database.write(lambda connection, mode=mode: store.cancel(connection, run.tenant, run.id, mode))  # type: ignore[misc]
        assert (asked.state, asked.cancel_mode) == (State.cancelling, mode)
    assert [found.cancel_mode for found in database.write(lambda connection: store.beat(connection, "w1", [run.position]))] == [
        CancelMode.discard
    ]
    database.write(lambda connection: store.progress(connection, work.lease, [state_note(State.verifying)]))
    assert now(database, run).state is State.cancelling
    database.write(lambda connection: store.finish(connection, work.lease, answer(State.cancelled, "no_plan", "cancelled")))
    assert findings(database) == []


@pytest.mark.parametrize(("mode", "with_plan"), [(CancelMode.keep_best, True), (CancelMode.keep_best, False), (CancelMode.discard, True)])
def test_a_run_whose_worker_is_lost_while_it_is_cancelled(database: Database, mode: CancelMode, with_plan: bool) -> None:
    run = accept(database)
    work = claimed(database)
    if with_plan:
        database.write(lambda connection: store.progress(connection, work.lease, [incumbent_note()]))
    database.write(lambda connection: store.cancel(connection, run.tenant, run.id, mode))
    seen = now(database, run)
    database.write(lambda connection: store.give_back(connection, seen, store.LOST, ATTEMPTS))
    if mode is CancelMode.keep_best and with_plan:
        again = claimed(database)
        assert again.conclude_only
        database.write(lambda connection: store.finish(connection, again.lease, answer(State.cancelled, "feasible", "cancelled")))
    assert now(database, run).state is State.cancelled
    assert findings(database) == []


def test_old_runs_are_forgotten_with_all_that_is_theirs_alone(database: Database) -> None:
    old = accept(database, cache_key="c", idempotency_key="k", fingerprint="f")
    work = claimed(database)
    ended = database.write(lambda connection: store.finish(connection, work.lease, answer()))
    hit = accept(database, cache_key="c")
    waiting = accept(database)
    assert ended.finished_at is not None
    assert hit.finished_at is not None
    between = (ended.finished_at + hit.finished_at) / 2
    assert database.write(lambda connection: forgetting.forget(connection, between)) == 1
    with pytest.raises(NotFound):
        now(database, old)
    assert database.read(lambda connection: store.part_of(connection, hit, "plan")) == plan()[0]  # still the answer of the other
    assert findings(database, [hit.id, waiting.id]) == []
    after = hit.finished_at + 1
    assert database.write(lambda connection: forgetting.forget(connection, after)) == 1
    assert database.read(lambda connection: store.part_of(connection, hit, "plan")) is None
    assert database.read(lambda connection: store.problem_of(connection, "default", small().id)).body == small().body  # a run waits for it
    assert accept(database, idempotency_key="k", fingerprint="g").state is State.queued


# ---------------------------------------------------------------- the writer


def test_a_write_that_is_refused_spoils_no_other_of_its_batch(database: Database) -> None:
    blocker, gate = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        gate.set()
        blocker.wait(20)

    held = database.submit(hold)
    assert gate.wait(20)
    before = database.submit(lambda connection: store.accept(connection, request()))
    refused = database.submit(lambda connection: store.run_of(connection, "default", "run_none"))
    broken = database.submit(lambda connection: connection.exec_driver_sql("INSERT INTO runs (id) VALUES (NULL)"))
    after = database.submit(lambda connection: store.accept(connection, request()))
    blocker.set()
    held.result(20)
    assert {now(database, done.result(20).run).state for done in (before, after)} == {State.queued}
    with pytest.raises(NotFound):
        refused.result(20)
    assert broken.exception(20) is not None
    assert findings(database) == []


def test_a_write_that_another_process_was_faster_with_is_tried_once_more(database: Database) -> None:
    tries = []

    def beaten(_: object) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise IntegrityError("the statement", None, ValueError("unique"))
        return "seen"

    assert database.write(beaten) == "seen"


def test_content_that_the_database_refuses_is_not_called_a_rest(database: Database) -> None:
    def refused(_: object) -> None:
        raise DataError("the statement", None, ValueError("no such text"))

    with pytest.raises(NotStoredError):
        database.write(refused)
    assert accept(database).state is State.queued


def test_names_with_nul_are_stored(database: Database) -> None:
    accept(database)
    work = claimed(database)
    told = replace(answer(), message="column 'x\0'", failure="\0")
    done = database.write(lambda connection: store.finish(connection, work.lease, told))
    assert (done.message, done.failure) == ("column 'x\ufffd'", "\ufffd")


def test_when_the_database_does_not_work_nobody_waits_for_it_in_turn(database: Database) -> None:
    blocker, gate, tries = threading.Event(), threading.Event(), []

    def hold(_: object) -> None:
        gate.set()
        blocker.wait(20)

    def broken(_: object) -> None:
        tries.append(1)
        raise OperationalError("the statement", None, OSError("the disk is full"))

    held = database.submit(hold)
    assert gate.wait(20)
    waiting = [database.submit(broken) for _ in range(20)]
    blocker.set()
    held.result(20)
    for future in waiting:
        with pytest.raises(Unavailable) as caught:
            future.result(20)
        assert caught.value.code == "database_unavailable"
    assert len(tries) == 2  # once with the others, once alone
    assert accept(database).state is State.queued


def test_ids_cannot_be_guessed() -> None:
    assert len({store.new_run_id() for _ in range(1_000)}) == 1_000
    assert len(store.new_run_id()) >= len("run_") + len(secrets.token_hex(12))
