"""What a run has to say: plan, certificate, explanations, conflict, sensitivity, the exact program, and its history as text."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import PlainTextResponse, Response

from models.catalogue import kinds
from service import answers
from service.api import examples
from service.api.failures import OF_CHILDREN, responses
from service.api.lookup import Caller, RunId, ViewName, ended, part, reading, run_named
from service.api.schemas import CertificateShown, ConflictShown, Explanations, MetricsShown, Sensitivity, TraceShown, ViewShown, ViewsShown
from service.api.shown import VERSION, as_json, log_lines, spliced
from service.api.state import Service, service_of
from service.errors import NotFound, Unavailable, Unprocessable
from service.runs import queries, store

if TYPE_CHECKING:
    from pydantic import BaseModel
    from sqlalchemy import Connection

    from service.runs.records import Event, Run

router = APIRouter(prefix="/v1/runs/{run_id}", tags=["answers"])

EXPLAIN_S = 10.0
SENSITIVITY_S = 60.0
VIEW_S = 60.0
MODEL_S = 60.0
SLACK_S = 10.0  # reading the problem and writing the answer
MOST_LINES = 20_000
PAGE = 1_000

Reader = Annotated[Caller, Depends(reading)]


@router.get(
    "/plan",
    operation_id="get_plan",
    summary="The plan",
    responses={200: examples.plan_response(), **responses(404, 409)},
)
async def get_plan(request: Request, run_id: RunId, caller: Reader) -> Response:
    """The verified plan of a run that has ended, in the form of its kind."""
    _, body = await part(service_of(request), caller, run_id, "plan")
    return Response(body, media_type="application/json")


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of an answer that is handed out as it is kept."""

    name: str
    operation: str
    summary: str
    about: str
    model: type[BaseModel]
    example: Callable[[], Any]


_PARTS = (
    _Part(
        "certificate",
        "get_certificate",
        "The proof that comes with the plan",
        "For each goal its value, the proven bound, the gap, and how it is proved; and what an independent check found.",
        CertificateShown,
        examples.certificate,
    ),
    _Part(
        "conflict",
        "get_conflict",
        "Why there is no plan",
        "The smallest set of rules that cannot hold together, and the cheapest repair; only of a problem proved infeasible.",
        ConflictShown,
        examples.conflict,
    ),
    _Part(
        "metrics",
        "get_run_metrics",
        "The plan in figures, and where the time went",
        "Figures of the plan as its kind names them, and the seconds of each phase of the solve; a cached answer has those of the first.",
        MetricsShown,
        examples.metrics,
    ),
    _Part(
        "trace",
        "get_trace",
        "How plan and bound came together",
        "Value of the best plan, bound and gap of the first goal at each moment of the solve when one of them got better: a chart of it.",
        TraceShown,
        examples.trace,
    ),
)


def _shows(name: str) -> Callable[..., Awaitable[Response]]:
    async def shown(request: Request, run_id: RunId, caller: Reader) -> Response:
        return await _shown(request, caller, run_id, name)

    return shown


for _part in _PARTS:
    router.add_api_route(
        f"/{_part.name}",
        _shows(_part.name),
        name=_part.operation,
        operation_id=_part.operation,
        summary=_part.summary,
        description=_part.about,
        response_model=_part.model,
        responses={200: examples.response(_part.example), **responses(404, 409)},
    )


async def _shown(request: Request, caller: Caller, run_id: str, name: str) -> Response:
    run, body = await part(service_of(request), caller, run_id, name)
    return spliced({"schema_version": VERSION, "run": run.id}, body)


@router.get(
    "/explanations",
    operation_id="get_explanations",
    summary="Why the plan is as it is",
    response_model=Explanations,
    responses={200: examples.response(examples.explanations), **responses(404, 409, *OF_CHILDREN)},
)
async def get_explanations(
    request: Request,
    run_id: RunId,
    caller: Reader,
    subject: Annotated[str | None, Query(min_length=1, max_length=253, description="Only about this id of the problem.")] = None,
) -> Response:
    """Reasons in sentences, each with the rule and the ids that it is about.

    Those about one `subject` are worked out anew; so are all, once, when the time limit of the run left no time for them.
    """
    service = service_of(request)
    if subject is None:
        return await _explained(service, caller, run_id)
    run, payload = await _solved(service, caller, run_id)
    found = await _explain(service, payload, subject)
    if "unknown_subject" in found:
        raise NotFound(f"there is nothing called '{subject}' to explain; name one of the problem's own ids", code="unknown_subject")
    return as_json({"schema_version": VERSION, "run": run.id, **found})


async def _explained(service: Service, caller: Caller, run_id: str) -> Response:
    """All reasons: those kept with the plan, or worked out and kept now, where the time limit had left no time for them."""
    run = await run_named(service, caller, run_id)
    ended(run)
    body = await service.read(partial(store.part_of, run=run, part="explanations"))
    if body is None:
        run, payload = await _solved(service, caller, run_id)
        body = answers.body(await _explain(service, payload, None))
        with contextlib.suppress(Unavailable):
            await service.write(partial(store.keep_part, run=run, part="explanations", body=body))
    return spliced({"schema_version": VERSION, "run": run.id}, body)


async def _explain(service: Service, payload: dict[str, Any], subject: str | None) -> dict[str, Any]:
    asked = payload | {"subject": subject, "seconds": EXPLAIN_S}
    return await service.helped("service.tasks:explain", asked, deadline_s=EXPLAIN_S + SLACK_S, what="explaining the plan", question=True)


@router.get(
    "/sensitivity",
    operation_id="get_sensitivity",
    summary="What one more of each limit is worth",
    response_model=Sensitivity,
    responses={200: examples.response(examples.sensitivity), **responses(404, 409, *OF_CHILDREN)},
)
async def get_sensitivity(request: Request, run_id: RunId, caller: Reader) -> Response:
    """For each limit that matters: the worth of one more unit, in the unit of the first goal, and how far that holds.

    The first question takes a solve; the answer is kept with the run.
    """
    service = service_of(request)
    run = await run_named(service, caller, run_id)
    ended(run)
    body = await service.read(partial(store.part_of, run=run, part="sensitivity"))
    if body is None:
        body = await _sensitivity(service, caller, run_id)
    return spliced({"schema_version": VERSION, "run": run.id}, body)


async def _sensitivity(service: Service, caller: Caller, run_id: str) -> bytes:
    """The sensitivity, computed, and kept if there was time for all of it: what was cut short may be better the next time."""
    run, payload = await _solved(service, caller, run_id)
    payload["limits"] = run.limits | {"time_limit_s": SENSITIVITY_S}
    began = time.monotonic()
    found = await service.helped(
        "service.tasks:sensitivity", payload, deadline_s=SENSITIVITY_S + SLACK_S, what="the sensitivity analysis", question=True
    )
    body = answers.body(found)
    if time.monotonic() - began < SENSITIVITY_S:
        with contextlib.suppress(Unavailable):  # it is there for who asked, kept or not
            await service.write(partial(store.keep_part, run=run, part="sensitivity", body=body))
    return body


async def _solved(service: Service, caller: Caller, run_id: str) -> tuple[Run, dict[str, Any]]:
    """An ended run, with its kind, problem and plan."""
    run, plan = await part(service, caller, run_id, "plan")
    problem = await service.read(partial(store.problem_of, tenant=caller.tenant, problem_id=run.problem_id))
    return run, {"kind": run.kind, "problem": problem.body, "plan": plan}


@router.get(
    "/views",
    operation_id="list_views",
    summary="The views of the plan",
    response_model=ViewsShown,
    responses={200: examples.response(examples.views), **responses(404)},
)
async def list_views(request: Request, run_id: RunId, caller: Reader) -> Response:
    """Other ways to look at a plan of the run's kind, by name; empty for a kind that has none."""
    run = await run_named(service_of(request), caller, run_id)
    here = f"/v1/runs/{run.id}/views"
    found = [{"name": name, "links": {"self": f"{here}/{name}"}} for name in kinds()[run.kind].views]
    return as_json({"schema_version": VERSION, "run": run.id, "views": found})


@router.get(
    "/views/{view}",
    operation_id="get_view",
    summary="One view of the plan",
    response_model=ViewShown,
    responses={200: examples.response(examples.view), **responses(404, 409, *OF_CHILDREN)},
)
async def get_view(request: Request, run_id: RunId, view: ViewName, caller: Reader) -> Response:
    """The plan as other people want to see it; what `content` holds is said on the kind's page."""
    service = service_of(request)
    run, payload = await _solved(service, caller, run_id)
    names = kinds()[run.kind].views
    if view not in names:
        offered = f"its views are: {', '.join(names)}" if names else f"plans of kind {run.kind} have none"
        raise NotFound(f"run '{run.id}' has no view called '{view}'; {offered}", code="unknown_view")
    asked = payload | {"view": view}
    found = await service.helped("service.tasks:view", asked, deadline_s=VIEW_S, what="making the view", question=True)
    return as_json({"schema_version": VERSION, "run": run.id, **found})


@router.get(
    "/model.mps",
    operation_id="get_model",
    summary="The exact program as an MPS file",
    response_class=PlainTextResponse,
    responses={200: examples.text_response("An MPS file.", examples.MPS), **responses(404, *OF_CHILDREN)},
)
async def get_model(request: Request, run_id: RunId, caller: Reader) -> Response:
    """The exact linear or integer program of the run's problem, for the first goal, as other solvers read it."""
    service = service_of(request)
    run = await run_named(service, caller, run_id)
    problem = await service.read(partial(store.problem_of, tenant=caller.tenant, problem_id=run.problem_id))
    payload = {"kind": run.kind, "problem": problem.body}
    found = await service.helped("service.tasks:model_mps", payload, deadline_s=MODEL_S, what="writing the exact program", question=True)
    if "too_large" in found:
        detail = f"the exact program has {found['too_large']:,} columns, too many to write down; ask it of a smaller problem"
        raise Unprocessable(detail, code="model_too_large")
    headers = {"Content-Disposition": f'attachment; filename="{run.id}.mps"'}
    return Response(found["mps"], media_type="text/plain; charset=utf-8", headers=headers)


@router.get(
    "/log",
    operation_id="get_log",
    summary="What happened, in lines of text",
    response_class=PlainTextResponse,
    responses={200: examples.text_response("A line for each event.", examples.LOG), **responses(404)},
)
async def get_log(request: Request, run_id: RunId, caller: Reader) -> Response:
    """The run's history so far: states, better plans and bounds, each with its time."""
    service = service_of(request)

    def look(connection: Connection) -> list[Event]:
        run = store.run_of(connection, caller.tenant, run_id)
        found: list[Event] = []
        while len(found) < MOST_LINES:
            page = queries.events_after(connection, run.position, found[-1].number if found else 0, PAGE)
            found += page
            if len(page) < PAGE:
                break
        return found

    return PlainTextResponse(log_lines(await service.read(look)))
