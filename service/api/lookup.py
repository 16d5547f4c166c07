"""Who asks, and for which run or problem: what most endpoints begin with."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from fastapi import Path

from service.auth import Caller, requires
from service.errors import Conflict, NotFound
from service.runs import store

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from service.api.state import Service
    from service.runs.records import Run

__all__ = ["Caller", "ProblemId", "RunId", "StudyId", "ViewName", "administering", "ended", "part", "reading", "run_named", "solving"]

reading = requires("read")
solving = requires("solve")
administering = requires("admin")

RunId = Annotated[str, Path(pattern=r"^run_[0-9a-f]{24}$", description="The run's id.", examples=["run_0123456789abcdef01234567"])]
StudyId = Annotated[str, Path(pattern=r"^study_[0-9a-f]{24}$", description="The study's id.", examples=["study_0123456789abcdef01234567"])]
ProblemId = Annotated[
    str, Path(pattern=r"^prob_[0-9a-f]{32}$", description="The problem's id.", examples=["prob_0123456789abcdef0123456789abcdef"])
]

ViewName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,59}$", description="The view's name; `/views` lists them.", examples=["loads"])]


async def run_named(service: Service, caller: Caller, run_id: str) -> Run:
    """The caller's run; raises NotFound."""
    return await service.read(partial(store.run_of, tenant=caller.tenant, run_id=run_id))


async def part(service: Service, caller: Caller, run_id: str, name: str) -> tuple[Run, bytes]:
    """A part of an ended run's answer. Raises NotFound, and Conflict while the run has not ended."""

    def look(connection: Connection) -> tuple[Run, bytes | None]:
        run = store.run_of(connection, caller.tenant, run_id)
        return run, store.part_of(connection, run, name) if run.is_terminal else None

    run, body = await service.read(look)
    ended(run)
    if body is None:
        raise NotFound(f"run '{run.id}' has no {name}{_why(run, name)}", code=f"no_{name}")
    return run, body


def ended(run: Run) -> None:
    """Raises Conflict while the run has not ended."""
    if not run.is_terminal:
        detail = f"run '{run.id}' is {run.state.value}; wait for it with GET /v1/runs/{run.id} and 'Prefer: wait=30', or follow its /events"
        raise Conflict(detail, code="not_finished", retry_after_s=1)


def _why(run: Run, name: str) -> str:
    if name in ("metrics", "trace"):
        return f": it ended before anything was solved{f' ({run.message})' if run.message else ''}"
    if name == "conflict":
        return f": it ended with outcome {run.outcome}, and only a problem proved infeasible has one"
    if run.outcome == "infeasible":
        return f": the problem is proved infeasible; GET /v1/runs/{run.id}/conflict says why"
    return f": it ended without a plan (outcome {run.outcome}, stopped by {run.stop_reason}){f': {run.message}' if run.message else ''}"
