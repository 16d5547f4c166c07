"""Studies: operations for ``Database.write`` and ``Database.read``, each a function that takes the connection first.

A study is its document, its scenarios, and one run for each different question, and one for all that it asks besides. All of it is
stored in one transaction: a kill leaves the whole study or nothing. The runs are those of the queue, so that leases, deadlines,
cancellations and the cache hold as for any run.
"""

from __future__ import annotations

import json
import time
import zlib
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, or_, select, update

from service.errors import Conflict, NotFound
from service.runs import statements, store
from service.runs.records import LEVEL, AcceptedStudy, Asks, AsksMaterial, NewRun, Run, StoredProblem, StoredStudy, unpacked
from service.runs.states import TERMINAL, CancelMode, State, Task
from service.runs.tables import answers, asked, incumbents, run_events, runs, studies, study_runs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection, RowMapping

    from service.runs.records import NewStudy, Question

AT_ONCE = 500  # rows in one statement
ASK = "ask-"  # before the number of an ask: the key of its answer in the table `asked`
TOLD = ("certificate", "metrics", "conflict")  # the parts of an answer that a table tells
_SMALL = [column for column in studies.c if column.name not in ("document", "scenarios", "conclusions")]


# ---------------------------------------------------------------- storing


def accept(connection: Connection, new: NewStudy) -> AcceptedStudy:
    """Store a study with a run for each of its questions: queued, or answered at once from the cache.

    The same idempotency key with the same body gives the study it gave before. Raises Conflict when the body is another.
    """
    if new.idempotency_key is not None and (known := known_by(connection, new.tenant, new.idempotency_key, new.fingerprint)) is not None:
        return AcceptedStudy(known, (), replayed=True)
    store.add_problem(connection, new.tenant, new.base)
    _add_problems(connection, new)
    position = connection.execute(insert(studies).returning(studies.c.position), _values(new)).scalar_one()
    made = _insert_runs(connection, new)
    rows = [
        {"study": position, "number": number, "position": run.position, "key": question.key}
        for number, (run, question) in enumerate(zip(made, new.questions, strict=True))
    ]
    connection.execute(insert(study_runs), rows)
    if new.idempotency_key is not None:
        key = {"tenant": new.tenant, "key": new.idempotency_key, "fingerprint": new.fingerprint}
        connection.execute(statements.INSERT_KEY, key | {"run_id": new.id, "created_at": time.time()})
    return AcceptedStudy(study_of(connection, new.tenant, new.id), tuple(made), replayed=False)


def known_by(connection: Connection, tenant: str, key: str, fingerprint: str) -> StoredStudy | None:
    """The study that this idempotency key has brought before. Raises Conflict where that was another request."""
    row = connection.execute(statements.KEY, {"in_tenant": tenant, "named": key}).first()
    if row is None:
        return None
    if row.fingerprint != fingerprint:
        detail = f"the Idempotency-Key '{key}' came before with another body; use a new key for a new request"
        raise Conflict(detail, code="idempotency_key_reused")
    return study_of(connection, tenant, row.run_id)


def _values(new: NewStudy) -> dict[str, Any]:
    return {
        "id": new.id,
        "tenant": new.tenant,
        "kind": new.base.kind,
        "problem_id": new.base.id,
        "name": new.name.replace("\0", "\ufffd"),  # PostgreSQL keeps no NUL in a text
        "title": new.title.replace("\0", "\ufffd"),
        "document": zlib.compress(new.document, LEVEL),
        "scenarios": zlib.compress(new.scenarios, LEVEL),
        "count": new.count,
        "priority": new.priority,
        "warnings": json.dumps(new.warnings),
        "request_id": new.request_id,
        "trace_id": new.trace_id,
        "created_at": time.time(),
    }


def _problem(new: NewStudy, question: Question) -> StoredProblem:
    if question.changes is None:
        return new.base
    return StoredProblem(question.problem_id, new.base.kind, question.changes, parent=new.base.id, derived=True)


def _add_problems(connection: Connection, new: NewStudy) -> None:
    """Those of the questions that differ from the base."""
    found = {one.problem_id: _problem(new, one) for one in new.questions if one.changes is not None}
    rows = [store.problem_values(new.tenant, problem) for problem in found.values()]
    for some in _some(rows):
        connection.execute(statements.add_problem(connection), some)


def _insert_runs(connection: Connection, new: NewStudy) -> list[Run]:
    sources = _cached(connection, new)
    now = time.time()
    made: list[Run] = []
    columns = {column.name: column.default.arg if column.default is not None else None for column in runs.c}  # type: ignore[attr-defined]
    del columns["position"]
    for some in _some(new.questions):
        rows = [columns | store.run_values(_run(new, one), sources.get(one.cache_key or ""), now) for one in some]
        result = connection.execute(insert(runs).returning(*runs.c, sort_by_parameter_order=True), rows)
        here = [Run.of(row) for row in result.mappings()]
        connection.execute(statements.INSERT_EVENTS, [store.first_event(run) for run in here])
        made += here
    return made


def _run(new: NewStudy, question: Question) -> NewRun:
    return NewRun(
        id=question.run_id,
        tenant=new.tenant,
        problem=_problem(new, question),
        limits=question.limits,
        priority=new.priority,
        cache_key=question.cache_key,
        request_id=new.request_id,
        trace_id=new.trace_id,
        task=question.task,
    )


def _cached(connection: Connection, new: NewStudy) -> dict[str, Run]:
    """The newest run that answered each question before, by cache key."""
    found: dict[str, Run] = {}
    for some in _some([one.cache_key for one in new.questions if one.cache_key is not None]):
        known = (runs.c.tenant == new.tenant) & runs.c.cache_key.in_(some) & (runs.c.state == State.succeeded)
        answered = select(runs, runs.c.cache_key).where(known & runs.c.stop_reason.in_(["gap", "deadline"])).order_by(runs.c.position)
        found |= {row["cache_key"]: Run.of(row) for row in connection.execute(answered).mappings()}
    return found


def _some(rows: Sequence[Any]) -> Iterator[list[Any]]:
    left = iter(rows)
    while some := list(islice(left, AT_ONCE)):
        yield some


# ---------------------------------------------------------------- reading


def study_of(connection: Connection, tenant: str, study_id: str) -> StoredStudy:
    """The study; raises NotFound, also when it is another tenant's."""
    where = (studies.c.tenant == tenant) & (studies.c.id == study_id)
    row = connection.execute(select(*_SMALL).where(where)).mappings().first()
    if row is None:
        raise NotFound(f"there is no study '{study_id}'", code="study_not_found")
    return _study(row, _counts(connection, [row["position"]]).get(row["position"], {}))


def page_of_studies(connection: Connection, tenant: str, *, before: int | None = None, limit: int = 50) -> list[StoredStudy]:
    """The newest studies first; ``before`` is the position at which the page before ended."""
    where = studies.c.tenant == tenant
    if before is not None:
        where &= studies.c.position < before
    rows = connection.execute(select(*_SMALL).where(where).order_by(studies.c.position.desc()).limit(limit)).mappings().all()
    counts = _counts(connection, [row["position"] for row in rows])
    return [_study(row, counts.get(row["position"], {})) for row in rows]


def _study(row: RowMapping, counts: dict[State, int]) -> StoredStudy:
    mode = row["cancel_mode"]
    plain = {name: row[name] for name in ("position", "id", "tenant", "kind", "problem_id", "name", "title", "count", "priority")}
    return StoredStudy(
        **plain,
        warnings=tuple(json.loads(row["warnings"])),
        cancel_mode=None if mode is None else CancelMode(mode),
        created_at=row["created_at"],
        counts=counts,
    )


def _counts(connection: Connection, positions: Sequence[int]) -> dict[int, dict[State, int]]:
    """How many runs of each study are in each state."""
    joined = select(study_runs.c.study, runs.c.state, func.count().label("count")).join(runs, runs.c.position == study_runs.c.position)
    found: dict[int, dict[State, int]] = {}
    grouped = joined.where(study_runs.c.study.in_(positions)).group_by(study_runs.c.study, runs.c.state)
    for row in connection.execute(grouped).mappings():
        found.setdefault(row["study"], {})[State(row["state"])] = row["count"]
    return found


def open_run(connection: Connection, study: StoredStudy) -> Run | None:
    """The run of the study that is likely to end last; None when all have ended."""
    mine = select(runs).join(study_runs, study_runs.c.position == runs.c.position).where(study_runs.c.study == study.position)
    row = connection.execute(mine.where(runs.c.state.not_in(sorted(TERMINAL))).order_by(runs.c.position.desc()).limit(1)).mappings().first()
    return None if row is None else Run.of(row)


def texts_of(connection: Connection, study: StoredStudy) -> tuple[bytes, bytes]:
    """The document and the scenarios."""
    row = connection.execute(select(studies.c.document, studies.c.scenarios).where(studies.c.position == study.position)).one()
    return zlib.decompress(row.document), zlib.decompress(row.scenarios)


def answers_of(connection: Connection, study: StoredStudy, numbers: Iterable[int] | None = None) -> list[dict[str, Any]]:
    """What is known of each question in their order: {number, key, run, and of an ended run its figures and ``TOLD`` parts as bytes}.

    ``numbers``: only those. The asks are no questions.
    """
    return _answers_in(connection, study.position, numbers)


def _answers_in(connection: Connection, study: int, numbers: Iterable[int] | None = None) -> list[dict[str, Any]]:
    mine = (study_runs.c.study == study) & (runs.c.task == Task.solve)
    if numbers is not None:
        mine &= study_runs.c.number.in_(list(numbers))
    questions = select(study_runs.c.number, study_runs.c.key, runs).join(runs, runs.c.position == study_runs.c.position)
    found = connection.execute(questions.where(mine).order_by(study_runs.c.number)).mappings().all()
    parts: dict[int, dict[str, bytes]] = {}
    wanted = sorted({row["answered_by"] for row in found if row["answered_by"] is not None})
    for some in _some(wanted):
        told = select(answers).where(answers.c.position.in_(some) & answers.c.part.in_(TOLD))
        for part in connection.execute(told).mappings():
            parts.setdefault(part["position"], {})[part["part"]] = unpacked(part["body"], part["packed"])
    return [_answer(row, parts.get(row["answered_by"], {})) for row in found]


_FIGURES = ("outcome", "stop_reason", "seconds", "verified", "message", "failure", "losses", "cached")


def _answer(row: RowMapping, parts: Mapping[str, bytes]) -> dict[str, Any]:
    told = {"number": row["number"], "key": row["key"], "run": row["id"], "state": row["state"]}
    if row["state"] not in TERMINAL:
        return told
    return told | {name: row[name] for name in _FIGURES} | {"parts": dict(parts)}


# ---------------------------------------------------------------- what is asked besides


def asks_of(connection: Connection, study: StoredStudy) -> Asks | None:
    """What its asks have come to, all of them once their run has ended; None for a study without."""
    mine = (study_runs.c.study == study.position) & (runs.c.task == Task.asks)
    row = connection.execute(select(runs).join(study_runs, study_runs.c.position == runs.c.position).where(mine)).mappings().first()
    if row is None:
        return None
    run = Run.of(row)
    whole = store.part_of(connection, run, "asks") if run.is_terminal else None
    if whole is not None:
        return Asks(run.id, tuple(json.loads(whole)["asks"]))
    done = _done(_asked_by(connection, asked.c.position == run.position))
    if not run.is_terminal:
        return Asks(run.id, tuple(json.loads(done[number]) for number in sorted(done)))
    document, _ = texts_of(connection, study)  # cancelled while it waited, or lost too often: nobody was there to put it together
    why = run.failure or run.message or "it was not asked"
    return Asks(run.id, tuple(asks_told(document, done, why, goes_on=run.state is State.cancelled)))


def asks_told(document: bytes, done: Mapping[int, bytes], why: str, *, goes_on: bool, cut: Collection[int] = ()) -> list[dict[str, Any]]:
    """Every ask of a study as a client sees it: its answer where it is ``done``, else ``why`` it has none.

    ``goes_on``: the same study sent again goes on with those that are not done, or were ``cut`` short; they say that they are ``open``.
    """
    told = []
    for number, ask in enumerate(json.loads(document)["asks"]):
        one = json.loads(done[number]) if number in done else ask | {"answer": None, "sentence": "", "failure": why}
        told.append(one | {"open": True} if goes_on and (number in cut or number not in done) else one)
    return told


def asks_material(connection: Connection, run: Run) -> AsksMaterial:
    """What the work on the asks of a study begins with; for ``Database.read``. Raises NotFound.

    Another run of the same asks has left what it solved, or has come to an end since this one was accepted.
    """
    its_study = select(study_runs.c.study).where(study_runs.c.position == run.position)
    row = connection.execute(select(studies.c.position, studies.c.id, studies.c.document).where(studies.c.position.in_(its_study))).first()
    if row is None:
        raise NotFound(f"there is no study of run '{run.id}'", code="study_not_found")
    this = runs.alias()
    key = select(this.c.cache_key).where(this.c.position == run.position).scalar_subquery()
    is_same = (runs.c.tenant == run.tenant) & (runs.c.cache_key == key)
    found = _asked_by(connection, or_(asked.c.position == run.position, asked.c.position.in_(select(runs.c.position).where(is_same))))
    return AsksMaterial(
        row.id,
        zlib.decompress(row.document),
        store.problem_of(connection, run.tenant, run.problem_id).body,
        _answers_in(connection, row.position),
        {name: body for name, body in found.items() if not name.startswith(ASK)},
        _done(found) | _answered_before(connection, is_same),
    )


def _answered_before(connection: Connection, is_same: Any) -> dict[int, bytes]:  # noqa: ANN401  (SQLAlchemy's expression)
    """The answers of a run of the same asks that has succeeded, by number."""
    ended = select(runs).where(is_same & (runs.c.state == State.succeeded)).order_by(runs.c.position.desc()).limit(1)
    row = connection.execute(ended).mappings().first()
    whole = None if row is None else store.part_of(connection, Run.of(row), "asks")
    return {} if whole is None else {number: json.dumps(one).encode() for number, one in enumerate(json.loads(whole)["asks"])}


def _asked_by(connection: Connection, where: Any) -> dict[str, bytes]:  # noqa: ANN401  (SQLAlchemy's expression)
    rows = connection.execute(select(asked).where(where).order_by(asked.c.position)).mappings()
    return {row["key"]: unpacked(row["body"], row["packed"]) for row in rows}


def _done(found: Mapping[str, bytes]) -> dict[int, bytes]:
    return {int(name.removeprefix(ASK)): body for name, body in found.items() if name.startswith(ASK)}


# ---------------------------------------------------------------- what is concluded, once


def conclusions_of(connection: Connection, study: StoredStudy) -> bytes | None:
    """What was concluded when every run had ended; None before."""
    found = connection.execute(select(studies.c.conclusions).where(studies.c.position == study.position)).scalar()
    return None if found is None else zlib.decompress(found)


def keep_conclusions(connection: Connection, study: StoredStudy, body: bytes) -> None:
    """Keep what is concluded of a study that has ended; what is there stays."""
    here = (studies.c.position == study.position) & studies.c.conclusions.is_(None)
    connection.execute(update(studies).where(here).values(conclusions=zlib.compress(body, LEVEL)))


# ---------------------------------------------------------------- cancelling


def cancel(connection: Connection, tenant: str, study_id: str, mode: CancelMode) -> tuple[StoredStudy, list[Run]]:
    """Ask for the end of every run: those that wait are cancelled at once, ended ones stay. The study, and the runs that have changed."""
    study = study_of(connection, tenant, study_id)
    if study.ended:
        return study, []
    connection.execute(update(studies).where(studies.c.position == study.position).values(cancel_mode=mode))
    changed = _cancel_waiting(connection, study, mode)
    mine = select(runs.c.id).join(study_runs, study_runs.c.position == runs.c.position).where(study_runs.c.study == study.position)
    left = connection.execute(mine.where(runs.c.state.not_in(sorted(TERMINAL)))).scalars().all()
    changed += [store.cancel(connection, tenant, run_id, mode) for run_id in left]
    return study_of(connection, tenant, study_id), changed


def _cancel_waiting(connection: Connection, study: StoredStudy, mode: CancelMode) -> list[Run]:
    """Those that wait and have no plan yet, all in one statement: there may be thousands. As ``store.cancel`` does it of one."""
    mine = select(study_runs.c.position).where(study_runs.c.study == study.position)
    known = select(incumbents.c.position).where(incumbents.c.position == runs.c.position).exists()
    now = time.time()
    values = {
        "state": State.cancelled,
        "outcome": "no_plan",
        "stop_reason": "cancelled",
        "message": "cancelled while it waited",
        "cancel_mode": mode,
        "answered_by": runs.c.position,
        "finished_at": now,
        "events": runs.c.events + 1,
    }
    waiting = runs.c.position.in_(mine) & (runs.c.state == State.queued) & ~known
    changed = [Run.of(row) for row in connection.execute(update(runs).where(waiting).values(values).returning(*runs.c)).mappings()]
    told = {"state": State.cancelled, "outcome": "no_plan", "stop_reason": "cancelled", "verified": False}
    data = json.dumps(told | dict.fromkeys(("objective", "bound", "gap")))
    rows = [{"position": run.position, "number": run.events, "type": "state", "at": now, "data": data} for run in changed]
    for some in _some(rows):
        connection.execute(insert(run_events), some)
    return changed
