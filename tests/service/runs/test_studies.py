"""Studies in the store: whole or not at all, each question one run, problems as changes, and nothing forgotten too early."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, select

from optimizer.study.rows import Change
from service.errors import Conflict, NotFound
from service.runs import derived, forgetting, store, studies
from service.runs.database import Database, NotStoredError
from service.runs.records import AcceptedStudy, NewStudy, Question, StoredProblem
from service.runs.states import CancelMode, State
from service.runs.tables import answers, idempotency, problems, run_events, runs, study_runs
from service.runs.tables import studies as table
from tests.optimizer.study.small import UPPER, base
from tests.service.runs.requests import LIMITS, answer, incumbent_note, request

ALL = (problems, runs, run_events, idempotency, table, study_runs)


def whole_base() -> StoredProblem:
    return StoredProblem("prob_base", "program", base().model_dump_json().encode())


def question(number: int, *, cache: bool = False) -> Question:
    """Question 0 is the base as it is."""
    changes = derived.written([Change("set", UPPER, float(number))]) if number else None
    name = "prob_base" if changes is None else derived.derived_id("prob_base", changes)
    return Question(f"key{number}", store.new_run_id(), LIMITS, changes, name, f"asked{number}" if cache else None)


def new(count: int = 3, *, cache: bool = False, **fields: Any) -> NewStudy:
    asked = tuple(question(number, cache=cache) for number in range(count))
    name = f"study_{store.new_run_id().removeprefix('run_')}"
    given: dict[str, Any] = {"id": name, "tenant": "default", "base": whole_base(), "name": "s\0", "title": "", "document": b"{}"}
    return NewStudy(**given | {"scenarios": b"[]", "count": count, "questions": asked, "priority": -10} | fields)


def kept(database: Database, study: NewStudy | None = None) -> AcceptedStudy:
    asked = new() if study is None else study
    return database.write(lambda connection: studies.accept(connection, asked))


def counts(database: Database) -> list[int]:
    return database.read(lambda connection: [connection.execute(select(func.count()).select_from(one)).scalar_one() for one in ALL])


def now(database: Database, made: AcceptedStudy) -> dict[State, int]:
    return database.read(lambda connection: studies.study_of(connection, "default", made.study.id)).counts


def end(database: Database) -> None:
    claim = database.write(lambda connection: store.claim(connection, "hand", 3))
    assert claim is not None
    database.write(lambda connection: store.finish(connection, claim.lease, answer()))


def test_a_study_is_stored_with_a_run_for_each_question(database: Database) -> None:
    made = kept(database)
    assert [run.state for run in made.runs] == [State.queued] * 3
    assert (made.study.counts, made.study.runs, made.study.ended, made.study.name) == ({State.queued: 3}, 3, False, "s\ufffd")
    assert [run.events for run in made.runs] == [1, 1, 1]
    whole = database.read(lambda connection: store.problem_of(connection, "default", made.runs[2].problem_id))
    assert (whole.parent, whole.derived, json.loads(whole.body)["rows"]["upper"]) == ("prob_base", False, [2.0])
    material = database.read(lambda connection: store.material(connection, made.runs[2]))
    assert material.problem == whole_base().body
    assert material.changes is not None
    assert derived.read(material.changes) == (Change("set", UPPER, 2.0),)
    assert database.read(lambda connection: store.material(connection, made.runs[0])).changes is None
    with pytest.raises(NotFound):
        database.read(lambda connection: studies.study_of(connection, "other", made.study.id))


def test_what_fails_in_the_middle_leaves_nothing(database: Database) -> None:
    study = new(5)
    twice = replace(study, questions=(*study.questions, replace(study.questions[1], key="again")))  # an id that is there
    before = counts(database)
    with pytest.raises(NotStoredError):
        database.write(lambda connection: studies.accept(connection, twice))

    def cut(connection: Any) -> None:
        studies.accept(connection, replace(study, idempotency_key="k"))
        raise RuntimeError("the process is lost before it commits")

    with pytest.raises(RuntimeError):
        database.write(cut)
    assert counts(database) == before == [0] * len(ALL)


def test_the_same_key_gives_the_same_study(database: Database) -> None:
    first = kept(database, new(idempotency_key="k", fingerprint="a"))
    again = kept(database, new(idempotency_key="k", fingerprint="a"))
    assert (again.replayed, again.study.id) == (True, first.study.id)
    with pytest.raises(Conflict):
        kept(database, new(idempotency_key="k", fingerprint="b"))
    assert counts(database)[1] == 3


def test_questions_answered_before_are_not_solved_again(database: Database) -> None:
    first = kept(database, new(2, cache=True))
    for _ in first.runs:
        end(database)
    larger = kept(database, new(4, cache=True))
    assert [run.cached for run in larger.runs] == [True, True, False, False]
    assert larger.study.counts == {State.succeeded: 2, State.queued: 2}
    told = database.read(lambda connection: studies.answers_of(connection, larger.study))
    assert [sorted(one.get("parts", {})) for one in told] == [["certificate"], ["certificate"], [], []]
    assert [one["run"] for one in told] == [run.id for run in larger.runs]


def test_many_questions_come_in_their_order(database: Database) -> None:
    made = kept(database, new(1_203))
    assert [run.problem_id for run in made.runs[:3]] == ["prob_base", question(1).problem_id, question(2).problem_id]
    told = database.read(lambda connection: studies.answers_of(connection, made.study))
    assert [one["number"] for one in told] == list(range(1_203))
    assert [one["key"] for one in told] == [f"key{number}" for number in range(1_203)]
    assert counts(database) == [1_203, 1_203, 1_203, 0, 1, 1_203]


def test_cancelling(database: Database) -> None:
    made = kept(database, new(5))
    end(database)
    lost = database.write(lambda connection: store.claim(connection, "hand", 3))
    assert lost is not None
    database.write(lambda connection: store.progress(connection, lost.lease, [incumbent_note()]))
    database.write(lambda connection: store.hand_back(connection, lost.lease, "its worker stopped"))
    second = database.write(lambda connection: store.claim(connection, "hand", 3))
    assert second is not None
    database.write(lambda connection: store.hand_back(connection, second.lease, "stopped"))
    study, changed = database.write(lambda connection: studies.cancel(connection, "default", made.study.id, CancelMode.keep_best))
    assert study.counts == {State.succeeded: 1, State.queued: 1, State.cancelled: 3}, "the one with a plan is concluded by a worker"
    assert len(changed) == 4
    assert study.cancel_mode is CancelMode.keep_best
    study, _ = database.write(lambda connection: studies.cancel(connection, "default", made.study.id, CancelMode.discard))
    assert (study.ended, study.counts[State.cancelled]) == (True, 4)
    again, changed = database.write(lambda connection: studies.cancel(connection, "default", made.study.id, CancelMode.discard))
    assert (again.counts, changed) == (study.counts, [])
    rows = database.read(
        lambda connection: connection.execute(select(runs.c.events, func.count()).join(run_events).group_by(runs.c.position)).all()
    )
    assert all(events == told for events, told in rows)


def test_runs_and_problems_of_a_study_are_forgotten_with_it_and_not_before(database: Database) -> None:
    made = kept(database, new(3, cache=True, idempotency_key="k"))
    single = database.write(lambda connection: store.accept(connection, request()))
    end(database)  # the single run: of the higher priority
    assert database.read(lambda connection: store.run_of(connection, "default", single.run.id)).is_terminal
    for _ in range(2):
        end(database)
    late = time.time() + 60
    assert database.write(lambda connection: forgetting.forget(connection, late)) == 2  # the single run and its problem
    assert now(database, made) == {State.succeeded: 2, State.queued: 1}
    end(database)
    assert database.write(lambda connection: forgetting.forget(connection, late)) > 0
    while database.write(lambda connection: forgetting.forget(connection, late)):
        pass
    assert counts(database) == [0] * len(ALL)
    assert database.read(lambda connection: connection.execute(select(func.count()).select_from(answers)).scalar_one()) == 0


def test_a_base_stays_while_a_problem_is_kept_as_its_changes(database: Database) -> None:
    made = kept(database, new(2))
    late = time.time() + 60
    for _ in range(2):
        end(database)
    child = made.runs[1].problem_id
    database.write(lambda connection: store.accept(connection, request(problem=StoredProblem(child, "program", b"{}"))))
    for _ in range(6):
        database.write(lambda connection: forgetting.forget(connection, late))
    whole = database.read(lambda connection: store.problem_of(connection, "default", child))
    assert json.loads(whole.body)["rows"]["upper"] == [1.0]


def test_conclusions_are_kept_once(database: Database) -> None:
    study = kept(database).study
    assert database.read(lambda connection: studies.conclusions_of(connection, study)) is None
    for body in (b"first", b"second"):
        database.write(partial(studies.keep_conclusions, study=study, body=body))
    assert database.read(lambda connection: studies.conclusions_of(connection, study)) == b"first"
