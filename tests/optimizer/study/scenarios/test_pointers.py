"""Places: how they are written, and what they match."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.study.scenarios.matching import matched
from optimizer.study.scenarios.pointers import PlaceError, at, parse, pointer, steps, uses_value, with_value

CLUSTER: dict[str, Any] = {
    "nodes": [
        {"id": "n1", "gpu_model": "A100", "gpus": 8, "topology": {"row": "3", "rack": "r1"}, "labels": {"zone": "a"}, "state": "ready"},
        {"id": "n2", "gpu_model": "A100", "gpus": 4, "topology": {"row": "2", "rack": "r2"}, "labels": {}, "state": "drained"},
        {"id": "n3", "gpu_model": "H100", "gpus": 8, "topology": {"row": "3", "rack": "r2"}, "labels": {"a/b.c": "x"}, "state": "ready"},
        {"id": "n4]=", "gpu_model": None, "gpus": 0, "topology": {"row": None, "rack": "r*"}, "labels": {}, "state": "ready"},
    ],
    "limit": None,
    "share": True,
    "goals": ["cost", "moves"],
    "table": {"id": ["j0", "j1", "j2"], "tenant": ["a", "b", "a"], "weight": [1.0, 2.0, 3.0], "short": [1]},
    "columns": {"upper": [None, 2.0, 5.0]},
}


def places(text: str, value: object = None, *, free: bool = False) -> list[str]:
    selector = parse(text)
    selector = with_value(selector, value) if uses_value(selector) else selector
    return [pointer(one.path) for one in matched(selector, CLUSTER, lambda path: free and "labels" in path)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/limit", ["/limit"]),
        ("/nodes/0/gpus", ["/nodes/0/gpus"]),
        ("/nodes/*/gpus", [f"/nodes/{index}/gpus" for index in range(4)]),
        ("/nodes/[gpu_model=A100][topology.row=3]/gpus", ["/nodes/0/gpus"]),
        ("/nodes/[id=n?]/state", ["/nodes/0/state", "/nodes/1/state", "/nodes/2/state"]),
        ("/nodes/[gpu_model=*100]/state", ["/nodes/0/state", "/nodes/1/state", "/nodes/2/state"]),
        ("/nodes/[gpu_model=null]", ["/nodes/3"]),
        ("/nodes/[gpu_model!=null][gpus<8]", ["/nodes/1"]),
        ("/nodes/[gpus>=8]/topology/row", ["/nodes/0/topology/row", "/nodes/2/topology/row"]),
        ("/nodes/[gpus=8.0]", ["/nodes/0", "/nodes/2"]),
        ("/nodes/[ gpus == 8 ]", ["/nodes/0", "/nodes/2"]),
        ("/nodes/[state!=drained][gpus>0]", ["/nodes/0", "/nodes/2"]),
        ('/nodes/[id="n4]="]', ["/nodes/3"]),
        ("/nodes/[topology.rack=r*]", ["/nodes/0", "/nodes/1", "/nodes/2", "/nodes/3"]),
        ('/nodes/[topology.rack="r*"]', ["/nodes/3"]),
        ('/nodes/[labels."a/b.c"=x]', ["/nodes/2"]),
        ("/nodes/2/labels/a~1b.c", ["/nodes/2/labels/a~1b.c"]),
        ("/nodes/[labels.zone!=a]", ["/nodes/1", "/nodes/2", "/nodes/3"]),
        ("/goals/[.=cost]", ["/goals/0"]),
        ("/columns/upper/[.=null]", ["/columns/upper/0"]),
        ("/columns/upper/[.>2]", ["/columns/upper/2"]),
        ("/table/weight/[tenant=a]", ["/table/weight/0", "/table/weight/2"]),
        ("/table/weight/[id=j1]", ["/table/weight/1"]),
        ("/nodes/0/topology/*", ["/nodes/0/topology/row", "/nodes/0/topology/rack"]),
    ],
)
def test_places_match(text: str, expected: list[str]) -> None:
    assert places(text) == expected


def test_a_list_of_texts_equals_a_text_that_it_has() -> None:
    document = {"tiers": [{"id": "a", "protections": ["encrypted"]}, {"id": "b", "protections": []}]}
    assert [one.path for one in matched(parse("/tiers/[protections=encrypted]"), document, lambda _: False)] == [("tiers", 0)]


def test_the_value_of_the_axis_is_a_text_as_it_is() -> None:
    assert places("/nodes/[topology.rack=$value]", "r*") == ["/nodes/3"]
    assert places("/nodes/[topology.row=$value]", 3) == ["/nodes/0", "/nodes/2"]
    assert places("/nodes/[gpus>=$value]/state", 5) == ["/nodes/0/state", "/nodes/2/state"]
    assert places("/nodes/$value/state", 1) == ["/nodes/1/state"]
    assert places("/nodes/[topology.rack=r$value]/state", 2) == ["/nodes/1/state", "/nodes/2/state"]
    with pytest.raises(PlaceError, match="options"):
        places("/nodes/[id=$value]", ["n1"])


def test_a_new_name_is_made_where_names_are_free() -> None:
    assert places("/nodes/*/labels/zone", free=True) == [f"/nodes/{index}/labels/zone" for index in range(4)]
    assert places("/nodes/*/labels/zone") == ["/nodes/0/labels/zone"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nodes", "must start with a /"),
        ("", "whole problem"),
        ("/", "empty name"),
        ("/nodes//gpus", "empty name"),
        ("/nodes/~2", "neither ~0"),
        ("/nodes[gpus=8]/x", "a step of their own"),
        ("/nodes/[gpus]", "cannot read the condition"),
        ("/nodes/[gpus=8", "cannot read the condition"),
        ("/nodes/[id=a]b", "a / must follow"),
        ("/nodes/[gpu_model>A100]", "needs a number"),
    ],
)
def test_a_place_that_cannot_be_read_says_why(text: str, told: str) -> None:
    with pytest.raises(PlaceError, match=told) as refused:
        parse(text)
    assert refused.value.code == "place"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/node/0", "did you mean 'nodes'"),
        ("/zzz", "there are nodes, limit, share, goals, table, columns"),
        ("/nodes/9", "4 items, no position 9"),
        ("/nodes/n1/gpus", r"did you mean \[id=n1\]"),
        ("/nodes/[gpu_model=A10]", "did you mean A100"),
        ("/nodes/[gpu_model=V9]", "gpu_model there: A100, H100, null"),
        ("/nodes/[gpu_model=H100][topology.row=2]", "of 1 items with gpu_model=H100 in /nodes none has topology.row=2"),
        ("/nodes/[gpu_modle=A100]", "did you mean 'gpu_model'"),
        ("/nodes/[gpu_modle!=A100]", "did you mean 'gpu_model'"),
        ("/nodes/[topology.rwo!=3]", "did you mean 'row'"),
        ("/nodes/[gpus>100]", "gpus there: 8, 4, 0"),
        ("/limit/x", "/limit is null: there is nothing below it"),
        ("/nodes/0/gpus/x", "is the number 8"),
        ("/limit/*", "null"),
        ("/nodes/0/labels/[zone=a]", "conditions select items of a list"),
        ("/nodes/0/gpsu", "did you mean 'gpus'"),
        ("/table/weight/[tennant=a]", "there are id, tenant"),
        ("/goals/[x=cost]", "use \\[.=value\\]"),
    ],
)
def test_a_place_that_matches_nothing_says_what_is_there(text: str, told: str) -> None:
    with pytest.raises(PlaceError, match=told) as refused:
        places(text)
    assert refused.value.code == "matches_nothing"


NAMES = st.text(alphabet='ab~/]=[" *.0', min_size=1, max_size=4)
LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | NAMES
DOCUMENTS = st.dictionaries(
    NAMES,
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12),
    min_size=1,
    max_size=4,
)


def walked(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(one for step, item in below for one in walked(item, (*path, step)))]


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS)
def test_the_pointer_of_every_place_leads_there(document: dict[str, Any]) -> None:
    for path in walked(document)[1:]:
        assert steps(pointer(path)) == [str(step) for step in path]
        if "*" in path or any(isinstance(step, str) and "[" in step for step in path):
            continue  # these are selectors, and no names
        found = matched(parse(pointer(path)), document, lambda _: False)
        assert [one.path for one in found] == [path]
        assert found[0].value is at(document, path)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": NAMES, "n": st.none() | st.integers(0, 5), "on": st.booleans(), "in": st.fixed_dictionaries({"k": LEAVES})}
        ),
        min_size=1,
        max_size=8,
    ),
    st.data(),
)
def test_conditions_agree_with_plain_comparisons(items: list[dict[str, Any]], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, 5))
    name = data.draw(st.sampled_from([item["id"] for item in items]))
    flag = data.draw(st.booleans())
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    cases = {
        f"[n>={number}]": [item["n"] is not None and item["n"] >= number for item in items],
        f"[n<{number}][on={str(flag).lower()}]": [item["n"] is not None and item["n"] < number and item["on"] is flag for item in items],
        "[n=null]": [item["n"] is None for item in items],
        f"[n!={number}]": [item["n"] != number for item in items],
        f'[id="{quoted}"]': [item["id"] == name for item in items],
        f'[id!="{quoted}"]': [item["id"] != name for item in items],
        f'[in.k="{quoted}"]': [item["in"]["k"] == name for item in items],
    }
    for text, holds in cases.items():
        expected = [("items", index) for index, one in enumerate(holds) if one]
        try:
            found = [one.path for one in matched(parse(f"/items/{text}"), {"items": items}, lambda _: False)]
        except PlaceError:
            found = []
        assert found == expected, text
