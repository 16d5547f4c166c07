"""Says what Pydantic found: the JSON pointer, whose part of the document it is, what is wrong, and the cure.

Programs get findings (pointer, code, detail), people the same in lines of text.
"""

from __future__ import annotations

import difflib
import types
import typing
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ValidationError

from models.contract import ContradictionError
from service.errors import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydantic_core import ErrorDetails

SHOWN = 3  # mistakes told in full to people; the rest are only counted
MOST_FINDINGS = 100  # told to programs
LONGEST_VALUE = 60
SINGULAR = {"axes": "axis"}  # of fields that do not only add an s
NAMES = ("id", "job", "node", "name")  # fields that name the part of a document they stand in
CONTRADICTION = "contradiction"  # what a kind refuses without saying where
NOT_JSON = "json_invalid"
REPEATED_KEY = "repeated_key"
WHOLE = frozenset({CONTRADICTION, NOT_JSON, REPEATED_KEY})  # mistakes of which the sentence alone tells the place

Location = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake: ``place`` is its JSON pointer (the whole document is empty), ``owner`` the named part that holds it."""

    place: str
    owner: str
    code: str
    what: str

    @property
    def line(self) -> str:
        """For people: ``/jobs/3/value (job 'late'): must be ...``."""
        if not self.place and self.code in WHOLE:
            return self.what
        return f"{self.place or '/'}{f' ({self.owner})' if self.owner else ''}: {self.what}"

    @property
    def finding(self) -> Finding:
        """For programs."""
        return Finding(self.place, self.code, f"{self.owner}: {self.what}" if self.owner else self.what)


class InvalidError(Exception):
    """A document that cannot be used, with what is wrong with it; ``untold`` mistakes more are only counted."""

    def __init__(self, found: Sequence[Mistake], untold: int = 0) -> None:
        super().__init__(in_lines(found, untold))
        self.mistakes = tuple(found)
        self.untold = untold

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The first ``MOST_FINDINGS`` mistakes, for programs."""
        return tuple(mistake.finding for mistake in self.mistakes[:MOST_FINDINGS])


@contextmanager
def below(place: str) -> Iterator[None]:
    """Puts the place of a part in front of the pointers of an InvalidError about that part."""
    try:
        yield
    except InvalidError as error:
        raise InvalidError([replace(one, place=place + one.place) for one in error.mistakes], error.untold) from None


def in_lines(found: Sequence[Mistake], untold: int = 0) -> str:
    """A message of a few lines for people."""
    lines = [mistake.line for mistake in found[:SHOWN]]
    more = len(found) - len(lines) + untold
    if more > 0:
        lines.append(f"and {more} more such mistake{'s' if more > 1 else ''}")
    return "\n  ".join(lines)


def invalid(error: ValidationError, model: type[BaseModel], document: object, prefix: tuple[str, int] | None = None) -> InvalidError:
    """What Pydantic found, in its order: the first mistakes told, the rest counted, because to name what was meant takes time.

    ``document`` is the parsed input (None when it could not be parsed), used to name jobs and nodes; ``prefix`` is the
    field and the index of the first item when only a part of a list was validated.
    """
    found: list[Mistake] = []
    details = error.errors(include_url=False)
    for number, detail in enumerate(details):
        if len(found) >= MOST_FINDINGS:
            return InvalidError(found, len(details) - number)
        location = tuple(detail["loc"])
        if prefix is not None:
            location = (prefix[0], prefix[1] + int(location[0]), *location[1:])
        found += _mistakes(detail, location, model, document)
    return InvalidError(found)


def _mistakes(detail: ErrorDetails, location: Location, model: type[BaseModel], document: object) -> list[Mistake]:
    if detail["type"] == NOT_JSON:
        return [Mistake("", "", NOT_JSON, not_json(str(detail.get("ctx", {}).get("error", ""))))]
    if detail["type"] == "value_error":
        return _contradictions(detail.get("ctx", {}).get("error", detail["msg"]), pointer(location))
    if detail["type"] == "too_short" and _is_long_enough(detail):
        return []
    what = _CURES.get(detail["type"], _other)(detail, location, model)
    return [Mistake(pointer(location), _owner(document, location), detail["type"], what)]


def _contradictions(error: object, place: str) -> list[Mistake]:
    """What a check of ours refused in the part of the document at ``place``."""
    if isinstance(error, ContradictionError):
        return [Mistake(place + found.pointer, "", found.code, found.detail) for found in error.mistakes]
    return [Mistake(place, "", CONTRADICTION, str(error))]


def _is_long_enough(detail: ErrorDetails) -> bool:
    """Whether a list is too short only because Pydantic does not count items that are wrong, which are told by themselves."""
    given = detail["input"]
    return isinstance(given, list | tuple) and len(given) >= detail.get("ctx", {}).get("min_length", 1)


def not_json(message: str) -> str:
    """The parser's words for broken JSON, with the place in front: ``expected value at line 1 column 2``."""
    what, _, place = message.partition(" at line ")
    line, _, column = place.partition(" column ")
    where = f"line {line}, column {column}: " if place else ""
    return f"{where}this is not JSON: {what}; correct it there"


def pointer(location: Location) -> str:
    """The JSON pointer (RFC 6901) of a place in a document; the document itself is empty."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in location)


def _owner(document: object, location: Location) -> str:
    """``job 'train-7'``: the innermost named part that holds the place, when it has a name."""
    found, value, group = "", document, ""
    for step in location:
        if isinstance(value, dict) and isinstance(step, str):
            value, group = value.get(step), step
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            break
        if isinstance(value, dict):
            name = next((value[key] for key in NAMES if isinstance(value.get(key), str)), None)
            found = f"{SINGULAR.get(group) or group.removesuffix('s')} {_shown(name)}".strip() if name is not None else found
    return found


def _shown(value: object) -> str:
    """A value as the user wrote it, cut when it is long."""
    match value:
        case dict():
            return "an object"
        case list() | tuple():
            return "a list"
        case None:
            return "null"
        case bool():
            return str(value).lower()
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 2]}…"


def _field(location: Location, model: type[BaseModel]) -> Any | None:  # noqa: ANN401  (Pydantic's FieldInfo, loaded with it)
    owner = model_at(model, location[:-1])
    return owner.model_fields.get(str(location[-1])) if owner is not None and location else None


def model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The Pydantic model that stands at a place of a document, or None when it cannot be told."""
    annotation: object = model
    for step in location:
        annotation = _inside(_plain(annotation), step)
    annotation = _plain(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _plain(annotation: object) -> object:
    """The type without ``Annotated`` and ``| None``."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _plain(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in typing.get_args(annotation) if argument is not type(None)]
        return _plain(inner[0]) if len(inner) == 1 else None
    return annotation


def _inside(annotation: object, step: int | str) -> object:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(step))
        return field.annotation if field is not None else None
    arguments = typing.get_args(annotation)
    return arguments[-1 if typing.get_origin(annotation) is dict else 0] if arguments else None


def _missing(_: ErrorDetails, location: Location, model: type[BaseModel]) -> str:
    field = _field(location, model)
    meaning = f" ({field.description.rstrip('.')})" if field is not None and field.description else ""
    return f"is missing; add it{meaning}"


def _unknown_field(_: ErrorDetails, location: Location, model: type[BaseModel]) -> str:
    owner = model_at(model, location[:-1])
    return unknown_field(str(location[-1]), owner) if owner is not None else "is not a known field; leave it out"


def unknown_field(name: str, owner: type[BaseModel]) -> str:
    """What is wrong with a field that a model does not have, and the field that was probably meant."""
    fields = list(owner.model_fields)
    near = difflib.get_close_matches(name, fields, n=1, cutoff=0.6)
    cure = f"did you mean '{near[0]}'?" if near else f"leave it out; the fields are {', '.join(fields)}"
    return f"is not a field of {_article(str(owner.model_config.get('title', owner.__name__)).lower())}; {cure}"


def _article(noun: str) -> str:
    if noun.endswith("s"):
        return f"the {noun}"
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _not_finite(detail: ErrorDetails, location: Location, model: type[BaseModel]) -> str:
    field = _field(location, model)
    or_none = "" if field is None or field.is_required() else ", or leave the field out"
    value = str(detail.get("input", "")).lower()
    return f"must be a finite number, not {'NaN' if value == 'nan' else 'infinity'}; write a number{or_none}"


def _limit(words: str, key: str) -> Callable[[ErrorDetails, Location, type[BaseModel]], str]:
    def tell(detail: ErrorDetails, _: Location, __: type[BaseModel]) -> str:
        limit = detail.get("ctx", {}).get(key)
        return f"must be {words} {_shown(limit)}, not {_shown(detail['input'])}; correct the number"

    return tell


def _must_be(what: str, cure: str) -> Callable[[ErrorDetails, Location, type[BaseModel]], str]:
    return lambda detail, _, __: f"must be {what}, not {_shown(detail['input'])}; {cure}"


def _choice(detail: ErrorDetails, _: Location, __: type[BaseModel]) -> str:
    expected = str(detail.get("ctx", {}).get("expected", ""))
    names = [name.strip(" '") for name in expected.replace(" or ", ", ").split(",")]
    near = difflib.get_close_matches(str(detail["input"]), names, n=1)
    return f"must be {expected}, not {_shown(detail['input'])}; " + (f"did you mean '{near[0]}'?" if near else "choose one of them")


def _too_short(detail: ErrorDetails, _: Location, __: type[BaseModel]) -> str:
    least = detail.get("ctx", {}).get("min_length", 1)
    return f"is too short; it needs at least {least} item{'s' if least != 1 else ''}"


def _pattern(detail: ErrorDetails, _: Location, __: type[BaseModel]) -> str:
    return f"must be of the form {detail.get('ctx', {}).get('pattern')}, not {_shown(detail['input'])}; correct it"


def of_parameter(detail: ErrorDetails) -> Mistake:
    """What Pydantic found in the path, the query or a header of a request."""
    location = tuple(detail["loc"])
    return Mistake(pointer(location), "", detail["type"], _CURES.get(detail["type"], _other)(detail, location, BaseModel))


def _other(detail: ErrorDetails, _: Location, __: type[BaseModel]) -> str:
    message = detail["msg"]
    cure = "correct it (the schema of the kind shows what is allowed)"
    return f"{message[:1].lower()}{message[1:]}, not {_shown(detail.get('input'))}; {cure}"


_OBJECT = _must_be("an object", "write it in braces: {...}")
_LIST = _must_be("a list", "write it in brackets: [...]")
_TEXT = _must_be("text", "put it in quotes")
_WHOLE = _must_be("a whole number", "write it without quotes and without a decimal point")


def _number(detail: ErrorDetails, location: Location, model: type[BaseModel]) -> str:
    told = str(detail.get("input"))
    try:
        float(told)
    except ValueError:
        return _must_be("a number", "write the number alone: the unit is in the name")(detail, location, model)
    return _must_be("a number", "write it without quotes")(detail, location, model)


_CURES: dict[str, Callable[[ErrorDetails, Location, type[BaseModel]], str]] = {
    "missing": _missing,
    "extra_forbidden": _unknown_field,
    "finite_number": _not_finite,
    "greater_than_equal": _limit("at least", "ge"),
    "greater_than": _limit("more than", "gt"),
    "less_than_equal": _limit("at most", "le"),
    "less_than": _limit("less than", "lt"),
    "literal_error": _choice,
    "enum": _choice,
    "too_short": _too_short,
    "string_too_short": _must_be("a name", "give it at least one character"),
    "string_pattern_mismatch": _pattern,
    "string_type": _TEXT,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "float_type": _number,
    "float_parsing": _number,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dict_type": _OBJECT,
    "tuple_type": _LIST,
    "list_type": _LIST,
}
