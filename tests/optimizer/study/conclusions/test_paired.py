"""Statistics over replicates: what is certain of these, what is likely of all."""

from __future__ import annotations

import json
import math
import random
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optimizer.study.conclusions.intervals import Interval
from optimizer.study.conclusions.paired import Paired, combinations, drawn_axes, mean_value, paired, student_interval
from optimizer.study.rows import Answered, Change, Row
from optimizer.study.schema import Study
from tests.optimizer.study.tables import INF, answered, infeasible, no_plan, proved


def pairs(base: list[Row], other: list[Row]) -> list[Answered]:
    rows = []
    for replicate, (one, two) in enumerate(zip(base, other, strict=True)):
        rows.append(answered(one, "A", replicate=replicate, values={"x": 0, "drawn": replicate / 7}, baseline=True))
        rows.append(answered(two, "B", replicate=replicate, values={"x": 1, "drawn": replicate / 7}, spend_usd=100.0))
    return rows


def only(base: list[Row], other: list[Row]) -> Paired:
    (found,) = paired(pairs(base, other), "value", drawn={"drawn"})
    return found


def test_combinations_leave_drawn_values_out() -> None:
    grouped = combinations(pairs([proved(1.0), proved(2.0)], [proved(3.0), proved(5.0)]), {"drawn"})
    assert [(one.label, one.values, sorted(one.rows)) for one in grouped] == [("baseline", {"x": 0}, [0, 1]), ("x=1", {"x": 1}, [0, 1])]
    assert grouped[1].spend_usd == 100.0
    plans, optimum = mean_value(grouped[1], "value")
    assert plans == 4.0
    assert optimum is not None
    assert 4.0 in optimum
    assert len(combinations(pairs([proved(1.0)] * 2, [proved(3.0)] * 2))) == 4


def test_which_axes_are_drawn() -> None:
    edit = {"at": "/x", "to": "$value"}
    axes = [
        {"name": "demand", "draw": {"distribution": "uniform", "least": 0, "most": 1}, "edits": [edit]},
        {"name": "x", "values": [1, 2], "edits": [edit]},
    ]
    study = {"name": "s", "kind": "program", "base": {"problem": {}}, "axes": axes}
    assert drawn_axes(Study.model_validate(study)) == {"demand"}
    sampled = study | {"combine": {"how": "latin_hypercube", "samples": 4}}
    assert drawn_axes(Study.model_validate(sampled)) == frozenset()


def test_closed_gaps_give_the_textbook_numbers() -> None:
    rng = random.Random(1)
    base = [100 + rng.gauss(0, 5) for _ in range(12)]
    gains = [3 + rng.gauss(0, 2) for _ in range(12)]
    found = only([proved(one) for one in base], [proved(one + gain) for one, gain in zip(base, gains, strict=True)])
    wanted = stats.t.interval(0.95, 11, loc=statistics.fmean(gains), scale=statistics.stdev(gains) / math.sqrt(12))
    for interval in (found.confidence, found.plans_confidence):
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx(wanted, abs=2e-3)
    assert found.mean is not None
    assert statistics.fmean(gains) in found.mean
    assert found.mean.width < 2e-3
    assert found.ranks == pytest.approx(stats.wilcoxon(gains, method="exact").pvalue)
    assert found.wins + found.losses == 12
    assert found.sign == pytest.approx(stats.binomtest(found.wins, 12).pvalue)


SPANS = st.lists(st.tuples(st.floats(-100, 100), st.floats(0, 30), st.floats(0, 1)), min_size=2, max_size=6)


@given(SPANS, SPANS)
def test_intervals_hold_those_of_any_optima_in_the_gaps(
    base: list[tuple[float, float, float]], other: list[tuple[float, float, float]]
) -> None:
    count = min(len(base), len(other))
    rows = [
        [proved(low, low + gap, key=f"{name}{place}") for place, (low, gap, _) in enumerate(side[:count])]
        for name, side in (("a", base), ("b", other))
    ]
    optima = [[low + gap * share for low, gap, share in side[:count]] for side in (base, other)]
    gains = [theirs - mine for mine, theirs in zip(*optima, strict=True)]
    found = only(*rows)
    assert found.mean is not None
    assert found.mean.low <= statistics.fmean(gains) <= found.mean.high
    student = student_interval(gains)
    assert found.confidence is not None
    assert found.confidence.low <= student.low
    assert student.high <= found.confidence.high
    assert found.wins <= sum(gain > 0 for gain in gains)
    assert found.losses <= sum(gain < 0 for gain in gains)


def test_one_replicate_gives_no_statistics() -> None:
    found = only([proved(100.0)], [proved(103.0)])
    assert (found.confidence, found.plans_confidence, found.sign, found.ranks) == (None, None, None, None)
    assert found.text == "x=1: the difference from the baseline in value is +3, +3% (certain). One replicate gives no statistics."
    with pytest.raises(ValueError, match="one value"):
        student_interval([1.0])


def test_pairs_that_are_missing_are_told() -> None:
    found = only([proved(100.0), proved(101.0), proved(100.0)], [infeasible(), proved(103.0), proved(104.0)])
    assert (found.pairs, found.unpaired) == (2, 1)
    assert "1 replicate is left out" in found.text
    nothing = only([proved(100.0)], [no_plan()])
    assert nothing.mean is None
    assert "Nothing is known of x=1 against the baseline in value" in nothing.text


def test_a_missing_bound_leaves_the_mean_open() -> None:
    found = only([proved(100.0), proved(100.0)], [proved(103.0), proved(103.0, INF)])
    assert found.mean is not None
    assert found.mean.high == INF
    assert found.confidence is None
    assert found.plans_confidence is not None
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["mean"][1] is None


def test_many_comparisons_are_corrected() -> None:
    rows = pairs([proved(100.0 + one) for one in range(6)], [proved(105.0 + 2 * one) for one in range(6)])
    more = [
        replace(one, scenario=replace(one.scenario, values={**one.scenario.values, "x": 2}, changes=(Change("set", "/y", one.row.key),)))
        for one in rows
        if not one.scenario.is_baseline
    ]
    alone, (first, second) = paired(rows, "value", drawn={"drawn"})[0], paired([*rows, *more], "value", drawn={"drawn"})
    assert alone.sign == 0.03125
    assert first.sign == second.sign == 0.0625
    assert "better in 6, worse in 0, equal in 0 and undecided in 0 of 6 replicates" in first.text


def test_the_same_problem_in_every_replicate_is_no_difference() -> None:
    change = (Change("set", "/x", 1),)
    rows = [replace(one, scenario=replace(one.scenario, changes=change)) for one in pairs([proved(1.0, 9.0)] * 3, [proved(2.0, 8.0)] * 3)]
    (found,) = paired(rows, "value", drawn={"drawn"})
    assert found.relative == Interval(0.0, 0.0)
    assert (found.ties, found.undecided) == (3, 0)


def test_without_a_baseline_there_is_nothing_to_pair() -> None:
    assert paired([answered(proved(1.0))], "value") == ()
