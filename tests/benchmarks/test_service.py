"""The service's benchmark measures what it says, on small sizes, and its audit finds what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import psutil
import pytest
from sqlalchemy import create_engine, delete, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from benchmarks import run
from benchmarks.lines import Line
from benchmarks.service import bad, chaos, measures, problems, table
from benchmarks.service.auditor import findings
from benchmarks.service.soak import soak
from models.catalogue import kind
from service.runs import store
from service.runs.database import Database
from service.runs.migrate import migrate
from service.runs.records import Lease
from service.runs.states import CancelMode, State
from service.runs.tables import answers, run_events, runs
from service.runs.tables import problems as kept
from tests.service.runs.databases import NO_POSTGRES, POSTGRES, fresh_url
from tests.service.runs.requests import answer, incumbent_note, request, state_note


def test_every_promise_has_a_row() -> None:
    names = {row.name for row in table.LINES}
    assert {"latency", "throughput", "intake", "deadlines", "kills", "bad-requests", "cancels", "soak"} == names


def test_added_latency_is_measured_beside_the_same_solve_here(tmp_path: Path) -> None:
    found = measures.added_latency(tmp_path, 5)
    assert set(found["by_kind"]) == {"program", "placement"}
    assert 0 < found["added_p50_ms"] <= found["added_p99_ms"]


def test_throughput_counts_only_what_is_stored_and_right(tmp_path: Path) -> None:
    found = measures.throughput(tmp_path, 30)
    assert (found["solves"], found["not_succeeded"], found["wrong"]) == (30, 0, 0)
    assert found["solves_per_s"] > 0


@pytest.mark.long
def test_deadlines_are_measured_on_runs_that_reach_them(tmp_path: Path) -> None:
    found = measures.deadlines(tmp_path, 6)
    assert found["runs"] == sum(found["outcomes"].values()) == 6
    assert found["reached_their_limit"] >= 2
    assert (found["wrong"], found["without_times"]) == (0, 0)


def ended_run(seconds: float | None, finished_at: str | None, limit: float = 2.0) -> dict[str, Any]:
    return {"seconds": seconds, "started_at": "2026-01-01T00:00:00.000Z", "finished_at": finished_at, "limits": {"time_limit_s": limit}}


def test_a_run_is_as_late_as_the_later_of_its_times_says() -> None:
    honest, flattering = ended_run(2.25, "2026-01-01T00:00:02.500Z"), ended_run(1.0, "2026-01-01T00:00:04.500Z")
    found = measures.lateness([honest, flattering, ended_run(3.5, None), ended_run(None, "2026-01-01T00:00:01.000Z")])
    assert found["late_max_s"] == 2.5
    assert (found["misses"], found["without_times"], found["reached_their_limit"]) == (2, 0, 3)
    assert (found["late_as_the_server_says_p99_s"], found["late_from_start_to_end_p99_s"]) == (1.5, 2.5)


def test_a_run_without_times_is_a_miss() -> None:
    found = measures.lateness([ended_run(1.0, "2026-01-01T00:00:01.000Z"), ended_run(None, None)])
    assert (found["misses"], found["without_times"], found["late_max_s"]) == (1, 1, -1.0)
    assert measures.lateness([ended_run(None, None)])["late_p99_s"] is None


@pytest.mark.long
def test_cancels_are_measured_while_the_solver_does_not_listen(tmp_path: Path) -> None:
    found = measures.cancels(tmp_path, 2)
    assert (found["cancels"], found["wrong"]) == (2, 0)
    assert found["answer_max_s"] > 0


@pytest.mark.long
def test_a_short_soak_tells_its_figures(tmp_path: Path) -> None:
    found = soak(tmp_path, 8.0)
    assert found["runs"] > 0
    assert (found["processes_left"], found["exit_code"], found["wrong"]) == (0, 0, 0)


def test_bad_requests_are_bad_in_many_ways_and_always_the_same() -> None:
    requests = [bad.made(number) for number in range(400)]
    assert requests == [bad.made(number) for number in range(400)]
    assert len({json.dumps([method, path, str(body), headers]) for method, path, body, headers in requests}) > 150


@pytest.mark.parametrize("make", [problems.tiny_lp, problems.infeasible_lp, problems.small_placement])
def test_the_problems_are_valid(make: Callable[[int], Any]) -> None:
    name = "placement" if make is problems.small_placement else "program"
    made = [kind(name).problem.model_validate(make(number)) for number in range(20)]
    assert len({problem.model_dump_json() for problem in made}) > 10  # and most of them different


def test_the_rows_are_run_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Line("latency", "a test", lambda _: {"added_p50_ms": 1.0, "added_p99_ms": 200.0}, table.LINES[0].targets)
    monkeypatch.setattr(table, "LINES", (quick,))
    out = tmp_path / "table.json"
    done = CliRunner().invoke(run.app, ["run", "service", "--out", str(out)])
    assert done.exit_code == 1  # a promise is missed
    (row,) = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [promise["met"] for promise in row["targets"]] == [True, False]
    assert CliRunner().invoke(run.app, ["run", "service", "--out", str(out)]).exit_code == 2  # never overwritten
    done = CliRunner().invoke(run.app, ["run", "service", "--instances", "nothing", "--out", str(tmp_path / "x.json")])
    assert (done.exit_code, "nothing" in done.output) == (2, True)


# ---------------------------------------------------------------- kills


def test_the_findings_are_sorted_by_what_is_broken() -> None:
    wrong = ["run a was accepted and is lost", "b: its plan is lost", "c: it ended more than once", "d: its plan is not verified"]
    found = chaos.classified([*wrong, "e: its plan breaks a rule: x", "f: it went from queued to failed"])
    assert {name: len(told) for name, told in found.items()} == {"lost": 2, "doubled": 1, "unverified": 2, "otherwise": 1}


def test_a_child_at_work_is_told_from_one_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "IMPORTED_S", 0.0)
    script = "import sys\nprint(flush=True)\nwhile sys.argv[1] == 'work': pass\nsys.stdin.read()"
    made = [Popen([sys.executable, "-c", script, what], stdin=PIPE, stdout=PIPE, stderr=DEVNULL) for what in ("work", "wait")]
    try:
        for process in made:
            assert process.stdout is not None
            process.stdout.readline()
        children = [psutil.Process(process.pid) for process in made]
        # A busy machine may leave a process without a turn for the length of one look.
        found = [child for _ in range(10) for child in chaos.at_work(children)]
        assert {child.pid for child in found} == {made[0].pid}
        monkeypatch.setattr(chaos, "IMPORTED_S", 3_600.0)
        assert chaos.at_work(children) == []
    finally:
        for process in made:
            process.kill()
            process.communicate()


@pytest.mark.skipif(POSTGRES is None, reason=NO_POSTGRES)
def test_the_sessions_of_a_database_are_ended(tmp_path: Path) -> None:
    with fresh_url("postgresql", tmp_path) as url:
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            assert chaos.end_sessions(url) == 1
            with pytest.raises(OperationalError):
                connection.execute(text("SELECT 1"))
        engine.dispose()
        assert chaos.end_sessions(url) == 0


# ---------------------------------------------------------------- the audit


@pytest.fixture
def audited(tmp_path: Path) -> Any:
    """A database with one finished run, one at work and one that waits."""
    database = Database(f"sqlite:///{tmp_path / 'runs.db'}", durability="crash")
    migrate(database)
    ids = [database.write(lambda connection: store.accept(connection, request())).run.id for _ in range(3)]
    work = database.write(lambda connection: store.claim(connection, "w", 2))
    assert work is not None
    database.write(lambda connection: store.finish(connection, work.lease, answer()))
    busy = database.write(lambda connection: store.claim(connection, "w", 2))
    assert busy is not None
    database.write(lambda connection: store.progress(connection, busy.lease, [state_note(State.solving), incumbent_note()]))
    yield database, ids
    database.close()


def test_the_audit_is_content_with_what_is_right(audited: Any) -> None:
    database, ids = audited
    assert findings(database, ids, quiet=False) == []
    assert findings(database, ids) == [f"{ids[1]}: nobody works on it and it is solving"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (delete(run_events).where(run_events.c.number == 2), "numbered"),
        (update(runs).where(runs.c.position == 1).values(state="failed"), "history ends"),
        (update(runs).where(runs.c.position == 1).values(verified=False), "not verified"),
        (update(runs).where(runs.c.position == 1).values(objective=1e6), "it says"),
        (update(runs).where(runs.c.position == 1).values(answered_by=None), "has no answer"),
        (update(runs).where(runs.c.position == 2).values(outcome="optimal"), "has an answer already"),
        (update(runs).where(runs.c.position == 3).values(id="run_other"), "is lost"),
        (delete(answers).where(answers.c.part == "plan"), "of the answer there is"),
        (
            update(answers)
            .where(answers.c.part == "plan")
            .values(body=b'{"placements": [{"job": "j1", "workers": [{"node": "n9", "gpus": [0]}]}]}'),
            "breaks a rule",
        ),
        (update(run_events).where(run_events.c.number == 2).values(data='{"state": "verifying"}'), "it went from"),
        (delete(kept), "problem is lost"),
    ],
)
def test_the_audit_finds_what_is_wrong(audited: Any, spoil: Any, told: str) -> None:
    database, ids = audited
    database.write(lambda connection: connection.execute(spoil).rowcount)
    assert any(told in finding for finding in findings(database, ids, quiet=False))


@pytest.fixture
def with_a_plan(audited: Any) -> Any:
    """Ends the run at work, which has told of a plan, in the way given; what the audit finds of it."""
    database, ids = audited

    def ended(ending: State, outcome: str, stop_reason: str, cancel: CancelMode | None = None) -> list[str]:
        if cancel is not None:
            database.write(lambda connection: store.cancel(connection, "default", ids[1], cancel))
        busy = database.read(lambda connection: store.run_of(connection, "default", ids[1]))
        lease = Lease(busy.position, busy.attempt, "w")
        database.write(lambda connection: store.finish(connection, lease, answer(ending, outcome, stop_reason)))
        return [told.partition(": ")[2] for told in findings(database, ids)]

    return ended


@pytest.mark.parametrize(
    ("ending", "outcome", "stop_reason", "cancel", "told"),
    [
        (State.succeeded, "optimal", "gap", None, []),
        (State.failed, "no_plan", "crash", None, ["its plan is lost"]),
        (State.failed, "no_plan", "deadline", None, ["its plan is lost"]),
        (State.cancelled, "no_plan", "cancelled", CancelMode.keep_best, ["its plan is lost"]),
        (State.cancelled, "no_plan", "cancelled", CancelMode.discard, []),
        (State.succeeded, "unbounded", "gap", None, []),
        (State.succeeded, "infeasible", "gap", None, ["a plan was found, and it is called infeasible"]),
    ],
)
def test_a_plan_that_was_found_is_there_at_the_end(
    with_a_plan: Any, ending: State, outcome: str, stop_reason: str, cancel: CancelMode | None, told: list[str]
) -> None:
    assert with_a_plan(ending, outcome, stop_reason, cancel) == told
