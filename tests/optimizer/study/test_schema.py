"""A study file that is wrong is refused with every place and the cure."""

from __future__ import annotations

import datetime as dt
import math
import re
import time
from typing import Any

import pytest

from models.contract import ContradictionError
from optimizer.study.checks import check_names, scenario_count
from optimizer.study.schema import Labelled, Study, read

SET = {"at": "/limit", "to": "$value"}
BUY = {"name": "buy", "values": [0, 8, 16], "edits": [SET]}
LOSE = {"name": "lose", "options": [{"label": "none"}, {"label": "r1", "edits": [{"at": "/x", "to": 1}], "usd": 5}]}
RANGE = {"name": "price", "range": {"least": 0.1, "most": 0.4, "steps": 4}, "edits": [{"op": "scale", "at": "/p", "by": "$value"}]}
GROWTH = {
    "name": "growth",
    "draw": {"distribution": "normal", "mean": 1, "deviation": 0.1},
    "edits": [{"op": "scale", "at": "/q", "by": "$value"}],
}


def raw(*axes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "s", "kind": "placement", "base": {"file": "p.yaml"}, "axes": list(axes), **fields}


def refused(document: object) -> list[tuple[str, str]]:
    with pytest.raises(ContradictionError) as error:
        read(document)
    return [(one.pointer, one.detail) for one in error.value.mistakes]


def test_a_whole_study_is_read() -> None:
    study = read(
        raw(
            BUY,
            LOSE,
            RANGE,
            GROWTH,
            replicates=3,
            baseline={"buy": 0, "lose": "none"},
            gates=[{"metric": "placed_value", "fall_at_most": 0.01, "where": {"buy": 8}}],
            asks=[
                {"ask": "target", "axis": "buy", "metric": "placed_value", "at_least": 5},
                {"ask": "pareto", "first": "a", "second": "b"},
            ],
        )
    )
    assert scenario_count(study) == 3 * 2 * 4 * 3
    assert Study.model_validate_json(study.model_dump_json()) == study


def test_an_object_with_a_label_is_a_labelled_value() -> None:
    values = [{"label": "few", "value": 8}, {"rack": "r1"}, "x", [1], None]
    study = read(raw({"name": "a", "values": values, "edits": [SET]}))
    assert study.axes[0].values == (Labelled(label="few", value=8), {"rack": "r1"}, "x", [1], None)
    assert refused(raw({"name": "a", "values": [{"label": "few", "valeu": 8}], "edits": [SET]})) == [
        ("/axes/0/values/0/value", "is missing; add it"),
        ("/axes/0/values/0/valeu", "is not a known field; leave it out"),
    ]


@pytest.mark.parametrize(
    ("document", "place", "told"),
    [
        (raw(BUY, {**LOSE, "name": "buy"}), "/axes/1/name", "/axes/0 is called 'buy' too"),
        (raw({"name": "a", "edits": [SET]}), "/axes/0", "exactly one of values"),
        (raw({"name": "a", "values": [1]}), "/axes/0", "give it edits"),
        (raw({**LOSE, "edits": [SET]}), "/axes/0", "belong to each of them"),
        (raw({"name": "a", "values": [1, math.nan], "edits": [SET]}), "/axes/0/values/1", "NaN"),
        (raw({"name": "a", "values": [1, 1.0], "edits": [SET]}), "/axes/0/values/1", "/values/0 already"),
        (raw({"name": "a", "values": [1, 2], "edits": [{"at": "/x", "to": 3}]}), "/axes/0/edits", "no edit uses \\$value"),
        (raw({"name": "a", "values": ["x"], "edits": [SET], "usd_each": 2}), "/axes/0/values/0", "usd_each needs numbers"),
        (raw({**LOSE, "usd_each": 2}), "/axes/0/usd_each", "its usd"),
        (raw({"name": "a", "options": [{"label": "x"}, {"label": "x"}]}), "/axes/0/options/1/label", "choose another"),
        (raw({"name": "a", "options": [{"label": "x", "edits": [SET]}]}), "/axes/0/options/0/edits/0", "an option has no value"),
        (raw({"name": "a", "options": [{"label": 5}]}), "/axes/0/options/0/label", "valid string, not 5"),
        (raw({"name": "a", "values": [1], "edits": [{"at": "nodes", "to": 1}]}), "/axes/0/edits/0/at", "must start with a /"),
        (
            raw({"name": "a", "values": [1], "edits": [{"op": "copies", "of": "/n/[x", "count": 1, "id": "a{n}"}]}),
            "/axes/0/edits/0/of",
            "cannot read",
        ),
        (
            raw({"name": "a", "values": [1], "edits": [{"op": "copies", "of": "/n/0", "count": 1, "id": "a"}]}),
            "/axes/0/edits/0",
            "needs {n}",
        ),
        (
            raw({"name": "a", "values": [1], "edits": [{"op": "copies", "of": "/n/0", "count": 2.5, "id": "a{n}"}]}),
            "/axes/0/edits/0/count",
            "whole number",
        ),
        (raw({"name": "a", "values": [1], "edits": [{"op": "sett", "at": "/x"}]}), "/axes/0/edits/0", "op must be one of set, scale"),
        (raw({"name": "a", "values": [1], "edits": ["x"]}), "/axes/0/edits/0", "must be an object"),
        (raw({"name": "a", "values": [1], "edits": [{"op": {"a": 1}}]}), "/axes/0/edits/0", "op must be one of set, scale"),
        (
            raw({"name": "a", "values": [1], "edits": [{"op": "copies", "of": "/n/0", "count": math.inf, "id": "a{n}"}]}),
            "/axes/0/edits/0/count",
            "from 0 to 100000, not inf",
        ),
        (raw({"name": "a", "values": [1], "edits": [{"at": "/x"}]}), "/axes/0/edits/0/to", "missing"),
        (
            raw({"name": "a", "values": [1], "edits": [{"op": "scale", "at": "/x", "by": "2"}]}),
            "/axes/0/edits/0/by",
            "number or \\$value, not 2",
        ),
        (raw({"name": "a", "values": [1], "edits": [{"op": "scale", "at": "/x", "by": math.inf}]}), "/axes/0/edits/0/by", "finite"),
        (raw({"name": "a", "values": [1], "edits": [{"at": "/x", "to": [1, math.nan]}]}), "/axes/0/edits/0/to", "NaN"),
        (raw({"name": "a", "values": [1], "edits": [{**SET, "pick": {"share": 2}}]}), "/axes/0/edits/0/pick/share", "from 0 to 1, not 2"),
        (
            raw({"name": "a", "values": [dt.date(2026, 1, 1)], "edits": [SET]}),
            "/axes/0/values/0",
            "2026-01-01 is none; put it in quotes",
        ),
        (raw({"name": "a", "values": [1], "edits": [{**SET, "pick": {}}]}), "/axes/0/edits/0/pick", "exactly one of count"),
        (raw({**RANGE, "range": {"least": 2, "most": 1}}), "/axes/0/range", "not below"),
        (raw({**RANGE, "range": {"least": -1e308, "most": 1e308}}), "/axes/0/range", "too far to count"),
        (raw({**RANGE, "range": {"least": 0.5, "most": 3, "whole": True}}), "/axes/0/range", "must be whole"),
        (raw({**GROWTH, "draw": {"distribution": "normal", "mean": 1}}), "/axes/0/draw", "needs deviation"),
        (raw({**GROWTH, "edits": [{"at": "/n/[id=$value]/x", "to": 1}]}), "/axes/0/edits/0/at", "random number cannot be part"),
        (raw(BUY, LOSE, combine={"how": "zip"}), "/axes/1", "buy has 3, lose has 2"),
        (raw(BUY, combine={"how": "zip", "samples": 3}), "/combine", "samples belong to"),
        (raw(combine={"how": "latin_hypercube", "samples": 3}), "/combine/samples", "no axis to sample"),
        (raw(BUY, baseline={"byu": 0}), "/baseline/byu", "did you mean 'buy'"),
        (raw(BUY, baseline={"buy": 1}), "/baseline/buy", "no value 1; it has 0, 8, 16"),
        (raw(LOSE, baseline={"lose": "r2"}), "/baseline/lose", "no value r2; it has none, r1"),
        (raw(RANGE, baseline={"price": "x"}), "/baseline/price", "has numbers; x is none"),
        (raw(BUY, gates=[{"metric": "m"}]), "/gates/0", "asks for something"),
        (raw(BUY, gates=[{"metric": "m", "at_least": 2, "at_most": 1}]), "/gates/0", "at least 2 .* and at most 1"),
        (
            raw(BUY, gates=[{"metric": "m", "at_most": 1}, {"metric": "m", "at_least": 2, "where": {"buy": 8}}]),
            "/gates/1",
            "at least 2 \\(/gates/1\\)",
        ),
        (raw(BUY, gates=[{"metric": "m", "at_most": 1, "where": {"by": 1}}]), "/gates/0/where/by", "did you mean 'buy'"),
        (raw(BUY, gates=[{"metric": "m", "at_most": 1, "where": {"buy": 9}}]), "/gates/0/where/buy", "no value 9"),
        (raw(BUY, gates=[{"name": "g", "metric": "m", "at_most": 1}] * 2), "/gates/1/name", "called 'g' too"),
        (raw(BUY, asks=[{"ask": "sweep", "axis": "by"}]), "/asks/0/axis", "did you mean 'buy'"),
        (raw(LOSE, asks=[{"ask": "target", "axis": "lose", "metric": "m", "at_least": 1}]), "/asks/0/axis", "has options"),
        (raw(GROWTH, asks=[{"ask": "sweep", "axis": "growth"}]), "/asks/0/axis", "is random"),
        (raw(BUY, asks=[{"ask": "pareto", "first": "a", "second": "a"}]), "/asks/0/second", "two goals"),
        (raw(BUY, asks=[{"axis": "buy"}]), "/asks/0", "ask must be one of sweep, pareto, target, not left out"),
        (raw(BUY, base={}), "/base", "exactly one of file"),
        (raw(BUY, sede=1), "/sede", "not a known field"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(document: object, place: str, told: str) -> None:
    found = refused(document)
    assert [pointer for pointer, _ in found] == [place]

    assert re.search(told, found[0][1]), found[0][1]


def test_what_holds_itself_is_refused() -> None:
    """As a YAML alias can make it."""
    endless: list[object] = []
    endless.append(endless)
    ((place, what),) = refused(raw({"name": "a", "values": [endless], "edits": [SET]}))
    assert (place, what) == ("", "the study is nested too deeply, or holds itself by a YAML alias; write it flat")


def test_gates_that_no_scenario_must_both_pass_do_not_contradict() -> None:
    gates = [{"metric": "m", "at_most": 1, "where": {"buy": 0}}, {"metric": "m", "at_least": 2, "where": {"buy": 8}}]
    assert read(raw(BUY, gates=gates)).gates[1].where == {"buy": 8}


def test_a_billion_combinations_are_refused_without_making_them() -> None:
    axes = [
        {**RANGE, "name": f"a{index}", "range": {"least": 0, "most": 1, "steps": steps}} for index, steps in enumerate((1_000, 10_000, 100))
    ]
    started = time.process_time()
    found = refused(raw(*axes))
    assert time.process_time() - started < 1.0  # hours, if any of them were made
    assert found[0][0] == "/axes/1"
    assert "1,000,000,000 scenarios" in found[0][1]
    assert "thin axis 'a1', which has 10,000 values" in found[0][1]
    assert refused(raw(BUY, replicates=10_000, combine={"how": "latin_hypercube", "samples": 100}))[0][0] == "/replicates"
    assert refused(raw(BUY, {**RANGE, "range": {"least": 0, "most": 1, "steps": 5_000}}, replicates=9_000))[0][0] == "/replicates"


def test_a_range_of_whole_numbers_has_no_more_values_than_there_are() -> None:
    study = read(raw({**RANGE, "range": {"least": 0, "most": 3, "steps": 100_000, "whole": True}}))
    assert scenario_count(study) == 4


def test_names_of_metrics_are_checked_against_the_problem() -> None:
    study = read(
        raw(
            BUY,
            metrics=["gpus_used", "spend_usd"],
            gates=[{"metric": "placed_vlaue", "fall_at_most": 0.1}],
            asks=[
                {"ask": "pareto", "first": "placed_value", "second": "zzz"},
                {"ask": "target", "axis": "buy", "metric": "moves", "at_most": 1},
            ],
        )
    )
    with pytest.raises(ContradictionError) as error:
        check_names(study, ["placed_value", "moves"], ["gpus_used"])
    assert [one.pointer for one in error.value.mistakes] == ["/gates/0/metric", "/asks/0/second"]
    assert "did you mean 'placed_value'" in error.value.mistakes[0].detail
    check_names(study, ["placed_value", "moves", "placed_vlaue", "zzz"], ["gpus_used"])
