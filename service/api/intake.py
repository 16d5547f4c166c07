"""From a request body to something that may be stored: read, validated, within the limits of the settings."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from optimizer.limits import Limits
from service.api.requests import take_apart
from service.documents.complaints import NOT_JSON, InvalidError
from service.documents.problems import MOST_INLINE_BYTES, problem_id
from service.errors import BadRequest, Finding, NotFound, Unprocessable, WrongMediaType
from service.runs import store
from service.runs.records import StoredProblem, packed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import Request
    from sqlalchemy import Connection

    from service.api.state import Service
    from service.auth import Caller

READING_S = 60.0  # a child may take so long over one body
HASHED_INLINE_BYTES = 64 * 1024
KEY = re.compile(r"[\x21-\x7e]{1,255}")
WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", flags=re.IGNORECASE)
SPECIAL_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json", flags=re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Taken:
    """A body, read: its fields without the problem, and the problem when it holds one."""

    fields: dict[str, Any]
    problem: StoredProblem | None


# ---------------------------------------------------------------- headers


def media_type(request: Request) -> str:
    """The body's media type without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_json(request: Request) -> None:
    """Raises WrongMediaType for a body that does not say that it is JSON: a form of another site's page cannot say it."""
    found = media_type(request)
    if not SPECIAL_JSON.fullmatch(found):
        told = f"'{found[:60]}'" if found else "nothing"
        raise WrongMediaType(f"the Content-Type is {told}; send JSON as application/json")


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key; raises BadRequest when it is none."""
    key = request.headers.get("idempotency-key")
    if key is not None and not KEY.fullmatch(key):
        finding = Finding("/header/idempotency-key", "bad_idempotency_key", "1 to 255 visible ASCII characters, without spaces")
        raise BadRequest("the Idempotency-Key must be 1 to 255 visible ASCII characters", code="bad_idempotency_key", errors=(finding,))
    return key


def preferred_wait_s(request: Request, longest_s: float) -> float | None:
    """Seconds of ``Prefer: wait=N`` (RFC 7240), at most the longest; None without it: what cannot be read is ignored, as it says."""
    header = request.headers.get("prefer")
    found = WAIT.search(header) if header is not None else None
    return min(float(found[1]), longest_s) if found is not None else None


# ---------------------------------------------------------------- bodies


def refused(findings: Iterable[Finding]) -> BadRequest | Unprocessable:
    """The error for a body with these mistakes."""
    errors = tuple(findings)
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    detail = (f"{first.pointer}: {first.detail}" if first.pointer else first.detail) + more
    if first.code == NOT_JSON:
        return BadRequest(detail, code=NOT_JSON, errors=errors)
    return Unprocessable(detail, errors=errors)


def as_findings(told: Iterable[dict[str, str]]) -> tuple[Finding, ...]:
    """Findings that a child sent."""
    return tuple(Finding(one["pointer"], one["code"], one["detail"]) for one in told)


async def taken(service: Service, what: str, data: bytes) -> Taken:
    """A JSON body, read and validated; ``what`` is run or problem. Raises BadRequest, Unprocessable, TooLarge, Unavailable."""
    if len(data) <= MOST_INLINE_BYTES:
        try:
            found = take_apart(what, data)
        except InvalidError as error:
            raise refused(error.findings) from None
    else:
        payload = {"what": what, "data": data}
        found = await service.helped("service.api.requests:read_request", payload, deadline_s=READING_S, what="reading the body")
    if "errors" in found:
        raise refused(as_findings(found["errors"]))
    fields: dict[str, Any] = found["fields"]
    if "program" in found:
        text = found["program"]
        return Taken(fields, await program(service, text["text"].encode(), text["format"], "/problem/text"))
    if "body" in found:
        return Taken(fields, await stored(service, fields["kind"], found))
    return Taken(fields, None)


async def program(service: Service, data: bytes, form: str, place: str) -> StoredProblem:
    """The problem that an MPS or LP file describes; a file that cannot be read, or kills its reader, is Unprocessable at ``place``."""
    settings = service.settings
    payload = {
        "data": data,
        "format": form,
        "most_rows": settings.most_program_rows,
        "most_columns": settings.most_program_columns,
        "most_entries": settings.most_program_entries,
    }
    end = await service.in_child("service.tasks:read_program", payload, deadline_s=READING_S)
    if end.value is None:
        cures = {"deadline": "takes too long to read", "memory": "takes too much memory to read"}
        what = cures.get(end.reason, "cannot be read: the reader stopped at it")
        raise refused([Finding(place, "unreadable_program", f"the {form.upper()} file {what}; check it, or send a smaller one")])
    if "errors" in end.value:
        raise refused(Finding(place, one["code"], _with_place(one)) for one in end.value["errors"])
    return await stored(service, "program", {"warnings": [], **end.value})


def _with_place(told: dict[str, str]) -> str:
    """Where in the file: its own pointers mean nothing in the request."""
    return f"{told['pointer']}: {told['detail']}" if told["pointer"] else told["detail"]


async def stored(service: Service, kind: str, found: dict[str, Any], parent: str | None = None) -> StoredProblem:
    """A problem as it is kept, from {"body", "warnings"}."""
    body: bytes = found["body"]
    name = partial(problem_id, kind, body)
    if len(body) <= HASHED_INLINE_BYTES:
        return StoredProblem(name(), kind, body, tuple(found["warnings"]), parent)
    made = await service.in_thread(name)
    kept = await service.in_thread(partial(packed, body))  # here, so that no other write waits for it
    return StoredProblem(made, kind, body, tuple(found["warnings"]), parent, kept)


# ---------------------------------------------------------------- limits and references


def limits_of(asked: dict[str, Any], service: Service) -> dict[str, Any]:
    """The limits as they are kept, what was left out written out; raises Unprocessable for more than the settings allow."""
    settings = service.settings
    usual = Limits()
    given = {name: value for name, value in asked.items() if value is not None}
    found: list[Finding] = []
    if given.get("time_limit_s", 0) > settings.longest_time_limit_s:
        detail = f"must be at most {settings.longest_time_limit_s:g} s here, not {given['time_limit_s']:g}; ask for less time"
        found.append(Finding("/limits/time_limit_s", "above_limit", detail))
    if given.get("threads", 0) > settings.most_threads:
        detail = f"must be at most {settings.most_threads} here, not {given['threads']}; ask for fewer threads"
        found.append(Finding("/limits/threads", "above_limit", detail))
    if found:
        raise refused(found)
    made: dict[str, Any] = {
        "time_limit_s": min(usual.time_limit_s, settings.longest_time_limit_s),
        "gap": usual.gap,
        "seed": usual.seed,
        "threads": usual.threads,
        "memory_gib": None,
    } | given
    if settings.memory_gib is not None:
        made["memory_gib"] = min(made["memory_gib"] or settings.memory_gib, settings.memory_gib)
    return made


def refuse_high_priority(service: Service, caller: Caller, priority: int, place: str) -> None:
    """Raises Unprocessable at ``place`` for a priority that the caller may not ask for."""
    highest = service.settings.highest_priority
    if priority > highest and not caller.may("admin"):
        detail = f"must be at most {highest} here, not {priority}; ask for less, or with a key of the scope 'admin'"
        raise refused([Finding(place, "above_limit", detail)])


async def problem_for(service: Service, tenant: str, read: Taken) -> StoredProblem:
    """The problem of a request to solve: its own, or the kept one that it names. Raises Unprocessable."""
    named, kind = read.fields["problem_id"], read.fields["kind"]
    if read.problem is not None:
        if named is not None:
            raise refused([Finding("/problem_id", "two_problems", "the request holds a problem itself; leave one of the two out")])
        return read.problem
    if named is None:
        raise refused([Finding("/problem", "missing", "is missing; give the problem, or the id of a kept one as problem_id")])
    try:
        kept = await service.read(partial(store.problem_of, tenant=tenant, problem_id=named))
    except NotFound:
        raise refused([Finding("/problem_id", "problem_not_found", f"there is no problem '{named}'; keep it first")]) from None
    if kind is not None and kind != kept.kind:
        detail = f"problem '{named}' is of kind {kept.kind}; name that kind, or leave it out"
        raise refused([Finding("/kind", "wrong_kind", detail)])
    return kept


async def check_warm_start(service: Service, tenant: str, run_id: str, kind: str) -> None:
    """Raises Unprocessable unless there is such a run of this kind with a plan."""

    def look(connection: Connection) -> tuple[str, bool]:
        run = store.run_of(connection, tenant, run_id)
        return run.kind, run.is_terminal and store.part_of(connection, run, "plan") is not None

    place = "/warm_start_run"
    try:
        found, has_plan = await service.read(look)
    except NotFound:
        raise refused([Finding(place, "run_not_found", f"there is no run '{run_id}'; leave it out, or name one of yours")]) from None
    if found != kind:
        raise refused([Finding(place, "wrong_kind", f"run '{run_id}' is of kind {found}; name a run of kind {kind}")])
    if not has_plan:
        raise refused([Finding(place, "no_plan", f"run '{run_id}' has no plan to start from, or none yet; name one that has")])


def cache_key(problem: str, limits: dict[str, Any], warm_start_run: str | None, versions: str) -> str:
    """What decides an answer: two requests with the same key ask the same question of the same solvers."""
    asked = json.dumps([problem, limits, warm_start_run, versions], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(asked.encode()).hexdigest()
