"""Places in a problem: JSON pointers (RFC 6901) with selectors.

    /budget_usd                                  a field
    /tiers/0/capacity_gib                        a position, counted from 0
    /jobs/*/weight                               every item
    /nodes/[gpu_model=A100][topology.row=3]/gpus the items that meet all conditions
    /tiers/[id=nvme-*]/capacity_gib              * and ? stand for any text, unless the text is quoted
    /jobs/[priority>=2][state!=drained]/value    = != < <= > >=, the last four on numbers
    /columns/upper/[.=null]                      the item itself
    /job_table/weight/[tenant=search]            of a column of a table: another column at the same position

A list of texts equals a text when one of them does. In brackets everything up to ``]`` is the text; one that has ``]``, or a
wildcard that is none, goes in double quotes. ``~1`` is ``/`` and ``~0`` is ``~`` in the name of a field. A null has no fields: what is
below it is not matched. Places are looked up in the whole problem: a field that a file leaves out has its default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from models.contract import Warned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

VALUE = "$value"  # in an edit: the value of its axis
SHOWN = 6  # names listed in a message
LONGEST = 60  # characters of a name in a message

Step = str | int
Path = tuple[Step, ...]


class PlaceError(ValueError):
    """A place that is none: how it is written, or because nothing is there. ``code`` is stable, the text has the cure."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail

    def at(self, pointer: str) -> Warned:
        """The mistake at a place of the study file."""
        return Warned(pointer, self.code, self.detail)


@dataclass(frozen=True)
class Literal:
    """What a condition compares with; ``exact``: it is text, and has no wildcards."""

    text: str
    exact: bool = False

    @cached_property
    def number(self) -> float | None:
        """Its number, where it is one."""
        try:
            return None if self.exact else float(self.text)
        except ValueError:
            return None

    @cached_property
    def fits(self) -> Callable[[str], object]:
        """Whether a text is this one, or of this form."""
        if self.exact or not re.search(r"[*?]", self.text):
            return self.text.__eq__
        form = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in self.text)
        return re.compile(form, re.DOTALL).fullmatch

    def equals(self, have: object) -> bool:
        """Whether a value of a problem is this one."""
        if isinstance(have, str):
            return bool(self.fits(have))
        if isinstance(have, list):
            return any(self.equals(item) for item in have if isinstance(item, str))
        if have is None or isinstance(have, bool):
            return not self.exact and self.text == shown(have)
        return isinstance(have, int | float) and self.number == have


@dataclass(frozen=True)
class Condition:
    """One pair of brackets; no ``keys``: the item itself."""

    keys: tuple[str, ...]
    operator: str
    literal: Literal

    def holds(self, have: object) -> bool:
        """Whether a value of a problem meets it."""
        if self.operator in ("=", "!="):
            return self.literal.equals(have) is (self.operator == "=")
        if isinstance(have, bool) or not isinstance(have, int | float) or self.literal.number is None:
            return False
        return _COMPARED[self.operator](have, self.literal.number)

    @property
    def text(self) -> str:
        """As it is told in messages."""
        return f"{'.'.join(self.keys) or '.'}{self.operator}{self.literal.text}"


_COMPARED: dict[str, Callable[[float, float], bool]] = {
    "<": lambda first, second: first < second,
    "<=": lambda first, second: first <= second,
    ">": lambda first, second: first > second,
    ">=": lambda first, second: first >= second,
}


@dataclass(frozen=True)
class Name:
    """A field of an object, or a position in a list."""

    text: str


@dataclass(frozen=True)
class Every:
    """Every item of a list, or every field of an object."""


@dataclass(frozen=True)
class Where:
    """The items of a list that meet all conditions."""

    conditions: tuple[Condition, ...]


Selector = tuple[Name | Every | Where, ...]

_KEY = r'(?:"(?:[^"\\]|\\.)*"|[^.\[\]=!<>"\s]+)'
_CONDITION = re.compile(
    rf'\[\s*(?P<keys>\.|{_KEY}(?:\.{_KEY})*)\s*(?P<operator>!=|<=|>=|==|=|<|>)\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\]"]*))\s*\]'
)


def parse(text: str) -> Selector:
    """The selector that is written ``text``. Raises PlaceError."""
    steps: list[Name | Every | Where] = []
    start = 0
    while start < len(text):
        if text[start] != "/":
            wanted = f"after {text[:start]} a / must follow" if start else "it must start with a /"
            raise PlaceError("place", f"'{text}' is no place: {wanted}, as in /nodes/*/gpus")
        if text.startswith("[", start + 1):
            where, start = _where(text, start + 1)
            steps.append(where)
            continue
        end = text.find("/", start + 1)
        end = len(text) if end < 0 else end
        steps.append(_named(text, text[start + 1 : end]))
        start = end
    if not steps:
        raise PlaceError("place", "an empty place is the whole problem; name a part of it, or use op: merge")
    return tuple(steps)


def _named(text: str, name: str) -> Name | Every:
    if name == "*":
        return Every()
    if not name:
        raise PlaceError("place", f"'{text}' has an empty name between or after its slashes; leave the slash out")
    if re.search(r"~(?![01])", name):
        raise PlaceError("place", f"'{text}' has a ~ that is neither ~0 (for ~) nor ~1 (for /); write ~0")
    if "[" in name:
        raise PlaceError("place", f"'{text}': conditions are a step of their own: write /{name.partition('[')[0]}/[...]")
    return Name(_plain(name))


def _where(text: str, start: int) -> tuple[Where, int]:
    """The conditions from ``start`` on, and where they end."""
    conditions = []
    while text.startswith("[", start):
        found = _CONDITION.match(text, start)
        if found is None:
            raise PlaceError("place", f"'{text}': cannot read the condition {text[start:]}; write it as [field=value] or [field.part>=3]")
        conditions.append(_condition(text, found))
        start = found.end()
    return Where(tuple(conditions)), start


def _condition(text: str, found: re.Match[str]) -> Condition:
    keys = () if found["keys"] == "." else tuple(_unquoted(key) for key in re.findall(_KEY, found["keys"]))
    operator = "=" if found["operator"] == "==" else found["operator"]
    quoted = found["quoted"]
    literal = Literal(found["bare"].strip()) if quoted is None else Literal(_backslashed(quoted), exact=True)
    condition = Condition(keys, operator, literal)
    if operator in _COMPARED and literal.number is None and VALUE not in literal.text:
        raise PlaceError("place", f"'{text}': [{condition.text}] compares with a text; {operator} needs a number")
    return condition


def _unquoted(key: str) -> str:
    return _backslashed(key[1:-1]) if key.startswith('"') else key


def _backslashed(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _plain(name: str) -> str:
    return name.replace("~1", "/").replace("~0", "~")


# ---------------------------------------------------------------- the value of the axis


def uses_value(selector: Selector) -> bool:
    """Whether the axis's value is part of the place."""
    return any(
        VALUE in step.text
        if isinstance(step, Name)
        else isinstance(step, Where) and any(VALUE in one.literal.text for one in step.conditions)
        for step in selector
    )


def with_value(selector: Selector, value: object) -> Selector:
    """The place with the axis's value in it; a text is taken as it is, without wildcards. Raises PlaceError for a list or an object."""
    if isinstance(value, dict | list):
        raise PlaceError("place", "a list or an object cannot be part of a place; use options, each with edits of its own")
    return tuple(_step_with(step, value) for step in selector)


def _step_with(step: Name | Every | Where, value: object) -> Name | Every | Where:
    match step:
        case Name(text):
            return Name(text.replace(VALUE, shown(value)))
        case Where(conditions):
            return Where(tuple(replace(one, literal=_literal_with(one.literal, value)) for one in conditions))
    return step


def _literal_with(literal: Literal, value: object) -> Literal:
    if literal.text == VALUE:
        return Literal(shown(value), exact=isinstance(value, str))
    return Literal(literal.text.replace(VALUE, shown(value)), literal.exact)


# ---------------------------------------------------------------- plain pointers


def pointer(path: Iterable[Step]) -> str:
    """The JSON pointer of a path."""
    return "".join(f"/{step}" if isinstance(step, int) else f"/{step.replace('~', '~0').replace('/', '~1')}" for step in path)


def steps(plain: str) -> list[str]:
    """The steps of a plain JSON pointer."""
    return plain.split("/")[1:] if "~" not in plain else [_plain(step) for step in plain.split("/")[1:]]


def at(document: object, path: Iterable[Step]) -> Any:  # noqa: ANN401  (any JSON value)
    """What stands at a path that is there."""
    found: Any = document
    for step in path:
        found = found[step]
    return found


# ---------------------------------------------------------------- words


def described(value: object) -> str:
    """What a value is, for messages."""
    match value:
        case None:
            return "null"
        case bool():
            return shown(value)
        case int() | float():
            return f"the number {value:.12g}" if isinstance(value, float) else f"the number {value}"
        case str():
            return f"the text '{value[:LONGEST]}'"
        case list():
            return "a list"
    return "an object"


def shown(value: object) -> str:
    """A value as the study file has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return ", ".join(shown(item) for item in value)
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def listed(names: Iterable[str]) -> str:
    """The first names of several, and how many more there are."""
    there = [name[:LONGEST] or "''" for name in names]
    return ", ".join(there[:SHOWN]) + (f" and {len(there) - SHOWN:,} more" if len(there) > SHOWN else "") if there else "none"
