"""The places of a document that a selector matches, or why there are none and what was meant perhaps."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimizer.study.scenarios.pointers import Condition, Every, Name, Path, PlaceError, Selector, Where, described, listed, pointer, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

NEAR = 2_000  # names among which a similar one is looked for


@dataclass(frozen=True, slots=True)
class Found:
    """A place, what is there, and what it is an item of; ``made``: a field that is not there yet."""

    path: Path
    value: Any
    holder: Any = None
    made: bool = False


def matched(selector: Selector, document: Any, is_free: Callable[[Path], bool]) -> list[Found]:  # noqa: ANN401  (any JSON object)
    """The places of a document, in its order; a last field that is not there is made where ``is_free`` says that names are free.

    Raises PlaceError when there is none: it says what is there instead.
    """
    candidates = [Found((), document)]
    for number, step in enumerate(selector):
        is_last = number == len(selector) - 1
        found = [place for one in candidates for place in _next(step, one, is_free if is_last else None)]
        if not found:
            raise PlaceError("matches_nothing", _instead(step, candidates))
        if isinstance(step, Where):
            _refuse_unknown_fields(step, candidates)
        candidates = found
    return candidates


def _next(step: Name | Every | Where, one: Found, is_free: Callable[[Path], bool] | None) -> Iterable[Found]:
    """What a step leads to from a place; ``is_free`` for the last step."""
    if isinstance(step, Name):
        return _named(step.text, one, is_free)
    if isinstance(step, Where):
        return _where(step.conditions, one)
    if isinstance(one.value, dict):
        return [Found((*one.path, name), item, one.value) for name, item in one.value.items()]
    return [Found((*one.path, index), item, one.value) for index, item in enumerate(one.value)] if isinstance(one.value, list) else []


def _named(name: str, one: Found, is_free: Callable[[Path], bool] | None) -> Iterable[Found]:
    if isinstance(one.value, list):
        is_position = re.fullmatch(r"0|[1-9]\d*", name) is not None and int(name) < len(one.value)
        return [Found((*one.path, int(name)), one.value[int(name)], one.value)] if is_position else []
    if not isinstance(one.value, dict):
        return []
    if name in one.value:
        return [Found((*one.path, name), one.value[name], one.value)]
    return [Found((*one.path, name), None, one.value, made=True)] if is_free is not None and is_free(one.path) else []


def _where(conditions: Sequence[Condition], one: Found) -> Iterable[Found]:
    if not isinstance(one.value, list):
        return []
    return [
        Found((*one.path, index), item, one.value)
        for index, item in enumerate(one.value)
        if all(condition.holds(_looked_up(condition.keys, item, index, one)) for condition in conditions)
    ]


class _Absent:
    """What a condition looks at is not there."""


_ABSENT = _Absent()


def _looked_up(keys: tuple[str, ...], item: object, index: int, of: Found) -> object:
    """What a condition on an item of a list looks at: a field of it, or another column of its table."""
    if not keys:
        return item
    if not isinstance(item, dict):
        column = of.holder.get(keys[0]) if isinstance(of.holder, dict) else None
        return column[index] if isinstance(column, list) and len(column) == len(of.value) else _ABSENT
    found: Any = item
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            return None if found is None else _ABSENT
        found = found[key]
    return found


# ---------------------------------------------------------------- what to say when nothing matches


def _instead(step: Name | Every | Where, candidates: Sequence[Found]) -> str:
    """Why a step finds nothing below the candidates, and what was meant perhaps."""
    first = next((one for one in candidates if isinstance(one.value, dict | list)), candidates[0])
    place = pointer(first.path) or "the problem"
    if not isinstance(first.value, dict | list):
        return f"{place} is {described(first.value)}: there is nothing below it" + _null_cure(first.value)
    if isinstance(step, Every):
        return f"{place} is empty: there is nothing to match"
    if isinstance(step, Name):
        return f"{place} {_no_name(step.text, first.value)}"
    if isinstance(first.value, dict):
        return f"{place} is an object: conditions select items of a list; name a field: {listed(first.value)}"
    return _no_item(step.conditions, [one for one in candidates if isinstance(one.value, list)])


def _null_cure(value: object) -> str:
    return "; set the whole of it, or use op: merge" if value is None else ""


def _no_name(name: str, value: dict[str, Any] | list[Any]) -> str:
    if isinstance(value, dict):
        near = difflib.get_close_matches(name, value, n=1, cutoff=0.6)
        return f"has no field '{name}'; " + (f"did you mean '{near[0]}'?" if near else f"there are {listed(value)}")
    count = f"has {len(value):,} item{'s' if len(value) != 1 else ''}"
    if name.isdigit():
        return f"{count}, no position {name}; positions count from 0"
    ids = [item["id"] for item in value if isinstance(item, dict) and isinstance(item.get("id"), str)]
    near = [name] if name in ids else difflib.get_close_matches(name, ids[:NEAR], n=1)
    return f"{count} and no names; did you mean [id={near[0]}]?" if near else f"{count}; select them with *, a position or [field=value]"


def _no_item(conditions: tuple[Condition, ...], lists: Sequence[Found]) -> str:
    """Says after which condition nothing is left, and what there is."""
    place = pointer(lists[0].path)
    items = [(item, index, one) for one in lists for index, item in enumerate(one.value)]
    if not items:
        return f"{place} is empty: there is nothing to match"
    met: list[str] = []
    for condition in conditions:
        values = [_looked_up(condition.keys, *item) for item in items]
        left = [item for item, value in zip(items, values, strict=True) if condition.holds(value)]
        if not left:
            among = f"of {len(items):,} items" + (f" with {' and '.join(met)}" if met else "")
            return f"{among} in {place} none has {condition.text}; {_there_are(condition, values, items[0])}"
        items = left
        met.append(condition.text)
    return f"no item in {place} has {' and '.join(met)}"


def _there_are(condition: Condition, values: Sequence[object], sample: tuple[Any, int, Found]) -> str:
    there = list(dict.fromkeys(shown(value) for value in values if not isinstance(value, _Absent | dict)))
    if not there:
        return _unknown_field(condition.keys, sample)
    near = difflib.get_close_matches(condition.literal.text, there[:NEAR], n=1)
    name = ".".join(condition.keys) or "its values"
    return f"did you mean {near[0]}?" if near else f"{name} there: {listed(there)}"


def _unknown_field(keys: tuple[str, ...], sample: tuple[Any, int, Found]) -> str:
    """Which field of the sample was meant."""
    found, _, of = sample
    if not isinstance(found, dict):
        beside = of.holder if isinstance(of.holder, dict) else {}
        there = [
            name for name, column in beside.items() if isinstance(column, list) and column is not of.value and len(column) == len(of.value)
        ]
        cure = f"there are {listed(there)}" if there else "use [.=value] for the item itself"
        return f"there is no column '{keys[0]}' beside it; {cure}"
    for key in keys:
        if not isinstance(found, dict):
            return f"there is nothing below {described(found)}"
        if key not in found:
            near = difflib.get_close_matches(key, found, n=1, cutoff=0.6)
            return f"there is no field '{key}'; " + (f"did you mean '{near[0]}'?" if near else f"there are {listed(found)}")
        found = found[key]
    return f"it is {described(found)}"


def _refuse_unknown_fields(where: Where, candidates: Sequence[Found]) -> None:
    """A field that no item has must not make a negation match everything. Raises PlaceError."""
    for condition in where.conditions:
        if condition.operator != "!=":
            continue
        items = [(item, index, one) for one in candidates if isinstance(one.value, list) for index, item in enumerate(one.value)]
        if all(isinstance(_looked_up(condition.keys, *item), _Absent) for item in items):
            raise PlaceError("matches_nothing", f"[{condition.text}]: {_unknown_field(condition.keys, items[0])}")
