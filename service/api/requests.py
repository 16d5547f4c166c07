"""What request bodies hold, and how they are taken apart: in the loop's process when small, in a child when large."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field

from models.catalogue import kinds
from models.vocabulary import Document
from optimizer.limits import LARGEST_SEED
from service.documents.complaints import InvalidError, Mistake, below
from service.documents.json_text import strictly_loaded
from service.documents.problems import PROBLEM, given, told
from service.documents.reading import validated

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from models.contract import Kind

LARGEST_PRIORITY = 1_000
RUN_ID = r"^run_[0-9a-f]{24}$"
PROBLEM_ID = r"^prob_[0-9a-f]{32}$"

AnyProblem = Annotated[Any, Field(description="The problem: see the kind's schema. Kind `program` also takes {format, text}.")]


class LimitsAsked(Document):
    """What the solve may use. What is left out is chosen by the service."""

    model_config = ConfigDict(title="Limits")

    time_limit_s: float | None = Field(default=None, gt=0, le=86_400 * 366, description="Wall seconds the search may take.")
    gap: float | None = Field(default=None, ge=0, lt=1, description="Relative gap at which a plan counts as optimal (0.01 is 1%).")
    seed: Annotated[int, Field(strict=True)] | None = Field(default=None, ge=0, le=LARGEST_SEED, description="Seed of every random choice.")
    threads: Annotated[int, Field(strict=True)] | None = Field(default=None, ge=1, le=1024, description="CPU threads of the search.")
    memory_gib: float | None = Field(
        default=None, gt=0, le=1e6, description="Most memory of the search in GiB; the service's own limit may be lower."
    )


class ProblemRequest(Document):
    """A problem to keep."""

    model_config = ConfigDict(title="Problem request")

    schema_version: Literal[1] = 1
    kind: str = Field(max_length=253, description="The kind of decision; GET /v1/kinds lists them.")
    problem: AnyProblem


class RunRequest(Document):
    """A problem to solve, given whole or by the id of one that was kept."""

    model_config = ConfigDict(title="Run request")

    schema_version: Literal[1] = 1
    kind: str | None = Field(default=None, max_length=253, description="The kind of decision; may be left out when problem_id is given.")
    problem: AnyProblem = None
    problem_id: str | None = Field(default=None, pattern=PROBLEM_ID, description="A kept problem: POST /v1/problems.")
    limits: LimitsAsked = LimitsAsked()
    warm_start_run: str | None = Field(default=None, pattern=RUN_ID, description="A run of this kind whose plan the search starts from.")
    priority: Annotated[int, Field(strict=True)] = Field(
        default=0, ge=-LARGEST_PRIORITY, le=LARGEST_PRIORITY, description="Runs of higher priority are taken first."
    )
    cache: bool = Field(default=True, description="False: solve, also when the same question was answered before.")


REQUESTS: dict[str, type[RunRequest | ProblemRequest]] = {"run": RunRequest, "problem": ProblemRequest}


def take_apart(what: str, data: bytes) -> dict[str, Any]:
    """A request body: {"fields"} with {"body", "warnings"} of its problem or {"program": {format, text}}; raises InvalidError.

    ``what`` is a name of ``REQUESTS``; ``fields`` are those of the request without the problem.
    """
    request = validated(REQUESTS[what], strictly_loaded(data))
    found: dict[str, Any] = {"fields": request.model_dump(exclude={"problem"})}
    if request.problem is None:
        return found
    kind = kind_named(request.kind)
    with below(f"/{PROBLEM}"):
        return found | given(kind, request.problem)


def read_request(payload: dict[str, Any], _send: Callable[[Any], None], _cancel: threading.Event) -> dict[str, Any]:
    """A child's task: ``take_apart`` of {what, data}, or {"errors"}."""
    try:
        return take_apart(payload["what"], payload["data"])
    except InvalidError as error:
        return {"errors": told(error.findings)}


def read_patch(payload: dict[str, Any], _send: Callable[[Any], None], _cancel: threading.Event) -> dict[str, Any]:
    """A child's task: the child of a problem: {kind, body, patch}; as ``service.documents.problems.patched``."""
    from service.documents.problems import patched

    return patched(kinds()[payload["kind"]], payload["body"], payload["patch"])


def kind_named(name: str | None) -> Kind:
    """The kind; raises InvalidError that lists those there are."""
    known = kinds()
    if name is None:
        raise InvalidError([Mistake("/kind", "", "missing", f"is missing; name one of the kinds: {', '.join(sorted(known))}")])
    if name not in known:
        shown = json.dumps(name[:60], ensure_ascii=False)
        raise InvalidError([Mistake("/kind", "", "unknown_kind", f"there is no kind {shown}; the kinds are: {', '.join(sorted(known))}")])
    return known[name]
