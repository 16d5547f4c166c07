"""The paragraph, and the numbers that it is made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.study.conclusions.advice import Advice, advise
from optimizer.study.conclusions.differences import Finding
from optimizer.study.rows import Answered, Row
from optimizer.study.schema import Gate
from tests.optimizer.study.tables import answered, certificate, infeasible, no_plan, proved, row


def gpus(objective: float, bound: float | None = None, sense: str = "maximise", **metrics: float) -> Row:
    return row(certificate(objective, objective if bound is None else bound, "placed", sense, "GPUs"), metrics=metrics)


def nodes(rows: dict[int, Row], usd_each: float = 100.0, replicate: int = 0) -> list[Answered]:
    """An axis of nodes to buy; none of them is the baseline."""
    return [
        answered(one, f"{count}", values={"nodes": count}, spend_usd=count * usd_each, baseline=count == 0, replicate=replicate)
        for count, one in rows.items()
    ]


def test_a_clear_case() -> None:
    table = nodes({0: gpus(100), 8: gpus(150), 16: gpus(160), 32: gpus(162, 163)})
    advice = advise(table)
    assert (advice.best, advice.certain, advice.tied) == ("nodes=32", True, ())
    assert advice.against_baseline is not None
    assert advice.against_baseline.finding is Finding.better
    assert advice.per_dollar[0].label == "nodes=8"
    assert [one.label for one in advice.per_dollar] == ["nodes=8", "nodes=16", "nodes=32"]
    (returns,) = advice.returns
    assert (returns.numbers, returns.fades_at) == ((0.0, 8.0, 16.0, 32.0), 8.0)
    assert returns.steps[0].low == pytest.approx(50 / 8, abs=1e-3)
    assert advice.paragraph == (
        "Take nodes=32, for 3,200 USD: it beats the baseline by 61.9% to 63.1% in placed (certain). "
        "No other scenario can be as good (certain). "
        "A dollar buys most with nodes=8: 62.5 GPUs for each 1,000 USD (certain). "
        "Returns diminish along nodes: up to 8 each unit gains 6.25 GPUs, beyond 8 it gains 0.124 to 1.26 GPUs (certain)."
    )


def test_what_is_still_open_is_said_with_what_decides_it() -> None:
    advice = advise(nodes({0: gpus(100, 101), 8: gpus(150, 155), 16: gpus(152, 158)}))
    assert (advice.best, advice.certain, advice.tied) == ("nodes=16", False, ("nodes=8",))
    assert "nodes=8 may be better still: not distinguishable at these limits." in advice.paragraph
    assert "Next: a longer time limit for nodes=8 or nodes=16 would decide between nodes=16 and nodes=8." in advice.paragraph


def test_of_equals_the_cheapest() -> None:
    advice = advise(nodes({0: gpus(100), 8: gpus(150), 16: gpus(150.0001)}))
    assert (advice.best, advice.certain, advice.tied) == ("nodes=8", True, ("nodes=16",))
    assert "nodes=16 is as good within the tolerance (certain)." in advice.paragraph


def test_nothing_beats_the_baseline() -> None:
    advice = advise(nodes({0: gpus(100), 8: gpus(90)}))
    assert advice.best == "baseline"
    assert advice.against_baseline is None
    assert advice.paragraph.startswith("Stay with the baseline: no other scenario has plans with a better placed than its 100 GPUs.")
    unsure = advise(nodes({0: gpus(100, 120), 8: gpus(101, 120)}))
    assert unsure.paragraph == (
        "Of the plans found, nodes=8 has the best placed: 101 GPUs, for 800 USD. "
        "It is not proved to beat the baseline: its advantage lies between -15.9% and +20.1%. "
        "Next: a longer time limit for baseline or nodes=8 would decide between nodes=8 and baseline."
    )


def test_a_cost_is_to_be_small() -> None:
    advice = advise(nodes({0: gpus(100, sense="minimise"), 8: gpus(80, 79, sense="minimise"), 16: gpus(90, sense="minimise")}))
    assert advice.best == "nodes=8"
    assert "it beats the baseline by 19.9% to 21.1% in placed (certain)" in advice.paragraph
    assert advice.per_dollar[0].label == "nodes=8"


def test_gates_and_scenarios_without_plans() -> None:
    table = nodes({0: gpus(100, used=1), 8: gpus(150, used=5), 16: gpus(160, used=9), 24: infeasible(), 32: no_plan()})
    advice = advise(table, (Gate(name="small", metric="used", at_most=6), Gate(name="keep", metric="placed", fall_at_most=0.01)))
    assert advice.best == "nodes=8"
    assert advice.failing == {"nodes=16": ("small",), "nodes=24": ("small", "keep")}
    assert advice.open_gates == {"nodes=32": ("small", "keep")}
    assert (advice.infeasible, advice.unanswered) == (("nodes=24",), ("nodes=32",))
    assert "Gates: nodes=8 passes every gate; nodes=16 fails small; nodes=24 fails small and keep." in advice.paragraph
    assert "No plan exists (proved, in at least one replicate) for nodes=24." in advice.paragraph
    nobody = advise(table, (Gate(metric="used", at_most=0.5),))
    assert nobody.best is None
    assert nobody.paragraph.startswith("No scenario can be recommended")


def test_no_plan_anywhere() -> None:
    assert advise(nodes({0: infeasible(), 8: infeasible("b")})).paragraph.startswith("No scenario has any plan (proved)")
    late = advise(nodes({0: infeasible(), 8: no_plan()}))
    assert late.paragraph.startswith("No scenario has a plan yet")
    assert (late.infeasible, late.unanswered) == (("baseline",), ("nodes=8",))


def test_replicates_are_averaged() -> None:
    table = [
        line
        for replicate, shift in enumerate((0.0, 5.0, 9.0))
        for line in nodes({0: gpus(100 + shift), 8: gpus(150 + 2 * shift, 151 + 2 * shift)}, replicate=replicate)
    ]
    advice = advise(table)
    assert advice.best == "nodes=8"
    assert "(certain, in the mean of 3 replicates)" in advice.paragraph
    one_lost = [line if line.scenario.id != "8-1" else replace(line, row=infeasible()) for line in table]
    assert advise(one_lost).best == "baseline"


def test_samples_of_other_replicates_are_not_compared() -> None:
    base = [line for replicate in (0, 1) for line in nodes({0: gpus(100, 101)}, replicate=replicate)]
    advice = advise([*base, *nodes({8: gpus(150)}), *nodes({9: gpus(120)}, replicate=1)])
    assert (advice.best, advice.certain, advice.tied) == ("nodes=8", False, ("nodes=9",))
    assert "Nothing is certain between it and nodes=9, which have no replicate in common with it." in advice.paragraph


def test_nothing_is_certain_of_what_is_not_known_yet() -> None:
    advice = advise([*nodes({0: gpus(10), 8: gpus(12)}), answered(no_plan(), "9", values={"nodes": 9})])
    assert (advice.best, advice.certain, advice.unanswered) == ("nodes=8", False, ("nodes=9",))
    assert "No other scenario that can be recommended can be as good (certain)." in advice.paragraph


def test_who_fails_a_gate_may_have_better_plans() -> None:
    table = nodes({0: gpus(10, power=1), 8: gpus(12, power=5), 9: gpus(9, power=1)})
    advice = advise(table, [Gate(metric="power", at_most=3)])
    assert (advice.best, advice.certain) == ("baseline", True)
    assert advice.paragraph.startswith(
        "Stay with the baseline: no other scenario that can be recommended has plans with a better placed than its 10 GPUs. "
        "No other scenario that can be recommended can be as good (certain)."
    )


def test_the_cheapest_of_equals_need_not_have_the_best_plans() -> None:
    advice = advise(nodes({0: gpus(100, 100.001), 8: gpus(100.0005, 100.001)}))
    assert (advice.best, advice.tied) == ("baseline", ("nodes=8",))
    assert "a better placed than its 100 GPUs, but by the tolerance." in advice.paragraph


def test_a_mean_is_told_of_the_replicates_that_it_is_of() -> None:
    """Nine replicates of the second are still missing."""
    base = [line for replicate in range(10) for line in nodes({0: gpus(10 + replicate), 9: gpus(9)}, replicate=replicate)]
    advice = advise([*base, *nodes({8: gpus(50)})])
    assert (advice.best, advice.certain, advice.returns) == ("nodes=8", False, ())
    assert "it beats the baseline by 400% in placed (certain, in the one replicate that both have)." in advice.paragraph
    assert "No other scenario can be as good (certain, in the replicates that both have)." in advice.paragraph


def test_samples_with_the_same_values_are_one_combination_to_the_gates() -> None:
    lines = [answered(gpus(5), name, values={"nodes": 8}, changes=()) for name in ("first", "second")]
    advice = advise([*nodes({0: gpus(10)}), *lines], [Gate(metric="placed", fall_at_most=0.1)])
    assert advice.failing == {"nodes=8": ("placed falls by at most 10%",)}


def test_dollars_beyond_all_doubles() -> None:
    lines = [line for replicate in (0, 1, 2) for line in nodes({0: gpus(10), 8: gpus(12)}, usd_each=2e307, replicate=replicate)]
    assert advise(lines).best == "nodes=8"
    assert advise(nodes({0: gpus(10), 8: gpus(12)}, usd_each=1e308)).per_dollar == ()


ROWS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0.0, 0.0, 1.0, 7.0]), st.floats(0, 1)), min_size=2, max_size=5)


def _truth(advice: Advice, optima: Sequence[float]) -> None:
    """Everything that is called certain, against the optima."""
    labels = ["baseline", *(f"nodes={place}" for place in range(1, len(optima)))]
    known = dict(zip(labels, optima, strict=True))
    assert advice.best is not None
    best = known[advice.best]
    if advice.certain:
        assert best >= max(optima) - 1e-4 * max(1.0, *optima)
    for label, value in known.items():
        assert label in (advice.best, *advice.tied) or value < best
    if advice.against_baseline is not None and advice.against_baseline.finding is Finding.better:
        assert best > optima[0]
        assert advice.against_baseline.gain.low <= best - optima[0] <= advice.against_baseline.gain.high
    for one in advice.per_dollar:
        assert one.per_usd.low <= (known[one.label] - optima[0]) / one.extra_usd <= one.per_usd.high
    for returns in advice.returns:
        for step, (less, more) in zip(returns.steps, itertools.pairwise(optima), strict=True):
            assert step.low <= more - less <= step.high


@given(ROWS)
def test_nothing_in_the_advice_is_false(rows: list[tuple[int, float, float]]) -> None:
    made = {place: proved(float(low), low + gap, key=str(place)) for place, (low, gap, _) in enumerate(rows)}
    optima = [low + gap * share for low, gap, share in rows]
    advice = advise(nodes(made))
    _truth(advice, optima)
    assert advice.paragraph.endswith(".")
