"""Changes made to a problem: only what they touch is built and validated anew, the rest of the frozen parts are shared.

The cross-checks of the whole problem run every time, so that the outcome is that of validating the edited document from the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from models.contract import ContradictionError, Warned
from models.garbage import collection_paused
from models.vocabulary import Document
from optimizer.study.scenarios.pointers import PlaceError, described, pointer, shown, steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic_core import ErrorDetails

    from optimizer.study.rows import Change

MOST_TOLD = 100  # mistakes of one document
LONGEST = 60  # characters of a value in a message

Problem = TypeVar("Problem", bound=Document)


def applied(problem: Problem, changes: Sequence[Change]) -> Problem:
    """The problem with the changes made in their order, validated; the problem itself where there are none.

    A removed item of a list stays removed, whatever is changed inside it; positions are those before any removal. Raises
    ContradictionError with the places in the changed document, whether a change, a field or the problem as a whole is wrong.
    """
    if not changes:
        return problem
    with collection_paused():
        try:
            return _document(problem, _planned(changes))  # type: ignore[return-value]
        except (ValidationError, PlaceError, ContradictionError):
            return _from_the_start(problem, changes)


def _from_the_start(problem: Problem, changes: Sequence[Change]) -> Problem:
    """The whole changed document validated, which tells every mistake with its place."""
    document = edited(problem.model_dump(mode="json"), changes)
    try:
        return type(problem).model_validate(document)
    except ValidationError as error:
        raise ContradictionError(*told(error)) from None


# ---------------------------------------------------------------- the changes as a tree


class _Spot:
    """What becomes of one place: a new value, nothing (removed), or changes below it and items at the end."""

    __slots__ = ("appended", "below", "has_value", "removed", "value")

    def __init__(self) -> None:
        self.below: dict[str, _Spot] = {}
        self.appended: list[Any] = []
        self.removed = False
        self.has_value = False
        self.value: Any = None


def _planned(changes: Iterable[Change]) -> _Spot:
    root = _Spot()
    for change in changes:
        spot = root
        way = steps(change.pointer)
        for number, step in enumerate(way):
            if spot.has_value:  # a place whose whole value is new: the rest of the way lies in that value
                spot.value = _with(spot.value, way[number:], change)
                break
            spot = spot.below.setdefault(step, _Spot())
        else:
            _take(spot, change)
    return root


def _take(spot: _Spot, change: Change) -> None:
    if change.op == "append":
        if spot.has_value:
            spot.value = _with(spot.value, [], change)
        else:
            spot.appended.extend(change.value)
        return
    spot.below, spot.appended = {}, []
    spot.removed, spot.has_value, spot.value = change.op == "remove", change.op == "set", change.value


def _document(part: Document, spot: _Spot) -> Document:
    """A model of the same class, of its own fields as they are and the changed ones, validated."""
    given = {name: getattr(part, name) for name in part.model_fields_set}
    for step, below in spot.below.items():
        if below.has_value:
            given[step] = below.value
        elif below.removed:
            given.pop(step, None)
        elif step not in type(part).model_fields:
            raise PlaceError("no_such_place", f"there is no field '{step}'")
        else:
            given[step] = _part(getattr(part, step), below)
    return type(part).model_validate(given)


def _part(value: Any, spot: _Spot) -> Any:  # noqa: ANN401  (any part of a problem)
    if isinstance(value, Document) and not spot.appended:
        return _document(value, spot)
    if isinstance(value, tuple | list):
        return _items(value, spot)
    if isinstance(value, dict) and not spot.appended:
        return _mapping(value, spot)
    raise PlaceError("no_such_place", "there is nothing below it")


def _items(items: Sequence[Any], spot: _Spot) -> list[Any]:
    made, gone = list(items), set()
    for step, below in spot.below.items():
        index = _index(step, len(items))
        if below.removed:
            gone.add(index)
        else:
            made[index] = below.value if below.has_value else _part(made[index], below)
    if gone:
        made = [item for index, item in enumerate(made) if index not in gone]
    return made + spot.appended


def _mapping(value: dict[str, Any], spot: _Spot) -> dict[str, Any]:
    made = dict(value)
    for step, below in spot.below.items():
        if below.removed:
            made.pop(step, None)
        else:
            made[step] = below.value if below.has_value else _part(made.get(step), below)
    return made


def _index(step: str, count: int) -> int:
    if not step.isdecimal() or int(step) >= count:
        raise PlaceError("no_such_place", f"the list has {count:,} items, no position '{step}'")
    return int(step)


# ---------------------------------------------------------------- the same on plain JSON


def edited(document: dict[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """A JSON document with the changes made, as ``applied`` makes them; the document itself is left as it is.

    Raises ContradictionError for a place that is not there.
    """
    return _edited(document, _planned(changes), "")  # type: ignore[no-any-return]


def _edited(value: Any, spot: _Spot, place: str) -> Any:  # noqa: ANN401  (any JSON value)
    if isinstance(value, list):
        items = list(value)
        for step, one in spot.below.items():
            try:
                index = _index(step, len(items))
            except PlaceError as error:
                raise ContradictionError(error.at(f"{place}/{step}")) from None
            items[index] = _changed(value[index], one, f"{place}/{step}")
        return [item for item in items if item is not _GONE] + spot.appended
    if not isinstance(value, dict) or spot.appended:
        raise ContradictionError(Warned(place, "no_such_place", f"is {described(value)}: this cannot be changed there"))
    fields = dict(value)
    for step, one in spot.below.items():
        fields[step] = _changed(value.get(step), one, place + pointer((step,)))
    return {name: item for name, item in fields.items() if item is not _GONE}


class _Gone:
    """What a removed place holds until it is left out."""


_GONE = _Gone()


def _changed(value: Any, spot: _Spot, place: str) -> Any:  # noqa: ANN401  (any JSON value)
    if spot.removed:
        return _GONE
    return spot.value if spot.has_value else _edited(value, spot, place)


def _with(value: Any, way: list[str], change: Change) -> Any:  # noqa: ANN401  (any JSON value)
    """A new whole value with one more change inside it."""
    spot = _Spot()
    inner = spot
    for step in way:
        inner = inner.below.setdefault(step, _Spot())
    _take(inner, change)
    return _edited(value, spot, "")


# ---------------------------------------------------------------- mistakes


def told(error: ValidationError) -> tuple[Warned, ...]:
    """What Pydantic found, each with its JSON pointer, a code and a sentence."""
    found: list[Warned] = []
    for detail in error.errors(include_url=False):
        place = pointer(detail["loc"])
        kept = detail.get("ctx", {}).get("error")
        if isinstance(kept, ContradictionError):
            found += [Warned(place + one.pointer, one.code, one.detail) for one in kept.mistakes]
        elif not _is_long_enough(detail):
            found.append(Warned(place, detail["type"], _sentence(detail)))
    return tuple(found[:MOST_TOLD])


def _is_long_enough(detail: ErrorDetails) -> bool:
    """Whether a list is too short only because Pydantic does not count its wrong items, which are told by themselves."""
    given = detail.get("input")
    return detail["type"] == "too_short" and isinstance(given, list | tuple) and len(given) >= detail["ctx"]["min_length"]


def _sentence(detail: ErrorDetails) -> str:
    kept = detail.get("ctx", {}).get("error")
    if detail["type"] == "value_error" and kept is not None:
        return str(kept)
    if detail["type"] in _CURES:
        return _CURES[detail["type"]]
    message = detail["msg"].removeprefix("Input ")
    given = detail.get("input")
    simple = given is None or isinstance(given, str | int | float)
    return f"{message}, not {shown(given)[:LONGEST]}" if simple else message


_CURES = {"missing": "is missing; add it", "extra_forbidden": "is not a known field; leave it out"}
