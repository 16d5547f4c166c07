"""Deleting what is old: runs, studies, and problems that nothing needs. Operations for ``Database.write``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, or_, select

from service.runs.states import TERMINAL
from service.runs.tables import answers, idempotency, problems, run_events, runs, studies, study_runs

if TYPE_CHECKING:
    from sqlalchemy import Connection


def forget(connection: Connection, before: float, most: int = 200) -> int:
    """Delete up to ``most`` runs that ended before ``before`` (seconds since 1970), and problems that nothing needs; how many in all.

    The runs of a study go when all of them are old, and the study with them.
    """
    gone = _forget_studies(connection, before)
    columns = (runs.c.position, runs.c.id, runs.c.answered_by)
    of_a_study = select(study_runs.c.number).where(study_runs.c.position == runs.c.position).exists()
    ended = runs.c.state.in_(sorted(TERMINAL)) & (runs.c.finished_at < before)
    old = select(*columns).where(ended & ~of_a_study).order_by(runs.c.finished_at).limit(most)
    found = connection.execute(old).all()
    if found:
        positions = [row.position for row in found]
        connection.execute(delete(idempotency).where(idempotency.c.run_id.in_([row.id for row in found])))
        connection.execute(delete(run_events).where(run_events.c.position.in_(positions)))
        connection.execute(delete(runs).where(runs.c.position.in_(positions)))
        orphans = _unused(connection, {row.answered_by for row in found if row.answered_by is not None})
        connection.execute(delete(answers).where(answers.c.position.in_(orphans)))
    return gone + len(found) + _forget_problems(connection, before, most)


def _forget_studies(connection: Connection, before: float) -> int:
    """One study a turn: it may have thousands of runs."""
    young = ~runs.c.state.in_(sorted(TERMINAL)) | (runs.c.finished_at >= before)
    needed = select(runs.c.position).join(study_runs, study_runs.c.position == runs.c.position)
    kept = needed.where((study_runs.c.study == studies.c.position) & young).exists()
    columns = (studies.c.position, studies.c.id)
    row = connection.execute(select(*columns).where((studies.c.created_at < before) & ~kept).order_by(studies.c.position).limit(1)).first()
    if row is None:
        return 0
    connection.execute(delete(idempotency).where(idempotency.c.run_id == row.id))
    connection.execute(delete(studies).where(studies.c.position == row.position))
    return 1


def _unused(connection: Connection, answered_by: set[int]) -> list[int]:
    """Which of these answers no run has any more."""
    kept = connection.execute(select(runs.c.answered_by).where(runs.c.answered_by.in_(answered_by)).distinct())
    return sorted(answered_by - {row.answered_by for row in kept})


def _forget_problems(connection: Connection, before: float, most: int) -> int:
    """Locked first and looked up then, so that a request that comes meanwhile either keeps its problem or stores it anew."""
    old = select(problems.c.tenant, problems.c.id).where((problems.c.created_at < before) & ~_needed(problems.c.tenant, problems.c.id))
    candidates = connection.execute(old.order_by(problems.c.created_at).limit(most).with_for_update(skip_locked=True, of=problems)).all()
    gone = 0
    for row in candidates:
        here = (problems.c.tenant == row.tenant) & (problems.c.id == row.id)
        gone += connection.execute(delete(problems).where(here & ~_needed(row.tenant, row.id))).rowcount
    return gone


def _needed(tenant: Any, name: Any) -> Any:  # noqa: ANN401  (values, or SQLAlchemy's columns)
    """Whether a run, a study or a problem that is kept as changes needs this problem."""
    child = problems.alias()
    in_runs = select(runs.c.position).where((runs.c.tenant == tenant) & (runs.c.problem_id == name)).exists()
    in_studies = select(studies.c.position).where((studies.c.tenant == tenant) & (studies.c.problem_id == name)).exists()
    in_changes = select(child.c.id).where((child.c.tenant == tenant) & (child.c.parent == name) & child.c.derived).exists()
    return or_(in_runs, in_studies, in_changes)
