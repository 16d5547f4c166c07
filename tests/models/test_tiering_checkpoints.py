"""Checkpoints: the exact interval against Lambert's W, Young, Daly and a simulation; the choice of tier; degenerate cases."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import lambertw

from models.tiering.checkpoints import (
    GBIT_PER_GIB,
    CheckpointSetting,
    best_checkpoint,
    best_interval_s,
    daly_interval_s,
    expected_slowdown,
    state_gib,
    young_interval_s,
)
from models.tiering.schema import Tier

RATES = st.floats(1e-9, 1e-1)
STALLS = st.floats(1e-3, 1e4)


@given(RATES, STALLS)
def test_the_root_is_lamberts(rate: float, stall: float) -> None:
    x = 1 + float(lambertw(-math.exp(-rate * stall - 1)).real)
    interval = best_interval_s(rate, stall)
    assert interval is not None
    if rate * stall > 1e-4:  # below it the textbook formula cancels
        assert interval * rate == pytest.approx(x, rel=1e-6)
    else:
        assert interval == pytest.approx(math.sqrt(2 * stall / rate), rel=0.02)


@settings(max_examples=200)
@given(RATES, STALLS, st.floats(0.3, 3.0), st.floats(0, 1e3))
def test_no_other_interval_is_better(rate: float, stall: float, factor: float, restart: float) -> None:
    best = best_interval_s(rate, stall)
    assert best is not None
    least = expected_slowdown(rate, best, stall, restart)
    assert expected_slowdown(rate, best * factor, stall, restart) >= least * (1 - 1e-12)


def test_young_and_daly_are_its_first_terms() -> None:
    for ratio, young_off, daly_off in ((1e-6, 1e-3, 1e-8), (1e-4, 1e-2, 1e-6), (1e-2, 0.1, 1e-3)):
        rate, stall = 1.0, ratio
        exact = best_interval_s(rate, stall)
        young, daly = young_interval_s(rate, stall), daly_interval_s(rate, stall)
        assert exact is not None
        assert young is not None
        assert daly is not None
        assert abs(young / exact - 1) < young_off
        assert abs(daly / exact - 1) < daly_off
    assert daly_interval_s(1.0, 3.0) == 1.0  # the mean time between failures


def simulated(rate: float, interval: float, stall: float, restart: float, delay: float, wanted: int, seed: int) -> float:
    """Seconds for each second of work, by following the clock: what is saved, what is on its way, what a failure takes back."""
    draw = random.Random(seed)
    now, durable, done = 0.0, 0, 0
    pending: list[tuple[float, int]] = []  # when it is of use, how many intervals it holds
    failure = draw.expovariate(rate)
    while durable < wanted:
        end = now + interval + stall
        if failure < end:
            durable = max([durable, *(held for ready, held in pending if ready <= failure)])
            pending = []
            now = failure
            failure = now + draw.expovariate(rate)
            while failure < now + restart:  # it fails again while it loads
                now = failure
                failure = now + draw.expovariate(rate)
            now += restart
            done = durable
            continue
        now, done = end, done + 1
        pending.append((now + delay, done))
        durable = max([durable, *(held for ready, held in pending if ready <= now)])
        pending = [(ready, held) for ready, held in pending if ready > now]
    return now / (durable * interval)


@pytest.mark.parametrize(
    ("rate", "interval", "stall", "restart", "delay"),
    [(0.01, 20.0, 2.0, 5.0, 0.0), (0.002, 100.0, 30.0, 60.0, 0.0), (0.01, 20.0, 1.0, 5.0, 15.0), (0.005, 40.0, 0.0, 0.0, 40.0)],
)
def test_the_expected_time_is_what_a_simulation_takes(rate: float, interval: float, stall: float, restart: float, delay: float) -> None:
    means = [simulated(rate, interval, stall, restart, delay, 8_000, seed) for seed in range(6)]
    assert sum(means) / len(means) == pytest.approx(expected_slowdown(rate, interval, stall, restart, delay), rel=0.02)


def test_degenerate_cases() -> None:
    assert best_interval_s(0.0, 10.0) is None
    assert young_interval_s(0.0, 10.0) is None
    assert daly_interval_s(0.0, 10.0) is None
    assert best_interval_s(0.1, 0.0) == 0.0
    assert expected_slowdown(0.1, 0.0, 0.0) == 1.0
    assert expected_slowdown(0.1, 0.0, 1.0) == math.inf
    assert expected_slowdown(0.0, 10.0, 1.0) == 1.1
    assert expected_slowdown(10.0, 100.0, 1.0) == math.inf  # exp(1010) is beyond a double
    assert best_interval_s(0.1, 1.0, delay_s=500.0) == 499.0  # the write before must have ended
    for wrong in ((-1.0, 1.0), (math.inf, 1.0), (1.0, -1.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="must be at least 0"):
            best_interval_s(*wrong)


def test_the_state_is_fourteen_bytes_for_each_parameter() -> None:
    assert state_gib(70.0) == pytest.approx(70e9 * 14 / 2**30)
    with pytest.raises(ValueError, match="parameters_b"):
        state_gib(0.0)


FAST = Tier(id="nvme", capacity_gib=4_000.0, read_gbps=800.0, write_gbps=400.0, usd_per_gib_month=0.1)
SLOW = Tier(id="hdd", capacity_gib=100_000.0, read_gbps=80.0, write_gbps=40.0, usd_per_gib_month=0.01)
SMALL = Tier(id="ram", capacity_gib=100.0, read_gbps=8_000.0, write_gbps=8_000.0)
DEAD = Tier(id="dead", capacity_gib=None, read_gbps=100.0, write_gbps=0.0)


def test_the_best_tier_by_hand() -> None:
    plan = best_checkpoint(
        70.0, (FAST, SLOW, SMALL, DEAD), failures_per_h=0.5, setting=CheckpointSetting(host_gbps=600.0, recovery_s=120.0)
    )
    size = 70e9 * 14 / 2**30
    assert plan.state_gib == pytest.approx(size)
    assert plan.best is not None
    assert plan.best.tier == "nvme"
    fast, slow, small, dead = plan.candidates
    assert fast.write_s == pytest.approx(size * GBIT_PER_GIB / 400)  # 19.6 s
    assert fast.write_s == pytest.approx(19.6, rel=1e-3)
    assert fast.restart_s == pytest.approx(120 + size * GBIT_PER_GIB / 600)  # the hosts are slower than the tier
    assert fast.interval_s == pytest.approx(math.sqrt(2 * 19.6 * 7200), rel=0.03)
    assert fast.storage_usd_per_month == pytest.approx(2 * size * 0.1)
    assert small.refusal is not None
    assert "1825.39 GiB" in small.refusal
    assert dead.refusal == "nothing can be written to it"
    assert slow.slowdown is not None
    assert fast.slowdown is not None
    assert slow.slowdown > fast.slowdown
    assert fast.lost_share == pytest.approx(1 - 1 / fast.slowdown)


def test_a_background_write_stalls_for_the_snapshot_only() -> None:
    setting = CheckpointSetting(snapshot_gbps=4_000.0)
    plan = best_checkpoint(70.0, (FAST,), 0.5, setting)
    apart = best_checkpoint(70.0, (FAST,), 0.5)
    assert plan.best is not None
    assert apart.best is not None
    assert plan.best.stall_s == pytest.approx(1.96, rel=1e-3)
    assert plan.best.interval_s is not None
    assert plan.best.write_s is not None
    assert plan.best.stall_s is not None
    assert plan.best.interval_s + plan.best.stall_s >= plan.best.write_s
    assert plan.best.slowdown is not None
    assert apart.best.slowdown is not None
    assert plan.best.slowdown < apart.best.slowdown


def test_money_decides_where_time_has_a_price() -> None:
    cheap = best_checkpoint(70.0, (FAST, SLOW), 0.0001, CheckpointSetting(usd_per_h=0.01))
    dear = best_checkpoint(70.0, (FAST, SLOW), 2.0, CheckpointSetting(usd_per_h=5_000.0))
    assert cheap.best is not None
    assert dear.best is not None
    assert (cheap.best.tier, dear.best.tier) == ("hdd", "nvme")


def test_without_failures_nothing_is_written() -> None:
    plan = best_checkpoint(1.0, (SLOW, FAST), 0.0)
    assert plan.best is not None
    assert plan.best.interval_s is None
    assert (plan.best.slowdown, plan.best.usd_per_month) == (1.0, 0.0)


def test_more_bandwidth_never_worsens_and_more_failures_never_help() -> None:
    known = math.inf
    for gbps in (10.0, 50.0, 400.0, 5_000.0):
        best = best_checkpoint(7.0, (FAST.model_copy(update={"write_gbps": gbps}),), 1.0).best
        assert best is not None
        assert best.slowdown is not None
        assert best.slowdown <= known
        known = best.slowdown
    slower = [best_checkpoint(7.0, (FAST,), rate).best for rate in (0.01, 0.1, 1.0, 10.0)]
    values = [one.slowdown for one in slower if one is not None and one.slowdown is not None]
    assert values == sorted(values)


def test_all_refused_is_no_plan() -> None:
    assert best_checkpoint(700.0, (SMALL,), 1.0).best is None
    with pytest.raises(ValueError, match="kept"):
        CheckpointSetting(kept=0)
