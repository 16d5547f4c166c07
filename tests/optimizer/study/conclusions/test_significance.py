"""Against scipy, and against trying out every outcome."""

from __future__ import annotations

import itertools
import random

import pytest
from scipy import stats

from optimizer.study.conclusions.significance import holm, sign_test, sign_test_with_open, signed_rank_test, student_quantile, student_tail


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 10, 29, 99, 1000, 9999])
def test_student(degrees: int) -> None:
    for probability in (0.975, 0.95, 0.995, 0.6, 0.025, 1e-6, 0.9999999):
        assert student_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-9)
    for t in (0.0, 0.1, 1.0, 3.0, 40.0):
        assert student_tail(t, degrees) == pytest.approx(stats.t.sf(t, degrees), rel=1e-9, abs=1e-300)
    assert student_quantile(0.5, degrees) == 0.0


@pytest.mark.parametrize(("probability", "degrees"), [(0.0, 3), (1.0, 3), (0.9, 0)])
def test_no_quantile(probability: float, degrees: float) -> None:
    with pytest.raises(ValueError, match="degrees of freedom"):
        student_quantile(probability, degrees)


def test_signs() -> None:
    for wins, losses in itertools.product(range(7), repeat=2):
        wanted = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        assert sign_test(wins, losses) == pytest.approx(wanted, rel=1e-12)
    assert sign_test(6_000, 4_000) == pytest.approx(stats.binomtest(6_000, 10_000).pvalue, rel=1e-9)


def test_signs_with_open_ones_are_the_worst_case() -> None:
    for wins, losses, undecided in itertools.product(range(6), repeat=3):
        worst = max(sign_test(wins + one, losses + two) for one in range(undecided + 1) for two in range(undecided + 1 - one))
        assert sign_test_with_open(wins, losses, undecided) == pytest.approx(worst, rel=1e-12)


@pytest.mark.parametrize("count", range(1, 11))
def test_ranks_with_ties_by_turning_every_difference(count: int) -> None:
    rng = random.Random(count)
    given = [rng.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0, 0.5]) for _ in range(count)]
    sizes = [abs(one) for one in given]
    ranks = [sum(other < one for other in sizes) + (sizes.count(one) + 1) / 2 for one in sizes]
    above = sum(rank for rank, one in zip(ranks, given, strict=True) if one > 0)
    least = min(above, sum(ranks) - above)
    turned = (sum(rank for rank, up in zip(ranks, signs, strict=True) if up) for signs in itertools.product((0, 1), repeat=count))
    wanted = min(1.0, 2 * sum(one <= least for one in turned) / 2**count)
    assert signed_rank_test([*given, 0.0, 0.0]) == pytest.approx(wanted, rel=1e-12)


def test_ranks_against_scipy() -> None:
    rng = random.Random(2)
    few, many = [rng.gauss(0.3, 1) for _ in range(40)], [rng.gauss(0.1, 1) for _ in range(400)]
    assert signed_rank_test(few) == pytest.approx(stats.wilcoxon(few, method="exact").pvalue, rel=1e-9)
    assert signed_rank_test(many) == pytest.approx(stats.wilcoxon(many, method="approx", correction=True).pvalue, rel=1e-9)
    assert signed_rank_test([]) == signed_rank_test([0.0]) == 1.0


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx((0.04, 0.09, 0.09, 0.5))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([]) == ()
