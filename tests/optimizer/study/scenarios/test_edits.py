"""Edits resolved on a problem: what each does, and what several do together."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, JsonValue

from models.catalogue import kinds
from models.vocabulary import Document
from optimizer.merge_patch import merged
from optimizer.study.rows import Change
from optimizer.study.scenarios.changes import edited
from optimizer.study.scenarios.edits import Dice, EditError, Ground, Move, moves
from optimizer.study.scenarios.overlay import combined
from optimizer.study.scenarios.pointers import at
from optimizer.study.schema import Axis

PLACEMENT = kinds()["placement"].part("examples").examples()["place"]


class Part(Document):
    id: str
    size: int = 1
    price: float | None = None
    labels: dict[str, str] = Field(default_factory=dict)


class Toy(Document):
    """A problem with every sort of place."""

    parts: tuple[Part, ...] = ()
    costs: tuple[float, ...] = ()
    counts: tuple[int | None, ...] = ()
    inner: Part = Part(id="inner")
    limit: float | None = 5.0
    name: str = "toy"


TOY = Toy(
    parts=tuple(Part(id=f"p{index}", size=index, price=index / 2 if index % 2 else None) for index in range(6)),
    costs=tuple(float(index) / 4 for index in range(40)),
    counts=(1, None, 3),
)


def axis(*edits: dict[str, Any], values: list[JsonValue] | None = None) -> Axis:
    return Axis.model_validate({"name": "a", "values": values or [1], "edits": list(edits)})


def changes(edit: dict[str, Any], value: JsonValue = None, problem: Document = TOY, replicate: int = 0) -> tuple[Change, ...]:
    ground = Ground(problem)
    return combined(ground, moves(axis(edit).edits[0], value, ground, Dice(0, "a", replicate)))


def as_set(found: tuple[Change, ...]) -> dict[str, Any]:
    assert all(one.op == "set" for one in found)
    return {one.pointer: one.value for one in found}


def test_a_set_takes_the_value_of_its_axis_and_drops_what_is_there_already() -> None:
    assert as_set(changes({"at": "/parts/[size>=3]/size", "to": "$value"}, 4)) == {"/parts/3/size": 4, "/parts/5/size": 4}
    assert as_set(changes({"at": "/name", "to": "with $value"}, 8.0)) == {"/name": "with 8"}
    assert as_set(changes({"at": "/parts/0/labels/zone", "to": "$value"}, "a")) == {"/parts/0/labels/zone": "a"}
    assert as_set(changes({"at": "/inner", "to": {"id": "$value", "size": 2.0}}, "x")) == {"/inner": {"id": "x", "size": 2}}
    assert changes({"at": "/limit", "to": 5}) == ()
    assert as_set(changes({"at": "/limit", "to": None})) == {"/limit": None}


def test_scales_and_adds_keep_whole_numbers_whole() -> None:
    assert as_set(changes({"op": "scale", "at": "/parts/*/size", "by": 1.5})) == {
        "/parts/1/size": 2,
        "/parts/2/size": 3,
        "/parts/3/size": 5,
        "/parts/4/size": 6,
        "/parts/5/size": 8,
    }
    assert as_set(changes({"op": "add", "at": "/parts/[price!=null]/price", "by": "$value"}, -0.25)) == {
        "/parts/1/price": 0.25,
        "/parts/3/price": 1.25,
        "/parts/5/price": 2.25,
    }


def test_a_whole_column_is_one_change() -> None:
    (found,) = changes({"op": "scale", "at": "/costs/*", "by": 2})
    assert (found.op, found.pointer) == ("set", "/costs")
    assert found.value == [index / 2 for index in range(40)]
    assert len(changes({"op": "scale", "at": "/costs/[.>8]", "by": 2})) == 7
    assert as_set(changes({"op": "add", "at": "/counts/[.!=null]", "by": 1})) == {"/counts/0": 2, "/counts/2": 4}


def test_removing_an_item_loses_it_and_removing_a_field_gives_its_default() -> None:
    assert changes({"op": "remove", "at": "/parts/[size<2]"}) == (Change("remove", "/parts/0"), Change("remove", "/parts/1"))
    assert changes({"op": "remove", "at": "/parts/5/price"}) == (Change("remove", "/parts/5/price"),)
    assert changes({"op": "remove", "at": "/limit"}) == ()  # 5 is the default


def test_copies_are_numbered_and_have_the_merge_patch_in_them() -> None:
    edit = {"op": "copies", "of": "/parts/[id=p3]", "count": "$value", "id": "new-{n}", "merge": {"price": None, "labels": {"k": "v"}}}
    (found,) = changes(edit, 2)
    item = {"id": "new-1", "size": 3, "labels": {"k": "v"}}
    assert found == Change("append", "/parts", [item, item | {"id": "new-2"}])
    assert changes(edit, 0) == ()


def test_a_merge_patch_is_told_as_its_leaves() -> None:
    patch = {"inner": {"size": 4, "price": None, "labels": {"a": "b", "c": None}}, "limit": None, "name": "x"}
    assert changes({"op": "merge", "patch": patch}) == (
        Change("set", "/inner/labels/a", "b"),
        Change("set", "/inner/size", 4),
        Change("set", "/name", "x"),
    )


@pytest.mark.parametrize(
    ("edit", "value", "field", "told"),
    [
        ({"at": "/parts/*/sise", "to": 1}, None, "/at", "did you mean 'size'"),
        ({"at": "/parts/0/size", "to": "$value"}, 2.5, "/to", "whole number"),
        ({"at": "/parts/0/id", "to": "$value"}, 5, "/to", "quotes"),
        ({"at": "/parts/0/size", "to": "5"}, None, "/to", "cannot become the text '5'"),
        ({"at": "/limit", "to": True}, None, "/to", "cannot become true"),
        ({"op": "scale", "at": "/name", "by": 2}, None, "/at", "is the text 'toy': only numbers"),
        ({"op": "scale", "at": "/parts/*/price", "by": 2}, None, "/at", r"/parts/0/price is null.*\[field!=null\]"),
        ({"op": "scale", "at": "/limit", "by": "$value"}, "x", "/by", "needs a number"),
        ({"op": "add", "at": "/parts/0/size", "by": 0.5}, None, "/by", "cannot be added"),
        ({"op": "copies", "of": "/parts/*", "count": 1, "id": "n{n}"}, None, "/of", "matches 6 items"),
        ({"op": "copies", "of": "/costs/0", "count": 1, "id": "n{n}"}, None, "/of", "no item of a list with an id"),
        ({"op": "copies", "of": "/inner", "count": 1, "id": "n{n}"}, None, "/of", "no item of a list"),
        ({"op": "copies", "of": "/parts/0", "count": "$value", "id": "n{n}"}, 1.5, "/count", "whole number from 0"),
        ({"op": "copies", "of": "/parts/0", "count": "$value", "id": "n{n}"}, 1e7, "/count", "whole number from 0"),
        ({"op": "copies", "of": "/parts/0", "count": 3, "id": "p{n}"}, None, "/id", "'p1'"),
        ({"op": "merge", "patch": {}}, None, "/patch", "empty"),
        ({"op": "merge", "patch": {"inner": {"sise": 1}}}, None, "/patch/inner/sise", "did you mean 'size'"),
        ({"op": "merge", "patch": {"inner": {"id": 1}}}, None, "/patch/inner/id", "quotes"),
        ({"at": "/parts/*/size", "to": 1, "pick": {"count": 7}}, None, "/pick/count", "there are 6"),
        ({"at": "/parts/*/size", "to": 1, "pick": {"count": "$value"}}, 1.5, "/pick/count", "whole number"),
        ({"at": "/parts/*/size", "to": 1, "pick": {"share": "$value"}}, 1.5, "/pick/share", "from 0 to 1"),
        ({"at": "/parts/*/size", "to": 1, "pick": {"count": 1, "by": "labels.x"}}, None, "/pick/by", "no field"),
        ({"at": "/limit", "to": 1, "pick": {"count": 1}}, None, "/pick", "in no list"),
    ],
)
def test_an_edit_that_cannot_be_made_says_what_is_wrong(edit: dict[str, Any], value: JsonValue, field: str, told: str) -> None:
    with pytest.raises(EditError, match=told) as refused:
        changes(edit, value)
    assert refused.value.field == field


# ---------------------------------------------------------------- picks


def picked(pick: dict[str, Any], replicate: int = 0, at_places: str = "/parts/*/size") -> set[str]:
    return set(as_set(changes({"at": at_places, "to": 99, "pick": pick}, None, TOY, replicate)))


def test_picks_are_nested_and_differ_between_replicates() -> None:
    for replicate in range(5):
        one, two, three = (picked({"count": count}, replicate) for count in (1, 2, 3))
        assert len(one) == 1
        assert one < two < three
    assert len({frozenset(picked({"count": 2}, replicate)) for replicate in range(20)}) > 5
    assert len(picked({"share": 0.5})) == 3
    assert len(picked({"share": 0.25})) == 2  # 1.5, rounded up
    assert picked({"probability": 0}) == set()
    assert len(picked({"probability": 1})) == 6


def test_two_edits_of_an_axis_pick_the_same_items() -> None:
    ground = Ground(TOY)
    both = axis(
        {"at": "/parts/*/size", "to": 99, "pick": {"count": 2}}, {"at": "/parts/*/labels/lost", "to": "yes", "pick": {"count": 2}}
    ).edits
    first, second = (combined(ground, moves(edit, None, ground, Dice(0, "a", 3))) for edit in both)
    assert [one.pointer.split("/")[2] for one in first] == [one.pointer.split("/")[2] for one in second]


def test_an_item_more_changes_nobody_elses_number() -> None:
    more = TOY.model_copy(update={"parts": (Part(id="other"), *TOY.parts)})
    for replicate in range(10):
        edit = {"at": "/parts/[id!=other]/size", "to": 99, "pick": {"count": 2}}
        ids = {TOY.parts[int(one.pointer.split("/")[2])].id for one in changes(edit, None, TOY, replicate)}
        assert ids == {more.parts[int(one.pointer.split("/")[2])].id for one in changes(edit, None, more, replicate)}


def test_whole_groups_are_picked_by_a_field() -> None:
    nodes = PLACEMENT.nodes
    edit = {"at": "/nodes/*/state", "to": "cordoned", "pick": {"count": 1, "by": "topology.rack"}}
    for replicate in range(5):
        hit = {int(one.pointer.split("/")[2]) for one in changes(edit, None, PLACEMENT, replicate)}
        racks = {nodes[index].topology.rack for index in hit}
        assert len(racks) == 1
        assert hit == {index for index, node in enumerate(nodes) if node.topology.rack in racks}


# ---------------------------------------------------------------- several moves, against a plain implementation


def naively(document: dict[str, Any], made: list[Move]) -> dict[str, Any]:
    """One move after another on a copy; whole numbers of the base are rounded, and lost items left out, at the end."""
    base, document = document, copy.deepcopy(document)
    gone: list[tuple[str | int, ...]] = []
    added: dict[tuple[str | int, ...], list[Any]] = {}
    for move in made:
        for path in move.places:
            if move.op == "remove":
                gone.append(path)
                continue
            if move.op == "append":
                added.setdefault(path, []).extend(move.value)
                continue
            holder, key = at(document, path[:-1]), path[-1]
            if move.op == "set":
                holder[key] = copy.deepcopy(move.value)
                gone = [one for one in gone if one[: len(path)] != path or (one == path and isinstance(key, int))]
            elif holder[key] is not None:
                holder[key] = holder[key] * move.value if move.op == "scale" else holder[key] + move.value

    def finished(value: Any, path: tuple[str | int, ...]) -> Any:
        if isinstance(value, dict):
            return {name: finished(item, (*path, name)) for name, item in value.items() if (*path, name) not in gone}
        if isinstance(value, list):
            kept = [finished(item, (*path, index)) for index, item in enumerate(value) if (*path, index) not in gone]
            return kept + added.get(path, [])
        try:
            was = at(base, path)
        except (KeyError, IndexError):
            return value
        return math.floor(value + 0.5) if isinstance(was, int) and isinstance(value, float) else value

    return finished(document, ())  # type: ignore[no-any-return]


SIZES = st.builds(
    lambda op, index, value: Move(op, ("parts", index, "size"), value),
    st.sampled_from(["set", "scale", "add"]),
    st.integers(0, 5),
    st.integers(0, 3),
)
COSTS = st.builds(
    lambda op, items, value: Move(op, ("costs",), value, tuple(sorted(items))),
    st.sampled_from(["set", "scale", "add"]),
    st.sets(st.integers(0, 39), min_size=1),
    st.sampled_from([0.5, 1.0, 2.0, 3.0]),
)
COST = st.builds(
    lambda op, index, value: Move(op, ("costs", index), value),
    st.sampled_from(["set", "scale", "add"]),
    st.integers(0, 39),
    st.sampled_from([0.5, 1.0, 2.0, 3.0]),
)
WHOLE = st.builds(
    lambda index, size: Move("set", ("parts", index), {"id": f"p{index}", "size": size, "price": 1.0, "labels": {}}),
    st.integers(0, 5),
    st.integers(0, 9),
)
OTHERS = st.sampled_from(
    [
        Move("remove", ("parts", 2)),
        Move("remove", ("parts", 4)),
        Move("remove", ("parts", 1, "price")),
        Move("append", ("parts",), [{"id": "new", "size": 1, "price": None, "labels": {}}]),
        Move("set", ("limit",), None),
        Move("scale", ("limit",), 2.0),
        Move("set", ("parts", 3, "labels", "zone"), "a"),
        Move("set", ("costs",), [1.5] * 40),
    ]
)


@settings(deadline=None, max_examples=200)
@given(st.lists(SIZES | COSTS | COST | WHOLE | OTHERS, max_size=8))
def test_several_moves_are_what_one_after_another_makes(made: list[Move]) -> None:
    ground = Ground(TOY)
    found = combined(ground, made)
    expected = naively(ground.document, made)
    result = edited(ground.document, found)
    for part in expected["parts"] + result["parts"]:
        part.setdefault("price", None)  # a field left out is its default
    assert result == expected
    pointers = [one.pointer for one in found]
    assert pointers == sorted(pointers)
    assert all(one.op != "set" or edited(ground.document, [one]) != ground.document for one in found)


@settings(deadline=None, max_examples=60)
@given(st.lists(SIZES | COST, max_size=6), st.randoms())
def test_moves_of_different_places_make_the_same_changes_in_any_order(made: list[Move], random: Any) -> None:
    apart = list({move.path: move for move in made}.values())
    shuffled = list(apart)
    random.shuffle(shuffled)
    ground = Ground(TOY)
    assert combined(ground, apart) == combined(ground, shuffled)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2),
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from("abc"), JSON), st.dictionaries(st.sampled_from("abc"), JSON))
def test_merge_patches_are_those_of_the_standard(target: dict[str, Any], patch: dict[str, Any]) -> None:
    # As in RFC 7396, section 2, line by line.
    def standard(first: Any, second: Any) -> Any:
        if not isinstance(second, dict):
            return second
        made = dict(first) if isinstance(first, dict) else {}
        for name, value in second.items():
            if value is None:
                made.pop(name, None)
            else:
                made[name] = standard(made.get(name), value)
        return made

    before = copy.deepcopy(target)
    assert merged(target, patch) == standard(target, patch)
    assert target == before
