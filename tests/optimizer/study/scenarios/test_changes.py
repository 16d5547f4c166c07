"""Changes applied with shared parts give what validating the whole changed document gives, mistakes included."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.catalogue import kinds
from models.contract import ContradictionError
from models.vocabulary import Document
from optimizer.study.rows import Change
from optimizer.study.scenarios.changes import applied, edited, told
from optimizer.study.scenarios.pointers import pointer


def all_examples() -> dict[str, Document]:
    return {
        f"{name}-{title}": problem
        for name, kind in kinds().items()
        if kind.has("examples")
        for title, problem in kind.part("examples").examples().items()
    }


EXAMPLES = all_examples()


def place() -> Document:
    return EXAMPLES["placement-place"]


def parts(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    """Every place of a JSON document with what stands there."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(path, value), *(one for step, item in below for one in parts(item, (*path, step)))]


def naively(document: Any, changes: list[Change]) -> Any:
    """Changes made one by one on a copy; removed items of lists are marked, and left out at the end."""
    gone = object()
    document = copy.deepcopy(document)
    for change in changes:
        way = change.pointer.split("/")[1:]
        steps = [step.replace("~1", "/").replace("~0", "~") for step in way]
        holder, lost = document, False
        for step in steps[:-1]:
            holder = holder[int(step)] if isinstance(holder, list) else holder[step]
            lost = lost or holder is gone
            if lost:
                break
        if lost:
            continue
        key: Any = int(steps[-1]) if isinstance(holder, list) else steps[-1]
        if change.op == "append":
            if holder[key] is not gone:
                holder[key] = holder[key] + copy.deepcopy(change.value)
        else:
            holder[key] = gone if change.op == "remove" else copy.deepcopy(change.value)

    def swept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: swept(item) for name, item in value.items() if item is not gone}
        return [swept(item) for item in value if item is not gone] if isinstance(value, list) else value

    return swept(document)


ODD = st.sampled_from([None, True, 0, 1, 2, 7, -1, 0.5, 1e13, "x", "", [], {}, "drained", [1], {"id": "x"}])


@st.composite
def edits(draw: st.DrawFn, document: dict[str, Any]) -> list[Change]:
    everything = parts(document)[1:]
    changes: list[Change] = []
    for _ in range(draw(st.integers(1, 4))):
        path, value = draw(st.sampled_from(everything))
        if any(pointer(path).startswith(one.pointer + "/") or one.pointer.startswith(pointer(path)) for one in changes):
            continue  # what changes do to each other is tested by itself
        op = draw(st.sampled_from(["set", "set", "set", "remove", "append"]))
        if op == "append" and isinstance(value, list) and value:
            changes.append(Change("append", pointer(path), [draw(st.sampled_from(value))]))
        elif op == "remove":
            changes.append(Change("remove", pointer(path)))
        else:
            others = [other for _, other in everything if type(other) is type(value)]
            changes.append(Change("set", pointer(path), draw(ODD | st.sampled_from(others))))
    return changes


@pytest.mark.parametrize("name", EXAMPLES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_applied_is_validation_of_the_edited_document(name: str, data: st.DataObject) -> None:
    problem = EXAMPLES[name]
    document = problem.model_dump(mode="json")
    changes = data.draw(edits(document))
    expected = naively(document, changes)
    assert edited(document, changes) == expected
    assert document == problem.model_dump(mode="json")
    try:
        whole, mistakes = type(problem).model_validate(expected), None
    except ValidationError as error:
        whole, mistakes = None, told(error)
    if whole is None:
        with pytest.raises(ContradictionError) as refused:
            applied(problem, changes)
        assert refused.value.mistakes == mistakes
        assert all(one.detail for one in refused.value.mistakes)
    else:
        made = applied(problem, changes)
        assert made == whole
        assert made.model_dump_json() == whole.model_dump_json()


def test_only_what_is_touched_is_built_anew() -> None:
    problem = place()
    made = applied(problem, [Change("set", "/nodes/1/state", "cordoned")])
    assert made.nodes[1].state == "cordoned"  # type: ignore[attr-defined]
    assert made.nodes[1].topology is problem.nodes[1].topology  # type: ignore[attr-defined]
    assert all(made.nodes[index] is problem.nodes[index] for index in (0, 2, 3))  # type: ignore[attr-defined]
    assert all(one is other for one, other in zip(made.jobs, problem.jobs, strict=True))  # type: ignore[attr-defined]
    assert made.model_fields_set == problem.model_fields_set
    assert applied(problem, []) is problem


def test_later_changes_of_a_place_win_and_lost_items_stay_lost() -> None:
    problem = place()
    node = problem.model_dump(mode="json")["nodes"][0]

    def state(*changes: Change) -> Any:
        return applied(problem, changes).nodes[0].state  # type: ignore[attr-defined]

    first, second = (Change("set", "/nodes/0/state", state) for state in ("cordoned", "ready"))
    whole = Change("set", "/nodes/0", node)
    assert state(first, second) == "ready"
    assert state(first, whole) == "ready"
    assert state(whole, first) == "cordoned"
    ids = [one.id for one in applied(problem, [Change("remove", "/nodes/3"), Change("set", "/nodes/3/state", "ready")]).nodes]  # type: ignore[attr-defined]
    assert ids == [problem.nodes[index].id for index in (0, 1, 2, 4, 5)]  # type: ignore[attr-defined]
    two = applied(problem, [Change("remove", "/nodes/5"), Change("remove", "/nodes/3"), Change("append", "/nodes", [node | {"id": "new"}])])
    assert [one.id for one in two.nodes] == [problem.nodes[index].id for index in (0, 1, 2, 4)] + ["new"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "told_at", "words"),
    [
        (Change("set", "/nodes/0/gpus", 2.5), "/nodes/0/gpus", "2.5"),
        (Change("set", "/nodes/99/gpus", 2), "/nodes/99", "no position '99'"),
        (Change("set", "/nodez/0", 2), "/nodez", "null"),
        (Change("set", "/power_cap_kw/x", 2), "/power_cap_kw", "null"),
        (Change("set", "/nodes/0/state", "asleep"), "/nodes/0/state", "asleep"),
        (Change("set", "/nodes/0/gpsu", 3), "/nodes/0/gpsu", "not a known field"),
        (Change("remove", "/nodes/0/cpu_cores"), "/nodes/0/cpu_cores", "missing"),
        (Change("append", "/use", ["x"]), "/use", "text"),
    ],
)
def test_a_change_that_cannot_be_made_names_its_place(change: Change, told_at: str, words: str) -> None:
    with pytest.raises(ContradictionError, match=words) as refused:
        applied(place(), [change])
    assert refused.value.mistakes[0].pointer == told_at


def test_cross_checks_run_on_the_changed_problem() -> None:
    job = place().jobs[0]  # type: ignore[attr-defined]
    with pytest.raises(ContradictionError) as refused:
        applied(place(), [Change("set", "/jobs/1/id", job.id)])
    assert any(one.pointer.startswith("/jobs/") for one in refused.value.mistakes)


def test_one_number_of_a_long_program() -> None:
    count = 100_000
    schema = kinds()["program"].problem
    columns = {"cost": [1.0] * count, "upper": [1.0] * count}
    problem = schema.model_validate({"columns": columns, "rows": {"upper": [1.0]}})
    made = applied(problem, [Change("set", "/columns/cost/7", 3)])
    assert made.columns.cost[6:9] == (1.0, 3.0, 1.0)  # type: ignore[attr-defined]
    assert made.rows is problem.rows  # type: ignore[attr-defined]


def test_changing_a_document_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ContradictionError, match="/a: is null"):
        edited({"a": None}, [Change("set", "/a/b", 1)])
    assert json.dumps(edited({"a~/b": 1}, [Change("set", "/a~0~1b", 2)])) == '{"a~/b": 2}'
