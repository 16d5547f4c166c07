"""A run's history as it is written: server-sent events that can be resumed, or pages for those who ask now and then."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, format_sse_event

from service.api import examples
from service.api.failures import responses
from service.api.intake import preferred_wait_s
from service.api.lookup import Caller, RunId, reading
from service.api.shown import VERSION, as_json, event_object
from service.api.state import Service, service_of
from service.errors import BadRequest, Finding, NotAcceptable, ServiceError
from service.runs import queries, store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from sqlalchemy import Connection

    from service.runs.records import Event, Run

router = APIRouter(tags=["events"])

PING_S = 10.0  # a comment keeps proxies from closing a quiet stream, and shows a client that left
PAGE = 500
LARGEST_NUMBER = 2**31 - 1
RETRY_MS = 1_000
STREAM, JSON = "text/event-stream", "application/json"


@router.get(
    "/v1/runs/{run_id}/events",
    operation_id="get_events",
    summary="Follow a run",
    responses={
        200: examples.events_response(),
        204: {"description": "The run has ended and nothing follows: a browser's EventSource stops asking."},
        **responses(404, 406),
    },
    openapi_extra=examples.prefer("With JSON: `wait=N` waits up to N seconds for something to tell."),
)
async def get_events(
    request: Request,
    run_id: RunId,
    caller: Annotated[Caller, Depends(reading)],
    after: Annotated[int, Query(ge=0, le=LARGEST_NUMBER, description="Only events after this number.")] = 0,
    last_event_id: Annotated[str | None, Header(description="As `after`, sent by a browser that comes back; it comes first.")] = None,
) -> Response:
    """Every event after a number, then the new ones as they happen, to the end of the run; as JSON, those there are.

    Events are numbered 1, 2, 3 ... without a gap: `state`, `incumbent` (a better plan), `bound` (a better bound), `message`.
    """
    service = service_of(request)
    after = _last(last_event_id) if last_event_id is not None else after
    form = _form(request.headers.get("accept", ""))

    def look(number: int) -> Callable[[Connection], tuple[Run, list[Event]]]:
        def read(connection: Connection) -> tuple[Run, list[Event]]:
            run = store.run_of(connection, caller.tenant, run_id)
            return run, queries.events_after(connection, run.position, number, PAGE)

        return read

    run, events = await service.read(look(after))
    if form == JSON:
        wait_s = preferred_wait_s(request, service.settings.longest_wait_s)
        if wait_s is not None and not events and not run.is_terminal:
            await _something(service, run, after, wait_s)
            run, events = await service.read(look(after))
        last = events[-1].number if events else after
        told = {"events": [event_object(event) for event in events], "last": last, "done": run.is_terminal and last >= run.events}
        return as_json({"schema_version": VERSION, **told})
    if run.is_terminal and after >= run.events:
        return Response(status_code=204)
    service.watch.refuse_when_full(caller.tenant)  # once the stream has begun it is too late to say so
    stream = _Stream(service, run, events, after, look)
    return EventSourceResponse(stream.parts(), headers={"X-Accel-Buffering": "no"})


def _last(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= LARGEST_NUMBER):
        finding = Finding("/header/last-event-id", "int_parsing", "must be the `id` of an event: a whole number from 0")
        raise BadRequest("the Last-Event-ID is no number of an event", errors=(finding,))
    return int(text)


def _form(accept: str) -> str:
    """What the client wants of what there is; events when it does not care. Raises NotAcceptable."""
    found: dict[str, float] = {}
    for entry in accept.lower().split(",") if accept.strip() else ["*/*"]:
        name, *parameters = (part.strip() for part in entry.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            found[name] = float(weight)
        except ValueError:
            found[name] = 1.0
    any_form = found.get("*/*", 0.0)
    weights = {STREAM: found.get(STREAM, found.get("text/*", any_form)), JSON: found.get(JSON, found.get("application/*", any_form))}
    best = max(weights, key=lambda name: weights[name])
    if weights[best] <= 0:
        raise NotAcceptable(f"events are given as {STREAM} or {JSON}; accept one of them")
    return best


async def _something(service: Service, run: Run, after: int, seconds: float) -> None:
    """Until the run has an event after this number, or the time is over."""
    until = asyncio.get_running_loop().time() + seconds
    async with service.watch.moves(run, min(after, run.events), service.read) as moved:
        try:
            async with asyncio.timeout_at(until):
                await moved.wait()
        except TimeoutError:
            return


class _Stream:
    """The parts of one event stream."""

    def __init__(
        self,
        service: Service,
        run: Run,
        events: list[Event],
        after: int,
        look: Callable[[int], Callable[[Connection], tuple[Run, list[Event]]]],
    ) -> None:
        self._service, self._run, self._events, self._last, self._look = service, run, events, after, look

    async def parts(self) -> AsyncIterator[bytes]:
        """What is sent, to the last event of an ended run; the client comes back with the number of its last when it ends before."""
        yield format_sse_event(retry=RETRY_MS)
        with contextlib.suppress(ServiceError):
            async with contextlib.aclosing(self._told()) as told:  # the place to wait is given back with the stream
                async for part in told:
                    yield part

    async def _told(self) -> AsyncGenerator[bytes]:
        service = self._service
        async with service.watch.moves(self._run, self._last, service.read) as moved:
            while True:
                for event in self._events:
                    self._last = event.number
                    data = json.dumps(event_object(event), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
                    yield format_sse_event(data_str=data, event=event.type, id=str(event.number))
                if self._run.is_terminal and self._last >= self._run.events:
                    return
                if len(self._events) < PAGE:
                    async for ping in self._quiet(moved):
                        yield ping
                if service.stopping:
                    return
                moved.clear()
                self._run, self._events = await service.read(self._look(self._last))

    async def _quiet(self, moved: asyncio.Event) -> AsyncIterator[bytes]:
        """Comments, until the run moves."""
        while True:
            try:
                async with asyncio.timeout(PING_S):
                    await moved.wait()
            except TimeoutError:
                yield format_sse_event(comment="waiting")
                if self._service.stopping:
                    return
            else:
                return
