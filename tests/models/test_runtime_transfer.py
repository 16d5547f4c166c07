"""A new device from two measured jobs: exact where one factor rules, honest where nothing is known."""

import itertools

import numpy as np
import pytest

from models.program import Floats
from models.runtime.speeds.transfer import Device, JobType, Speeds, Transferred, constant_ratio, prepare

JOBS = tuple(
    JobType(f"{family} {batch:g}", family, batch, gpus)
    for family in ("conv", "text", "rank")
    for batch in (8.0, 32.0, 128.0)
    for gpus in (1, 2, 8)
)
OLD, MIDDLE, NEW = Device("old"), Device("middle"), Device("new")


def table(noise: float = 0.0, spread_devices: bool = False, seed: int = 0) -> Speeds:
    """Two factors: size of the job, and how much it gains from a faster device; spread gangs lose by their number of GPUs."""
    rng = np.random.default_rng(seed)
    gain = np.array([{"conv": 1.0, "text": 0.3, "rank": -0.8}[job.family] + 0.1 * np.log2(job.batch / 32) for job in JOBS])
    size = np.array([4.0 - np.log2(job.batch) + 0.8 * np.log2(job.gpus) for job in JOBS])
    loss = np.array([0.2 * np.log2(job.gpus) for job in JOBS])
    columns, devices = [], []
    for name, level, loading in (("old", 0.0, -0.5), ("middle", 1.0, 0.0), ("new", 1.6, 0.6)):
        logs = size + level + loading * gain + noise * rng.standard_normal(len(JOBS))
        columns.append(logs)
        devices.append(Device(name))
        if spread_devices:
            columns.append(logs - loss * (1 + 0.5 * loading))
            devices.append(Device(name, consolidated=False))
    return Speeds(JOBS, tuple(devices), np.exp(np.stack(columns, axis=1)))


def asked(speeds: Speeds, device: Device, *, placements: bool, count: int = 2) -> tuple[Transferred, Floats]:
    truth = speeds.steps_per_s[:, speeds.devices.index(device)]
    case = prepare(speeds.without(device, placements=placements), device)
    found = case.predict({job: float(truth[job]) for job in case.to_measure(count)})
    return found, np.abs(found.p50 / truth[found.jobs] - 1)


@pytest.mark.parametrize("device", [OLD, MIDDLE, NEW])
def test_two_jobs_suffice_where_two_factors_rule(device: Device) -> None:
    speeds = table()
    _, off = asked(speeds, device, placements=True)
    assert np.median(off) < 0.1
    truth = speeds.steps_per_s[:, speeds.devices.index(device)]
    rest = speeds.without(device, placements=True)
    chosen = prepare(rest, device).to_measure()
    simple = constant_ratio(rest, device, {job: float(truth[job]) for job in chosen})
    assert np.median(off) <= np.median(np.abs(simple.p50 / truth - 1)) + 0.01


def test_measuring_more_helps_where_noise_rules() -> None:
    errors = [np.median(asked(table(0.2, seed=3), NEW, placements=True, count=count)[1]) for count in (2, 12, 27)]
    assert errors[0] > errors[2]
    assert errors[2] < 0.02  # what was measured is believed


def test_intervals_are_in_order_and_hold_most_jobs() -> None:
    speeds = table(0.1, seed=5)
    found, _ = asked(speeds, NEW, placements=True)
    truth = speeds.steps_per_s[found.jobs, 2]
    assert np.all((found.p10 < found.p50) & (found.p50 < found.p90))
    assert ((found.p10 <= truth) & (truth <= found.p90)).mean() > 0.7


def test_one_gpu_runs_alike_in_both_placements() -> None:
    speeds = table(spread_devices=True)
    spread = Device("new", consolidated=False)
    found, off = asked(speeds, spread, placements=False)
    single = np.array([JOBS[job].gpus == 1 for job in found.jobs])
    assert np.max(off[single]) < 1e-6
    assert np.median(off[~single]) < 0.05


def test_the_choice_is_near_the_best_of_all_pairs() -> None:
    case = prepare(table(0.1).without(NEW, placements=True), NEW)

    def left(pair: tuple[int, ...]) -> float:
        found = case.predict(dict.fromkeys(pair, 1.0))
        return float(np.log(found.p90 / found.p10).sum())

    best = min(left(pair) for pair in itertools.combinations([int(job) for job in case.jobs], 2))
    chosen = case.to_measure(2)
    assert len(set(chosen)) == 2
    assert left(tuple(chosen)) <= 1.02 * best
    assert case.to_measure(2) == chosen


def test_the_choice_looks_at_other_devices_only() -> None:
    speeds = table(0.1)
    changed = speeds.steps_per_s.copy()
    changed[:, 2] *= np.linspace(0.1, 10, len(JOBS))
    other = Speeds(JOBS, speeds.devices, changed)
    chosen = prepare(speeds.without(NEW, placements=True), NEW).to_measure()
    assert prepare(other.without(NEW, placements=True), NEW).to_measure() == chosen


def test_nothing_measured_is_said_by_the_interval() -> None:
    case = prepare(table().without(NEW, placements=True), NEW)
    before, after = case.predict({}), case.predict({case.to_measure(1)[0]: 3.0})
    assert np.all(before.p90 / before.p10 > 100)
    assert np.median(after.p90 / after.p10) < 0.1 * np.median(before.p90 / before.p10)


def test_units_change_nothing() -> None:
    speeds = table(0.1)
    hours = Speeds(JOBS, speeds.devices, speeds.steps_per_s * 3600)
    one, other = asked(speeds, NEW, placements=True)[0], asked(hours, NEW, placements=True)[0]
    assert other.p50 == pytest.approx(one.p50 * 3600, rel=1e-6)


def test_one_other_device_gives_a_ratio() -> None:
    speeds = table()
    only = Speeds(JOBS, (OLD,), speeds.steps_per_s[:, :1])
    found = prepare(only, NEW).predict({0: float(speeds.steps_per_s[0, 2])})
    assert len(found.jobs) == len(JOBS)
    simple = constant_ratio(only, NEW, {0: float(speeds.steps_per_s[0, 2])})
    assert simple.p50 == pytest.approx(speeds.steps_per_s[:, 0] * speeds.steps_per_s[0, 2] / speeds.steps_per_s[0, 0])


def test_a_job_that_runs_nowhere_else_is_left_out() -> None:
    speeds = table()
    holes = speeds.steps_per_s.copy()
    holes[4, 0] = np.nan
    case = prepare(Speeds(JOBS, speeds.devices, holes).without(NEW, placements=True), NEW)
    assert 4 not in case.jobs
    with pytest.raises(ValueError, match="job 4"):
        case.predict({4: 1.0})


def test_what_cannot_be_is_named() -> None:
    speeds = table()
    zero = speeds.steps_per_s.copy()
    zero[2, 1] = 0.0
    with pytest.raises(ValueError, match="'conv 8' on middle"):
        Speeds(JOBS, speeds.devices, zero)
    with pytest.raises(ValueError, match="listed twice"):
        Speeds(JOBS, (OLD, OLD, NEW), speeds.steps_per_s)
    with pytest.raises(ValueError, match="table of"):
        Speeds(JOBS, (OLD, NEW), speeds.steps_per_s)
    with pytest.raises(ValueError, match="in the table already"):
        prepare(speeds, NEW)
    with pytest.raises(ValueError, match="nothing to transfer from"):
        prepare(speeds, Device("other", consolidated=False))
    case = prepare(speeds.without(NEW, placements=True), NEW)
    with pytest.raises(ValueError, match="must be positive"):
        case.predict({0: 0.0})
    with pytest.raises(ValueError, match="cannot be measured"):
        case.to_measure(0)
    with pytest.raises(ValueError, match="at least one measured"):
        constant_ratio(speeds.without(NEW, placements=True), NEW, {})


def test_two_gangs_tell_the_links_of_a_new_device() -> None:
    """Its processors are as elsewhere, its links twice as good: gangs gain by their size, whatever the family."""
    speeds = table()
    gain = np.array([0.35 * np.log2(job.gpus) for job in JOBS])
    turned = Speeds(JOBS, speeds.devices, speeds.steps_per_s * np.exp(np.outer(gain, [-0.5, 0.5, 1.0])))
    _, off = asked(turned, NEW, placements=True, count=3)
    assert np.median(off) < 0.12
