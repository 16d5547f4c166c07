"""What the edits of several axes do together, told as few plain changes of the base problem.

The changes do not tell by which axes, and in which order, they were made: each place has one change, none sets what is there already, and
they come in the order of their pointers. So scenarios that ask the same question have the same content key.
"""

from __future__ import annotations

import contextlib
import copy
import math
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from optimizer.study.rows import Change
from optimizer.study.scenarios.axes import number_of, plain, same, whole_if_whole
from optimizer.study.scenarios.edits import COLUMN
from optimizer.study.scenarios.pointers import Path, PlaceError, at, pointer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optimizer.study.scenarios.edits import Ground, Move

BY_POINTER = attrgetter("pointer")


def combined(ground: Ground, moves: Iterable[Move]) -> tuple[Change, ...]:
    """The changes that moves make, one after another: sets replace, scales and adds go on from what is there, a lost item stays lost.

    Whole numbers are rounded once, at the end, halves up. Raises PlaceError for a number that becomes too large,
    and for a removal inside what got a whole new value, whose positions are not those of the base problem.
    """
    overlay = _Overlay(ground)
    for move in moves:
        overlay.make(move)
    return overlay.changes()


def column_of(ground: Ground, path: Path) -> Path:
    """The list, for an item of a list of numbers, texts or nulls; else the path itself: what one change may be about."""
    if not isinstance(path[-1], int):
        return path
    holder = at(ground.document, path[:-1])
    return path if isinstance(holder[path[-1]], dict | list) else path[:-1]


class _Overlay:
    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._base = ground.document
        self._new: dict[Path, Any] = {}
        self._wholes: set[Path] = set()  # of the new values those that have parts
        self._columns: dict[Path, list[Any]] = {}  # lists of plain values of which many change
        self._added: dict[Path, list[Any]] = {}
        self._gone: set[Path] = set()  # lost items of lists, and fields that are left out

    def make(self, move: Move) -> None:
        if move.op == "remove":
            self._remove(move.path)
        elif move.op == "append":
            self._append(move.path, move.value)
        elif move.items is not None:
            self._make_column(move, move.items)
        elif move.op == "set":
            self._put(move.path, move.value)
        else:
            self._put(move.path, _reckoned(move, self._current(move.path)), has_parts=False)

    def _make_column(self, move: Move, items: tuple[int, ...]) -> None:
        if move.path in self._wholes or self._outer(move.path) is not None:
            for path in move.places:
                self._put(path, move.value if move.op == "set" else _reckoned(move, self._current(path)))
            return
        column = self._column(move.path)
        if move.op == "set":
            for index in items:
                column[index] = move.value
        else:
            for index in items:
                column[index] = _reckoned(move, column[index])

    def _column(self, path: Path) -> list[Any]:
        """The list at a path as it is by now."""
        if path not in self._columns:
            column = self._columns[path] = list(at(self._base, path))
            for known in [one for one in self._new if one[:-1] == path]:
                column[int(known[-1])] = self._new.pop(known)
                self._wholes.discard(known)
        return self._columns[path]

    def _outer(self, path: Path) -> Path | None:
        """The place around ``path`` that has a whole new value."""
        if not self._wholes:
            return None
        return next((path[:length] for length in range(1, len(path)) if path[:length] in self._wholes), None)

    def _current(self, path: Path) -> Any:  # noqa: ANN401  (any JSON value)
        if path in self._new:
            return self._new[path]
        if path[:-1] in self._columns:
            return self._columns[path[:-1]][int(path[-1])]
        outer = self._outer(path)
        if outer is None:
            return at(self._base, path)
        try:
            return at(self._new[outer], path[len(outer) :])
        except (KeyError, IndexError, TypeError):
            return None

    def _put(self, path: Path, value: Any, *, has_parts: bool = True) -> None:  # noqa: ANN401  (any JSON value)
        """Sets a place; ``has_parts``: what is there may be an object or a list, in which something was changed."""
        outer = self._outer(path)
        if outer is not None:
            self._put_inside(outer, path, value)
            return
        if path[:-1] in self._columns:
            self._columns[path[:-1]][int(path[-1])] = value
            return
        if has_parts and isinstance(_there(self._base, path), dict | list):
            self._forget_below(path)
        self._new[path] = value
        if isinstance(path[-1], str):
            self._gone.discard(path)
        if isinstance(value, dict | list):
            self._wholes.add(path)
        else:
            self._wholes.discard(path)

    def _put_inside(self, outer: Path, path: Path, value: Any) -> None:  # noqa: ANN401  (any JSON value)
        whole = self._new[outer] = copy.deepcopy(self._new[outer])
        with contextlib.suppress(KeyError, IndexError, TypeError):  # the new value has no such part: there is nothing to change
            at(whole, path[len(outer) : -1])[path[-1]] = value

    def _remove(self, path: Path) -> None:
        outer = self._outer(path)
        if outer is None:
            self._gone.add(path)
        elif isinstance(path[-1], int):
            raise PlaceError("unclear", f"{pointer(path)} is removed, and {pointer(outer)} gets a whole new value before; do one of them")
        else:
            whole = self._new[outer] = copy.deepcopy(self._new[outer])
            with contextlib.suppress(KeyError, IndexError, TypeError):
                del at(whole, path[len(outer) : -1])[path[-1]]

    def _forget_below(self, path: Path) -> None:
        """What was changed inside a place that gets a whole new value."""
        length = len(path)
        for known in [one for one in self._new if one[:length] == path]:
            del self._new[known]
            self._wholes.discard(known)
        self._gone = {one for one in self._gone if one[:length] != path or one == path}
        for kept in (self._added, self._columns):
            for known in [one for one in kept if one[:length] == path]:
                del kept[known]

    def _append(self, path: Path, items: list[Any]) -> None:
        if path in self._wholes:
            self._new[path] = [*self._new[path], *items]
        else:
            self._added.setdefault(path, []).extend(items)

    def changes(self) -> tuple[Change, ...]:
        """As plain changes, in the order of their pointers."""
        left_out = (path for path in self._gone if not self._is_lost(path[:-1]))
        told = [Change("remove", pointer(path)) for path in left_out if isinstance(path[-1], int) or not self._ground.is_default(path)]
        told += [Change("append", pointer(path), items) for path, items in self._added.items() if items and not self._is_lost(path)]
        columns: dict[Path, dict[int, Any]] = {}
        for path, value in self._new.items():
            if self._gone and self._is_lost(path):
                continue
            there = _there(self._base, path)
            new = _settled(value, there)
            if there is not _NOTHING and same(new, there):
                continue
            if isinstance(path[-1], int) and not isinstance(there, dict | list) and not isinstance(new, dict | list):
                columns.setdefault(path[:-1], {})[path[-1]] = new
            else:
                told.append(Change("set", self._ground.pointer(path), new))
        for path, items in columns.items():
            told += self._told_column(path, items)
        for path, column in self._columns.items():
            if not (self._gone and self._is_lost(path)):
                told += self._told_column(path, _differing(column, at(self._base, path)))
        return tuple(sorted(told, key=BY_POINTER))

    def _is_lost(self, path: Path) -> bool:
        return any(path[:length] in self._gone for length in range(1, len(path) + 1))

    def _told_column(self, path: Path, items: dict[int, Any]) -> list[Change]:
        """Changed items of a list of plain values: one by one, or all of it."""
        there = at(self._base, path)
        if len(items) < COLUMN or 2 * len(items) < len(there) or any(one[:-1] == path for one in self._gone):
            return [Change("set", pointer((*path, index)), value) for index, value in items.items()]
        return [Change("set", pointer(path), [items[index] if index in items else plain(value) for index, value in enumerate(there)])]


def _reckoned(move: Move, now: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """What scaling or adding makes of a value; null is no limit, and stays none."""
    if number_of(now) is None:
        return now
    return now * move.value if move.op == "scale" else now + move.value


def _differing(column: list[Any], there: list[Any]) -> dict[int, Any]:
    """The items of a list that are not what they were, by position."""
    items: dict[int, Any] = {}
    for index, (new, old) in enumerate(zip(column, there, strict=True)):
        if new is old or (type(new) is type(old) is float and new == old):  # most of a long list, told apart in a hurry
            continue
        settled = _settled(new, old)
        if not same(settled, old):
            items[index] = settled
    return items


class _Nothing:
    """What is there where nothing is."""


_NOTHING = _Nothing()


def _there(base: dict[str, Any], path: Path) -> Any:  # noqa: ANN401  (any JSON value)
    try:
        return at(base, path)
    except (KeyError, IndexError):
        return _NOTHING


def _settled(value: Any, there: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """A new value as JSON: whole where the base has a whole number."""
    if not isinstance(value, float):
        return plain(value)
    if not math.isfinite(value):
        raise PlaceError("too_large", "what the axes make of a number together is too large for one; scale it by less")
    return math.floor(value + 0.5) if isinstance(there, int) and not isinstance(there, bool) else whole_if_whole(value)
