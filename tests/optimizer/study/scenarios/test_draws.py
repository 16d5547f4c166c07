"""Random numbers that depend on nothing but what they are for, and the distributions that they are turned into."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from optimizer.study.scenarios import draws
from optimizer.study.schema import Draw

SAMPLES = 2_000

CASES: list[tuple[dict[str, Any], Any]] = [
    ({"distribution": "uniform", "least": -2, "most": 5}, stats.uniform(-2, 7)),
    ({"distribution": "normal", "mean": 10, "deviation": 3}, stats.norm(10, 3)),
    ({"distribution": "normal", "mean": 10, "deviation": 3, "least": 8, "most": 20}, stats.truncnorm(-2 / 3, 10 / 3, 10, 3)),
    ({"distribution": "triangular", "least": 1, "mode": 2, "most": 6}, stats.triang(0.2, 1, 5)),
    ({"distribution": "triangular", "least": 1, "mode": 1, "most": 6}, stats.triang(0, 1, 5)),
    ({"distribution": "exponential", "mean": 4}, stats.expon(scale=4)),
    ({"distribution": "weibull", "shape": 1.7, "scale": 3}, stats.weibull_min(1.7, scale=3)),
    ({"distribution": "poisson", "mean": 3.5}, stats.poisson(3.5)),
    ({"distribution": "poisson", "mean": 90_000}, stats.poisson(90_000)),
    ({"distribution": "bernoulli", "mean": 0.3}, stats.bernoulli(0.3)),
]


def drawn(given: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    draw = Draw.model_validate(given)
    return np.array([draws.quantile(draw, u) for u in draws.strata(7, "x", 0, SAMPLES)])


@pytest.mark.parametrize(("given", "known"), CASES)
def test_quantiles_and_moments_are_those_of_the_distribution(given: dict[str, Any], known: Any) -> None:
    draw = Draw.model_validate(given)
    for u in (1e-9, 0.01, 0.2, 0.5, 0.7123, 0.95, 1 - 1e-9):
        assert draws.quantile(draw, u) == pytest.approx(known.ppf(u), rel=1e-7, abs=1e-7)
    values = drawn(given)
    assert values.mean() == pytest.approx(known.mean(), abs=0.01 * known.std())
    assert values.std() == pytest.approx(known.std(), rel=0.02)


def test_lognormal_has_the_mean_and_deviation_that_are_given() -> None:
    given = {"distribution": "lognormal", "mean": 1.2, "deviation": 0.3}
    spread = math.sqrt(math.log1p(0.3**2 / 1.2**2))
    known = stats.lognorm(spread, scale=1.2 * math.exp(-(spread**2) / 2))
    assert known.mean() == pytest.approx(1.2)
    assert known.std() == pytest.approx(0.3)
    assert draws.quantile(Draw.model_validate(given), 0.9) == pytest.approx(known.ppf(0.9))
    assert drawn(given).mean() == pytest.approx(1.2, rel=1e-3)
    assert drawn(given).std() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize(
    "given",
    [
        {"distribution": "normal", "mean": 0, "deviation": 1, "least": 2.5},
        {"distribution": "lognormal", "mean": 1, "deviation": 1, "least": 0.5, "most": 1.5},
        {"distribution": "exponential", "mean": 1, "most": 0.5},
        {"distribution": "weibull", "shape": 2, "scale": 1, "least": 0.2},
        {"distribution": "poisson", "mean": 4, "least": 2, "most": 6},
    ],
)
def test_cut_distributions_stay_between_their_ends_and_pile_up_at_none(given: dict[str, Any]) -> None:
    values = drawn(given)
    least, most = given.get("least", -math.inf), given.get("most", math.inf)
    assert values.min() >= least
    assert values.max() <= most
    if given["distribution"] == "poisson":
        known = stats.poisson(4)
        inside = known.cdf(6) - known.cdf(1)
        assert [(values == k).mean() for k in range(2, 7)] == pytest.approx([known.pmf(k) / inside for k in range(2, 7)], abs=1e-3)
    else:
        assert len(np.unique(values)) == SAMPLES


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([Draw.model_validate(given) for given, _ in CASES]), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_a_larger_number_never_gives_a_smaller_value(draw: Draw, u: float) -> None:
    assert draws.quantile(draw, u) <= draws.quantile(draw, math.nextafter(u + (1 - u) / 2, 0))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"distribution": "normal", "mean": 1}, "needs deviation"),
        ({"distribution": "uniform"}, "needs least and most"),
        ({"distribution": "uniform", "least": 1, "most": 1}, "not below"),
        ({"distribution": "triangular", "least": 0, "most": 1, "mode": 2}, "mode is not between"),
        ({"distribution": "exponential", "mean": 1, "shape": 2}, "has no shape"),
        ({"distribution": "exponential", "mean": 0}, "above 0"),
        ({"distribution": "bernoulli", "mean": 1.5}, "probability"),
        ({"distribution": "bernoulli", "mean": 0.5, "least": 0}, "has no least"),
        ({"distribution": "poisson", "mean": -1}, "from 0 to 1,000,000"),
        ({"distribution": "normal", "mean": 0, "deviation": 1, "least": 9}, "almost never"),
        ({"distribution": "normal", "mean": 0, "deviation": 0, "least": -1}, "without deviation"),
        ({"distribution": "lognormal", "mean": -1, "deviation": 1}, "above 0"),
        ({"distribution": "normal", "mean": math.nan, "deviation": 1}, "finite"),
    ],
)
def test_a_draw_that_is_none_says_what_is_wrong(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Draw.model_validate(given)


def test_a_draw_without_deviation_is_its_mean() -> None:
    assert set(drawn({"distribution": "normal", "mean": 2, "deviation": 0})) == {2.0}
    assert set(drawn({"distribution": "poisson", "mean": 0})) == {0.0}


def test_numbers_are_the_same_on_every_machine() -> None:
    # What a hash gives is known: a change here changes every study.
    assert draws.uniform(0, "growth", "draw", 0) == 0.42046716159048797
    assert draws.uniform(0, "growth", "draw", 0) != draws.uniform(1, "growth", "draw", 0)
    assert draws.solver_seed(17, 0) == 17
    assert draws.solver_seed(17, 1) == 32883878


def test_uniform_numbers_are_uniform() -> None:
    numbers = [draws.uniform(3, "a", "draw", replicate) for replicate in range(5_000)]
    assert stats.kstest(numbers, "uniform").pvalue > 0.001
    beside = [draws.uniform(3, "b", "draw", replicate) for replicate in range(5_000)]
    assert abs(np.corrcoef(numbers, beside)[0, 1]) < 0.05


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(0, 5))
def test_a_latin_hypercube_has_one_sample_in_each_stratum(samples: int, replicate: int) -> None:
    parts = draws.strata(1, "x", replicate, samples)
    assert sorted(np.floor(parts * samples).astype(int)) == list(range(samples))
    assert ((parts > 0) & (parts < 1)).all()


def test_replicates_and_axes_have_permutations_of_their_own() -> None:
    orders = [tuple(np.argsort(draws.strata(1, axis, replicate, 50))) for axis in ("x", "y") for replicate in range(3)]
    assert len(set(orders)) == 6


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=3), unique=True, min_size=1, max_size=20), st.integers(0, 3))
def test_picks_are_nested_and_depend_on_each_place_alone(keys: list[str], replicate: int) -> None:
    order = [keys[position] for position in draws.ranked(keys, 0, "fail", replicate)]
    assert sorted(order) == sorted(keys)
    fewer = keys[: len(keys) // 2 + 1]
    assert [fewer[position] for position in draws.ranked(fewer, 0, "fail", replicate)] == [key for key in order if key in set(fewer)]
    one, two = (set(draws.below(keys, share, 0, "fail", replicate)) for share in (0.3, 0.6))
    assert one <= two
    assert draws.below(keys, 1.0, 0, "fail", replicate) == list(range(len(keys)))
    assert draws.below(keys, 0.0, 0, "fail", replicate) == []


def test_each_place_is_picked_as_often_as_any_other() -> None:
    keys = [f"n{index}" for index in range(10)]
    first = np.bincount([draws.ranked(keys, 0, "fail", replicate)[0] for replicate in range(4_000)], minlength=10)
    assert stats.chisquare(first).pvalue > 0.001
    counts = [len(draws.below(keys, 0.2, 0, "fail", replicate)) for replicate in range(2_000)]
    assert np.mean(counts) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(
    "fields",
    [
        {"distribution": "weibull", "scale": 2.2e-16, "least": 5e16, "shape": 4.5e307},
        {"distribution": "weibull", "scale": 1e-15, "most": 1e15, "shape": 2_000.0},
        {"distribution": "lognormal", "mean": 1e-300, "deviation": 1.0},
        {"distribution": "normal", "mean": 1e300, "deviation": 1.0},
    ],
)
def test_parameters_that_no_double_can_carry_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"in size from|less than or equal"):
        Draw.model_validate(fields)


def test_a_weibull_draw_of_a_steep_shape_keeps_to_its_scale() -> None:
    steep = Draw.model_validate({"distribution": "weibull", "scale": 1e-15, "shape": 1_000.0, "most": 1e15})
    assert draws.quantile(steep, 0.5) == pytest.approx(1e-15, rel=1e-2)
