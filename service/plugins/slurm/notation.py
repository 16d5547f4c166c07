"""Slurm's own notations: numbers, host lists, generic resources, sizes, constraints. Versions 22.05 to 24.x write them differently."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

MIB_PER = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}
MOST_NAMES = 100_000  # of one range: beyond it the text is no list of hosts
MOST_FIELDS = 3  # of a generic resource: its name, its type, how many
_RANGED = re.compile(r"^(?P<head>[^\[\]]*)\[(?P<ranges>[0-9,\-]+)\](?P<tail>.*)$")
_TERM = re.compile(r"\s*([()&|,]|[^()&|,\s]+)")


class NotationError(ValueError):
    """A text that is not in the notation; the message quotes it."""


def number(value: Any, otherwise: float | None = None) -> float | None:  # noqa: ANN401  (what JSON may hold)
    """The number in ``5``, ``"5"`` or ``{"set": true, "infinite": false, "number": 5}``; infinity where it says so, else ``otherwise``."""
    if isinstance(value, dict):
        if value.get("infinite") is True:
            return math.inf
        return otherwise if value.get("set") is False else number(value.get("number"), otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return otherwise
    try:
        return float(value)
    except ValueError:
        return otherwise


def whole(value: Any, otherwise: int = 0) -> int:  # noqa: ANN401  (what JSON may hold)
    """As ``number``, a whole one; ``otherwise`` where there is none or it is infinite."""
    found = number(value)
    return otherwise if found is None or not math.isfinite(found) else int(found)


def words(value: Any) -> tuple[str, ...]:  # noqa: ANN401  (what JSON may hold)
    """The parts of ``"a,b"``, of ``["a", "b"]``, of nothing; one word of a string that holds no comma."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip() and part.strip() not in {"(null)", "N/A"})
    if isinstance(value, list | tuple):
        return tuple(part for one in value for part in words(one))
    return ()


def text(value: Any) -> str:  # noqa: ANN401  (what JSON may hold)
    """A string, empty where there is none; of a list its parts, joined by commas."""
    if isinstance(value, str):
        return "" if value in {"(null)", "N/A"} else value
    return ",".join(words(value))


def hosts(listed: Any) -> tuple[str, ...]:  # noqa: ANN401  (what JSON may hold)
    """The names in ``gpu[1-3,07],login``, in their order. Raises NotationError."""
    names: list[str] = []
    for part in _outside_brackets(text(listed)):
        names += _expanded(part)
        if len(names) > MOST_NAMES:
            raise NotationError(f"'{part}' names more than {MOST_NAMES:,} hosts")
    return tuple(names)


def _outside_brackets(listed: str) -> list[str]:
    """The parts between the commas that stand in no bracket, none within parentheses either."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(listed):
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            parts.append(listed[start:at])
            start = at + 1
    return [part.strip() for part in [*parts, listed[start:]] if part.strip()]


def _expanded(part: str) -> list[str]:
    found = _RANGED.match(part)
    if found is None:
        if "[" in part or "]" in part:
            raise NotationError(f"'{part}' is no list of hosts")
        return [part]
    tails = _expanded(found["tail"]) if found["tail"] else [""]
    return [f"{found['head']}{item}{tail}" for item in _ranged(found["ranges"]) for tail in tails]


def _ranged(ranges: str) -> list[str]:
    """The numbers in ``1-3,07``, as wide as they are written."""
    items: list[str] = []
    for piece in ranges.split(","):
        first, dash, last = piece.partition("-")
        if not (first.isdigit() and (last.isdigit() if dash else True)):
            raise NotationError(f"'[{ranges}]' is no list of numbers")
        low, high = int(first), int(last or first)
        if high < low or high - low >= MOST_NAMES:
            raise NotationError(f"'[{ranges}]' is no list of numbers")
        items += [f"{at:0{len(first)}d}" for at in range(low, high + 1)]
    return items


def indices(listed: str) -> tuple[int, ...]:
    """The numbers in ``0-2,7``. Raises NotationError."""
    return tuple(int(item) for item in _ranged(listed)) if listed else ()


def task_ids(listed: str) -> tuple[tuple[int, ...], int | None]:
    """The tasks in an array's ``1-9:2,12%3`` and how many may run at once (None: all). What ``...`` leaves out is left out here."""
    ids, _, most = listed.strip("[]").partition("%")
    found: list[int] = []
    for piece in ids.split(","):
        bounds, _, step = piece.strip().partition(":")
        first, _, last = bounds.partition("-")
        if first.isdigit() and (not last or last.isdigit()):
            found += range(int(first), min(int(last or first), int(first) + MOST_NAMES) + 1, max(int(step), 1) if step.isdigit() else 1)
    return tuple(found), int(most) if most.isdigit() else None


@dataclass(frozen=True, slots=True)
class Gres:
    """So many of one generic resource: ``gpu:h100:8(IDX:0-7)``. ``at`` are indices, or None where none are told."""

    name: str
    kind: str | None
    count: float
    at: tuple[int, ...] | None = None


def gres(listed: Any) -> tuple[Gres, ...]:  # noqa: ANN401  (what JSON may hold)
    """The parts of a list of generic resources, in the spelling of any version. Raises NotationError."""
    whole_list = text(listed) if not isinstance(listed, list) else ",".join(text(one) for one in listed)
    return tuple(_one_gres(part) for part in _outside_brackets(whole_list) if part not in {"(null)", "N/A"})


def _one_gres(part: str) -> Gres:
    """``gpu:8``, ``gres:gpu:h100:8(S:0-1)``, ``gres/gpu:h100=8``, ``gpu:h100:2(IDX:0,3)``, ``gpu``."""
    plain, _, detail = part.partition("(")
    fields = [field for field in re.split(r"[:=]", re.sub(r"^gres[:/]", "", plain)) if field]
    if not fields or len(fields) > MOST_FIELDS:
        raise NotationError(f"'{part}' is no generic resource")
    count = _count(fields.pop()) if len(fields) > 1 and _COUNT.match(fields[-1]) else 1.0
    inside = detail.rstrip(")")
    at = indices(inside.removeprefix("IDX:")) if inside.startswith("IDX:") and "N/A" not in inside else None
    return Gres(fields[0], fields[1] if len(fields) > 1 else None, count, at)


_COUNT = re.compile(r"^\d+(\.\d+)?[KMGTP]?$", re.IGNORECASE)


def _count(written: str) -> float:
    scale = {"K": 1024.0, "M": 1024.0**2, "G": 1024.0**3, "T": 1024.0**4, "P": 1024.0**5}.get(written[-1].upper())
    return float(written) if scale is None else float(written[:-1]) * scale


def tres(listed: Any) -> dict[str, float]:  # noqa: ANN401  (what JSON may hold)
    """``cpu=8,mem=2G,node=2,gres/gpu=16`` as numbers; ``mem`` in MiB. What cannot be read is left out."""
    found = {}
    for part in words(listed):
        name, _, amount = part.partition("=")
        if _COUNT.match(amount):
            found[name] = mib(amount) if name == "mem" else _count(amount)
    return found


def mib(written: str) -> float:
    """``512``, ``512M``, ``1.5G`` in MiB. Raises NotationError."""
    if not _COUNT.match(written):
        raise NotationError(f"'{written}' is no amount of memory")
    unit = written[-1].upper()
    return float(written[:-1]) * MIB_PER[unit] if unit in MIB_PER else float(written)


def satisfies(constraint: str, features: AbstractSet[str]) -> bool:
    """Whether a node of these features meets a constraint of names, ``&``, ``,`` (as ``&``), ``|`` and parentheses.

    ``&`` and ``|`` bind alike and are read from left to right, as Slurm does. Raises NotationError for counts
    (``a*2``) and for brackets (``[a|b]``: all nodes alike), which no single node can meet.
    """
    if any(letter in constraint for letter in "[]*"):
        raise NotationError(f"the constraint '{constraint}' speaks of several nodes at once")
    rest = [found.group(1) for found in _TERM.finditer(constraint)]
    met = _met(rest, features)
    if rest:
        raise NotationError(f"the constraint '{constraint}' cannot be read")
    return met


def _met(rest: list[str], features: AbstractSet[str]) -> bool:
    """Takes one expression off the front of ``rest``."""
    met = _met_one(rest, features)
    while rest and rest[0] in {"&", ",", "|"}:
        operator, right = rest.pop(0), _met_one(rest, features)
        met = (met or right) if operator == "|" else (met and right)
    return met


def _met_one(rest: list[str], features: AbstractSet[str]) -> bool:
    if not rest or rest[0] in {")", "&", "|", ","}:
        raise NotationError("a constraint ends too early")
    first = rest.pop(0)
    if first != "(":
        return first in features
    met = _met(rest, features)
    if not rest or rest.pop(0) != ")":
        raise NotationError("a constraint lacks a closing parenthesis")
    return met


def joined(names: Iterable[str]) -> str:
    """Names as a list of hosts that every version reads."""
    return ",".join(names)
