"""The life of runs as a state machine: any order of what clients, workers and losses do leaves every run in one piece."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from benchmarks.service.auditor import findings
from service.errors import LeaseLost
from service.runs import store
from service.runs.database import Database
from service.runs.migrate import migrate
from service.runs.records import Claim, Note, Run
from service.runs.states import CancelMode, State
from tests.service.runs.databases import NO_POSTGRES, POSTGRES, fresh_url
from tests.service.runs.requests import answer, incumbent_note, request, state_note
from tests.service.runs.test_store import ATTEMPTS, claim, now

TENANTS = ("blue", "red")
WORKERS = ("w1", "w2")


class Life(RuleBasedStateMachine):
    """Any order of what clients, workers and losses do leaves every run in one piece."""

    leases = Bundle("leases")
    backend = "sqlite"

    @initialize()
    def open(self) -> None:
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        url = self.stack.enter_context(fresh_url(self.backend, folder))
        self.database = Database(url, durability="crash")
        self.stack.callback(self.database.close)
        migrate(self.database)
        self.accepted: dict[str, Run] = {}
        self.finished: dict[str, tuple[Any, ...]] = {}

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    @rule(tenant=st.sampled_from(TENANTS), priority=st.integers(-2, 2), key=st.sampled_from([None, "a", "b"]), cache=st.booleans())
    def accept(self, tenant: str, priority: int, key: str | None, cache: bool) -> None:
        new = request(tenant, priority=priority, idempotency_key=key, fingerprint="f", cache_key="c" if cache else None)
        run = self.database.write(lambda connection: store.accept(connection, new)).run
        self.accepted[run.id] = run

    @rule(target=leases, worker=st.sampled_from(WORKERS))
    def claim(self, worker: str) -> Any:
        work = claim(self.database, worker)
        return multiple() if work is None else work

    @rule(work=leases, note=st.sampled_from([State.solving, State.verifying, "incumbent"]))
    def progress(self, work: Claim, note: Any) -> None:
        notes: list[Note] = [incumbent_note() if note == "incumbent" else state_note(note)]
        self._unless_lost(lambda connection: store.progress(connection, work.lease, notes))

    @rule(
        work=consumes(leases),
        ended=st.sampled_from(
            [(State.succeeded, "optimal", "gap"), (State.failed, "no_plan", "deadline"), (State.cancelled, "feasible", "cancelled")]
        ),
    )
    def finish(self, work: Claim, ended: Any) -> None:
        if ended[1] == "no_plan" and self.database.read(lambda connection: store.incumbent_of(connection, work.run.position)) is not None:
            ended = (State.succeeded, "feasible", "deadline")  # no worker ends without the plan that it has found
        self._unless_lost(lambda connection: store.finish(connection, work.lease, answer(*ended)))

    @rule(work=consumes(leases))
    def hand_back(self, work: Claim) -> None:
        self._unless_lost(lambda connection: store.hand_back(connection, work.lease, "stopping"))

    @rule(work=leases)
    def lose(self, work: Claim) -> None:
        seen = now(self.database, work.run)
        if seen.is_leased:
            self.database.write(lambda connection: store.give_back(connection, seen, store.LOST, ATTEMPTS))

    @rule(worker=st.sampled_from(WORKERS))
    def beat(self, worker: str) -> None:
        positions = [run.position for run in self.accepted.values()]
        self.database.write(lambda connection: store.beat(connection, worker, positions))

    @rule(data=st.data(), mode=st.sampled_from(list(CancelMode)))
    def cancel(self, data: st.DataObject, mode: CancelMode) -> None:
        if self.accepted:
            run = data.draw(st.sampled_from(list(self.accepted.values())))  # in their order: ids are random
            self.database.write(lambda connection: store.cancel(connection, run.tenant, run.id, mode))

    def _unless_lost(self, operation: Any) -> None:
        with suppress(LeaseLost):
            self.database.write(operation)

    @invariant()
    def nothing_is_lost_or_changed_after_its_end(self) -> None:
        if not hasattr(self, "accepted"):
            return
        assert findings(self.database, self.accepted, quiet=False) == []
        for run in self.accepted.values():
            found = now(self.database, run)
            if found.is_terminal:
                told = (found.state, found.outcome, found.answered_by, found.events, found.finished_at)
                assert self.finished.setdefault(run.id, told) == told


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


class PostgresLife(Life):
    """The same on the other database."""

    backend = "postgresql"


TestPostgresLife = pytest.mark.skipif(POSTGRES is None, reason=NO_POSTGRES)(PostgresLife.TestCase)
TestPostgresLife.settings = settings(max_examples=6, stateful_step_count=20, deadline=None)
