"""The sentences of a comparison, and what it says would decide it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from optimizer.result import relative_gap
from optimizer.study.conclusions.differences import Difference, Finding, difference
from optimizer.study.conclusions.efforts import Effort
from optimizer.study.rows import Answered, Change, Row
from tests.optimizer.study.tables import INF, answered, certificate, infeasible, no_plan, proved, row


def compared(a: Row, b: Row, name: str = "value", **fields: float) -> Difference:
    return difference(answered(a, "A", values={"x": "A"}), answered(b, "B", values={"x": "B"}), name, **fields)  # type: ignore[arg-type]


def usd(objective: float, bound: float, sense: str = "maximise", stop: str = "deadline") -> Row:
    return row(certificate(objective, bound, sense=sense, unit="USD"), stop=stop)


def test_better() -> None:
    found = compared(usd(1000, 1011), usd(1050, 1060))
    assert found.finding is Finding.better
    assert found.sentence == "x=B beats x=A by 3.85% to 6.01% in value (certain)."
    assert found.text.endswith("Of the plans found, x=B has 1,050 USD and x=A 1,000 USD: 5% more.")
    assert found.efforts == ()


def test_worse_when_less_is_better() -> None:
    found = compared(usd(1011, 1000, "minimise"), usd(1060, 1050, "minimise"))
    assert found.finding is Finding.worse
    assert found.sentence == "x=B falls behind x=A by 3.85% to 6.01% in value (certain)."


def test_no_share_of_what_may_be_nothing() -> None:
    found = compared(usd(0, 1), usd(13, 14))
    assert found.relative is None
    assert found.sentence == "x=B beats x=A by 11.9 to 14.1 USD in value (certain)."


def test_one_open_end() -> None:
    assert compared(usd(1000, 1010), usd(1100, INF)).sentence == "x=B beats x=A by at least 8.91% in value (certain)."
    left = compared(usd(1000, 1011), usd(990, INF))
    assert left.finding is Finding.not_distinguishable
    assert "the difference is at least -2.08%" in left.sentence
    assert "A first bound for x=B that leaves a gap of 1% or less" in left.sentence


def test_what_would_decide_it() -> None:
    found = compared(usd(1000, 1011), usd(1005, 1012))
    assert found.finding is Finding.not_distinguishable
    assert found.sentence.startswith("Not distinguishable in value at these limits: the difference lies between -0.6% and +1.21%.")
    assert (
        "Closing x=A's gap from 1.1% to 0.499% or less (its bound down to 1,004.99 USD) or a plan for x=B of 1,011.01 USD or more (now "
        "1,005 USD) would prove x=B better, e.g. with a longer time limit for x=A or x=B."
    ) in found.sentence
    assert (
        "A plan for x=A of 1,005.01 USD or more (now 1,000 USD) together with a bound of x=B below it would prove x=B worse, "
        "e.g. with a longer time limit for x=A and x=B."
    ) in found.sentence
    assert "With both gaps below 0.0045% it is decided, as better, worse or equal within 0.01%." in found.sentence


def test_only_what_can_help() -> None:
    # A is solved to its end within the gap asked for, so more time does nothing; and B cannot become worse than a plan it has.
    found = compared(usd(1000, 1011, stop="gap"), usd(1011, 1011.001, stop="gap"))
    assert {effort.proves for effort in found.efforts} == {"better"}
    assert "a smaller gap limit for x=A" in found.sentence
    assert "longer time" not in found.sentence


def test_equal() -> None:
    found = compared(proved(1000.0), proved(1000.001))
    assert found.finding is Finding.equal_within
    assert found.sentence.startswith("x=A and x=B are equal within 0.01% in value (certain): the difference lies between -0.0003% and")
    assert compared(proved(0.5), proved(0.500001)).sentence.startswith("x=A and x=B are equal within 0.0001 in value")


def test_nothing_more_can_tell_them_apart() -> None:
    found = compared(proved(1000.0), proved(1000.001), tolerance=0.0)
    assert found.finding is Finding.not_distinguishable
    assert "More effort cannot tell them apart" in found.sentence


def test_one_problem_has_one_optimum() -> None:
    change = (Change("set", "/x", 1),)
    first, second = answered(usd(90, 200), "A", changes=change), answered(usd(150, 300), "B", changes=change)
    found = difference(first, second, "value")
    assert found.finding is Finding.equal_within
    assert found.absolute is not None
    assert (found.absolute.low, found.absolute.high) == (0.0, 0.0)
    assert "are one problem" in found.sentence
    assert difference(first, second, "value", same_base=False).finding is Finding.not_distinguishable


def test_without_plans() -> None:
    some = usd(1, 2)
    assert compared(infeasible(), some).sentence == "x=A has no plan at all (proved), and x=B has one."
    assert compared(some, infeasible()).finding is Finding.b_infeasible
    assert compared(infeasible("a"), infeasible("b")).sentence == "Neither x=A nor x=B has any plan (proved)."
    assert compared(no_plan(), infeasible()).sentence == "x=B has no plan at all (proved); of x=A nothing is known."
    late = compared(some, no_plan())
    assert late.finding is Finding.unknown
    assert "An answer for x=B (no plan was found) comes first, e.g. with a longer time limit for x=B." in late.sentence
    endless = Row("k", "unbounded", "gap", (), {}, verified=False, seconds=1.0)
    assert compared(some, endless).finding is Finding.unbounded
    assert "in x=B a goal improves without limit" in compared(some, endless).sentence


def test_an_earlier_goal_comes_first() -> None:
    def two(first: tuple[float, float], second: tuple[float, float]) -> Row:
        return row(certificate(*first, "first"), certificate(*second, "second"))

    found = compared(two((9, 10), (5, 5)), two((9, 10), (6, 6)), "second")
    assert found.finding is Finding.not_distinguishable
    assert "the difference is not known at all" in found.sentence
    assert "losing the gap of first of x=B, which comes before second" in found.sentence
    assert compared(two((10, 10), (5, 5)), two((10, 10), (6, 6)), "second").finding is Finding.better


def test_a_metric_is_of_the_plans_only() -> None:
    found = compared(proved(1.0, metrics={"nodes": 3.0}), proved(2.0, metrics={"nodes": 6.0}), "nodes")
    assert found.finding is Finding.of_plans
    assert not found.finding.certain
    assert found.text == "Nothing is proved of it: it is no goal. Of the plans found, x=B has 6 and x=A 3: 100% more."
    assert compared(proved(1.0), proved(1.0), "nodes").finding is Finding.unknown
    dear = difference(answered(proved(1.0), "A", spend_usd=10.0), answered(proved(2.0), "B", spend_usd=30.0), "spend_usd")
    assert dear.plans is not None
    assert dear.plans.absolute == 20.0


def test_names_that_are_alike_are_told_apart() -> None:
    first, second = answered(usd(1, 1), "one", values={}), answered(usd(2, 2), "two", values={})
    assert difference(first, second, "value").sentence.startswith("baseline (two-0) beats baseline (one-0)")


def test_as_json() -> None:
    told = compared(usd(1000, 1011), usd(990, INF)).as_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["absolute"][1] is None
    assert told["finding"] == "not_distinguishable"
    assert len(told["would_decide"]) == 2


# ---------------------------------------------------------------- the efforts do decide


ENDS = st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e4), st.floats(-1e4, 1e4), st.floats(0, 1e4))


def after(made: tuple[Answered, Answered], effort: Effort, sense: str) -> tuple[Answered, Answered]:
    """Both sides once the moves of an effort have happened, each bound that has no number of its own just past the plan."""
    sign = 1.0 if sense == "maximise" else -1.0
    sides = {one.scenario.label: one for one in made}
    met = None
    for move in effort.moves:
        one = sides[move.scenario]
        goal = one.row.goals[0]
        objective, bound = goal.objective, goal.bound
        if move.what == "plan":
            assert move.to is not None
            objective = met = move.to
        else:
            bound = move.to if move.to is not None else (met or 0.0) - sign * 5e-6 * max(1.0, abs(met or 0.0))
        if sign * (bound - objective) < 0:  # the widest room that both leave; never asked for by a single move
            assert len(effort.moves) == 2
            bound = objective
        moved = replace(goal, objective=objective, bound=bound, gap=relative_gap(objective, bound))
        sides[move.scenario] = Answered(one.scenario, replace(one.row, goals=(moved,)))
    return sides[made[0].scenario.label], sides[made[1].scenario.label]


@given(ENDS, st.sampled_from(["maximise", "minimise"]))
def test_each_effort_alone_is_enough(ends: tuple[float, float, float, float], sense: str) -> None:
    start, width, shift, other = ends
    sign = 1.0 if sense == "maximise" else -1.0
    rows = [
        row(certificate(low, low + sign * gap, sense=sense), key=key)
        for low, gap, key in ((start, width, "a"), (start + shift, other, "b"))
    ]
    made = (answered(rows[0], "A"), answered(rows[1], "B"))
    found = difference(*made, "value")
    assume(found.finding is Finding.not_distinguishable)
    single = [effort for effort in found.efforts if len(effort.moves) == 1]
    for effort in single:
        assert difference(*after(made, effort, sense), "value").finding.value == effort.proves


@pytest.mark.parametrize("sense", ["maximise", "minimise"])
def test_two_moves_that_pass_each_other_decide(sense: str) -> None:
    sign = 1.0 if sense == "maximise" else -1.0
    made = (
        answered(row(certificate(1000.0, 1000 + sign * 20, sense=sense)), "A"),
        answered(row(certificate(1000 + sign * 5, 1000 + sign * 12, sense=sense)), "B"),
    )
    both = [effort for effort in difference(*made, "value").efforts if len(effort.moves) == 2]
    assert [effort.proves for effort in both] == []
    wide = (made[0], answered(row(certificate(1000 - sign * 9, 1000 + sign * 12, sense=sense)), "B"))
    (effort,) = [effort for effort in difference(*wide, "value").efforts if len(effort.moves) == 2]
    assert effort.proves == "better"
    assert difference(*after(wide, effort, sense), "value").finding is Finding.better
