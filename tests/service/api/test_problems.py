"""Problems that are kept, named by their content, and patched into children; kinds, and whether a problem is right."""

from __future__ import annotations

import copy
from typing import Any
from unittest.mock import Mock

import pytest

from models.catalogue import kinds
from models.vocabulary import Document
from optimizer.merge_patch import merged
from service.api import intake
from service.api.examples import MPS
from service.documents import problems as documents
from service.documents.problems import read_problem
from tests.service.api.house import House, example, problem

PATCH = {"Content_Type": "application/merge-patch+json"}


def kept(house: House, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = house.post("/v1/problems", {"kind": "placement", "problem": problem(**changes)}).json()
    return found


def test_a_problem_is_kept_once(house: House) -> None:
    first = house.post("/v1/problems", {"kind": "placement", "problem": problem()})
    second = house.post("/v1/problems", {"problem": problem(goals=[]), "kind": "placement"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.headers["location"] == f"/v1/problems/{first.json()['id']}"
    assert second.json() == first.json()
    shown = house.get(first.headers["location"]).json()
    assert kinds()["placement"].problem.model_validate(shown["problem"]) == kinds()["placement"].problem.model_validate(problem())
    assert shown["id"] == first.json()["id"] == house.run()["problem_id"]


def test_a_patch_makes_a_child(house: House) -> None:
    parent = kept(house)
    nodes = [problem()["nodes"][0], problem()["nodes"][0] | {"id": "n2"}]
    found = house.post(f"/v1/problems/{parent['id']}:patch", {"nodes": nodes}, **PATCH)
    child = found.json()
    assert (found.status_code, child["parent"]) == (201, parent["id"])
    assert [node["id"] for node in house.get(f"/v1/problems/{child['id']}").json()["problem"]["nodes"]] == ["n1", "n2"]
    assert house.get(f"/v1/problems/{parent['id']}").json()["problem"]["nodes"][0]["id"] == "n1"
    assert house.post("/v1/runs", {"problem_id": child["id"]}).json()["problem_id"] == child["id"]


def test_a_patch_that_changes_nothing(house: House) -> None:
    parent = kept(house)
    found = house.post(f"/v1/problems/{parent['id']}:patch", {}, **PATCH)
    assert (found.status_code, found.json()["id"], found.json()["parent"]) == (200, parent["id"], None)


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"nodes": None}, "/nodes"),
        ({"nodes": []}, "/nodes"),
        ({"colour": "red"}, "/colour"),
        ({"jobs": [{"id": "j1"}]}, "/jobs/0/gpus_per_worker"),
        ([], ""),
        (7, ""),
    ],
)
def test_a_patch_into_nonsense(patch: Any, pointer: str, house: House) -> None:
    parent = kept(house)
    found = house.post(f"/v1/problems/{parent['id']}:patch", patch, **PATCH)
    assert (found.status_code, found.json()["errors"][0]["pointer"]) == (422, pointer), found.text


@pytest.mark.parametrize("large", [False, True], ids=["inline", "child"])
def test_large_bodies_are_read_in_a_child(large: bool, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same answers."""
    if large:
        for module in (intake, documents):
            monkeypatch.setattr(module, "MOST_INLINE_BYTES", 0)
        monkeypatch.setattr("service.api.problems.MOST_INLINE_BYTES", 0)
        monkeypatch.setattr("service.api.kinds.MOST_INLINE_BYTES", 0)
    wrong = problem()
    wrong["jobs"][0]["gpus_per_worker"] = -1
    refused = house.post("/v1/runs", {"kind": "placement", "problem": wrong}).json()
    assert [(one["pointer"], one["code"]) for one in refused["errors"]] == [("/problem/jobs/0/gpus_per_worker", "greater_than_equal")]
    assert house.post("/v1/runs", {"kind": "nothing", "problem": {}}).json()["errors"][0]["pointer"] == "/kind"
    assert house.run()["problem_id"] == kept(house)["id"]
    child = house.post(f"/v1/problems/{kept(house)['id']}:patch", {"max_evictions": 3}, **PATCH).json()
    assert [one["code"] for one in child["warnings"]] == ["max_evictions_unused"]
    for body, place in ((wrong, ""), ({"problem": wrong}, "/problem")):
        told = house.post("/v1/kinds/placement:validate", body).json()
        assert (told["valid"], told["problem_id"], told["errors"][0]["pointer"]) == (False, None, f"{place}/jobs/0/gpus_per_worker")
    text = house.post("/v1/kinds/program:validate", {"problem": {"format": "mps", "text": MPS}}).json()
    assert text["problem_id"] == house.run(kind="program", problem={"format": "mps", "text": MPS})["problem_id"]
    assert house.post("/v1/runs", b'{"kind": "placement",}').status_code == 400


# ---------------------------------------------------------------- merge patches, by the table of RFC 7396


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    before = copy.deepcopy(target)
    assert merged(target, patch) == result
    assert target == before


# ---------------------------------------------------------------- kinds


def test_the_kinds_are_listed(house: House) -> None:
    assert [one["kind"] for one in house.get("/v1/kinds").json()["kinds"]] == sorted(kinds())


@pytest.mark.parametrize("name", sorted(kinds()))
def test_a_kind_shows_all_there_is_to_know(name: str, house: House) -> None:
    told = house.get(f"/v1/kinds/{name}").json()
    assert (told["kind"], told["summary"]) == (name, kinds()[name].summary)
    assert set(told["schema"]) == {"problem", "plan"}
    assert told["page"].startswith(f"# {name}")
    assert told["example"]["problem"] == example(name) == next(iter(told["examples"].values()))["problem"]
    for one in told["examples"].values():
        assert house.post(f"/v1/kinds/{name}:validate", one).json()["valid"]
    checked = house.post(f"/v1/kinds/{name}:validate", told["example"]["problem"]).json()
    assert (checked["valid"], checked["errors"]) == (True, [])
    assert checked["problem_id"] == house.post("/v1/problems", {"kind": name, "problem": told["example"]["problem"]}).json()["id"]


def test_a_problem_with_warnings_is_valid(house: House) -> None:
    told = house.post("/v1/kinds/placement:validate", problem(max_evictions=3)).json()
    assert (told["valid"], [one["pointer"] for one in told["warnings"]]) == (True, ["/max_evictions"])
    assert house.get("/v1/runs").json()["runs"] == []


# ---------------------------------------------------------------- validating


def places(house: House, kind: str, body: Any) -> list[tuple[str, str]]:
    found = house.post(f"/v1/kinds/{kind}:validate", body)
    assert found.status_code == 200, found.text
    told = found.json()
    assert told["valid"] == (not told["errors"]) == (told["problem_id"] is not None)
    return [(one["pointer"], one["code"]) for one in told["errors"] or told["warnings"]]


@pytest.mark.parametrize("place", ["", "/problem"])
def test_a_problem_is_validated_bare_or_as_in_a_request(place: str, house: House) -> None:
    def sent(**changes: Any) -> Any:
        return {"problem": problem(**changes)} if place else problem(**changes)

    double = problem()["jobs"] * 2
    assert places(house, "placement", sent()) == []
    assert places(house, "placement", sent(max_evictions=3)) == [(f"{place}/max_evictions", "max_evictions_unused")]
    assert places(house, "placement", sent(nodes=[])) == [(f"{place}/nodes", "too_short")]
    assert places(house, "placement", sent(jobs=double)) == [(f"{place}/jobs/1/id", "duplicate_id")]


@pytest.mark.parametrize("place", ["", "/problem"])
def test_a_program_is_validated_as_the_text_of_a_file(place: str, house: House) -> None:
    def sent(**fields: Any) -> Any:
        return {"problem": fields} if place else fields

    assert places(house, "program", sent(format="mps", text=MPS)) == []
    assert places(house, "program", sent(format="nl", text=MPS)) == [(f"{place}/format", "literal_error")]
    [(pointer, code)] = places(house, "program", sent(format="mps", text="lorem ipsum"))
    assert (pointer, code) != (f"{place}/format", "literal_error")
    assert pointer == f"{place}/text"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"problem": 7}, [("/problem", "model_type")]),
        ({"problem": None}, [("/problem", "model_type")]),
        (
            {"problem": {"problem": {}}},
            [("/problem/nodes", "missing"), ("/problem/problem", "extra_forbidden")],
        ),
        ({"format": "mps", "text": MPS}, [("/nodes", "missing"), ("/format", "extra_forbidden"), ("/text", "extra_forbidden")]),
        ({"kind": "placement", "problem": problem()}, [("/kind", "extra_forbidden")]),
        ([], [("", "model_type")]),
    ],
)
def test_what_is_no_problem_is_not_valid(body: Any, found: list[tuple[str, str]], house: House) -> None:
    assert places(house, "placement", body) == found


def test_a_field_of_the_problem_may_be_called_problem() -> None:
    """Then the body is the problem itself, whatever else it looks like."""

    class Riddle(Document):
        problem: str

    kind = Mock(problem=Riddle, has=lambda _: False)
    kind.name = "riddle"
    assert read_problem(kind, b'{"problem": "why"}') == {"place": "", "body": b'{"problem":"why"}', "warnings": []}
