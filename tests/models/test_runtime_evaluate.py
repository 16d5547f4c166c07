"""The ladder and its evaluation on a device made up for the test: what is known beforehand is found, and doubt is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.runtime.calibration.anchors import chosen_anchors
from models.runtime.calibration.curves import Curves, Shapes, curves_of, shape_of
from models.runtime.calibration.export import plain_device
from models.runtime.calibration.fit import Jobs, Prior, fit
from models.runtime.calibration.ladder import Base, Calibration, base_of, calibrate, jobs_fitted, measured_jobs, operators_fitted, refined
from models.runtime.calibration.predict import predicted
from models.runtime.calibration.start import UnknownDeviceError, starting_device
from models.runtime.calibration.terms import CONTEXTS, operator_prior, operator_terms
from models.runtime.device import DeviceKind, DeviceSpec
from models.runtime.devices_known import cpu_device, known_devices
from models.runtime.evaluation.evaluate import Evaluation, evaluate
from models.runtime.evaluation.uncertainty import NoisyError, Scores, interval, repeat_noise
from models.runtime.families.work import work
from models.runtime.job import Family, JobSpec
from models.runtime.operators import Operator, OperatorClass, Phase, Precision, Work
from models.runtime.prediction.memory import memory
from models.runtime.prediction.predict import predict
from models.runtime.prediction.roofline import operator_seconds
from models.runtime.records import Machine, Memory, OperatorRecord, Record, StartUpSeconds, Timing

ROW: dict[str, Any] = {
    "device": DeviceKind.cpu,
    "machine": "made-up",
    "date": "2026-01-01",
    "command": "test",
    "torch": "0",
    "accepted": True,
}


def made_device(speed: float = 1.0) -> DeviceSpec:
    caches = [("l2", 1.0, 60.0 * speed), ("l3", 32.0, 30.0 * speed)]
    return cpu_device(
        "made-up", cores=1, ghz=3.0 * speed, fp32_flops_per_cycle=32, dram_gbytes_per_s=12 * speed, caches=caches, memory_gib=16
    )


def grid() -> list[JobSpec]:
    mlp = [JobSpec(family=Family.mlp, layers=3, width=width, batch=batch) for width in (128, 512, 1024) for batch in (16, 64, 256)]
    encoder = [
        JobSpec(family=Family.encoder, layers=2, width=width, heads=4, seq=64, batch=batch) for width in (64, 128, 256) for batch in (2, 8)
    ]
    lstm = [JobSpec(family=Family.lstm, layers=1, width=width, seq=32, batch=batch) for width in (64, 128, 256) for batch in (4, 16)]
    cnn = [JobSpec(family=Family.cnn, layers=18, width=16, image_px=px, batch=batch) for px in (32, 64) for batch in (2, 8, 16)]
    return [*mlp, *encoder, *lstm, *cnn]


def timing(seconds: float, spread: float = 0.02) -> Timing:
    return Timing(repeats=9, steps=9, cpu_s=seconds, cpu_spread=spread, wall_s=seconds, wall_spread=spread)


def measured(truth: DeviceSpec, jobs: list[JobSpec], noise: float, seed: int = 0, spread: float = 0.02) -> list[Record]:
    """Rows as the true device would give them, its micro-benchmarks and all: no context but what the model itself starts from."""
    rng = np.random.default_rng(seed)
    base = Base(truth, Shapes(), jobs_prior())
    plain = measured_jobs(base, [Record(job=job, timing=timing(1.0), **ROW) for job in jobs])
    seconds = plain.amounts.sum(axis=1) * np.exp(rng.normal(0, noise, len(jobs)))
    return [Record(job=job, timing=timing(float(value), spread), **ROW) for job, value in zip(jobs, seconds, strict=True)]


def jobs_prior() -> Prior:
    return operators_fitted(made_device(), []).prior


def operators(truth: DeviceSpec, jobs: list[JobSpec], noise: float = 0.01) -> list[OperatorRecord]:
    """Some operators of the jobs, each run on its own."""
    rng = np.random.default_rng(1)
    found = list(dict.fromkeys(one.times(1 / one.calls) for job in jobs for one in work(job).operators))
    chosen = [found[i] for i in rng.choice(len(found), min(150, len(found)), replace=False)]
    seconds = operator_seconds(Work(tuple(chosen), 0, 0, 0).arrays, truth).total * np.exp(rng.normal(0, noise, len(chosen)))
    return [
        OperatorRecord(name=one.shape_key, operator=one, working_set_bytes=one.bytes, timing=timing(float(value)), **ROW)
        for one, value in zip(chosen, seconds, strict=True)
    ]


@pytest.fixture(scope="module")
def truth() -> DeviceSpec:
    """A device 1.6 times slower than the datasheet says, and worse still at two classes."""
    return made_device(1 / 1.6).with_values({"efficiency.matmul": 0.4, "overhead_s.elementwise": 20e-6})


@pytest.fixture(scope="module")
def rows(truth: DeviceSpec) -> list[Record]:
    return measured(truth, grid(), 0.02)


@pytest.fixture(scope="module")
def calibrated(truth: DeviceSpec, rows: list[Record]) -> Calibration:
    return calibrate(made_device(), operators(truth, grid()), rows, date="2026-01-01")


@pytest.fixture(scope="module")
def evaluated(calibrated: Calibration, rows: list[Record]) -> Evaluation:
    return evaluate(base_of(calibrated), rows)


def test_operators_are_sums_of_products_of_the_coefficients() -> None:
    """The terms that are fitted are the device's own formula, operator by operator."""
    device = made_device()
    rows = work(JobSpec(family=Family.cnn, layers=18, width=16, image_px=32, batch=4)).arrays
    terms = operator_terms(rows, device)
    known = device.coefficients()
    logs = np.log([known[path].value for path in terms.paths])
    assert terms.jobs.seconds(logs) == pytest.approx(operator_seconds(rows, device).total, rel=1e-9)
    assert operator_prior(device, terms.paths).mean == pytest.approx(logs)


def test_single_operators_teach_the_device(truth: DeviceSpec) -> None:
    jobs = grid()
    base = operators_fitted(made_device(), operators(truth, jobs))
    for job in jobs[::5]:
        rows = work(job).arrays
        mean, _ = curves_of(base.shapes).at(work(job).operators)
        found = float((operator_seconds(rows, base.device).total * np.exp(mean)).sum())
        assert found == pytest.approx(float(operator_seconds(rows, truth).total.sum()), rel=0.1)


def test_without_operators_whole_jobs_teach_the_factors(rows: list[Record]) -> None:
    found = calibrate(made_device(), [], rows)
    errors = [predicted(row.job, found).step.p50 / row.timing.cpu_s - 1 for row in rows if row.timing is not None]
    assert np.median(np.abs(errors)) < 0.1


def test_left_out_jobs_and_families_are_predicted(evaluated: Evaluation) -> None:
    assert evaluated.leave_one_out.model.median < 0.04
    assert evaluated.leave_one_family_out.model.median < 0.08
    assert evaluated.leave_one_out.model.median < evaluated.leave_one_out.naive.median / 3
    assert evaluated.leave_one_family_out.extrapolated
    assert evaluated.jobs == len(grid())


def test_intervals_of_left_out_jobs_cover(evaluated: Evaluation) -> None:
    assert 0.8 <= evaluated.leave_one_out.coverage <= 1.0


def test_coverage_over_many_noisy_grids_is_what_it_says(truth: DeviceSpec) -> None:
    """Ten draws of the noise: of all left-out jobs, about nine in ten lie in their intervals of 90%."""
    hits: list[bool] = []
    for seed in range(10):
        base = operators_fitted(made_device(), [])
        found = evaluate(base, measured(truth, grid()[::2], 0.05, seed))
        hits += [row.low_s <= row.measured_s <= row.high_s for row in found.leave_one_out.jobs]
    assert 0.85 <= np.mean(hits) <= 0.97


def test_an_unseen_family_is_flagged_and_its_interval_is_wider(truth: DeviceSpec) -> None:
    seen = [job for job in grid() if job.family is not Family.cnn]
    found = calibrate(made_device(), [], measured(truth, seen, 0.02))
    new, old = predicted(grid()[-1], found), predicted(seen[0], found)
    assert new.step.extrapolated
    assert any("cnn" in reason for reason in new.prediction.reasons)
    assert not old.step.extrapolated
    assert new.step.high / new.step.low > old.step.high / old.step.low


def test_the_parts_of_a_prediction_add_up(calibrated: Calibration) -> None:
    job = grid()[4].model_copy(update={"steps": 50})
    found = predicted(job, calibrated)
    assert sum(found.prediction.parts.values()) == pytest.approx(found.step.p50, rel=1e-9)
    assert found.prediction.step_s.p10 < found.prediction.step_s.p50 < found.prediction.step_s.p90
    assert found.prediction.total_s.p50 == pytest.approx(found.prediction.start_up_s + 50 * found.step.p50)
    assert set(found.prediction.parts) & {one.value for one in CONTEXTS}
    assert found.step.low <= found.step.p10
    assert found.step.p90 <= found.step.high


def test_a_calibration_survives_its_file(calibrated: Calibration) -> None:
    again = Calibration.model_validate_json(calibrated.model_dump_json())
    assert predicted(grid()[0], again).step == predicted(grid()[0], calibrated).step


def test_one_wild_job_does_not_move_the_others(truth: DeviceSpec, rows: list[Record], calibrated: Calibration) -> None:
    wild = [rows[0].model_copy(update={"timing": timing(rows[0].seconds * 5 if rows[0].seconds else 1.0)}), *rows[1:]]
    found = calibrate(made_device(), operators(truth, grid()), wild)
    for job in grid()[1::4]:
        assert predicted(job, found).step.p50 == pytest.approx(predicted(job, calibrated).step.p50, rel=0.05)


def test_finished_runs_refine(calibrated: Calibration) -> None:
    """The device slows down by a quarter: after some finished runs the predictions follow, and the scores say they were off."""
    slower = made_device(0.8 / 1.6).with_values({"efficiency.matmul": 0.4, "overhead_s.elementwise": 20e-6})
    before, found = calibrated, calibrated
    for seed in range(3):
        found = refined(found, measured(slower, grid(), 0.02, seed))
    job = grid()[5]
    target = measured(slower, [job], 0.0)[0].seconds
    assert target is not None
    assert abs(np.log(predicted(job, found).step.p50 / target)) < 0.5 * abs(np.log(predicted(job, before).step.p50 / target))
    assert max(found.scores.seen) > max(before.scores.seen)
    assert found.jobs == before.jobs + 3 * len(grid())
    assert refined(before, []) is before


def test_noise_is_flagged_and_too_much_of_it_refused(truth: DeviceSpec) -> None:
    noisy = calibrate(made_device(), [], measured(truth, grid(), 0.1, spread=0.2))
    assert noisy.warnings
    assert "idle" in noisy.warnings[0]
    job = grid()[0]
    quiet = calibrate(made_device(), [], measured(truth, grid(), 0.02))
    wide, narrow = predicted(job, noisy).step, predicted(job, quiet).step
    assert wide.high / wide.low > narrow.high / narrow.low
    with pytest.raises(NoisyError, match="measure again"):
        calibrate(made_device(), [], measured(truth, grid(), 0.5, spread=0.6))


def test_too_few_jobs_are_refused(rows: list[Record]) -> None:
    with pytest.raises(NoisyError, match="at least 5"):
        calibrate(made_device(), [], rows[:3])
    refused = [row.model_copy(update={"accepted": False}) for row in rows]
    with pytest.raises(NoisyError, match="0 accepted"):
        calibrate(made_device(), [], refused)


def test_repeats_in_other_processes_tell_more_noise_than_one_process() -> None:
    seconds = np.array([1.0, 1.2, 1.0, 1.2])
    assert repeat_noise(["a", "a", "b", "b"], seconds, np.full(4, 0.01)) == pytest.approx(np.std(np.log([1.0, 1.2]), ddof=1), rel=1e-6)
    assert repeat_noise(["a", "b", "c", "d"], seconds, np.full(4, 0.01349)) == pytest.approx(0.01, rel=1e-6)


def test_a_curve_meets_its_shapes_and_falls_back_to_the_form_far_from_them() -> None:
    def product(size: int, phase: Phase = Phase.forward) -> Operator:
        return Operator(
            OperatorClass.matmul, Precision.fp32, 2.0 * size**3, 8.0 * size**2, 4.0 * size**2, 1, f"matmul 1x{size}", size, phase
        )

    curves = Curves.of([shape_of(product(size), 0.4) for size in (64, 128, 256)])
    mean, spread = curves.at([product(128), product(180), product(10**6), product(128, Phase.backward)])
    assert mean[:2] == pytest.approx([0.4, 0.4], abs=0.05)
    assert abs(mean[2]) < 0.1
    assert mean[3] == 0.0
    assert spread[0] < spread[1] < spread[2] <= spread[3]


def test_intervals_of_unseen_work_are_never_narrower() -> None:
    scores = Scores(seen=tuple(np.linspace(0.1, 3, 30)), unseen=tuple(np.linspace(0.0, 0.5, 30)))
    inside, outside = (interval(1.0, 0.1, scores, extrapolated=flag) for flag in (False, True))
    assert outside.high >= inside.high
    stretched = interval(1.0, 0.1, scores.model_copy(update={"unseen": scores.seen, "unseen_from": "stretched"}), extrapolated=True)
    assert stretched.high > inside.high


def test_anchors_tell_more_than_the_first_jobs_in_the_grid(rows: list[Record]) -> None:
    base = operators_fitted(made_device(), [])
    found = measured_jobs(base, rows)
    table = Jobs.plain(found.amounts)
    chosen = chosen_anchors(table, base.prior, 6)
    assert len(set(chosen)) == 6
    assert len({found.jobs[place].family for place in chosen}) >= 3, "alike jobs tell little more than one of them"

    def doubt(places: list[int]) -> float:
        after = fit(table.only(np.array(places)), found.seconds[places], base.prior)
        return float(np.linalg.slogdet(after.covariance)[1])

    assert doubt(list(chosen)) < doubt(list(range(6)))
    assert chosen_anchors(table, base.prior, 0) == ()
    with pytest.raises(ValueError, match="cost"):
        chosen_anchors(table, base.prior, 2, costs=np.zeros(len(table)))


def test_a_few_anchors_already_predict_the_rest(truth: DeviceSpec, rows: list[Record]) -> None:
    base = operators_fitted(made_device(), operators(truth, grid()))
    all_jobs = measured_jobs(base, rows)
    chosen = chosen_anchors(Jobs.plain(all_jobs.amounts), base.prior, 8)
    found = jobs_fitted(base, all_jobs.only(chosen))
    rest = [place for place in range(len(rows)) if place not in chosen]
    errors = [predicted(rows[place].job, found).step.p50 / all_jobs.seconds[place] - 1 for place in rest]
    assert np.median(np.abs(errors)) < 0.06


def test_a_measured_machine_gives_a_device_to_start_from() -> None:
    machine = Machine(name="here", cores=2, memory_gib=8, caches_kib={"l1d": 32, "l2": 1024, "l3": 32768})
    product = Operator(OperatorClass.matmul, Precision.fp32, 2e9, 1e6, 1e6, 1, "matmul 1x1000")
    row = OperatorRecord(name="p", operator=product, working_set_bytes=1, timing=timing(0.02), **ROW)
    device = starting_device(machine, [row])
    assert device.peaks[0].flops_per_s.value == pytest.approx(1e11)
    assert [tier.name for tier in device.tiers] == ["l2", "l3", "dram"]
    assert starting_device(Machine(name="bare")).tiers[-1].capacity_bytes is None
    assert starting_device(Machine(name="g", gpu="NVIDIA H200")) == known_devices()["H200-SXM-141GB"]
    with pytest.raises(UnknownDeviceError, match="DeviceSpec"):
        starting_device(Machine(name="g", gpu="Riva 128"))


def test_a_plain_device_predicts_nearly_the_same_with_its_doubt(calibrated: Calibration, rows: list[Record]) -> None:
    """What has no place in a ``DeviceSpec`` are curves and caches; here the form is true, so little is lost."""
    device = DeviceSpec.model_validate_json(plain_device(calibrated).model_dump_json())
    ratios = [predict(row.job, device).step_s.p50 / predicted(row.job, calibrated).step.p50 for row in rows]
    assert np.median(np.abs(np.log(ratios))) < 0.1
    found = predict(rows[0].job, device)
    assert found.step_s.p10 < found.step_s.p50 < found.step_s.p90
    assert found.log_sd > 0
    assert not found.extrapolated


def test_start_up_and_memory_are_read_off_the_jobs(truth: DeviceSpec) -> None:
    """Processes of 0.2 GiB that hold 0.05 GiB more, and half as much again as is counted, and start in about 3 s."""
    plain = made_device().with_values({"fragmentation": 1.0, "context_gib": 0.0})
    told = []
    for place, row in enumerate(measured(truth, grid(), 0.02)):
        held = Memory(peak_gib=0.25 + 1.5 * memory(row.job, plain).total_gib, libraries_gib=0.2)
        parts = dict.fromkeys(("import_wall_s", "build_cpu_s", "build_wall_s", "first_step_cpu_s", "first_step_wall_s"), 0.0)
        start = StartUpSeconds(import_cpu_s=3.0 + 0.1 * (place % 3 - 1), **parts)
        told.append(row.model_copy(update={"memory": held, "start_up": start}))
    found = calibrate(made_device(), [], told)
    assert found.device.context_gib.value == pytest.approx(0.25, rel=0.02)
    assert found.device.fragmentation.value == pytest.approx(1.5, rel=0.1)
    assert memory(grid()[0], found.device).total_gib == pytest.approx(told[0].memory.peak_gib if told[0].memory else 0.0, rel=0.02)
    whole = predicted(grid()[0], found).prediction
    assert whole.start_up_s == pytest.approx(3.0)
    assert whole.total_s.p10 < whole.total_s.p50 < whole.total_s.p90
    assert found.scores.start_up_log_sd > 0
