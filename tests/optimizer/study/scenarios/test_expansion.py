"""All scenarios of a study: their order, their changes, and what is refused before anything runs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from models.catalogue import kinds
from models.contract import ContradictionError
from optimizer.limits import Limits
from optimizer.study.rows import Scenario, scenario_key
from optimizer.study.scenarios import axes
from optimizer.study.scenarios.expansion import applied, expanded, warned
from optimizer.study.schema import Study, read

BASE = kinds()["placement"].part("examples").examples()["place"]

BUY = {
    "name": "buy",
    "values": [0, 1, 2],
    "usd_each": 1000,
    "edits": [{"op": "copies", "of": "/nodes/[id=r1-n1]", "count": "$value", "id": "new-{n}"}],
}
LOSE = {
    "name": "lose",
    "options": [
        {"label": "nothing"},
        {"label": "n2 of row 2", "usd": -5, "edits": [{"at": "/nodes/[id=r2-n2]/state", "to": "cordoned"}]},
        {"label": "row 3", "edits": [{"op": "remove", "at": "/nodes/[id=r3-*]"}]},
    ],
}
GROWTH = {
    "name": "growth",
    "draw": {"distribution": "lognormal", "mean": 1.1, "deviation": 0.2},
    "edits": [{"op": "scale", "at": "/jobs/*/value", "by": "$value"}],
}
FAIL = {
    "name": "fail",
    "values": [0, 1, 2],
    "edits": [{"at": "/nodes/*/state", "to": "cordoned", "pick": {"count": "$value"}}],
}


def study(*given: dict[str, Any], kind: str = "placement", **fields: Any) -> Study:
    return read({"name": "s", "kind": kind, "base": {"file": "p.yaml"}, "axes": list(given), **fields})


def scenarios(*given: dict[str, Any], **fields: Any) -> tuple[Scenario, ...]:
    return expanded(study(*given, **fields), BASE)


def mistakes(*given: dict[str, Any], **fields: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(ContradictionError) as error:
        scenarios(*given, **fields)
    return [(one.pointer, one.code, one.detail) for one in error.value.mistakes]


def test_every_combination_comes_once_after_its_baseline() -> None:
    found = scenarios(BUY, LOSE, seed=5)
    assert [one.id for one in found] == [
        "baseline",
        *(f"buy={buy},lose={lose}" for buy in (0, 1, 2) for lose in ("nothing", "n2-of-row-2", "row-3")),
    ]
    assert found == scenarios(BUY, LOSE, seed=5)
    baseline, middle = found[0], found[5]
    assert (baseline.is_baseline, baseline.changes, baseline.values, baseline.seed) == (True, (), {}, 5)
    assert middle.values == {"buy": 1, "lose": "n2 of row 2"}
    assert middle.numbers == {"buy": 1.0, "lose": None}
    assert middle.spend_usd == 995
    assert [(one.op, one.pointer) for one in middle.changes] == [("append", "/nodes"), ("set", "/nodes/3/state")]
    assert [one.id for one in found if one.is_baseline] == ["baseline"]
    assert len(applied(BASE, found[9].changes).nodes) == len(BASE.nodes) + 2 - 2


def test_a_named_baseline_takes_the_place_of_its_combination() -> None:
    found = scenarios(BUY, LOSE, baseline={"buy": 1, "lose": "nothing"})
    assert len(found) == 9
    assert found[0].id == "baseline"
    assert found[0].values == {"buy": 1, "lose": "nothing"}
    assert "buy=1,lose=nothing" not in {one.id for one in found}
    beside = scenarios(BUY, LOSE, baseline={"buy": 1})
    assert len(beside) == 10
    assert beside[0].values == {"buy": 1}


def test_no_axis_leaves_the_base_problem() -> None:
    (only,) = scenarios()
    assert (only.id, only.is_baseline, only.changes) == ("baseline", True, ())


def test_zipped_axes_go_together() -> None:
    found = scenarios(BUY, FAIL, GROWTH, combine={"how": "zip"})
    assert [dict(list(one.values.items())[:2]) for one in found[1:]] == [{"buy": value, "fail": value} for value in (0, 1, 2)]
    assert len({one.values["growth"] for one in found}) == 1


def test_draws_and_picks_are_common_to_all_scenarios_of_a_replicate() -> None:
    found = scenarios(BUY, FAIL, GROWTH, replicates=4, seed=3)
    assert len(found) == 4 * (1 + 9)
    for replicate in range(4):
        mine = [one for one in found if one.replicate == replicate]
        assert mine[0].is_baseline
        assert len({one.seed for one in mine}) == 1
        assert len({one.values["growth"] for one in mine}) == 1
        hit = {
            (one.values["buy"], one.values["fail"]): {change.pointer for change in one.changes if change.pointer.endswith("state")}
            for one in mine[1:]
        }
        for buy, other in itertools.product((0, 1, 2), repeat=2):
            assert hit[buy, 1] == hit[other, 1] < hit[buy, 2] == hit[other, 2]
    assert found[0].seed == 3
    assert len({one.values["growth"] for one in found}) == 4
    assert [one.id for one in found[10:12]] == ["baseline@1", "buy=0,fail=0@1"]


def test_an_axis_a_value_or_a_replicate_more_changes_no_draw() -> None:
    def told(found: tuple[Scenario, ...]) -> dict[tuple[int, int], tuple[Any, Any, int]]:
        return {
            (one.replicate, one.values["fail"]): (one.values["growth"], [c for c in one.changes if c.pointer.endswith("state")], one.seed)
            for one in found
            if one.values.get("buy", 0) == 0 and "fail" in one.values
        }

    small = told(scenarios(GROWTH, FAIL, replicates=2))
    large = told(scenarios(BUY, FAIL | {"values": [0, 3, 1, 2]}, GROWTH, replicates=5))
    assert len(small) == 6
    assert small == {place: large[place] for place in small}


def test_the_baseline_has_the_draws_of_its_replicate() -> None:
    found = scenarios(BUY, GROWTH, replicates=2)
    assert [one.values["growth"] for one in found if one.is_baseline] == [
        one.values["growth"] for one in found if one.values.get("buy") == 0
    ]
    fixed = scenarios(BUY, GROWTH, replicates=2, baseline={"growth": 1})
    assert [(one.values, one.changes) for one in fixed if one.is_baseline] == [({"growth": 1}, ())] * 2
    alone = scenarios(GROWTH, replicates=3)
    assert [one.id for one in alone] == ["baseline", "drawn", "baseline@1", "drawn@1", "baseline@2", "drawn@2"]
    assert all(one.values == {} and one.changes == () for one in alone[::2])


def test_a_latin_hypercube_takes_each_value_equally_often() -> None:
    price = {
        "name": "price",
        "range": {"least": 0, "most": 10, "whole": True},
        "edits": [{"op": "add", "at": "/jobs/0/value", "by": "$value"}],
    }
    found = scenarios(FAIL, price, GROWTH, combine={"how": "latin_hypercube", "samples": 33}, replicates=2)
    assert [one.id for one in found[:2]] == ["baseline", "sample-1"]
    assert found[0].changes == ()
    for replicate in range(2):
        mine = [one for one in found if one.replicate == replicate and not one.is_baseline]
        assert sorted(one.values["fail"] for one in mine) == [0] * 11 + [1] * 11 + [2] * 11
        assert sorted(one.values["price"] for one in mine) == sorted(list(range(11)) * 3)
        assert len({one.values["growth"] for one in mine}) == 33
    assert [one.values["fail"] for one in found[1:34]] != [one.values["fail"] for one in found[35:]]


def test_a_content_key_says_what_changes_and_not_how_it_was_asked() -> None:
    def keys(*given: dict[str, Any], **fields: Any) -> list[str]:
        return [scenario_key("base", one.changes, Limits(), "1") for one in scenarios(*given, **fields)]

    assert sorted(keys(BUY, LOSE)) == sorted(keys(LOSE, BUY | {"name": "other"}))
    first, *others = keys(BUY)
    assert others[0] == first  # none is bought
    cordon = {"name": "a", "values": ["cordoned"], "edits": [{"at": "/nodes/3/state", "to": "$value"}]}
    merge = {"name": "b", "values": [1.0, 1], "edits": [{"op": "set", "at": "/power_cap_kw", "to": "$value"}]}
    assert keys(cordon)[1] == keys(LOSE)[2]
    assert keys(merge | {"values": [100.0]})[1] == keys(merge | {"values": [100]})[1]


def test_scales_of_two_axes_multiply_and_round_once() -> None:
    def scale(name: str, *by: float, op: str = "scale") -> dict[str, Any]:
        return {"name": name, "values": list(by), "edits": [{"op": op, "at": "/jobs/0/value", "by": "$value"}]}

    value = BASE.jobs[0].value
    found = scenarios(scale("a", 1.5), scale("b", 2))
    assert applied(BASE, found[1].changes).jobs[0].value == pytest.approx(value * 3)
    whole = {"name": "c", "values": [3], "edits": [{"at": "/jobs/0/value", "to": "$value"}]}
    then = study(whole, scale("a", 1.5))
    assert applied(BASE, expanded(then, BASE)[1].changes).jobs[0].value == 4.5
    assert [one.pointer for one in warned(then, BASE)] == ["/axes/1"]
    assert "in this order" in warned(study(scale("a", 2), scale("b", 1, op="add")), BASE)[0].detail
    assert warned(study(BUY, LOSE | {"chosen": False}, GROWTH, replicates=3), BASE) == ()


def test_what_is_often_not_meant_is_told() -> None:
    codes = [(one.pointer, one.code) for one in warned(study(BUY, LOSE, GROWTH), BASE)]
    assert codes == [("/replicates", "drawn_once"), ("/axes/1/chosen", "maybe_a_circumstance")]
    one_loss = FAIL | {"values": [1]}
    (told,) = warned(study(BUY, one_loss, replicates=2), BASE)
    assert (told.pointer, told.code) == ("/baseline", "baseline_without_circumstance")
    assert warned(study(BUY, one_loss, replicates=2, baseline={"fail": 1}), BASE) == ()
    assert warned(study(one_loss, replicates=2), BASE) == ()  # nothing is chosen
    idle = {"name": "idle", "values": ["ready"], "edits": [{"at": "/nodes/0/state", "to": "$value"}]}
    assert [(one.pointer, one.code) for one in warned(study(BUY, idle), BASE)] == [("/axes/1", "changes_nothing")]


def test_a_lost_node_stays_lost_whatever_else_happens_to_it() -> None:
    cordon = {"name": "cordon", "values": ["r3-n1", "r2-n1"], "edits": [{"at": "/nodes/[id=$value]/state", "to": "cordoned"}]}
    found = scenarios(LOSE, cordon)
    by_id = {one.id: one for one in found}
    changes = by_id["lose=row-3,cordon=r3-n1"].changes
    assert [(one.op, one.pointer) for one in changes] == [("remove", "/nodes/4"), ("remove", "/nodes/5")]
    assert by_id["lose=row-3,cordon=r2-n1"].changes[0].pointer == "/nodes/2/state"
    for one in found:
        applied(BASE, one.changes)


def test_two_axes_may_set_the_same_value_but_not_different_ones() -> None:
    def cordon(name: str, to: str, where: str) -> dict[str, Any]:
        options = [{"label": "no"}, {"label": "yes", "edits": [{"at": f"/nodes/{where}/state", "to": to}]}]
        return {"name": name, "options": options}

    both = scenarios(cordon("a", "cordoned", "[id=r2-*]"), cordon("b", "cordoned", "[id=*-n2]"))
    assert [len(one.changes) for one in both] == [0, 0, 3, 2, 4]
    (found,) = mistakes(cordon("a", "cordoned", "[id=r2-*]"), cordon("b", "ready", "[id=*-n2]"))
    assert found[:2] == ("/axes/1", "axes_clash")
    assert "axes 'a' and 'b' both set /nodes/3/state" in found[2]


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ({"op": "scale", "at": "/jobs/0/value", "by": "$value"}, {"at": "/jobs/0/value", "to": "$value"}, "put 'b' first"),
        ({"op": "scale", "at": "/jobs/0/value", "by": "$value"}, {"at": "/jobs", "to": []}, "put 'b' first"),
        ({"at": "/power_cap_kw", "to": "$value"}, {"op": "merge", "patch": {"power_cap_kw": "$value"}}, "both set /power_cap_kw"),
        (BUY["edits"][0], BUY["edits"][0], "give their copies different ids"),  # type: ignore[index]
    ],
)
def test_axes_that_undo_each_other_are_refused(first: dict[str, Any], second: dict[str, Any], told: str) -> None:
    ((place, code, detail),) = mistakes({"name": "a", "values": [2], "edits": [first]}, {"name": "b", "values": [3], "edits": [second]})
    assert (place, code) == ("/axes/1", "axes_clash")
    assert told in detail


@pytest.mark.parametrize(
    ("axis", "place", "told"),
    [
        (
            {"name": "a", "values": [1], "edits": [{"at": "/nodes/[gpu_model=H10]/gpus", "to": 1}]},
            "/axes/0/edits/0/at",
            "did you mean H100?",
        ),
        (
            {"name": "a", "values": ["r1", "r9"], "edits": [{"op": "remove", "at": "/nodes/[topology.rack=$value]"}]},
            "/axes/0/edits/0/at",
            "with a=r9: ",
        ),
        ({"name": "a", "values": [1], "edits": [{"at": "/node", "to": 1}]}, "/axes/0/edits/0/at", "did you mean 'nodes'?"),
        ({"name": "a", "values": [4, 4.5], "edits": [{"at": "/nodes/0/gpus", "to": "$value"}]}, "/axes/0/edits/0/to", "whole number"),
        (
            {"name": "a", "values": [4, "x"], "edits": [{"op": "scale", "at": "/nodes/0/gpus", "by": "$value"}]},
            "/axes/0/edits/0/by",
            "with a=x: needs a number",
        ),
        (
            {"name": "a", "values": [-1], "edits": [{"at": "/nodes/0/cpu_cores", "to": "$value"}]},
            "/axes/0/edits/0",
            "a=-1 breaks the problem: /nodes/0/cpu_cores",
        ),
        (
            {"name": "a", "values": [1, 2], "edits": [{"at": "/nodes/0/id", "to": "r1-n2"}, {"at": "/max_moves", "to": "$value"}]},
            "/axes/0/edits",
            "breaks the problem",
        ),
        (
            {"name": "a", "options": [{"label": "x"}, {"label": "y", "edits": [{"op": "merge", "patch": {"use": "plce"}}]}]},
            "/axes/0/options/1/edits/0",
            "y breaks the problem: /use",
        ),
        (
            {"name": "a", "options": [{"label": "y", "edits": [{"op": "merge", "patch": {"usee": "x"}}]}]},
            "/axes/0/options/0/edits/0/patch/usee",
            "did you mean 'use'",
        ),
        (
            {"name": "a", "values": [9], "edits": [{"at": "/nodes/*/state", "to": "cordoned", "pick": {"count": "$value"}}]},
            "/axes/0/edits/0/pick/count",
            "there are 6",
        ),
        (
            {"name": "a", "range": {"least": 0, "most": 1, "steps": 9}, "edits": [{"op": "add", "at": "/nodes/0/gpus", "by": "$value"}]},
            "/axes/0/edits/0/by",
            "cannot be added",
        ),
    ],
)
def test_what_does_not_fit_the_problem_is_refused_before_anything_runs(axis: dict[str, Any], place: str, told: str) -> None:
    found = mistakes(axis)
    assert found[0][0] == place
    assert told in found[0][2]


def test_mistakes_of_several_axes_are_told_together() -> None:
    wrong = {"name": "a", "values": [1], "edits": [{"at": "/node", "to": 1}]}
    assert [place for place, _, _ in mistakes(wrong, BUY, wrong | {"name": "b"})] == ["/axes/0/edits/0/at", "/axes/2/edits/0/at"]


def test_a_study_of_another_kind_is_refused() -> None:
    with pytest.raises(ContradictionError, match="/kind: the study is of kind 'tiering'"):
        expanded(study(BUY, kind="tiering"), BASE)


def test_a_combination_may_break_the_problem_though_its_values_do_not() -> None:
    lower, upper = (
        {"name": name, "values": [value], "edits": [{"at": f"/columns/{name}/0", "to": "$value"}]}
        for name, value in (("lower", 50), ("upper", 20))
    )
    program = kinds()["program"].problem.model_validate({"columns": {"cost": [1.0], "lower": [0.0], "upper": [100.0]}})
    found = expanded(study(lower, upper, kind="program"), program)
    with pytest.raises(ContradictionError, match="/columns"):
        applied(program, found[1].changes)


def test_numbers_that_grow_too_large_together_are_refused() -> None:
    def scale(name: str) -> dict[str, Any]:
        return {"name": name, "values": [1e14], "edits": [{"op": "scale", "at": "/columns/cost/0", "by": "$value"}]}

    program = kinds()["program"].problem.model_validate({"columns": {"cost": [1.0]}})
    with pytest.raises(ContradictionError, match=r"/axes/29/edits: .* too large"):
        expanded(study(*(scale(f"a{number}") for number in range(30)), kind="program"), program)


def test_removing_a_part_of_what_gets_a_new_value_is_refused() -> None:
    nodes = [node.model_dump(mode="json") for node in BASE.nodes]
    edits = [{"at": "/nodes", "to": [*nodes, nodes[0] | {"id": "$value"}]}, {"op": "remove", "at": "/nodes/4"}]
    ((place, code, detail),) = mistakes({"name": "a", "values": ["x"], "edits": edits})
    assert (place, code) == ("/axes/0/edits", "unclear")
    assert "do one of them" in detail


def test_a_hundred_scenarios_share_what_their_axes_change() -> None:
    found = scenarios({**GROWTH, "draw": None, "range": {"least": 1, "most": 2, "steps": 3}}, {**BUY, "values": list(range(30))})
    first = [one for one in found if one.values.get("growth") == 1.5]
    shared = [change for change in first[0].changes if change.op == "set"]
    assert all(any(change is other for other in first[7].changes) for change in shared)


def test_ranges_are_spaced_in_exact_arithmetic() -> None:
    axis = study({**GROWTH, "draw": None, "range": {"least": 0, "most": 1, "steps": 11}}).axes[0]
    assert [one.value for one in axes.choices(axis)] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    whole = study({**GROWTH, "draw": None, "range": {"least": 0, "most": 10, "steps": 4, "whole": True}}).axes[0]
    assert [one.value for one in axes.choices(whole)] == [0, 3, 7, 10]
    assert axes.size(whole) == 4


@pytest.mark.parametrize("steps", [2, 3, 5, 8, 9, 40])
@pytest.mark.parametrize("most", [1, 4, 7, 30])
def test_the_size_of_a_whole_range_is_known_without_listing_it(steps: int, most: int) -> None:
    domain = {"least": -1, "most": most, "steps": steps, "whole": True}
    axis = study({**GROWTH, "draw": None, "range": domain}).axes[0]
    assert len(axes.choices(axis)) == axes.size(axis)


def test_labels_and_structures_are_shown_as_text() -> None:
    values: list[Any] = [{"label": "Few (8)", "value": 8}, {"label": "few 8", "value": 9}]
    found = scenarios({"name": "a b", "values": values, "edits": [{"at": "/nodes/0/gpus", "to": "$value"}]})
    assert [one.values for one in found[1:]] == [{"a b": "Few (8)"}, {"a b": "few 8"}]
    assert [one.numbers for one in found[1:]] == [{"a b": 8.0}, {"a b": 9.0}]
    assert [one.id for one in found[1:]] == ["a-b=Few-8", "a-b=few-8"]
    alike = scenarios(
        {
            "name": "a",
            "values": [{"label": "x y", "value": 8}, {"label": "x/y", "value": 16}],
            "edits": [{"at": "/nodes/0/gpus", "to": "$value"}],
        }
    )
    assert len({one.id for one in alike}) == 3
    assert all(one.id.startswith("a=x-y-") for one in alike[1:])


def test_columns_of_a_table_are_selected_by_its_other_columns() -> None:
    base = kinds()["fairshare"].problem.model_validate(
        {
            "accelerators": [{"id": "a", "count": 4}],
            "workloads": [{"id": "w", "speeds": [{"accelerator": "a", "steps_per_s": 1}]}],
            "job_table": {"workload": ["w"] * 3, "id": ["x", "y", "z"], "priority": [1, 2, 1], "weight": [1, 2, 3]},
        }
    )
    axis = {"name": "boost", "values": [2], "edits": [{"op": "scale", "at": "/job_table/weight/[priority=1]", "by": "$value"}]}
    found = expanded(study(axis, kind="fairshare"), base)
    assert applied(base, found[1].changes).job_table.weight == (2.0, 2.0, 6.0)  # type: ignore[attr-defined]
    left_out = axis | {"edits": [{"op": "scale", "at": "/job_table/count/*", "by": "$value"}]}
    with pytest.raises(ContradictionError, match=r"/axes/0/edits/0/at: /job_table/count is null.*set the whole of it"):
        expanded(study(left_out, kind="fairshare"), base)
