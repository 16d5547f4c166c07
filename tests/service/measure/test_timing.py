"""Timing a step: repeats, medians, spreads."""

import time

import pytest

from service.measure.timing import HostOnly, Samples, once, spread, timed


def test_spread_is_the_interquartile_range_over_the_median() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
    assert spread([2.0, 2.0, 2.0]) == 0.0
    assert spread([1.0]) == spread([]) == spread([0.0, 0.0]) == 0.0


def test_an_outlier_moves_neither_median_nor_spread() -> None:
    samples = Samples(1, cpu_s=[1.0] * 9 + [50.0], wall_s=[2.0] * 9 + [90.0])
    assert (samples.timing().cpu_s, samples.timing().cpu_spread, samples.timing().wall_s) == (1.0, 0.0, 2.0)
    assert samples.timing().seconds == 1.0


def test_a_device_clock_makes_the_metric() -> None:
    timing = Samples(2, cpu_s=[1.0, 1.0], wall_s=[2.0, 2.0], device_s=[0.5, 0.7]).timing()
    assert timing.seconds == pytest.approx(0.6)
    assert timing.steps == 4
    assert timing.spread == timing.device_spread


def test_short_steps_are_put_together() -> None:
    calls = 0

    def step() -> None:
        nonlocal calls
        calls += 1

    samples = timed(step, HostOnly(), seconds=0.2)
    assert samples.steps_per_repeat > 1
    assert 5 <= len(samples.cpu_s) <= 60
    assert calls > samples.timing().steps  # the warm-up is not counted


def test_long_steps_are_repeated_often_enough() -> None:
    samples = timed(lambda: time.sleep(0.01), HostOnly(), seconds=0.01)
    assert len(samples.wall_s) >= 3


def test_sleeping_takes_wall_time_only() -> None:
    cpu_s, wall_s = once(lambda: time.sleep(0.05), HostOnly())
    assert wall_s >= 0.05
    assert cpu_s < wall_s
