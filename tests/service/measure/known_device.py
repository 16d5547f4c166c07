"""A device calibrated on made-up records: what a validation starts from, without measuring anything."""

from __future__ import annotations

import numpy as np

from models.runtime.calibration.ladder import calibrate
from models.runtime.calibration.start import starting_device
from models.runtime.device import DeviceKind
from models.runtime.families.work import work
from models.runtime.prediction.predict import step_seconds
from models.runtime.records import Machine, PairRecord, Record, Sharing, StartUpSeconds, Timing
from service.measure.grid import jobs
from service.measure.validate import Known

MACHINE = Machine(name="made-up", processor="made up", cores=2, memory_gib=8.0, caches_kib={"l2": 1024.0, "l3": 32768.0})
TRAIN_S, INFER_S, MILLION_S = 2.0, 1.2, 0.01


def record(place: int, rng: np.random.Generator) -> Record:
    """A job of the grid that takes what the device's form says, within 3%, after a start-up that is known exactly."""
    job = jobs("quick")[place]
    seconds = step_seconds(work(job), starting_device(MACHINE)) * float(np.exp(0.03 * rng.standard_normal()))
    start = (TRAIN_S if job.training else INFER_S) + MILLION_S * work(job).parameters / 1e6
    return Record(
        device=DeviceKind.cpu,
        machine=MACHINE.name,
        date="2026-01-01T00:00:00+00:00",
        command="",
        torch="2",
        accepted=True,
        job=job,
        timing=Timing(repeats=5, steps=5, cpu_s=seconds, cpu_spread=0.01, wall_s=seconds, wall_spread=0.01),
        start_up=StartUpSeconds(
            import_cpu_s=start, import_wall_s=2 * start, build_cpu_s=0, build_wall_s=0, first_step_cpu_s=seconds, first_step_wall_s=seconds
        ),
    )


def records() -> tuple[Record, ...]:
    """The quick grid."""
    rng = np.random.default_rng(4)
    return tuple(record(place, rng) for place in range(len(jobs("quick"))))


def pair(slow_down: float) -> PairRecord:
    """Two jobs on two cores that slow each other down by this factor."""
    first, second = jobs("quick")[:2]
    return PairRecord(
        device=DeviceKind.cpu,
        machine=MACHINE.name,
        date="2026-01-01T00:00:00+00:00",
        command="",
        torch="2",
        accepted=True,
        sharing=Sharing.two_cores,
        first=first,
        second=second,
        first_alone_s=1.0,
        second_alone_s=2.0,
        first_together_s=slow_down,
        second_together_s=2.0 * slow_down,
    )


def known() -> Known:
    """The calibrated device with its records."""
    rows = records()
    return Known(calibrate(starting_device(MACHINE), [], rows, date="2026-01-01", version="made up"), rows)
