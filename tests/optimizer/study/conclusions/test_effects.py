"""Levels, tornado bars, heat maps and trade-offs, on tables small enough to see through."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract import Sense
from optimizer.study.conclusions.effects import along, axes_of, heat, main_effects, tornado
from optimizer.study.conclusions.trade_off import Rank, of_one_circumstance, trade_off
from optimizer.study.rows import Answered, Change, Row
from optimizer.study.schema import Axis
from tests.optimizer.study.tables import answered, certificate, infeasible, no_plan, proved, row


def product(rows: dict[tuple[int, str], Row], baseline: tuple[int, str] | None) -> list[Answered]:
    return [
        answered(one, f"{nodes}{quota}", values={"nodes": nodes, "quota": quota}, baseline=(nodes, quota) == baseline)
        for (nodes, quota), one in rows.items()
    ]


FULL = {
    (nodes, quota): proved(100 + 10 * nodes + (5 if quota == "high" else 0) + nodes * (quota == "high"))
    for nodes, quota in itertools.product((0, 4, 2), ("low", "high"))
}
TABLE = product(FULL, (0, "low"))


def test_main_effects_are_averages() -> None:
    effects = main_effects(TABLE, "value")
    assert axes_of(TABLE) == ("nodes", "quota")
    assert [(level.value, level.plans) for level in effects["nodes"]] == [(0, 102.5), (2, 123.5), (4, 144.5)]
    assert [(level.value, level.plans) for level in effects["quota"]] == [("low", 120.0), ("high", 127.0)]
    for level in effects["nodes"]:
        assert level.optimum is not None
        assert level.plans is not None
        assert level.plans in level.optimum
        assert (level.combinations, level.left_out) == (2, 0)


def test_a_tornado_of_rows_in_which_one_axis_moves() -> None:
    nodes, quota = tornado(TABLE, "value")
    assert (nodes.axis, nodes.exact, nodes.least.plans, nodes.most.plans, nodes.swing) == ("nodes", True, 100.0, 140.0, 40.0)
    assert (quota.axis, quota.exact, quota.swing) == ("quota", True, 5.0)
    assert [level.value for level in along(TABLE, "nodes", "value")] == [0, 2, 4]


def test_a_tornado_of_averages_where_no_row_moves_one_axis_only() -> None:
    zipped = product({key: FULL[key] for key in ((0, "low"), (2, "high"), (4, "low"))}, None)
    bars = tornado(zipped, "value")
    assert [bar.exact for bar in bars] == [False, False]
    assert bars[0].swing == 40.0


def test_a_baseline_without_values_is_found_by_what_it_is() -> None:
    nothing: tuple[Change, ...] = ()
    base = answered(proved(100.0, key="base"), "base", values={}, changes=nothing, baseline=True)
    rows = [base, *(one for one in product(FULL, None) if (one.scenario.values["nodes"], one.scenario.values["quota"]) != (0, "low"))]
    rows.append(answered(proved(100.0, key="same"), "same", values={"nodes": 0, "quota": "low"}, changes=nothing))
    assert [bar.exact for bar in tornado(rows, "value")] == [True, True]
    assert [bar.exact for bar in tornado(rows[:-1], "value")] == [False, False]


def test_a_single_axis_needs_no_baseline() -> None:
    rows = [answered(proved(float(number)), f"{number}", values={"nodes": number}) for number in (3, 1, 2)]
    (bar,) = tornado(rows, "value")
    assert (bar.exact, bar.least.value, bar.most.value) == (True, 1, 3)


def test_heat() -> None:
    rows = FULL | {(2, "low"): infeasible(), (4, "high"): no_plan()}
    table = product(rows, (0, "low"))
    found = heat(table, "nodes", "quota", "value")
    assert (found.down, found.across, found.others) == ((0, 2, 4), ("low", "high"), "none")
    assert [[cell.state for cell in line] for line in found.cells] == [["plan", "plan"], ["infeasible", "plan"], ["plan", "unknown"]]
    assert found.cells[0][1].plans == 105.0
    sparse = heat([one for one in table if one.scenario.values != {"nodes": 4, "quota": "high"}], "nodes", "quota", "value")
    assert sparse.cells[2][1].state == "absent"
    with pytest.raises(KeyError, match="no axis called 'nods'"):
        heat(table, "nods", "quota", "value")


def test_heat_keeps_other_axes_at_the_baseline() -> None:
    rows = [
        answered(proved(float(a + 10 * b + 100 * c)), f"{a}{b}{c}", values={"a": a, "b": b, "c": c}, baseline=(a, b, c) == (0, 0, 0))
        for a, b, c in itertools.product((0, 1), repeat=3)
    ]
    assert heat(rows, "a", "b", "value").cells[1][1].plans == 11.0
    assert heat(rows, "a", "b", "value").others == "at the baseline"
    averaged = heat([one for one in rows if not one.scenario.is_baseline], "a", "b", "value")
    assert (averaged.others, averaged.cells[1][1].plans) == ("averaged", 61.0)


def test_metrics_have_no_certain_interval() -> None:
    rows = [answered(proved(1.0, metrics={"used": float(number)}), f"{number}", values={"nodes": number}) for number in (1, 2)]
    assert [level.optimum for level in main_effects(rows, "used")["nodes"]] == [None, None]


# ---------------------------------------------------------------- trade-offs


def point(label: str, first: tuple[float, float], cost: tuple[float, float]) -> Answered:
    # Two goals of one certificate: the first is closed, or the second would say nothing.
    return answered(row(certificate(*first, "gain"), certificate(*cost, "cost", "minimise")), label)


def test_ranks() -> None:
    table = [
        point("good", (10.0, 10.0), (5.0, 5.0)),
        point("cheap", (8.0, 8.0), (2.0, 2.0)),
        point("beaten", (7.0, 7.0), (6.0, 6.0)),
        point("maybe", (9.0, 9.0), (5.5, 1.0)),
    ]
    found = trade_off(table, "gain", "cost")
    assert found.certified
    ranks = {one.label.removeprefix("x="): one.rank for one in found.points}
    assert ranks == {"good": Rank.best, "cheap": Rank.best_of_plans, "beaten": Rank.beaten, "maybe": Rank.beaten_of_plans}


def test_what_a_scenario_costs_is_exact_and_a_metric_is_not() -> None:
    table = [
        answered(proved(10.0, metrics={"used": 3.0}), "dear", spend_usd=100.0),
        answered(proved(5.0, metrics={"used": 2.0}), "cheap"),
        answered(infeasible(), "none"),
    ]
    spent = trade_off(table, "spend_usd", "value")
    assert [one.rank for one in spent.points] == [Rank.best, Rank.best]
    assert spent.left_out == ("x=none",)
    used = trade_off(table, "used", "value", senses={"used": Sense.minimise})
    assert not used.certified
    # That nothing beats the best of a goal is certain, whatever the metric.
    assert [one.rank for one in used.points] == [Rank.best, Rank.best_of_plans]
    with pytest.raises(ValueError, match="'used' is no goal"):
        trade_off(table, "used", "value")


PLACES = st.lists(
    st.tuples(*[st.integers(0, 6)] * 2, *[st.sampled_from([0.0, 0.5, 3.0])] * 2, *[st.floats(0, 1)] * 2), min_size=1, max_size=7
)


@given(PLACES)
def test_certain_ranks_are_true_of_any_optima(places: list[tuple[int, int, float, float, float, float]]) -> None:
    """One goal with gaps, against the money, which is exact."""
    table, optima = [], []
    for number, (gain, spend, gap, _, share, _) in enumerate(places):
        table.append(answered(proved(float(gain), gain + gap, key=str(number)), str(number), spend_usd=float(spend)))
        optima.append((gain + gap * share, -float(spend)))
    for number, found in enumerate(trade_off(table, "value", "spend_usd").points):
        mine = optima[number]
        beaten = any(other[0] >= mine[0] and other[1] >= mine[1] and other != mine for other in optima)
        assert not (found.rank is Rank.best and beaten)
        assert not (found.rank is Rank.beaten and not beaten)
        assert math.isfinite(found.x)


def test_choices_are_traded_under_one_circumstance() -> None:
    edits = [{"op": "set", "at": "/x", "to": "$value"}]
    buy = Axis.model_validate({"name": "buy", "values": [1, 2], "edits": edits})
    growth = Axis.model_validate({"name": "growth", "values": [1.25, 1.5], "chosen": False, "edits": edits})
    table = [
        answered(proved(10.0 * number + 100 * size), f"{number}{size}", values={"buy": number, "growth": size})
        for size, number in itertools.product((1.25, 1.5), (1, 2))
    ]
    alone = answered(proved(5.0), "baseline", values={}, baseline=True)
    lines, circumstance = of_one_circumstance([alone, *table], (buy, growth))
    assert (list(lines), circumstance) == (table[:2], "growth=1.25")
    assert of_one_circumstance(table, (buy,)) == (tuple(table), "")
    assert of_one_circumstance(table, (growth,)) == (tuple(table), ""), "nothing is chosen"
    assert of_one_circumstance(table, (buy, growth), {"growth"}) == (tuple(table), ""), "drawn anew in each replicate"
