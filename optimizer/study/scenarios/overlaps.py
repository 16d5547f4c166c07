"""Which axes change the same places, and whether it is clear what they do there together."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.contract import Warned
from optimizer.study.scenarios.axes import text_of
from optimizer.study.scenarios.overlay import column_of
from optimizer.study.scenarios.pointers import Path, pointer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optimizer.study.scenarios.edits import Ground, Move

END = "-"  # of a list, where copies are appended: as in RFC 6901


@dataclass(frozen=True, slots=True)
class Touched:
    """What an axis may do to each place, over all its values.

    Names of operations; of a set the text of the value, where all values of the axis set the same, or what tells it from all others.
    """

    places: dict[Path, frozenset[str]]

    @classmethod
    def by(cls, made: Iterable[tuple[Move, bool]], axis: int) -> Touched:
        """From the moves of an axis; each with whether it is the same for every value."""
        places: dict[Path, set[str]] = {}
        seen: set[tuple[str, int]] = set()
        for move, is_fixed in made:
            done = _told(move, axis, is_fixed=is_fixed)
            if move.items is not None:
                if (done, id(move.items)) in seen:  # the same column for another value
                    continue
                seen.add((done, id(move.items)))
            if move.op == "append" and not move.value:
                continue
            for path in move.places:
                places.setdefault((*path, END) if move.op == "append" else path, set()).add(done)
        return cls({path: frozenset(done) for path, done in places.items()})


def _told(move: Move, axis: int, *, is_fixed: bool) -> str:
    match move.op:
        case "append":
            return f"append {move.value[0]['id'] if move.value else ''}"
        case "remove":
            return "lose" if isinstance(move.path[-1], int) else "set default"
        case "set":
            return f"set {text_of(move.value)}" if is_fixed else f"set by {axis}"
        case _:
            return move.op


def judged(names: Sequence[str], touched: Sequence[Touched]) -> tuple[list[Warned], list[Warned]]:
    """Mistakes, where one axis undoes what an earlier one does, and warnings, where their order decides; one for each pair of axes."""
    mistakes: list[Warned] = []
    warnings: list[Warned] = []
    for first, second in itertools.combinations(range(len(touched)), 2):
        fault, note = _of_pair(touched[first], touched[second])
        who = f"'{names[first]}' and '{names[second]}'"
        if fault:
            mistakes.append(Warned(f"/axes/{second}", "axes_clash", fault.replace("{who}", who).replace("{second}", names[second])))
        elif note:
            warnings.append(Warned(f"/axes/{second}", "axes_in_order", note.replace("{who}", who)))
    return mistakes, warnings


def _of_pair(first: Touched, second: Touched) -> tuple[str, str]:
    note = ""
    for path in first.places.keys() & second.places.keys():
        fault, found = _at_one_place(pointer(path), first.places[path], second.places[path])
        if fault:
            return fault, ""
        note = note or found
    for outer, inner, is_late in ((first, second, False), (second, first, True)):
        for path in _below_a_set(outer, inner):
            if is_late:
                return f"{pointer(path)} is changed by axes {{who}}, and the second sets what it is part of: put '{{second}}' first", ""
            note = note or f"{pointer(path)} is set by one of the axes {{who}} and then changed by the other"
    return "", note


def _below_a_set(outer: Touched, inner: Touched) -> Iterable[Path]:
    """Places of ``inner`` inside one that ``outer`` sets."""
    wholes = {path for path, done in outer.places.items() if any(one.startswith("set") for one in done)}
    shortest = min(map(len, wholes), default=0)
    if not wholes:
        return
    for path in inner.places:
        if any(path[:length] in wholes for length in range(shortest, len(path))):
            yield path


def _at_one_place(place: str, first: frozenset[str], second: frozenset[str]) -> tuple[str, str]:
    """A mistake or a warning about what two axes do at one place."""
    sets, later_sets = ({one for one in done if one.startswith("set")} for done in (first, second))
    counts, later_counts = (done & {"scale", "add"} for done in (first, second))
    if sets and later_sets and len(sets | later_sets) > 1:
        return f"axes {{who}} both set {place}, and only one of them can; make them one axis, or let one scale or add", ""
    if counts and later_sets:
        return (
            f"{place} is changed by axes {{who}}, and the second sets it: put '{{second}}' first, so that the other goes on from there",
            "",
        )
    if {one for one in first & second if one.startswith("append")}:
        return f"axes {{who}} both append items of the same names to {place.removesuffix('/-')}; give their copies different ids", ""
    if (sets and later_counts) or (counts and later_counts and len(counts | later_counts) > 1):
        return "", f"{place} is changed by axes {{who}}, in this order"
    return "", ""


def clusters(touched: Sequence[Touched], ground: Ground) -> list[list[int]]:
    """Axes in groups: those of different groups change nothing in common, so that their changes can be put together as they are."""
    group = list(range(len(touched)))
    owner: dict[Path, int] = {}
    columns = [{path if path[-1] == END else _column(ground, path) for path in one.places} for one in touched]
    for axis, places in enumerate(columns):
        for path in places:
            _join(group, axis, owner.setdefault(path, axis))
    for axis, places in enumerate(columns):
        for path in places:
            for length in range(1, len(path)):
                if path[:length] in owner:
                    _join(group, axis, owner[path[:length]])
    found: dict[int, list[int]] = {}
    for axis in range(len(touched)):
        found.setdefault(_root(group, axis), []).append(axis)
    return list(found.values())


def _column(ground: Ground, path: Path) -> Path:
    return column_of(ground, path)


def _root(group: list[int], axis: int) -> int:
    while group[axis] != axis:
        axis = group[axis]
    return axis


def _join(group: list[int], first: int, second: int) -> None:
    one, other = _root(group, first), _root(group, second)
    if one != other:
        group[max(one, other)] = min(one, other)
