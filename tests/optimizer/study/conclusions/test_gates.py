"""Gates: passed and failed when proved, undecided in between, and what is only of the plans found says so."""

from __future__ import annotations

import json

import pytest

from optimizer.study.conclusions.gates import SLACK, Judged, Standing, concerns, gate_name, judged, overall
from optimizer.study.rows import Answered, Change, Row
from optimizer.study.schema import Axis, Gate
from tests.optimizer.study.tables import INF, answered, certificate, infeasible, no_plan, proved, row


def table(base: Row, other: Row) -> tuple[Answered, Answered]:
    return answered(base, "A", values={"x": 0}, baseline=True), answered(other, "B", values={"x": 1})


def only(gate: Gate, base: Row, other: Row) -> Judged:
    (found,) = [one for one in judged((gate,), table(base, other)) if one.scenario == "B-0"]
    return found


FALL = Gate(metric="value", fall_at_most=0.01)


@pytest.mark.parametrize(
    ("base", "other", "standing"),
    [
        (proved(1000.0, 1005.0), proved(999.0, 1020.0), Standing.passed),  # even against the baseline's bound
        (proved(1000.0, 1020.0), proved(999.0, 1020.0), Standing.undecided),
        (proved(1000.0, 1020.0), proved(970.0, 980.0), Standing.failed),  # even its bound, against the baseline's plan
        (proved(1000.0), proved(990.0), Standing.passed),  # exactly at the limit
        (proved(1000.0), proved(989.9), Standing.failed),
        (proved(1000.0), infeasible(), Standing.failed),
        (proved(1000.0), no_plan(), Standing.undecided),
        (infeasible(), proved(1.0), Standing.undecided),
        (proved(-100.0), proved(-100.9), Standing.passed),  # the share is of the size
        (proved(-100.0), proved(-101.1), Standing.failed),
        (proved(1000.0, INF), proved(2000.0), Standing.undecided),
    ],
)
def test_a_fall(base: Row, other: Row, standing: Standing) -> None:
    found = only(FALL, base, other)
    assert found.standing is standing
    assert found.proved


def test_no_fall_at_all_is_kept_by_a_tie() -> None:
    assert only(Gate(metric="value", fall_at_most=0), proved(1234.5), proved(1234.5, key="b")).standing is Standing.passed
    assert only(Gate(metric="value", fall_at_most=0), proved(1234.5), proved(1234.5 * (1 - 3 * SLACK))).standing is Standing.failed


@pytest.mark.parametrize(("rise", "standing"), [(0.05, Standing.failed), (0.1, Standing.passed), (6.0, Standing.passed)])
def test_a_rise_of_a_cost(rise: float, standing: Standing) -> None:
    def cost(value: float) -> Row:
        return row(certificate(value, value, sense="minimise"))

    assert only(Gate(metric="value", rise_at_most=rise), cost(100.0), cost(110.0)).standing is standing


def test_absolute_limits_hold_for_the_baseline_too() -> None:
    results = judged((Gate(metric="value", at_least=5, at_most=20),), table(proved(4.0), proved(30.0)))
    assert [(one.scenario, one.condition, one.standing.value) for one in results] == [
        ("A-0", "at_least", "failed"),
        ("A-0", "at_most", "passed"),
        ("B-0", "at_least", "passed"),
        ("B-0", "at_most", "failed"),
    ]
    assert results[0].text == "No plan of x=0 keeps it: that value is at least 5 is missed by 1 or more (certain)."


def test_what_would_decide_a_gate() -> None:
    found = only(FALL, proved(1000.0, 1020.0), proved(985.0, 1020.0))
    assert "A plan of 1,009.81 or more (now 985) for x=1 would make it pass, e.g. with a longer time limit." in found.text
    assert "A bound of 989.9" in found.text
    assert "would make it fail" in found.text
    assert "Closing the baseline's gap of 2% narrows what is asked." in found.text
    assert found.spare is not None
    assert found.spare.low < 0 < found.spare.high
    # A bound above its own plan only: nothing can make it fail.
    safe = only(FALL, proved(1000.0, 1020.0), proved(1000.0, 1030.0))
    assert "fail" not in safe.text


def test_a_later_goal_waits_for_the_one_before() -> None:
    one = row(certificate(9, 10, "first"), certificate(5, 5, "value"))
    found = only(Gate(metric="value", at_least=1), one, one)
    assert found.standing is Standing.undecided
    assert "Closing the gap of first of x=1, which comes before value, comes first" in found.text


def test_the_problem_of_the_baseline_keeps_every_change() -> None:
    change = (Change("set", "/x", 1),)
    rows = answered(proved(1.0, 9.0), "A", changes=change, baseline=True), answered(proved(2.0, 8.0), "B", changes=change)
    (found,) = judged((FALL,), rows)
    assert found.standing is Standing.passed


def test_metrics_are_of_the_plans_found() -> None:
    gate = Gate(metric="nodes", at_most=4)
    found = only(gate, proved(1.0, metrics={"nodes": 3.0}), proved(1.0, metrics={"nodes": 5.0}))
    assert (found.standing, found.proved) == (Standing.failed, False)
    assert found.text == "Of the plans found, that of x=1 breaks it: asked is that nodes is at most 4, and it has 5."
    assert only(gate, proved(1.0), infeasible()).proved  # no plan at all
    assert only(gate, proved(1.0), proved(1.0)).standing is Standing.undecided
    rise = Gate(metric="nodes", rise_at_most=1)
    assert only(rise, proved(1.0, metrics={"nodes": 3.0}), proved(1.0, metrics={"nodes": 6.0})).standing is Standing.passed
    assert only(rise, proved(1.0), proved(1.0, metrics={"nodes": 6.0})).standing is Standing.undecided
    dear = answered(proved(1.0), "A", baseline=True), answered(proved(1.0), "B", spend_usd=100.0)
    (cheap, over) = judged((Gate(metric="spend_usd", at_most=50),), dear)
    assert (cheap.standing, over.standing) == (Standing.passed, Standing.failed)


def test_without_any_plan_a_goal_is_still_a_goal() -> None:
    assert only(FALL, infeasible("a"), infeasible("b")).standing is Standing.failed
    assert only(FALL, no_plan("a"), no_plan("b")).standing is Standing.undecided


def test_where() -> None:
    gate = Gate(metric="value", at_least=5, where={"x": 1})
    assert [one.scenario for one in judged((gate,), table(proved(1.0), proved(9.0)))] == ["B-0"]
    boolean = answered(proved(1.0), values={"x": True})
    assert not concerns(gate, boolean.scenario)
    assert not concerns(Gate(metric="value", at_least=5, where={"y": 1}), boolean.scenario)


def test_a_labelled_value_is_found_by_either() -> None:
    axis = Axis.model_validate({"name": "x", "values": [{"label": "many", "value": 64}, 8], "edits": [{"at": "/x", "to": "$value"}]})
    many = answered(proved(1.0), values={"x": "many"}).scenario
    for wanted in ("many", 64):
        assert concerns(Gate(metric="value", at_least=5, where={"x": wanted}), many, (axis,))
    assert not concerns(Gate(metric="value", at_least=5, where={"x": 8}), many, (axis,))
    assert not concerns(Gate(metric="value", at_least=5, where={"x": 64}), many)


def test_each_replicate_has_its_own_baseline() -> None:
    rows = [
        answered(proved(value), label, replicate=replicate, baseline=label == "A")
        for replicate, values in ((0, (100.0, 99.5)), (1, (200.0, 190.0)))
        for label, value in zip("AB", values, strict=True)
    ]
    assert [one.standing for one in judged((FALL,), rows)] == [Standing.passed, Standing.failed]
    assert [one.text for one in judged((FALL,), [rows[3]])] == ["There is no baseline in this replicate to compare with."]


def test_overall() -> None:
    passed = only(FALL, proved(1.0), proved(2.0))
    undecided = only(FALL, proved(1000.0, 2000.0), proved(1000.0))
    failed = only(FALL, proved(1000.0), proved(1.0))
    assert overall(()) is Standing.passed
    assert overall((passed, undecided)) is Standing.undecided
    assert overall((failed, undecided)) is Standing.failed
    assert json.loads(json.dumps(undecided.as_json(), allow_nan=False))["standing"] == "undecided"


def test_names() -> None:
    assert gate_name(FALL) == "value falls by at most 1%"
    assert gate_name(Gate(name="enough", metric="value", at_least=5)) == "enough"


def test_what_a_scenario_costs_is_certain_whatever_its_plan() -> None:
    base = answered(proved(1.0), "base", values={}, baseline=True)
    dear = answered(infeasible(), "dear", values={"buy": 2}, spend_usd=3_281_004.0)
    results = judged([Gate(metric="spend_usd", at_most=2_000_000.0)], [base, dear])
    assert [(one.standing, one.proved) for one in results] == [(Standing.passed, True), (Standing.failed, True)]
    assert results[1].text == "buy=2 breaks it: asked is that spend_usd is at most 2,000,000, and it costs 3,281,004 USD (certain)."
