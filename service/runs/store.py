"""Every change to runs and problems: operations for ``Database.write``, each a function that takes the connection first.

An operation raises a ``ServiceError`` before it writes, or succeeds as a whole. Only ``states.NEXT`` steps are taken; a
step of a worker names its lease, and is refused with ``LeaseLost`` when the run was given to another attempt.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from service.errors import Conflict, LeaseLost, NotFound
from service.runs import derived, statements
from service.runs.records import Accepted, Answer, Claim, Incumbent, Lease, Material, NewRun, Note, Run, StoredProblem, packed, unpacked
from service.runs.states import NEXT, CancelMode, State, Task
from service.runs.tables import LEASED, incumbents, runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

LOST = "its worker was lost"
NOTHING: Mapping[str, Any] = MappingProxyType({})


def new_run_id() -> str:
    """An id that nobody can guess."""
    return f"run_{secrets.token_hex(12)}"


# ---------------------------------------------------------------- problems and new runs


def add_problem(connection: Connection, tenant: str, problem: StoredProblem) -> None:
    """Keep a problem; the same content twice is one problem."""
    if connection.execute(statements.HOLD_PROBLEM, {"in_tenant": tenant, "named": problem.id}).first() is not None:
        return
    connection.execute(statements.add_problem(connection), problem_values(tenant, problem))


def problem_values(tenant: str, problem: StoredProblem) -> dict[str, Any]:
    """The row of a problem."""
    body, was_packed = problem.stored or packed(problem.body)
    return {
        "tenant": tenant,
        "id": problem.id,
        "kind": problem.kind,
        "body": body,
        "packed": was_packed,
        "bytes": len(problem.body),
        "warnings": json.dumps(problem.warnings),
        "parent": problem.parent,
        "derived": problem.derived,
        "created_at": time.time(),
    }


def accept(connection: Connection, new: NewRun) -> Accepted:
    """Store a request: queued, or answered at once from the cache.

    The same idempotency key with the same body gives the run it gave before. Raises Conflict when the body is another.
    """
    if new.idempotency_key is not None:
        known = _replayed(connection, new)
        if known is not None:
            return Accepted(known, replayed=True)
    add_problem(connection, new.tenant, new.problem)
    source = _cached(connection, new) if new.use_cache and new.cache_key is not None else None
    run = _insert_run(connection, new, source)
    if new.idempotency_key is not None:
        key = {"tenant": new.tenant, "key": new.idempotency_key, "fingerprint": new.fingerprint}
        connection.execute(statements.INSERT_KEY, key | {"run_id": new.id, "created_at": run.created_at})
    return Accepted(run, replayed=False)


def _replayed(connection: Connection, new: NewRun) -> Run | None:
    row = connection.execute(statements.KEY, {"in_tenant": new.tenant, "named": new.idempotency_key}).first()
    if row is None:
        return None
    if row.fingerprint != new.fingerprint:
        detail = f"the Idempotency-Key '{new.idempotency_key}' came before with another body; use a new key for a new request"
        raise Conflict(detail, code="idempotency_key_reused")
    return run_of(connection, new.tenant, row.run_id)


def _cached(connection: Connection, new: NewRun) -> Run | None:
    """The newest run that answered the same question."""
    row = connection.execute(statements.ANSWERED, {"in_tenant": new.tenant, "asked": new.cache_key}).mappings().first()
    return Run.of(row) if row is not None else None


_FIGURES = ("objective", "bound", "gap")
_FROM_CACHE = ("outcome", "stop_reason", "objective", "bound", "gap", "seconds", "verified", "message", "failure")


def _insert_run(connection: Connection, new: NewRun, source: Run | None) -> Run:
    values = run_values(new, source, time.time())
    made = Run.of(connection.execute(statements.INSERT_RUN, values).mappings().one())
    connection.execute(statements.INSERT_EVENTS, first_event(made))
    return made


def run_values(new: NewRun, source: Run | None, now: float) -> dict[str, Any]:
    """The row of a new run: queued, or ended like ``source``, which answered the same question."""
    values: dict[str, Any] = {
        "id": new.id,
        "tenant": new.tenant,
        "kind": new.problem.kind,
        "problem_id": new.problem.id,
        "state": State.queued,
        "priority": new.priority,
        "limits": json.dumps(new.limits),
        "warm_start_run": new.warm_start_run,
        "cache_key": new.cache_key,
        "events": 1,
        "request_id": new.request_id,
        "trace_id": new.trace_id,
        "created_at": now,
        "task": new.task,
    }
    if source is not None:
        values |= {name: getattr(source, name) for name in _FROM_CACHE}
        values |= {"state": State.succeeded, "cached": True, "answered_by": source.answered_by, "finished_at": now}
    return values


def first_event(made: Run) -> dict[str, Any]:
    """The row of a new run's first event."""
    data = {"state": made.state} | ({"cached": True} if made.cached else {})
    return {"position": made.position, "number": 1, "type": "state", "at": made.created_at, "data": json.dumps(data)}


# ---------------------------------------------------------------- reading one (also inside operations)


def run_of(connection: Connection, tenant: str, run_id: str, *, locked: bool = False) -> Run:
    """The run; raises NotFound, also when it is another tenant's. ``locked``: nobody else changes it before the operation ends."""
    statement = statements.LOCKED_RUN if locked else statements.RUN
    row = connection.execute(statement, {"in_tenant": tenant, "named": run_id}).mappings().first()
    if row is None:
        raise NotFound(f"there is no run '{run_id}'", code="run_not_found")
    return Run.of(row)


def problem_of(connection: Connection, tenant: str, problem_id: str) -> StoredProblem:
    """The whole problem, changes made; raises NotFound, also when it is another tenant's."""
    found = _as_kept(connection, tenant, problem_id)
    if not found.derived:
        return found
    parent = _as_kept(connection, tenant, found.parent or "")
    return replace(found, body=derived.whole(parent.body, found.body), derived=False)


def _as_kept(connection: Connection, tenant: str, problem_id: str) -> StoredProblem:
    row = connection.execute(statements.PROBLEM, {"in_tenant": tenant, "named": problem_id}).mappings().first()
    if row is None:
        raise NotFound(f"there is no problem '{problem_id}'", code="problem_not_found")
    body = unpacked(row["body"], row["packed"])
    return StoredProblem(row["id"], row["kind"], body, tuple(json.loads(row["warnings"])), row["parent"], derived=row["derived"])


def part_of(connection: Connection, run: Run, part: str) -> bytes | None:
    """One part of a run's answer; None when it has none."""
    row = connection.execute(statements.PART, {"at": run.answered_by, "named": part}).first()
    return unpacked(row.body, row.packed) if row is not None else None


def keep_part(connection: Connection, run: Run, part: str, body: bytes) -> None:
    """Add a part to the answer of an ended run; one that is there stays, and a run that was forgotten meanwhile gets none."""
    if connection.execute(statements.LOCK, {"at": run.position}).first() is not None:
        content, was_packed = packed(body)
        values = {"position": run.answered_by, "part": part, "body": content, "packed": was_packed}
        connection.execute(statements.keep_part(connection), values)


def incumbent_of(connection: Connection, position: int) -> Incumbent | None:
    """The best plan so far of an unfinished run."""
    row = connection.execute(statements.INCUMBENT, {"at": position}).mappings().first()
    if row is None:
        return None
    return Incumbent(unpacked(row["plan"], row["packed"]), tuple(json.loads(row["objectives"])), row["seconds"], row["phase"])


# ---------------------------------------------------------------- a worker's steps


def claim(connection: Connection, worker: str, attempts: int, tenant_limit: int | None = None, *, cancelled: bool = False) -> Claim | None:
    """Take the queued run of the highest priority, the oldest of those; None when there is none to take.

    A run that was lost ``attempts`` times, or was cancelled while it waited, may only be concluded from what is known. A
    tenant that has ``tenant_limit`` runs at work waits. ``cancelled``: only those cancelled while they waited.
    """
    first = statements.NEXT_CANCELLED if cancelled else statements.NEXT
    if tenant_limit is not None and not cancelled:
        at_work = select(runs.c.tenant).where(LEASED).group_by(runs.c.tenant).having(func.count() >= tenant_limit)
        first = first.where(runs.c.tenant.not_in(at_work))
    position = connection.execute(first).scalar()
    if position is None:
        return None
    now = time.time()
    run = Run.of(connection.execute(statements.TAKE, {"at": position, "to": worker, "now": now}).mappings().one())
    connection.execute(statements.INSERT_EVENTS, _event(run, "state", now, {"state": State.starting}))
    conclude_only = run.losses >= attempts or run.cancel_mode is not None
    return Claim(Lease(position, run.attempt, worker), run, conclude_only)


def material(connection: Connection, run: Run) -> Material:
    """What the work on a claimed run begins with; for ``Database.read``, because it may be large. Raises NotFound."""
    problem = _as_kept(connection, run.tenant, run.problem_id)
    parent = _as_kept(connection, run.tenant, problem.parent or "") if problem.derived else None
    known = incumbent_of(connection, run.position)
    start = _warm_start(connection, run) if known is None else None
    return Material(problem.body, known, start) if parent is None else Material(parent.body, known, start, problem.body)


def _warm_start(connection: Connection, run: Run) -> bytes | None:
    if run.warm_start_run is None:
        return None
    row = connection.execute(statements.RUN, {"in_tenant": run.tenant, "named": run.warm_start_run}).mappings().first()
    return part_of(connection, Run.of(row), "plan") if row is not None else None


def _changed(connection: Connection, run: Run, values: Mapping[str, Any], data: Mapping[str, Any], kind: str = "state") -> Run:
    """The run after a change that also is its next event."""
    changes = {"at": run.position, **values, "events": run.events + 1}
    changed = Run.of(connection.execute(statements.CHANGE, changes).mappings().one())
    connection.execute(statements.INSERT_EVENTS, _event(changed, kind, time.time(), data))
    return changed


def _event(run: Run, kind: str, at: float, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"position": run.position, "number": run.events, "type": kind, "at": at, "data": json.dumps(data)}


def held(connection: Connection, lease: Lease) -> Run:
    """The run of a lease; raises LeaseLost when the lease is void."""
    row = connection.execute(statements.HELD, {"at": lease.position, "in_attempt": lease.attempt, "by": lease.worker}).mappings().first()
    if row is None:
        raise LeaseLost(f"the lease of run {lease.position}, attempt {lease.attempt}, is void")
    return Run.of(row)


def progress(connection: Connection, lease: Lease, notes: Sequence[Note], spent_s: float = 0.0) -> Run:
    """Write down what a worker has heard: states, bounds, better plans, each an event. A run being cancelled stays ``cancelling``.

    ``spent_s`` is how much of the time limit is used up.
    """
    run = held(connection, lease)
    return _noted(connection, run, notes, {"spent_s": max(spent_s, run.spent_s)}) if notes else run


def _noted(connection: Connection, run: Run, notes: Sequence[Note], values: Mapping[str, Any]) -> Run:
    """The run after its notes and further changes, in one statement each for the run, the events and the incumbent."""
    changes: dict[str, Any] = {}
    events: list[dict[str, Any]] = []
    state = run.state
    best: Incumbent | None = None
    for entry in notes:
        if entry.state is not None:
            if entry.state not in NEXT[state]:
                continue
            state = entry.state
            changes["state"] = state
        if entry.incumbent is not None:
            best = entry.incumbent
        # Of a later attempt's first bound the gap is not known yet: what an earlier one had found still stands.
        changes |= {name: entry.data[name] for name in _FIGURES if entry.data.get(name) is not None}
        number = run.events + len(events) + 1
        events.append({"position": run.position, "number": number, "type": entry.type, "at": entry.at, "data": json.dumps(entry.data)})
    if best is not None:
        _keep(connection, run, best)
    _keep_asked(connection, run, [entry.asked for entry in notes if entry.asked is not None])
    if not events:
        return run
    changes |= {**values, "at": run.position, "events": run.events + len(events)}
    changed = Run.of(connection.execute(statements.CHANGE, changes).mappings().one())
    connection.execute(statements.INSERT_EVENTS, events)
    return changed


def _keep(connection: Connection, run: Run, found: Incumbent) -> None:
    plan, was_packed = packed(found.plan)
    values = {
        "position": run.position,
        "attempt": run.attempt,
        "plan": plan,
        "packed": was_packed,
        "objectives": json.dumps(found.objectives),
        "seconds": found.seconds,
        "phase": found.phase,
    }
    connection.execute(statements.keep_incumbent(connection), values)


def _keep_asked(connection: Connection, run: Run, found: Sequence[tuple[str, bytes]]) -> None:
    bodies = [(key, *packed(body)) for key, body in found]
    if bodies:
        rows = [{"position": run.position, "key": key, "body": body, "packed": was_packed} for key, body, was_packed in bodies]
        connection.execute(statements.keep_asked(connection), rows)


def finish(connection: Connection, lease: Lease, answer: Answer, notes: Sequence[Note] = ()) -> Run:
    """Write the answer, once: the run is over and its incumbent, which the answer replaces, is dropped.

    ``notes`` are what was heard and not yet written.
    """
    run = held(connection, lease)
    told = tuple(replace(entry, incumbent=None) for entry in notes)
    return _end(connection, run, answer, told)


def _end(connection: Connection, run: Run, answer: Answer, notes: Sequence[Note] = (), more: Mapping[str, Any] = NOTHING) -> Run:
    parts = [(part, *packed(body)) for part, body in answer.parts.items()]
    if parts:
        rows = [{"position": run.position, "part": part, "body": body, "packed": was_packed} for part, body, was_packed in parts]
        connection.execute(statements.INSERT_PARTS, rows)
    connection.execute(statements.DROP_INCUMBENT, {"at": run.position})
    figures = {name: _text(getattr(answer, name)) for name in _FROM_CACHE}
    told = {"state": answer.state} | {name: figures[name] for name in ("outcome", "stop_reason", *_FIGURES, "verified")}
    last = Note("state", told, time.time(), state=answer.state)
    over = {"answered_by": run.position, "finished_at": time.time(), "worker": None}
    ended = _noted(connection, run, [*notes, last], figures | over | dict(more))
    if run.task is Task.asks and answer.state is State.succeeded:  # else it is for the next attempt, or the same asks again
        connection.execute(statements.DROP_ASKED, {"at": run.position})
    return ended


def _text(value: Any) -> Any:  # noqa: ANN401  (any figure of an answer)
    """Without NUL, which PostgreSQL keeps in no text: a name in the user's file may hold one, or the last words of a child."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def beat(connection: Connection, worker: str, positions: Sequence[int]) -> list[Run]:
    """Renew the leases of ``worker`` on these runs; those it still holds, to see which are to be cancelled."""
    mine = (runs.c.worker == worker) & runs.c.position.in_(positions)
    statement = update(runs).where(mine).values(beat=runs.c.beat + 1).returning(*runs.c)
    return [Run.of(row) for row in connection.execute(statement).mappings()]


def leased(connection: Connection) -> list[Run]:
    """Every run that a worker has."""
    return [Run.of(row) for row in connection.execute(select(runs).where(LEASED)).mappings()]


def give_back(connection: Connection, seen: Run, why: str, attempts: int) -> Run | None:
    """Put a run whose worker is lost back into the queue; None when it has moved on since it was ``seen``.

    One that was being cancelled, or was lost even while its plan was only to be concluded, ends here.
    """
    still = (runs.c.position == seen.position) & (runs.c.attempt == seen.attempt) & (runs.c.beat == seen.beat)
    row = connection.execute(select(runs).where(still & runs.c.state.in_(statements.LEASED_STATES)).with_for_update()).mappings().first()
    if row is None:
        return None
    run = Run.of(row)
    known = connection.execute(select(incumbents.c.position).where(incumbents.c.position == run.position)).first() is not None
    losses = run.losses + 1
    if losses > 2 * attempts or (losses >= attempts and not known):  # of one with a plan, the second half only tried to conclude it
        failure = f"{why}; the run was started {losses} times and lost each time"
        stopped = State.cancelled if run.state is State.cancelling else State.failed
        return _end(connection, run, Answer(stopped, "no_plan", "crash", seconds=run.seconds, failure=failure))
    if run.state is State.cancelling and (run.cancel_mode is CancelMode.discard or not known):
        return _end(connection, run, Answer(State.cancelled, "no_plan", "cancelled", message=why))
    values = {"state": State.queued, "worker": None, "losses": losses}
    return _changed(connection, run, values, {"state": State.queued, "because": why})


def hand_back(connection: Connection, lease: Lease, why: str) -> Run:
    """A worker that stops returns its run in good order: that is no loss."""
    run = held(connection, lease)
    values = {"state": State.queued, "worker": None}
    return _changed(connection, run, values, {"state": State.queued, "because": why})


# ---------------------------------------------------------------- cancelling


def cancel(connection: Connection, tenant: str, run_id: str, mode: CancelMode) -> Run:
    """Ask for the end of a run: a queued one is cancelled at once, a finished one stays as it is."""
    run = run_of(connection, tenant, run_id, locked=True)
    if run.is_terminal:
        return run
    if run.state is State.queued:
        known = incumbent_of(connection, run.position) if mode is CancelMode.keep_best else None
        if known is None:
            because = "cancelled before it began" if run.attempt == 0 else "cancelled while it waited to go on"
            return _end(connection, run, Answer(State.cancelled, "no_plan", "cancelled", message=because), more={"cancel_mode": mode})
        # An earlier attempt had found a plan: a worker concludes from it.
        if run.cancel_mode is mode:
            return run
        return _changed(connection, run, {"cancel_mode": mode}, {"cancel": mode}, "message")
    values = {"state": State.cancelling, "cancel_mode": mode}
    if run.state is State.cancelling and run.cancel_mode is mode:
        return run
    return _changed(connection, run, values, {"state": State.cancelling, "mode": mode})
