"""What runs and studies have in common: told as they stand, waited for, and cancelled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import Query

from service.api.shown import as_json
from service.errors import ServiceError
from service.runs.states import CancelMode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi.responses import Response

    from service.api.state import Service
    from service.runs.records import Run

CANCEL_S = 1.8  # a cancellation answers within two seconds
RETRY_AFTER_S = "1"
EndMode = Annotated[CancelMode, Query(description="What becomes of the best plans so far.")]
log = structlog.get_logger(__name__)


def as_it_stands(
    body: Mapping[str, Any], *, ended: bool, waited_s: float | None, headers: Mapping[str, str] | None = None, asked: bool = False
) -> Response:
    """The answer about something that may still be at work: 202 while it is, where that was just ``asked`` for.

    ``waited_s``: the `Prefer: wait` that was followed.
    """
    given = dict(headers or {})
    if waited_s is not None:
        given["Preference-Applied"] = f"wait={waited_s:g}"
    if not ended:
        given["Retry-After"] = RETRY_AFTER_S
    return as_json(body, 202 if asked and not ended else 200, given)


async def until_cancelled(service: Service, runs: Sequence[Run]) -> list[Run]:
    """Pass the cancellation of these runs on, and wait a moment for their end; each as it was seen last."""
    worker = service.worker
    for run in runs:
        service.bulletin.publish(run.position)
        if worker is not None and not run.is_terminal:
            worker.cancelled(run)
    if worker is not None:
        worker.wake_all()
    until = time.monotonic() + CANCEL_S
    seen = list(runs)
    for number, run in enumerate(runs):
        if not run.is_terminal and (left := until - time.monotonic()) > 0:
            try:
                seen[number] = await service.watch.until_ended(run, left, service.read, place=False)
            except ServiceError as error:
                log.info("a cancelled run could not be waited for", run_id=run.id, reason=error.detail)
                break
    return seen
