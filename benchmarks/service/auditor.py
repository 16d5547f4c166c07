"""Looks at a database of runs and says what is lost, doubled, unverified or out of order. Knows the tables, not the store."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

from sqlalchemy import select

from models.catalogue import kind as kind_named
from service.runs.derived import whole
from service.runs.records import Run, unpacked
from service.runs.states import LEASED, NEXT, TERMINAL, CancelMode, State
from service.runs.tables import answers, idempotency, incumbents, problems, run_events, runs, studies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection

    from service.runs.database import Database


def findings(database: Database, accepted: Iterable[str] = (), *, quiet: bool = True) -> list[str]:
    """What is wrong; empty when all is well. ``accepted``: ids that were given out. ``quiet``: nothing is at work any more."""
    return database.read(lambda connection: list(_findings(connection, set(accepted), quiet=quiet)))


def _findings(connection: Connection, accepted: set[str], *, quiet: bool) -> Iterator[str]:
    every = [Run.of(row) for row in connection.execute(select(runs)).mappings()]
    yield from (f"run {lost} was accepted and is lost" for lost in sorted(accepted - {run.id for run in every}))
    for run in every:
        yield from (f"{run.id}: {wrong}" for wrong in _of_one(connection, run, quiet=quiet))
    known = {run.id for run in every} | set(connection.execute(select(studies.c.id)).scalars())
    for row in connection.execute(select(idempotency)):
        if row.run_id not in known:
            yield f"the idempotency key {row.key} names no run and no study"


def _of_one(connection: Connection, run: Run, *, quiet: bool) -> Iterator[str]:
    yield from _history(connection, run)
    if quiet and run.state in LEASED:
        yield f"nobody works on it and it is {run.state}"
    if (
        connection.execute(select(problems.c.id).where((problems.c.id == run.problem_id) & (problems.c.tenant == run.tenant))).first()
        is None
    ):
        yield "its problem is lost"
    kept = connection.execute(select(incumbents).where(incumbents.c.position == run.position)).first()
    if run.is_terminal and kept is not None:
        yield "it is over and still keeps an incumbent"
    if run.is_terminal:
        yield from _answer(connection, run)
    elif run.answered_by is not None or run.outcome is not None:
        yield f"it is {run.state} and has an answer already"


def _history(connection: Connection, run: Run) -> Iterator[str]:
    events = list(connection.execute(select(run_events).where(run_events.c.position == run.position).order_by(run_events.c.number)))
    if [event.number for event in events] != list(range(1, run.events + 1)):
        yield f"its events are numbered {[event.number for event in events]}, and the last should be {run.events}"
    states = [State(json.loads(event.data)["state"]) for event in events if event.type == "state"]
    if not states or states[-1] is not run.state:
        yield f"its history ends in {states[-1:]}, and it is {run.state}"
    for one, other in pairwise(states):
        if other not in NEXT[one] and one is not other:
            yield f"it went from {one} to {other}"
    if sum(state in TERMINAL for state in states) > 1:
        yield "it ended more than once"


def _answer(connection: Connection, run: Run) -> Iterator[str]:
    if run.answered_by is None:
        yield "it is over and has no answer"
        yield from _without_plan(connection, run)
        return
    parts = {
        row.part: unpacked(row.body, row.packed) for row in connection.execute(select(answers).where(answers.c.position == run.answered_by))
    }
    has_plan = "plan" in parts
    if not has_plan:
        yield from _without_plan(connection, run)
    if has_plan != (run.outcome in {"optimal", "feasible"}) or has_plan != ("certificate" in parts):
        yield f"outcome {run.outcome}, and of the answer there is {sorted(parts)}"
    if not has_plan:
        return
    if not run.verified:
        yield "its plan is not verified"
    body = _problem(connection, run.tenant, run.problem_id)
    if body is None:
        return
    kind = kind_named(run.kind)
    problem = kind.problem.model_validate_json(body)
    verdict = kind.verify(problem, kind.plan.model_validate_json(parts["plan"]))
    if not verdict.ok:
        yield f"its plan breaks a rule: {verdict.violations[0].message}"
    goal = kind.goals(problem)[0].name
    if run.objective is None or abs(verdict.objectives[goal] - run.objective) > 1e-6 * max(1.0, abs(run.objective)):
        yield f"its plan has {goal} {verdict.objectives[goal]}, it says {run.objective}"


def _problem(connection: Connection, tenant: str, name: str) -> bytes | None:
    """The whole problem; None where it, or the one that it changes, is not there."""
    row = connection.execute(select(problems).where((problems.c.id == name) & (problems.c.tenant == tenant))).first()
    if row is None:
        return None
    body = unpacked(row.body, row.packed)
    if not row.derived:
        return body
    parent = _problem(connection, tenant, row.parent)
    return None if parent is None else whole(parent, body)


def _without_plan(connection: Connection, run: Run) -> Iterator[str]:
    """What its history says against a run that ended without a plan: one that was found is kept, unless the user discards it."""
    found = select(run_events.c.number).where((run_events.c.position == run.position) & (run_events.c.type == "incumbent"))
    if run.cancel_mode is CancelMode.discard or run.outcome == "unbounded" or connection.execute(found).first() is None:
        return
    yield "a plan was found, and it is called infeasible" if run.outcome == "infeasible" else "its plan is lost"
