"""From the body of a study to something that may be stored: read and expanded in a child, within the limits of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from service.api.intake import READING_S, as_findings, cache_key, limits_of, refused, stored
from service.errors import Finding, NotFound
from service.runs import store
from service.runs.records import NewStudy, Question
from service.runs.states import Task

if TYPE_CHECKING:
    from service.api.state import Service
    from service.runs.records import StoredProblem

TASK = "service.api.studies_tasks:read_study"


@dataclass(frozen=True, slots=True)
class Checked:
    """A study that may be stored."""

    tenant: str
    id: str
    base: StoredProblem
    found: dict[str, Any]
    questions: tuple[Question, ...]
    priority: int

    @property
    def count(self) -> int:
        """How many scenarios it has."""
        return int(self.found["count"])

    @property
    def warnings(self) -> tuple[dict[str, str], ...]:
        """What is legal but suspicious."""
        return tuple(self.found["warnings"])

    def asked(self, key: str | None, fingerprint: str, request_id: str, trace_id: str | None) -> NewStudy:
        """The request as it is stored."""
        found = self.found
        return NewStudy(
            id=self.id,
            tenant=self.tenant,
            base=self.base,
            name=found["name"],
            title=found["title"],
            document=found["study"],
            scenarios=found["scenarios"],
            count=self.count,
            questions=self.questions,
            priority=self.priority,
            warnings=self.warnings,
            idempotency_key=key,
            fingerprint=fingerprint,
            request_id=request_id,
            trace_id=trace_id,
        )


async def read_study(service: Service, tenant: str, data: bytes) -> dict[str, Any]:
    """What ``service.api.studies_tasks.read_study`` says of a body. Raises BadRequest, Unprocessable, TooLarge, Unavailable."""
    settings = service.settings
    most = min(settings.most_scenarios, settings.tenant_queue_limit, settings.queue_limit)
    payload: dict[str, Any] = {"data": data, "base": None, "most": most}
    payload |= {"most_solves": settings.most_ask_solves, "longest_s": settings.longest_time_limit_s}
    ask = partial(service.helped, TASK, deadline_s=READING_S, what="reading the study", question=True)
    found = await ask(payload)
    if "needs" in found:
        base = await _base(service, tenant, found["needs"], found["kind"])
        found = await ask(payload | {"base": base.body})
    if "errors" in found:
        raise refused(as_findings(found["errors"]))
    return found


async def _base(service: Service, tenant: str, named: str, kind: str) -> StoredProblem:
    try:
        found = await service.read(partial(store.problem_of, tenant=tenant, problem_id=named))
    except NotFound:
        detail = f"there is no problem '{named[:60]}'; keep it first with POST /v1/problems, or send it as base.problem"
        raise refused([Finding("/base/problem_id", "problem_not_found", detail)]) from None
    if found.kind != kind:
        detail = f"problem '{named}' is of kind {found.kind}, and the study of kind {kind}; correct one"
        raise refused([Finding("/kind", "wrong_kind", detail)])
    return found


async def new_study(service: Service, tenant: str, found: dict[str, Any], priority: int) -> Checked:
    """The study with a run for each question, and one for its asks. Raises Unprocessable for limits beyond those of the settings."""
    limits = limits_of(found["given"], service)
    base = await stored(service, found["kind"], found["base"])
    questions = tuple(_question(service, one, limits | {"seed": one["seed"]}) for one in found["questions"])
    if found["asks"] is not None:
        questions += (_asks(service, found["asks"], limits, base.id),)
    return Checked(tenant, f"study_{service.entropy.hex(12)}", base, found, questions, priority)


def _question(service: Service, one: dict[str, Any], limits: dict[str, Any]) -> Question:
    key = cache_key(one["problem_id"], limits, None, service.versions) if service.settings.cache else None
    return Question(one["key"], f"run_{service.entropy.hex(12)}", limits, one["changes"], one["problem_id"], key)


def _asks(service: Service, one: dict[str, Any], limits: dict[str, Any], base: str) -> Question:
    """The run that answers the asks: it has the time of all the solves that these may take, as far as a run may have so much."""
    together = limits | {"time_limit_s": min(limits["time_limit_s"] * one["solves"], service.settings.longest_time_limit_s)}
    key = cache_key(f"{base} asks {one['key']}", together, None, service.versions) if service.settings.cache else None
    return Question(str(Task.asks), f"run_{service.entropy.hex(12)}", together, None, base, key, Task.asks)
