"""The estimator: known coefficients are found again, outliers do not move it, nothing becomes negative."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtime.calibration.fit import Jobs, Prior, fit


def made(seed: int, jobs: int = 40, coefficients: int = 8) -> tuple[Jobs, np.ndarray]:
    """Jobs that each use most coefficients, in amounts of very different size, and the true log coefficients."""
    rng = np.random.default_rng(seed)
    used = rng.random((jobs, coefficients)) < 0.7
    used[:, 0] = True
    return Jobs.plain(rng.lognormal(0, 2, (jobs, coefficients)) * used), rng.normal(0, 1, coefficients)


def test_known_coefficients_are_recovered() -> None:
    jobs, truth = made(1)
    found = fit(jobs, jobs.seconds(truth), Prior.independent(np.ones(8), 2.0), expected_scale=0.01)
    assert found.mean == pytest.approx(truth, abs=0.05)
    assert found.predict(jobs) == pytest.approx(jobs.seconds(truth), rel=0.01)


def test_products_of_coefficients_are_recovered_up_to_what_the_prior_must_tell() -> None:
    """Peak and efficiency are told apart only by the prior; their product is found."""
    jobs = Jobs(np.array([[1.0, 2.0], [3.0, 0.1], [0.2, 5.0]]), np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    truth = np.log(np.array([2.0, 3.0, 0.5]))
    found = fit(jobs, jobs.seconds(truth), Prior.independent(np.ones(3), np.array([0.01, 2.0, 2.0])), expected_scale=0.01)
    assert found.mean[0] + found.mean[1] == pytest.approx(truth[:2].sum(), abs=0.03)
    assert abs(found.mean[0]) < 0.01
    assert found.mean[2] == pytest.approx(truth[2], abs=0.03)


def test_outliers_do_not_move_it() -> None:
    jobs, truth = made(2)
    noise = np.exp(np.random.default_rng(3).normal(0, 0.02, 40))
    clean = jobs.seconds(truth) * noise
    spoilt = clean.copy()
    spoilt[[3, 17]] *= np.array([4.0, 0.2])
    prior = Prior.independent(np.ones(8), 2.0)
    without, found = fit(jobs, clean, prior), fit(jobs, spoilt, prior)
    assert np.all(found.weights[[3, 17]] < 0.05)
    others = np.delete(np.arange(40), [3, 17])
    assert found.predict(jobs)[others] == pytest.approx(without.predict(jobs)[others], rel=0.06)


@given(st.integers(0, 1000))
def test_coefficients_stay_positive_and_the_covariance_stays_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    jobs = Jobs.plain(rng.lognormal(0, 3, (6, 9)) * (rng.random((6, 9)) < 0.5) + 1e-6)
    found = fit(jobs, rng.lognormal(0, 3, 6), Prior.independent(np.ones(9), 1.0))
    assert np.all(found.coefficients > 0)
    assert np.all(np.isfinite(found.mean))
    assert np.all(np.linalg.eigvalsh(found.covariance) > 0)
    assert np.all(np.diag(found.covariance) <= 1.0 + 1e-9), "jobs never make one less sure"


def test_what_no_job_uses_keeps_its_prior() -> None:
    amounts = np.array([[1.0, 0.0], [2.0, 0.0]])
    found = fit(Jobs.plain(amounts), np.array([3.0, 6.0]), Prior.independent(np.array([1.0, 7.0]), 0.5))
    assert found.coefficients[1] == pytest.approx(7.0)
    assert found.covariance[1, 1] == pytest.approx(0.25)


def test_without_jobs_the_prior_is_returned() -> None:
    prior = Prior.independent(np.array([2.0, 3.0]), 0.3)
    found = fit(Jobs.plain(np.zeros((0, 2))), np.zeros(0), prior)
    assert found.coefficients == pytest.approx([2.0, 3.0])
    assert found.covariance == pytest.approx(prior.covariance)


def test_two_rungs_are_one_when_nothing_is_doubted_between() -> None:
    """The posterior of the first half as the prior of the second: the same as all at once, up to the linearisation."""
    jobs, truth = made(4, jobs=60, coefficients=4)
    seconds = jobs.seconds(truth) * np.exp(np.random.default_rng(9).normal(0, 0.01, 60))
    prior = Prior.independent(np.ones(4), 1.0)
    half = np.arange(60) < 30
    first = fit(jobs.only(half), seconds[half], prior, expected_scale=0.01)
    second = fit(jobs.only(~half), seconds[~half], first.prior(), expected_scale=0.01)
    assert second.mean == pytest.approx(fit(jobs, seconds, prior, expected_scale=0.01).mean, abs=0.02)


def test_the_posterior_covers_the_truth() -> None:
    """Standardised errors of the coefficients over many fits: near a standard normal."""
    errors = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        jobs, _ = made(seed, jobs=25, coefficients=5)
        truth = rng.normal(0, 0.7, 5)
        seconds = jobs.seconds(truth) * np.exp(rng.normal(0, 0.05, 25))
        found = fit(jobs, seconds, Prior.independent(np.ones(5), 0.7))
        errors.append((found.mean - truth) / np.sqrt(np.diag(found.covariance)))
    assert 0.8 <= np.std(errors) <= 1.25
    assert abs(np.mean(errors)) < 0.15


@pytest.mark.parametrize(
    ("seconds", "message"), [([1.0, 0.0], "positive"), ([1.0, -1.0], "positive"), ([1.0, np.nan], "finite"), ([1.0], "2 jobs")]
)
def test_times_that_cannot_be_are_refused(seconds: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(Jobs.plain(np.ones((2, 2))), np.array(seconds), Prior.independent(np.ones(2), 1.0))


def test_work_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no work"):
        Jobs.plain(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="negative"):
        Jobs.plain(np.array([[1.0, -1.0]]))
    with pytest.raises(ValueError, match="products"):
        Jobs(np.ones((1, 2)), np.eye(3))
    with pytest.raises(ValueError, match="positive"):
        Prior.independent(np.zeros(2), 1.0)
