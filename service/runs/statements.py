"""The statements of the hot path, built once: building one costs several times what running it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, func, insert, literal_column, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from service.runs import states
from service.runs.tables import CANCELLED, QUEUED, answers, asked, idempotency, incumbents, problems, run_events, runs, study_runs

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table
    from sqlalchemy.sql.base import Executable

LEASED_STATES = sorted(states.LEASED)


def _here(table: Table) -> Any:  # noqa: ANN401  (SQLAlchemy's expression)
    """The row of position ``at``: the columns' own names are kept for new values."""
    return table.c.position == bindparam("at")


# ---------------------------------------------------------------- problems and new runs

_THIS_PROBLEM = (problems.c.tenant == bindparam("in_tenant")) & (problems.c.id == bindparam("named"))
PROBLEM = select(problems).where(_THIS_PROBLEM)
# Held until the run that needs it is stored: ``forgetting.forget`` leaves it alone meanwhile.
HOLD_PROBLEM = select(problems.c.id).where(_THIS_PROBLEM).with_for_update(read=True, key_share=True)
INSERT_RUN = insert(runs).returning(*runs.c)
INSERT_EVENTS = insert(run_events)
INSERT_KEY = insert(idempotency)
KEY = select(idempotency.c.fingerprint, idempotency.c.run_id).where(
    (idempotency.c.tenant == bindparam("in_tenant")) & (idempotency.c.key == bindparam("named"))
)
ANSWERED = (
    select(runs)
    .where(
        (runs.c.tenant == bindparam("in_tenant"))
        & (runs.c.cache_key == bindparam("asked"))
        & (runs.c.state == states.State.succeeded)
        & runs.c.stop_reason.in_(["gap", "deadline"])  # the next one may have more memory, or better luck
    )
    .order_by(runs.c.position.desc())
    .limit(1)
)

# ---------------------------------------------------------------- one run

_THIS_RUN = (runs.c.id == bindparam("named")) & (runs.c.tenant == bindparam("in_tenant"))
RUN = select(runs).where(_THIS_RUN)
LOCKED_RUN = RUN.with_for_update()
PART = select(answers.c.body, answers.c.packed).where(_here(answers) & (answers.c.part == bindparam("named")))
LOCK = select(runs.c.position).where(_here(runs)).with_for_update()
INCUMBENT = select(incumbents).where(_here(incumbents))

# ---------------------------------------------------------------- a worker's steps

_TAKEN = {"attempt": runs.c.attempt + 1, "events": runs.c.events + 1, "beat": 0, "state": states.State.starting}
TAKE = (
    update(runs)
    .where(_here(runs))
    .values(_TAKEN | {"worker": bindparam("to"), "started_at": func.coalesce(runs.c.started_at, bindparam("now"))})
    .returning(*runs.c)
)


def _is_ready() -> Any:  # noqa: ANN401  (SQLAlchemy's expression)
    """Whether a run may begin: the asks of a study wait for its scenarios. What most runs are is looked at first."""
    mine, theirs, other = study_runs.alias(), study_runs.alias(), runs.alias()
    of_its_study = (mine.c.position == runs.c.position) & (theirs.c.study == mine.c.study) & (theirs.c.position != runs.c.position)
    is_open = other.c.state.not_in(sorted(states.TERMINAL))
    waits = select(mine.c.study).where(of_its_study & (other.c.position == theirs.c.position) & is_open).exists()
    return or_(runs.c.task == literal_column(f"'{states.Task.solve}'"), ~waits)


NEXT = (
    select(runs.c.position)
    .where(QUEUED, _is_ready())
    .order_by(runs.c.priority.desc(), runs.c.position)
    .limit(1)
    .with_for_update(skip_locked=True)
)
NEXT_CANCELLED = select(runs.c.position).where(CANCELLED).order_by(runs.c.position).limit(1).with_for_update(skip_locked=True)
HELD = (
    select(runs)
    .where(_here(runs) & (runs.c.attempt == bindparam("in_attempt")) & (runs.c.worker == bindparam("by")) & runs.c.state.in_(LEASED_STATES))
    .with_for_update()
)
CHANGE = update(runs).where(_here(runs)).returning(*runs.c)
INSERT_PARTS = insert(answers)
DROP_INCUMBENT = delete(incumbents).where(_here(incumbents))
DROP_ASKED = delete(asked).where(_here(asked))

_BETTER = ("attempt", "plan", "packed", "objectives", "seconds", "phase")


def _by_dialect(make: Any) -> dict[str, Executable]:  # noqa: ANN401  (the two dialects' own classes)
    return {"sqlite": make(sqlite.insert), "postgresql": make(postgresql.insert)}


def _keep(insert_into: Any) -> Executable:  # noqa: ANN401
    made = insert_into(incumbents)
    kept: Executable = made.on_conflict_do_update(index_elements=["position"], set_={name: made.excluded[name] for name in _BETTER})
    return kept


def _unless_there(table: Table) -> dict[str, Executable]:
    return _by_dialect(lambda insert_into: insert_into(table).on_conflict_do_nothing())


_KEEP_PART = _unless_there(answers)
_KEEP_ASKED = _unless_there(asked)
_ADD_PROBLEM = _unless_there(problems)
_KEEP_INCUMBENT = _by_dialect(_keep)


def add_problem(connection: Connection) -> Executable:
    """Inserts a problem unless it is there."""
    return _ADD_PROBLEM[connection.dialect.name]


def keep_part(connection: Connection) -> Executable:
    """Inserts a part of an answer unless it is there."""
    return _KEEP_PART[connection.dialect.name]


def keep_asked(connection: Connection) -> Executable:
    """Inserts what asks came to unless it is there."""
    return _KEEP_ASKED[connection.dialect.name]


def keep_incumbent(connection: Connection) -> Executable:
    """Inserts an incumbent, or replaces the one of the same run."""
    return _KEEP_INCUMBENT[connection.dialect.name]
