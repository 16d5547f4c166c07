"""Reading many: pages of runs and events, and the figures of the queue. Functions for ``Database.read``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select

from service.runs import states
from service.runs.records import Event, Run
from service.runs.states import State
from service.runs.tables import LEASED, QUEUED, problems, run_events, runs

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class ListedProblem:
    """A stored problem without its body."""

    id: str
    kind: str
    bytes: int
    parent: str | None
    created_at: float


def page_of_runs(
    connection: Connection,
    tenant: str,
    *,
    state: State | None = None,
    kind: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Run]:
    """The newest runs first; ``before`` is the position at which the page before ended."""
    where = runs.c.tenant == tenant
    if state is not None:
        where &= runs.c.state == state
    if kind is not None:
        where &= runs.c.kind == kind
    if before is not None:
        where &= runs.c.position < before
    rows = connection.execute(select(runs).where(where).order_by(runs.c.position.desc()).limit(limit)).mappings()
    return [Run.of(row) for row in rows]


def events_after(connection: Connection, position: int, number: int, limit: int = 1_000) -> list[Event]:
    """The events of a run that come after ``number``, in order."""
    where = (run_events.c.position == position) & (run_events.c.number > number)
    rows = connection.execute(select(run_events).where(where).order_by(run_events.c.number).limit(limit)).mappings()
    return [Event(row["number"], row["type"], row["at"], json.loads(row["data"])) for row in rows]


def moved(connection: Connection, seen: dict[int, int]) -> dict[int, tuple[State, int]]:
    """State and last event of those runs (by position) whose number of events is another than was ``seen``."""
    columns = (runs.c.position, runs.c.state, runs.c.events)
    rows = connection.execute(select(*columns).where(runs.c.position.in_(list(seen))))
    return {row.position: (State(row.state), row.events) for row in rows if row.events != seen[row.position]}


def queued_by_tenant(connection: Connection) -> dict[str, int]:
    """How many runs of each tenant wait."""
    rows = connection.execute(select(runs.c.tenant, func.count()).where(QUEUED).group_by(runs.c.tenant))
    return {tenant: count for tenant, count in rows}  # noqa: C416  (a row is a tuple only at run time)


def depth_by_state(connection: Connection) -> dict[str, int]:
    """How many runs wait and how many are at work, by state."""
    unfinished = [State.queued.value, *sorted(states.LEASED)]
    rows = connection.execute(select(runs.c.state, func.count()).where(or_(QUEUED, LEASED)).group_by(runs.c.state))
    found = {state: count for state, count in rows}  # noqa: C416
    return {state: found.get(state, 0) for state in unfinished}


def oldest_queued_at(connection: Connection) -> float | None:
    """When the run that waits longest was accepted (seconds since 1970); None when none waits."""
    return connection.execute(select(func.min(runs.c.created_at)).where(QUEUED)).scalar()


def problem_summary(connection: Connection, tenant: str, ids: Collection[str]) -> list[ListedProblem]:
    """What is known of stored problems without reading their bodies."""
    columns = (problems.c.id, problems.c.kind, problems.c.bytes, problems.c.parent, problems.c.created_at)
    rows = connection.execute(select(*columns).where((problems.c.tenant == tenant) & problems.c.id.in_(list(ids))))
    return [ListedProblem(row.id, row.kind, row.bytes, row.parent, row.created_at) for row in rows]
