"""A problem as it is kept: valid, canonical JSON, with what is suspicious in it."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field

from models.vocabulary import Document
from optimizer.merge_patch import merged
from service.documents.complaints import MOST_FINDINGS, InvalidError, Mistake, below, pointer
from service.documents.json_text import loaded, strictly_loaded
from service.documents.reading import validated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from models.contract import Kind, Warned
    from service.errors import Finding

PROBLEM = "problem"  # the field of a request
MOST_INLINE_BYTES = 256 * 1024  # a larger body is read in a child process, so that nobody else waits for it


class ProgramText(Document):
    """A linear or mixed-integer program as the text of a file."""

    model_config = ConfigDict(title="Program text")

    format: Literal["mps", "lp"] = Field(description="MPS (free or fixed), or CPLEX LP.")
    text: str = Field(min_length=1, description="The file's content.")


def read_problem(kind: Kind, body: bytes) -> dict[str, Any]:
    """The problem in ``body``, or in the field ``problem`` of an object that has no other, as requests to solve have it.

    As ``given`` returns it, or {"errors": [...]}, each {pointer, code, detail}; with {"place"}, where in the body the problem is: errors
    have it in their pointers, warnings do not.
    """
    place = ""
    try:
        raw = strictly_loaded(body)
        if isinstance(raw, dict) and PROBLEM in raw and PROBLEM not in kind.problem.model_fields:
            _refuse_company(raw)
            place, raw = f"/{PROBLEM}", raw[PROBLEM]
        with below(place):
            return {"place": place, **given(kind, raw)}
    except InvalidError as error:
        return {"place": place, "errors": told(error.findings)}


def _refuse_company(raw: dict[str, Any]) -> None:
    """Raises InvalidError for what stands beside a problem, such as the other fields of a request to solve."""
    what = 'has no place here; send the problem alone, as it is or as {"problem": ...}'
    others = [Mistake(pointer((name,)), "", "extra_forbidden", what) for name in raw if name != PROBLEM]
    if others:
        raise InvalidError(others)


def given(kind: Kind, raw: object) -> dict[str, Any]:
    """A problem of parsed JSON as ``checked`` returns it, or {"program": {format, text}} of a file's text; raises InvalidError."""
    if kind.name == "program" and isinstance(raw, dict) and "text" in raw:
        return {"program": validated(ProgramText, raw).model_dump()}
    return checked(kind, raw)


def checked(kind: Kind, raw: object) -> dict[str, Any]:
    """As ``canonical``, of parsed JSON; raises InvalidError."""
    return canonical(kind, validated(kind.problem, raw))


def canonical(kind: Kind, problem: Document) -> dict[str, Any]:
    """{"body": the problem's canonical JSON, "warnings": what is legal but suspicious in it}."""
    return {"body": problem.model_dump_json().encode(), "warnings": told(_warner(kind)(problem)[:MOST_FINDINGS])}


def told(found: Iterable[Finding | Warned]) -> list[dict[str, str]]:
    """Findings and warnings as JSON objects."""
    return [{"pointer": one.pointer, "code": one.code, "detail": one.detail} for one in found]


def problem_id(kind: str, body: bytes) -> str:
    """The id of a problem, from its content: the same canonical JSON of the same kind has the same id."""
    digest = hashlib.sha256(kind.encode() + b"\n")
    digest.update(body)
    return f"prob_{digest.hexdigest()[:32]}"


def as_object(document: Document) -> dict[str, Any]:
    """A document as a person would write it: fields that say nothing beyond their default are left out."""
    version = {"schema_version": document.schema_version} if hasattr(document, "schema_version") else {}
    return {**version, **document.model_dump(mode="json", exclude_defaults=True)}


def examples_of(kind: Kind) -> dict[str, dict[str, Any]]:
    """The kind's named examples as a person would write them, the usual one first; none for a kind that has only one."""
    if not kind.has("examples"):
        return {}
    return {name: as_object(example) for name, example in kind.part("examples").examples().items()}


def patched(kind: Kind, body: bytes, patch: bytes) -> dict[str, Any]:
    """The child of a problem, as ``read_problem`` gives it; the pointers are those of the child."""
    try:
        change = strictly_loaded(patch)
        return checked(kind, merged(loaded(body), change))
    except InvalidError as error:
        return {"errors": told(error.findings)}


@cache
def _warner(kind: Kind) -> Callable[[Any], tuple[Warned, ...]]:
    if not kind.has("checks"):
        return lambda _: ()
    found: Callable[[Any], tuple[Warned, ...]] | None = getattr(kind.part("checks"), "warnings", None)
    return found or (lambda _: ())
