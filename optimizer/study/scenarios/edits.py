"""Edits resolved on the base problem: what each does at which plain place.

Places are looked up in the base problem, whatever other edits do; ``optimizer.study.scenarios.overlay`` says what several edits do
together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from models.vocabulary import Document
from optimizer.merge_patch import merged
from optimizer.study.scenarios import draws
from optimizer.study.scenarios.axes import number_of, plain, text_of
from optimizer.study.scenarios.matching import Found, matched
from optimizer.study.scenarios.pointers import (
    VALUE,
    Name,
    Path,
    PlaceError,
    at,
    described,
    parse,
    pointer,
    uses_value,
    with_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optimizer.study.schema_edits import AddEdit, CopiesEdit, Edit, MergeEdit, Pick, RemoveEdit, ScaleEdit, SetEdit


COLUMN = 16  # places of one list of plain values: from so many on they are moved together


class EditError(ValueError):
    """An edit that cannot be made; ``field`` is the pointer of what is wrong in it, the text says why and has the cure."""

    def __init__(self, field: str, code: str, detail: str) -> None:
        super().__init__(detail)
        self.field, self.code, self.detail = field, code, detail


@dataclass(frozen=True, slots=True)
class Dice:
    """What the random numbers of an axis in a replicate depend on."""

    seed: int
    axis: str
    replicate: int


@dataclass(frozen=True, slots=True)
class Move:
    """What is done at one plain place of the base problem. ``append`` has the new items, ``remove`` no value.

    With ``items`` it is done at these positions of the list at ``path``: one move for many numbers of one column.
    """

    op: Literal["set", "scale", "add", "remove", "append"]
    path: Path
    value: Any = None
    items: tuple[int, ...] | None = None

    @property
    def places(self) -> Iterable[Path]:
        """Where it is done."""
        return (self.path,) if self.items is None else ((*self.path, index) for index in self.items)


@dataclass(frozen=True, slots=True)
class Group:
    """Places that are moved alike: one place, or positions of a list of plain values; ``samples`` has one of each type of value."""

    path: Path
    items: tuple[int, ...] | None
    samples: tuple[Found, ...]


class Ground:
    """The base problem, whole, as the JSON that edits are looked up in, with what was found there."""

    def __init__(self, problem: Document) -> None:
        self.problem = problem
        self._found: dict[tuple[str, str], list[Found]] = {}
        self._groups: dict[int, tuple[Sequence[Found], list[Group]]] = {}
        self._copies: dict[str, list[dict[str, Any]]] = {}
        self._pointers: dict[Path, str] = {}

    @cached_property
    def document(self) -> dict[str, Any]:
        """The problem as JSON, fields with their defaults included."""
        return self.problem.model_dump(mode="json")

    def pointer(self, path: Path) -> str:
        """Its JSON pointer, of which all scenarios share one text."""
        found = self._pointers.get(path)
        if found is None:
            found = self._pointers[path] = pointer(path)
        return found

    def part(self, path: Path) -> Any:  # noqa: ANN401  (any part of a problem)
        """The model, tuple or mapping at a path."""
        found: Any = self.problem
        for step in path:
            found = getattr(found, str(step)) if isinstance(found, Document) else found[step]
        return found

    def is_free(self, path: Path) -> bool:
        """Whether the object at a path takes any name."""
        return isinstance(self.part(path), dict)

    def is_default(self, path: Path) -> bool:
        """Whether a field is what it would be if it were left out."""
        owner, name = self.part(path[:-1]), str(path[-1])
        field = type(owner).model_fields.get(name) if isinstance(owner, Document) else None
        return field is not None and not field.is_required() and field.get_default(call_default_factory=True) == getattr(owner, name)

    def places(self, text: str, value: object) -> list[Found]:
        """What a place matches, for a value of the axis. Raises PlaceError."""
        selector = parse(text)
        key = (text, f"{type(value).__name__} {text_of(value)}" if uses_value(selector) else "")
        if key not in self._found:
            self._found[key] = matched(with_value(selector, value) if key[1] else selector, self.document, self.is_free)
        return self._found[key]

    def groups(self, found: Sequence[Found]) -> list[Group]:
        """The places that ``places`` found, columns taken together."""
        if id(found) not in self._groups:
            self._groups[id(found)] = (found, _grouped(found))  # holding it keeps its id its own
        return self._groups[id(found)][1]

    def copies(self, item: dict[str, Any], merge: dict[str, Any], name: str, count: int) -> list[dict[str, Any]]:
        """The first ``count`` copies; longer and shorter lists share them."""
        made = self._copies.setdefault(text_of([item, merge, name]), [])
        while len(made) < count:
            made.append(merged(item, merge) | {"id": name.replace("{n}", str(len(made) + 1))})
        return made[:count]


def _grouped(found: Iterable[Found]) -> list[Group]:
    """Single places and columns; few places of one list stay single."""
    columns: dict[Path, list[Found]] = {}
    single: list[Found] = []
    for one in found:
        if isinstance(one.path[-1], int) and not isinstance(one.value, dict | list):
            columns.setdefault(one.path[:-1], []).append(one)
        else:
            single.append(one)
    groups = []
    for path, items in columns.items():
        if len(items) < COLUMN:
            single += items
            continue
        samples = tuple({type(one.value): one for one in reversed(items)}.values())
        groups.append(Group(path, tuple(int(one.path[-1]) for one in items), samples))
    return [Group(one.path, None, (one,)) for one in single] + groups


# ---------------------------------------------------------------- one edit


def moves(edit: Edit, value: object, ground: Ground, dice: Dice | None) -> list[Move]:
    """What an edit does at a value of its axis; without ``dice`` at all places that it may pick from. Raises EditError."""
    match edit.op:
        case "set":
            return _set(edit, value, ground, dice)
        case "scale" | "add":
            return _reckoned(edit, value, ground, dice)
        case "remove":
            return [Move("remove", one.path) for one in _places(edit, value, ground, dice)]
        case "copies":
            return _copied(edit, value, ground)
        case "merge":
            return _merged(edit, value, ground)


def _groups(edit: SetEdit | ScaleEdit | AddEdit, value: object, ground: Ground, dice: Dice | None) -> list[Group]:
    found = _places(edit, value, ground, dice)
    return ground.groups(found) if edit.pick is None or dice is None else _grouped(found)


def _places(edit: SetEdit | ScaleEdit | AddEdit | RemoveEdit, value: object, ground: Ground, dice: Dice | None) -> Sequence[Found]:
    try:
        found = ground.places(edit.at, value)
    except PlaceError as error:
        raise EditError("/at", error.code, error.detail) from None
    if edit.pick is None:
        return found
    return _picked(edit.pick, value, found, ground, dice)


def _set(edit: SetEdit, value: object, ground: Ground, dice: Dice | None) -> list[Move]:
    to = plain(substituted(edit.to, value))
    groups = _groups(edit, value, ground, dice)
    for one in (sample for group in groups for sample in group.samples):
        if not one.made and (fault := mismatch(one.value, to)):
            raise EditError("/to", "wrong_type", f"{pointer(one.path)} {fault}")
    return [Move("set", group.path, to, group.items) for group in groups]


def mismatch(there: object, new: object) -> str:
    """What is wrong with a new value in the place of another one, as far as their types tell."""
    is_number, was_number = number_of(new) is not None, number_of(there) is not None
    if isinstance(there, str) and (is_number or isinstance(new, bool)):
        return f"is {described(there)}, and a name or text cannot become {described(new)}; put it in quotes"
    if was_number and isinstance(new, str | bool):
        return f"is {described(there)}, and a number cannot become {described(new)}"
    if isinstance(there, int) and was_number and isinstance(new, float):
        return f"is a whole number ({there}), and {new:.12g} is none; round it, or say whole: true of a range"
    return ""


def _reckoned(edit: ScaleEdit | AddEdit, value: object, ground: Ground, dice: Dice | None) -> list[Move]:
    by = _number(edit.by, value, "/by")
    groups = _groups(edit, value, ground, dice)
    for one in (sample for group in groups for sample in group.samples):
        if number_of(one.value) is None:
            cure = "leave it out with a condition such as [field!=null]" if one.value is None else "name a field that is a number"
            what = f"{pointer(one.path)} is {described(one.value)}: only numbers can be changed by {edit.op}"
            raise EditError("/at", "no_number", f"{what}; {cure}")
        if edit.op == "add" and isinstance(one.value, int) and not by.is_integer():
            raise EditError("/by", "wrong_type", f"{pointer(one.path)} is a whole number, to which {by:.12g} cannot be added; round it")
    return [Move(edit.op, group.path, by, group.items) for group in groups]


def _number(amount: object, value: object, field: str) -> float:
    """The number that an amount of an edit is at a value of the axis."""
    number = number_of(value if amount == VALUE else amount)
    if number is None:
        raise EditError(field, "no_number", f"needs a number, and the value of the axis is {described(value)}; give the axis numbers")
    return number


def _copied(edit: CopiesEdit, value: object, ground: Ground) -> list[Move]:
    from optimizer.study.schema_edits import MOST_COPIES

    try:
        found = ground.places(edit.of, value)
    except PlaceError as error:
        raise EditError("/of", error.code, error.detail) from None
    path, item = found[0].path, found[0].value
    if len(found) > 1:
        raise EditError("/of", "matches_many", f"matches {len(found):,} items, {pointer(path)} first; name one, as in /nodes/[id=...]")
    if not isinstance(path[-1], int) or not isinstance(item, dict) or not isinstance(item.get("id"), str):
        raise EditError("/of", "no_item", f"{pointer(path)} is no item of a list with an id; copies are made of such items only")
    count = _number(edit.count, value, "/count")
    if not (count.is_integer() and 0 <= count <= MOST_COPIES):
        raise EditError("/count", "count", f"must be a whole number from 0 to {MOST_COPIES:,}, not {count:.12g}")
    merge = plain(substituted(edit.merge, value))
    made = ground.copies(item, merge, str(substituted(edit.id, value)), int(count))
    there = {one.get("id") for one in at(ground.document, path[:-1])}
    if double := next((one["id"] for one in made if one["id"] in there), None):
        raise EditError("/id", "id_taken", f"there is an item '{double}' in {pointer(path[:-1])} already; choose another name")
    return [Move("append", path[:-1], made)]


# ---------------------------------------------------------------- merge patches


def _merged(edit: MergeEdit, value: object, ground: Ground) -> list[Move]:
    if not edit.patch:
        raise EditError("/patch", "changes_nothing", "is empty; name what it changes, or leave the edit out")
    return list(_patched(plain(substituted(edit.patch, value)), ground.document, (), ground))


def _patched(patch: Mapping[str, Any], there: Mapping[str, Any], path: Path, ground: Ground) -> Iterable[Move]:
    for name, new in patch.items():
        here = (*path, name)
        if name not in there and not ground.is_free(path):
            try:
                matched(tuple(Name(str(step)) for step in here), ground.document, ground.is_free)
            except PlaceError as error:
                raise EditError(f"/patch{pointer(here)}", error.code, error.detail) from None
        old = there.get(name)
        if new is None:
            if name in there:
                yield Move("remove", here)
        elif isinstance(new, dict) and isinstance(old, dict):
            yield from _patched(new, old, here, ground)
        else:
            if fault := mismatch(old, new):
                raise EditError(f"/patch{pointer(here)}", "wrong_type", fault)
            yield Move("set", here, merged(None, new))


# ---------------------------------------------------------------- the value of the axis


def substituted(given: Any, value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """JSON with the axis's value in the place of ``$value``: itself where a text is nothing else, and its text within a longer one."""
    match given:
        case str():
            return value if given == VALUE else given.replace(VALUE, text_of(value)) if VALUE in given else given
        case list():
            return [substituted(item, value) for item in given]
        case dict():
            return {name: substituted(item, value) for name, item in given.items()}
    return given


def has_value(edit: Edit) -> bool:
    """Whether an edit makes use of the axis's value."""
    return VALUE in edit.model_dump_json()


def places_have_value(edit: Edit) -> bool:
    """Whether what an edit matches depends on the axis's value."""
    place = {"copies": "of", "merge": None}.get(edit.op, "at")
    return place is not None and uses_value(parse(getattr(edit, place)))


# ---------------------------------------------------------------- some of the places


def _picked(pick: Pick, value: object, found: Sequence[Found], ground: Ground, dice: Dice | None) -> Sequence[Found]:
    keys = [_key(one.path, pick, ground) for one in found]
    there = list(dict.fromkeys(keys))
    wanted = _wanted(pick, value, len(there))
    if dice is None:
        return found
    if pick.probability is not None:
        chosen = draws.below(there, wanted, dice.seed, dice.axis, dice.replicate)
    else:
        chosen = draws.ranked(there, dice.seed, dice.axis, dice.replicate)[: int(wanted)]
    names = {there[position] for position in chosen}
    return [one for one, key in zip(found, keys, strict=True) if key in names]


def _wanted(pick: Pick, value: object, there: int) -> float:
    """How many of ``there`` items are picked, or the probability of each."""
    if pick.count is not None:
        count = _number(pick.count, value, "/pick/count")
        if not (count.is_integer() and count >= 0):
            raise EditError("/pick/count", "count", f"must be a whole number of at least 0, not {count:.12g}")
        if count > there:
            raise EditError("/pick/count", "count", f"{count:,.0f} are to be picked, and there are {there:,}; pick fewer, or use share")
        return count
    field = "share" if pick.probability is None else "probability"
    share = _number(pick.share if pick.probability is None else pick.probability, value, f"/pick/{field}")
    if not 0 <= share <= 1:
        raise EditError(f"/pick/{field}", "share", f"must be from 0 to 1, not {share:.12g}")
    # A share of 0.29 of 100 is 28.999999999999996 in doubles.
    return math.floor(round(share * there, 9) + 0.5) if field == "share" else share


def _key(path: Path, pick: Pick, ground: Ground) -> str:
    """What the random number of a place belongs to: the innermost item of a list that holds it, by its id where it has one."""
    last = next((number for number in range(len(path), 0, -1) if isinstance(path[number - 1], int)), 0)
    if not last:
        raise EditError("/pick", "no_item", f"{pointer(path)} is in no list: there is nothing to pick from")
    found: Any = ground.document
    key: list[str] = []
    for step in path[:last]:
        found = found[step]
        name = found.get("id") if isinstance(step, int) and isinstance(found, dict) else None
        key.append(name if isinstance(name, str) else str(step))
    if pick.by is None:
        return pointer(key)
    for part in pick.by.split("."):
        if not isinstance(found, dict) or part not in found:
            raise EditError("/pick/by", "no_such_field", f"{pointer(path[:last])} has no field '{pick.by}'")
        found = found[part]
    return pointer(key) if found is None else f"{pick.by}={text_of(found)}"
