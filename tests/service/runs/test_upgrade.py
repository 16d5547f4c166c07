"""A database of the version before, with studies in flight: brought to this one, everything in it goes on."""

from __future__ import annotations

import contextlib
import json
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from service.runs import store, studies
from service.runs.database import Database
from service.runs.migrate import config, migrate
from service.runs.states import State, Task
from tests.optimizer.study.small import base
from tests.service.runs.databases import BACKENDS, fresh_url
from tests.service.runs.requests import LIMITS, answer

BEFORE = "0002"


def brought(database: Database, step: Callable[[Config, str], None]) -> None:
    """Upgraded or downgraded to the version before."""
    settings = config()
    with database.engine.begin() as connection:
        settings.attributes["connection"] = connection
        step(settings, BEFORE)


def insert(database: Database, table: str, **row: Any) -> None:
    names = ", ".join(row)
    statement = text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in row)})")  # noqa: S608  (our own names)
    with database.engine.begin() as connection:
        connection.execute(statement, row)


def in_flight(database: Database) -> None:
    """A study of three runs as 0002 keeps it, its document with asks that nobody answered then: one ended, one at work, one queued."""
    body, now = base().model_dump_json().encode(), time.time()
    plain = {"tenant": "default", "kind": "program", "created_at": now}
    problem = {"id": "prob_base", "body": body, "packed": False, "bytes": len(body), "warnings": "[]", "derived": False}
    insert(database, "problems", **plain, **problem)
    document = zlib.compress(json.dumps({"asks": [{"ask": "sweep", "axis": "most"}]}).encode())
    study = {"position": 1, "id": "study_old", "problem_id": "prob_base", "name": "old", "title": "", "document": document}
    study |= {"scenarios": zlib.compress(b"[]"), "count": 3, "priority": -10, "warnings": "[]"}
    insert(database, "studies", **plain, **study)
    for number, state in enumerate(("succeeded", "solving", "queued"), start=1):
        run = {"position": number, "id": f"run_{number}", "problem_id": "prob_base", "state": state, "priority": -10}
        run |= {"limits": json.dumps(LIMITS), "cached": False, "attempt": int(state != "queued"), "losses": 0, "beat": 0, "events": 1}
        run |= {"spent_s": 0.0, "verified": state == "succeeded", "message": "", "worker": "before" if state == "solving" else None}
        run |= {"outcome": "optimal", "stop_reason": "gap", "answered_by": 1, "finished_at": now} if state == "succeeded" else {}
        insert(database, "runs", **plain, **run)
        insert(database, "run_events", position=number, number=1, type="state", at=now, data="{}")
        insert(database, "study_runs", study=1, number=number - 1, position=number, key=f"key{number}")


@contextlib.contextmanager
def upgraded(backend: str, tmp_path: Path) -> Iterator[Database]:
    """A database that had a study in flight before the upgrade."""
    with fresh_url(backend, tmp_path) as url:
        database = Database(url, durability="crash")
        try:
            brought(database, command.upgrade)
            in_flight(database)
            migrate(database)
            yield database
        finally:
            database.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_study_in_flight_goes_on_after_the_upgrade(tmp_path: Path, backend: str) -> None:
    with upgraded(backend, tmp_path) as database:
        study = database.read(lambda connection: studies.study_of(connection, "default", "study_old"))
        assert study.counts == {State.succeeded: 1, State.solving: 1, State.queued: 1}
        assert database.read(lambda connection: studies.asks_of(connection, study)) is None, "nobody has asked"
        lost = next(run for run in database.read(store.leased))
        database.write(lambda connection: store.give_back(connection, lost, store.LOST, 3))
        for number in (2, 3):
            claim = database.write(lambda connection: store.claim(connection, "after", 3))
            assert claim is not None
            assert (claim.run.id, claim.run.task) == (f"run_{number}", Task.solve)
            lease = claim.lease
            database.write(lambda connection, lease=lease: store.finish(connection, lease, answer()))  # type: ignore[misc]
        study = database.read(lambda connection: studies.study_of(connection, "default", "study_old"))
        assert (study.ended, study.counts) == (True, {State.succeeded: 3})
        told = database.read(lambda connection: studies.answers_of(connection, study))
        assert [one["key"] for one in told] == ["key1", "key2", "key3"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_taking_the_upgrade_back_takes_the_asks_with_it_and_nothing_else(tmp_path: Path, backend: str) -> None:
    with upgraded(backend, tmp_path) as database:
        insert(database, "runs", **_asks_run())
        insert(database, "answers", position=99, part="asks", body=b"{}", packed=False)
        insert(database, "asked", position=99, key="ask-0", body=b"{}", packed=False)
        insert(database, "study_runs", study=1, number=3, position=99, key="asks")
        brought(database, command.downgrade)
        with database.engine.connect() as connection:
            left = [connection.execute(text(f"SELECT count(*) FROM {one}")).scalar() for one in ("runs", "study_runs", "answers")]  # noqa: S608
        assert left == [3, 3, 0]
        migrate(database)
        assert database.read(lambda connection: studies.study_of(connection, "default", "study_old")).runs == 3


def _asks_run() -> dict[str, Any]:
    run = {"position": 99, "id": "run_asks", "tenant": "default", "kind": "program", "problem_id": "prob_base", "state": "succeeded"}
    run |= {
        "priority": -10,
        "limits": json.dumps(LIMITS),
        "cached": False,
        "attempt": 1,
        "losses": 0,
        "beat": 0,
        "events": 0,
        "task": "asks",
    }
    return run | {"spent_s": 0.0, "verified": False, "message": "", "created_at": time.time(), "answered_by": 99}
