"""How often a training run writes a checkpoint, and to which tier: the interval that loses the least time to failures.

The model. Failures come at a constant rate (exponential times between them). The run works ``interval`` seconds, stands still
``stall`` seconds for the checkpoint, and so on; a checkpoint is of use from ``delay`` seconds after the stall on (0 where the stall
is the whole write; the time of the background write where the stall is only a snapshot to host memory). After a failure the run loads
the newest checkpoint of use, which takes ``restart`` seconds in which it may fail again. The expected time for one second of work is then

    exp(rate * (restart + delay)) * (exp(rate * (interval + stall)) - 1) / (rate * interval)

which is J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps" (Future Generation Computer
Systems 22, 2006), with the delay added; the page derives it. Times are in seconds, rates per second unless the name says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.tiering.schema import Tier

BYTES_PER_PARAMETER = 14.0  # bf16 weights 2, fp32 master weights 4, Adam's two fp32 moments 8; gradients are made anew
BYTES_PER_GIB = 2.0**30
GBIT_PER_GIB = BYTES_PER_GIB * 8 / 1e9
HOURS_PER_MONTH = 24 * 365 / 12
SECONDS_PER_HOUR = 3600.0
LARGEST_EXPONENT = 700.0  # exp of more is beyond a double
SMALL_STEP = 0.05  # below it x + log(1 - x) is summed as a series: the difference would cancel
SERIES_TERMS = 16
NEWTON_STEPS = 100


def state_gib(parameters_b: float, bytes_per_parameter: float = BYTES_PER_PARAMETER) -> float:
    """GiB that a checkpoint of a model with ``parameters_b`` thousand million parameters takes.

    Raises ValueError unless both are positive and finite.
    """
    _require(0 < parameters_b < math.inf, "parameters_b must be positive and finite")
    _require(0 < bytes_per_parameter < math.inf, "bytes_per_parameter must be positive and finite")
    return parameters_b * 1e9 * bytes_per_parameter / BYTES_PER_GIB


def young_interval_s(rate_per_s: float, stall_s: float) -> float | None:
    """Young's first-order interval, sqrt(2 * stall / rate); None without failures.

    J. W. Young, "A first order approximation to the optimum checkpoint interval" (Communications of the ACM 17, 1974).
    """
    _check_rates(rate_per_s, stall_s)
    return None if rate_per_s == 0 else math.sqrt(2 * stall_s / rate_per_s)


def daly_interval_s(rate_per_s: float, stall_s: float) -> float | None:
    """Daly's higher-order interval (2006); None without failures.

    The mean time between failures where the stall is at least twice as long as that.
    """
    _check_rates(rate_per_s, stall_s)
    if rate_per_s == 0:
        return None
    mean_s = 1 / rate_per_s
    ratio = stall_s / (2 * mean_s)
    if ratio >= 1:
        return mean_s
    return math.sqrt(2 * stall_s * mean_s) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - stall_s


def best_interval_s(rate_per_s: float, stall_s: float, delay_s: float = 0.0) -> float | None:
    """The interval that minimises ``expected_slowdown``, exactly; None without failures (never write), 0.0 where writing costs nothing.

    With x = rate * interval the derivative is zero where (1 - x) * exp(x) = exp(-rate * stall), which has one root in (0, 1);
    it depends on neither ``delay_s`` nor the restart. A background write must end before the next begins, so the interval is at least
    ``delay_s - stall_s``: as the function falls up to its minimum and rises after it, that limit is best where it lies beyond.
    """
    _check_rates(rate_per_s, stall_s)
    _require(0 <= delay_s < math.inf, "delay_s must be at least 0 and finite")
    if rate_per_s == 0:
        return None
    return max(_stationary(rate_per_s * stall_s) / rate_per_s, delay_s - stall_s)


def expected_slowdown(rate_per_s: float, interval_s: float, stall_s: float, restart_s: float = 0.0, delay_s: float = 0.0) -> float:
    """Expected seconds for one second of useful work, at least 1; infinity where that is beyond a double.

    An interval of 0 is the limit of ever shorter ones: 1 times the factor for restarts without a stall, endless with one.
    """
    _check_rates(rate_per_s, stall_s)
    _require(interval_s >= 0 and restart_s >= 0 and delay_s >= 0, "times must not be negative")
    if interval_s == 0:
        return math.inf if stall_s > 0 else _exp(rate_per_s * (restart_s + delay_s))
    if rate_per_s == 0:
        return (interval_s + stall_s) / interval_s
    segment = rate_per_s * (interval_s + stall_s)
    exponent = rate_per_s * (restart_s + delay_s)
    if segment + exponent > LARGEST_EXPONENT:
        return math.inf
    return math.exp(exponent) * math.expm1(segment) / (rate_per_s * interval_s)


@dataclass(frozen=True, slots=True)
class CheckpointCandidate:
    """What checkpoints on one tier would mean. ``refusal`` says why the tier cannot hold or carry them; its numbers are then None.

    ``write_s`` and ``restart_s``: to write one checkpoint and to load it. ``stall_s``: how long the run stands still for one.
    ``interval_s``: useful seconds between two, None: never write. ``slowdown``: expected seconds for a second of work.
    ``storage_usd_per_month`` is for the checkpoints kept, ``write_usd_per_month`` for writing them at that rate, and
    ``lost_usd_per_month`` what the lost time of the cluster costs.
    """

    tier: str
    refusal: str | None = None
    write_s: float | None = None
    restart_s: float | None = None
    stall_s: float | None = None
    interval_s: float | None = None
    young_s: float | None = None
    daly_s: float | None = None
    slowdown: float | None = None
    storage_usd_per_month: float | None = None
    write_usd_per_month: float | None = None
    lost_usd_per_month: float | None = None

    @property
    def lost_share(self) -> float | None:
        """The share of all time that does no useful work."""
        return None if self.slowdown is None else 1 - 1 / self.slowdown

    @property
    def usd_per_month(self) -> float:
        """Storage, writes and lost time together; infinity for a tier that was refused."""
        parts = (self.storage_usd_per_month, self.write_usd_per_month, self.lost_usd_per_month)
        return math.inf if self.slowdown is None else sum(part for part in parts if part is not None)


@dataclass(frozen=True, slots=True)
class CheckpointPlan:
    """The size of a checkpoint, every tier's numbers in the order given, and the best of them (None: every tier was refused)."""

    state_gib: float
    candidates: tuple[CheckpointCandidate, ...]
    best: CheckpointCandidate | None


@dataclass(frozen=True, slots=True)
class CheckpointSetting:
    """How a run writes and what its time is worth.

    ``host_gbps``: what all hosts together can send or receive, None: the tier is the only limit. ``snapshot_gbps``: rate at which
    they copy the state to their own memory; then the run stands still for that copy only and the write goes on behind it.
    ``recovery_s``: to notice a failure and start anew, before anything is loaded. ``kept``: checkpoints on the tier at
    once, the one being written among them. ``usd_per_h``: worth of an hour of the whole run; 0: least lost time decides, then the
    price of storage.
    """

    host_gbps: float | None = None
    snapshot_gbps: float | None = None
    recovery_s: float = 0.0
    kept: int = 2
    usd_per_h: float = 0.0
    bytes_per_parameter: float = BYTES_PER_PARAMETER

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        for name in ("host_gbps", "snapshot_gbps"):
            rate = getattr(self, name)
            _require(rate is None or 0 < rate < math.inf, f"{name} must be positive and finite, or absent")
        _require(0 <= self.recovery_s < math.inf, "recovery_s must be at least 0 and finite")
        _require(0 <= self.usd_per_h < math.inf, "usd_per_h must be at least 0 and finite")
        _require(self.kept >= 1, "kept must be at least 1")


def best_checkpoint(
    parameters_b: float, tiers: Iterable[Tier], failures_per_h: float, setting: CheckpointSetting | None = None
) -> CheckpointPlan:
    """The tier and interval that cost least, with every tier's numbers.

    ``parameters_b``: thousand millions of parameters; ``failures_per_h``: of the whole run. What counts is the money of a month
    where the run's time has a price, else the lost time and then the money.

    Raises ValueError for a size or a rate that makes no sense.
    """
    _require(0 <= failures_per_h < math.inf, "failures_per_h must be at least 0 and finite")
    how = setting or CheckpointSetting()
    size = state_gib(parameters_b, how.bytes_per_parameter)
    candidates = tuple(_candidate(tier, size, failures_per_h / SECONDS_PER_HOUR, how) for tier in tiers)
    usable = [one for one in candidates if one.refusal is None]
    best = min(usable, key=lambda one: _rank(one, how), default=None)
    return CheckpointPlan(size, candidates, best)


def _rank(one: CheckpointCandidate, how: CheckpointSetting) -> tuple[float, float]:
    slowdown = math.inf if one.slowdown is None else one.slowdown
    return (one.usd_per_month, slowdown) if how.usd_per_h > 0 else (slowdown, one.usd_per_month)


def _candidate(tier: Tier, size_gib: float, rate_per_s: float, how: CheckpointSetting) -> CheckpointCandidate:
    if tier.capacity_gib is not None and how.kept * size_gib > tier.capacity_gib:
        return CheckpointCandidate(tier.id, f"{how.kept} checkpoints take {how.kept * size_gib:.6g} GiB, it holds {tier.capacity_gib:.6g}")
    write_s = _transfer_s(size_gib, tier.write_gbps, how.host_gbps)
    read_s = _transfer_s(size_gib, tier.read_gbps, how.host_gbps)
    if math.isinf(write_s) or math.isinf(read_s):
        return CheckpointCandidate(tier.id, f"nothing can be {'written to' if math.isinf(write_s) else 'read from'} it")
    write_s += tier.latency_ms / 1e3
    restart_s = how.recovery_s + read_s + tier.latency_ms / 1e3
    stall_s, delay_s = write_s, 0.0
    if how.snapshot_gbps is not None:
        stall_s, delay_s = size_gib * GBIT_PER_GIB / how.snapshot_gbps, write_s
    interval_s = best_interval_s(rate_per_s, stall_s, delay_s)
    slowdown, write_usd = 1.0, 0.0
    if interval_s is not None:
        slowdown = expected_slowdown(rate_per_s, interval_s, stall_s, restart_s, delay_s)
        write_usd = _write_usd_per_month(tier, size_gib, interval_s * slowdown)
    return CheckpointCandidate(
        tier.id,
        write_s=write_s,
        restart_s=restart_s,
        stall_s=stall_s,
        interval_s=interval_s,
        young_s=young_interval_s(rate_per_s, stall_s),
        daly_s=daly_interval_s(rate_per_s, stall_s),
        slowdown=slowdown,
        storage_usd_per_month=0.0 if interval_s is None else how.kept * size_gib * tier.usd_per_gib_month,
        write_usd_per_month=write_usd,
        lost_usd_per_month=(1 - 1 / slowdown) * how.usd_per_h * HOURS_PER_MONTH,
    )


def _write_usd_per_month(tier: Tier, size_gib: float, between_s: float) -> float:
    """One request for each checkpoint; those that failures waste are left out: they are as rare as failures."""
    usd = size_gib * tier.usd_per_gib_written + tier.usd_per_1000_writes / 1e3
    if usd == 0 or math.isinf(between_s):
        return 0.0
    return math.inf if between_s == 0 else usd * HOURS_PER_MONTH * SECONDS_PER_HOUR / between_s


def _transfer_s(size_gib: float, tier_gbps: float | None, host_gbps: float | None) -> float:
    """Seconds at the slower of the two rates; 0 where neither is limited."""
    rates = [rate for rate in (tier_gbps, host_gbps) if rate is not None]
    if not rates:
        return 0.0
    return math.inf if min(rates) == 0 else size_gib * GBIT_PER_GIB / min(rates)


def _stationary(stall: float) -> float:
    """The root x in [0, 1) of x + log(1 - x) + stall = 0, for ``stall`` = rate * stall in seconds.

    The left side falls and is concave, so Newton's steps from the right of the root stay there and approach it.
    """
    if stall == 0:
        return 0.0
    low, high = 0.0, -math.expm1(-1 - stall)  # at 1 - exp(-1 - stall) the left side is -exp(-1 - stall): below zero
    if high >= 1.0:
        return 1.0
    x = high
    for _ in range(NEWTON_STEPS):
        value = _falling(x) + stall
        low, high = (x, high) if value > 0 else (low, x)
        step = x + value * (1 - x) / x
        if not low <= step <= high:
            step = (low + high) / 2
        if abs(step - x) <= 1e-15 * x:
            return step
        x = step
    return x


def _falling(x: float) -> float:
    """The value of x + log(1 - x), accurate for small x."""
    if x > SMALL_STEP:
        return x + math.log1p(-x)
    return -sum(x**power / power for power in range(2, SERIES_TERMS))


def _exp(exponent: float) -> float:
    return math.inf if exponent > LARGEST_EXPONENT else math.exp(exponent)


def _check_rates(rate_per_s: float, stall_s: float) -> None:
    _require(0 <= rate_per_s < math.inf, "the failure rate must be at least 0 and finite")
    _require(0 <= stall_s < math.inf, "the stall must be at least 0 and finite")


def _require(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)
