"""The values of an axis: listed, equally spaced, sampled or drawn, each with what it costs and which edits it makes."""

from __future__ import annotations

import difflib
import json
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from optimizer.study.scenarios import draws
from optimizer.study.scenarios.pointers import SHOWN, PlaceError, shown

if TYPE_CHECKING:
    from optimizer.study.schema import Axis, Draw, Range
    from optimizer.study.schema_edits import Edit

EXACT = 2**53  # whole numbers up to here are exact as doubles


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of an axis: as it is shown, as edits use it, its number where it is one, its price, and where its edits stand.

    ``place`` is the pointer of the edits below the axis, ``key`` what tells it from the other choices of the axis.
    """

    shown: Any
    value: Any
    number: float | None
    usd: float
    edits: tuple[Edit, ...]
    place: str
    key: str


def number_of(value: object) -> float | None:
    """The number that a JSON value is; a truth value is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def whole_if_whole(value: float) -> float:
    """The same number, as a whole number where it is one: JSON knows no other difference, and content keys must not see one."""
    return int(value) if isinstance(value, float) and value.is_integer() and -EXACT < value < EXACT else value


def plain(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """A JSON value whose whole numbers are written as such, everywhere in it."""
    match value:
        case float():
            return whole_if_whole(value)
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return {name: plain(item) for name, item in value.items()}
    return value


def text_of(value: object) -> str:
    """A value in one line."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else shown(value)


def is_drawn(axis: Axis) -> bool:
    """Whether its value is that of the replicate."""
    return axis.draw is not None


def size(axis: Axis) -> int:
    """How many values it has in a cartesian product, without listing them; a draw has one a replicate."""
    if axis.values is not None:
        return len(axis.values)
    if axis.options is not None:
        return len(axis.options)
    if axis.range is None:
        return 1
    span = axis.range.most - axis.range.least
    return min(axis.range.steps, int(span) + 1) if axis.range.whole else axis.range.steps


def choices(axis: Axis) -> tuple[Choice, ...]:
    """The values of an axis that is not drawn, in their order."""
    if axis.options is not None:
        return tuple(
            Choice(one.label, None, None, one.usd, one.edits, f"/options/{position}/edits", one.label)
            for position, one in enumerate(axis.options)
        )
    if axis.range is not None:
        return tuple(of_number(axis, value) for value in _spaced(axis.range))
    return tuple(_listed(axis, one) for one in axis.values or ())


def of_number(axis: Axis, value: float) -> Choice:
    """The choice of a ranged or drawn axis that has this value."""
    number = whole_if_whole(value)
    return Choice(number, number, float(number), axis.usd_each * number, axis.edits, "/edits", shown(number))


def _listed(axis: Axis, given: Any) -> Choice:  # noqa: ANN401  (Labelled, or any JSON value)
    from optimizer.study.schema import Labelled

    labelled = isinstance(given, Labelled)
    value = plain(given.value if labelled else given)
    number = number_of(value)
    told = given.label if labelled else (text_of(value) if isinstance(value, dict | list) else value)
    return Choice(told, value, number, axis.usd_each * (number or 0.0), axis.edits, "/edits", text_of(told))


def _spaced(domain: Range) -> list[float]:
    """Equally spaced in exact arithmetic, so that a tenth of the way from 0 to 1 is 0.1."""
    least, most = Fraction(repr(domain.least)), Fraction(repr(domain.most))
    spaced = [least + (most - least) * step / (domain.steps - 1) for step in range(domain.steps)]
    if domain.whole:
        return list(dict.fromkeys(math.floor(value + Fraction(1, 2)) for value in spaced))
    return [float(value) for value in spaced]


# ---------------------------------------------------------------- random values


def drawn(axis: Axis, domain: Draw, seed: int, replicate: int) -> Choice:
    """The value of a replicate."""
    return _drawn_at(axis, domain, draws.uniform(seed, axis.name, "draw", replicate))


def _drawn_at(axis: Axis, domain: Draw, u: float) -> Choice:
    value = draws.quantile(domain, u)
    return of_number(axis, math.floor(value + 0.5) if domain.whole else value)


def sampled(axis: Axis, seed: int, replicate: int, samples: int) -> list[Choice]:
    """The values of a Latin hypercube's samples: one in each of ``samples`` parts of equal probability, in random order."""
    parts = draws.strata(seed, axis.name, replicate, samples).tolist()
    if axis.draw is not None:
        return [_drawn_at(axis, axis.draw, u) for u in parts]
    if axis.range is not None:
        return [of_number(axis, _between(axis.range, u)) for u in parts]
    there = choices(axis)
    return [there[min(int(u * len(there)), len(there) - 1)] for u in parts]


def _between(domain: Range, u: float) -> float:
    """The value at the share ``u`` of a range; every whole number is as likely as any other."""
    if domain.whole:
        return min(math.floor(domain.least + u * (domain.most - domain.least + 1)), domain.most)
    value = float(f"{domain.least + u * (domain.most - domain.least):.{draws.DIGITS}g}")
    return min(max(value, domain.least), domain.most)


# ---------------------------------------------------------------- the choice that somebody names


def named(axis: Axis, wanted: object) -> Choice:
    """The choice whose label or value is ``wanted``; for a range or a draw any finite number will do. Raises PlaceError."""
    if axis.range is not None or axis.draw is not None:
        number = number_of(wanted)
        if number is None or not math.isfinite(number):
            raise PlaceError("unknown_value", f"axis '{axis.name}' has numbers; {text_of(wanted)} is none")
        domain = axis.range or axis.draw
        if domain is not None and domain.whole and not number.is_integer():
            raise PlaceError("unknown_value", f"axis '{axis.name}' has whole numbers; {text_of(wanted)} is none")
        return of_number(axis, number)
    there = choices(axis)
    found = [one for one in there if isinstance(wanted, str) and one.shown == wanted] or [one for one in there if same(one.value, wanted)]
    if found and not (axis.options is not None and wanted is None):
        return found[0]
    names = [one.key for one in there]
    near = difflib.get_close_matches(wanted, names, n=1) if isinstance(wanted, str) else []
    listed = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
    cure = f"did you mean {near[0]}?" if near else f"it has {listed}"
    raise PlaceError("unknown_value", f"axis '{axis.name}' has no value {text_of(wanted)}; {cure}")


def same(first: object, second: object) -> bool:
    """Whether two JSON values are equal: 1 is 1.0, and true is not 1."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(item, second[name]) for name, item in first.items())
    return first == second
