"""Conformal intervals: the order statistic that they are, and how often they cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from models.runtime.evaluation.baselines import LogRidge, best_rate
from models.runtime.evaluation.conformal import (
    conformal_quantile,
    coverage,
    enough,
    group_quantile,
    group_quantile_or_widest,
    jackknife_plus,
    quantile_or_normal,
    scores,
    stands_out,
)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_the_quantile_is_the_order_statistic_of_the_definition(found: list[float], level: float) -> None:
    rank = math.ceil((len(found) + 1) * level - 1e-12)
    expected = sorted(found)[rank - 1] if rank <= len(found) else math.inf
    assert conformal_quantile(np.array(found), level) == expected
    assert enough(len(found), level) == math.isfinite(expected)


def test_nine_scores_are_the_fewest_for_ninety_per_cent() -> None:
    assert conformal_quantile(np.arange(9.0), 0.9) == 8.0
    assert conformal_quantile(np.arange(8.0), 0.9) == math.inf


def test_with_too_few_scores_the_normal_law_or_the_largest_score_stands_in() -> None:
    assert quantile_or_normal(np.array([0.5]), 0.9) == pytest.approx(1.64485)
    assert quantile_or_normal(np.array([0.5, 3.0]), 0.9) == 3.0
    assert quantile_or_normal(np.zeros(0), 0.6827) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 2.0])
def test_a_level_outside_the_unit_interval_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        conformal_quantile(np.ones(5), level)
    with pytest.raises(ValueError, match="level"):
        jackknife_plus(np.ones(5), np.ones(5), level)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="score"):
        conformal_quantile(np.array([1.0, math.nan]), 0.9)
    with pytest.raises(ValueError, match="predictions"):
        jackknife_plus(np.ones(3), np.ones(4), 0.9)


def test_split_conformal_covers_as_it_says_whatever_the_law() -> None:
    """Student's t with 2 degrees of freedom has no variance; the coverage is Beta distributed around 0.9 all the same."""
    rng = np.random.default_rng(7)
    hits = []
    for _ in range(400):
        spread = rng.uniform(0.02, 0.2, 31)
        ratio = spread * rng.standard_t(2, 31)
        quantile = conformal_quantile(scores(ratio[:30], spread[:30]), 0.9)
        hits.append(abs(ratio[30]) <= quantile * spread[30])
    assert 0.87 <= np.mean(hits) <= 0.95


def test_jackknife_plus_of_a_mean_covers_as_it_says() -> None:
    """The model is the mean of the others: the interval of a new value from leave-one-out means."""
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(400):
        values, new = rng.standard_t(3, 25), rng.standard_t(3)
        left_out = (values.sum() - values) / 24
        low, high = jackknife_plus(left_out, np.abs(values - left_out), 0.9)
        hits.append(low <= new <= high)
    assert 0.86 <= np.mean(hits) <= 0.96


def test_jackknife_plus_with_one_model_for_all_is_split_conformal() -> None:
    margins = np.array([0.1, 0.4, 0.2, 0.3, 0.5, 0.9, 0.8, 0.7, 0.6])
    low, high = jackknife_plus(np.full(9, 2.0), margins, 0.9)
    assert (low, high) == pytest.approx((2.0 - 0.9, 2.0 + 0.9))


def test_coverage_counts_the_ends_in() -> None:
    assert coverage(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.5, 3.0, 0.0]), np.array([1.5, 3.0, 3.0, 3.0])) == 0.5
    assert math.isnan(coverage(np.zeros(0), np.zeros(0), np.zeros(0)))


def test_the_best_rate_is_the_best_of_all_constants() -> None:
    rng = np.random.default_rng(5)
    flops, seconds = rng.lognormal(20, 2, 31), rng.lognormal(0, 1, 31)

    def error(rate: float) -> float:
        return float(np.median(np.abs(flops / (rate * seconds) - 1)))

    found = error(best_rate(flops, seconds))
    assert found <= min(error(rate) for rate in np.geomspace(flops.min() / seconds.max(), flops.max() / seconds.min(), 4000)) * 1.02


def test_log_ridge_recovers_a_power_law_and_survives_a_constant_feature() -> None:
    rng = np.random.default_rng(2)
    features = np.column_stack([rng.normal(0, 2, (40, 3)), np.ones(40)])
    seconds = np.exp(features @ np.array([0.5, -1.0, 0.0, 0.0]) + 2.0)
    assert LogRidge.fit(features, seconds).predict(features) == pytest.approx(seconds, rel=0.01)


def test_groups_count_once_however_many_scores_they_have() -> None:
    groups = [np.full(1000, 1.0), np.array([2.0]), np.array([3.0, 3.5]), np.array([4.0]), np.array([9.0])]
    assert group_quantile(groups, 0.5) == 3.5  # 3 of 6 groups lie below, the new one being the sixth
    assert group_quantile(groups, 0.4) == 3.0
    assert group_quantile(groups, 0.8) == 9.0
    assert group_quantile(groups[:4], 0.8) == 4.0
    assert group_quantile(groups[:3], 0.8) == math.inf
    assert group_quantile_or_widest(groups[:3], 0.8, 2.5) == 3.5
    assert group_quantile_or_widest([], 0.8, 2.5) == 2.5


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.floats(0.05, 0.95))
def test_groups_of_one_score_are_scores(found: list[float], level: float) -> None:
    assert group_quantile([np.array([one]) for one in found], level) == conformal_quantile(np.array(found), level)


@given(st.lists(st.lists(st.floats(0, 10), min_size=1, max_size=8), min_size=1, max_size=12), st.floats(0.05, 0.95))
def test_the_group_quantile_is_the_least_that_its_definition_allows(found: list[list[float]], level: float) -> None:
    groups = [np.array(one) for one in found]

    def share(at: float) -> float:
        return math.fsum(float(np.mean(one <= at)) for one in groups) / (len(groups) + 1)

    told = group_quantile(groups, level)
    if math.isinf(told):
        assert len(groups) / (len(groups) + 1) < level + 1e-9
    else:
        assert share(told) >= level - 1e-6
        assert all(share(one) < level + 1e-6 for one in {float(value) for group in groups for value in group} if one < told)


def test_a_group_without_scores_is_refused() -> None:
    with pytest.raises(ValueError, match="no scores"):
        group_quantile([np.ones(3), np.zeros(0)], 0.8)
    with pytest.raises(ValueError, match="score"):
        group_quantile([np.array([math.nan])], 0.8)


def test_the_group_quantile_covers_new_groups_where_pooled_scores_do_not() -> None:
    """Six groups of forty runs, alike within and unlike between: the next run is of a seventh."""
    rng = np.random.default_rng(11)
    pooled, grouped = [], []
    for _ in range(1500):
        size = np.exp(rng.standard_normal(7))
        runs = np.abs(size[:, None] * (1 + 0.1 * rng.standard_normal((7, 40))))
        known, new = list(runs[:6]), runs[6, 0]
        pooled.append(new <= conformal_quantile(np.concatenate(known), 0.8))
        grouped.append(new <= group_quantile(known, 0.8))
    assert np.mean(pooled) < 0.76
    assert 0.8 <= np.mean(grouped) < 0.9


def test_what_stands_out_is_larger_beyond_chance() -> None:
    rng = np.random.default_rng(2)
    quiet = [np.abs(rng.standard_normal(30)) for _ in range(18)]
    loud = [3.0 + np.abs(rng.standard_normal(30)) for _ in range(6)]
    assert stands_out(loud, quiet, 0.8)
    assert not stands_out(quiet, loud, 0.8)
    assert not stands_out(loud, [], 0.8)
    assert not stands_out([], quiet, 0.8)
    told = [
        stands_out(groups[:6], groups[6:], 0.8) for groups in ([np.abs(rng.standard_normal(20)) for _ in range(24)] for _ in range(400))
    ]
    assert 0.02 < np.mean(told) < 0.09


def test_the_rank_sum_is_that_of_scipy() -> None:
    rng = np.random.default_rng(5)
    for shift in np.linspace(0.0, 1.5, 12):
        own, others = rng.standard_normal(7) + shift + 5, rng.standard_normal(15) + 5
        chance = mannwhitneyu(own, others, alternative="greater", method="asymptotic", use_continuity=False).pvalue
        assert stands_out([np.array([one]) for one in own], [np.array([one]) for one in others], 0.5) == (chance < 0.05)
