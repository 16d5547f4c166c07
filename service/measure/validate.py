"""Validates a plan by really running it: predict, decide, freeze, execute, compare. models/runtime/validation.md has the protocol.

``prepare`` learns start-up and slow-down, draws the jobs, predicts them and decides the schedules; ``validate_frozen.freeze`` writes all of
it down; ``validate_run.execute`` runs what was frozen, and ``validate_results.results`` says how far off it was.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from models import catalogue
from models.runtime.calibration.ladder import Calibration
from models.runtime.prediction.memory import memory
from models.runtime.schedules.makespan import Jobs, assigned, program, started
from models.runtime.schedules.rules import exact, first_in, improved, listed, longest_first, random_assignment, round_robin
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.solve import solve
from service.measure.disturbance import accounts
from service.measure.validate_frozen import (
    FORECASTS,
    Frozen,
    Place,
    PlannedBatch,
    PlannedJob,
    PlannedRun,
    Policy,
    Schedule,
    seconds_of,
)
from service.measure.validate_jobs import LEAST_S, MOST_S, Drawn, drawn
from service.measure.validate_run import disturbances, run_jobs
from service.measure.validate_times import (
    Model,
    PilotJob,
    Seconds,
    SlowDown,
    job_seconds,
    pairs_slow_down,
    pilot_slow_down,
    simple_steps,
    start_up_of,
    widened,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.program import Floats, Ints
    from models.runtime.job import JobSpec
    from models.runtime.records import Machine, PairRecord, Record
    from service.measure.validate_devices import Device
    from service.measure.validate_run import Finished

PILOT_DRAW, RANDOM_DRAW = 10**6, 2 * 10**6  # beside the batches, whose draws are numbered from 0
FITS = 0.5  # least probability that a job fits into a device's memory
GAP = 1e-4


class PilotError(ValueError):
    """A pilot that failed: nothing is frozen after it."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one kind of device: a calibration, and the records it came from (none: the calibration alone)."""

    calibration: Calibration
    records: tuple[Record, ...] = ()
    pairs: tuple[PairRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What shall be validated. ``executed_rivals``: on how many batches the other policies run, too; elsewhere they are replayed."""

    devices: tuple[Device, ...]
    grid: tuple[JobSpec, ...]
    jobs: int = 12
    batches: int = 20
    policies: tuple[Policy, ...] = tuple(Policy)
    executed_rivals: int = 3
    pilot: int = 18
    seed: int = 0
    time_limit_s: float = 10.0
    robust_budget: float = 0.0
    attempts: int = 2
    least_s: float = LEAST_S
    most_s: float = MOST_S
    at_once: bool = True
    command: str = ""
    warnings: tuple[str, ...] = field(default=())


def prepare(asked: Asked, known: dict[str, Known], machine: Machine, tell: Callable[[str], None]) -> Frozen:
    """Everything up to the moment before execution. Raises ValueError for what cannot be predicted, and PilotError."""
    models = {device.kind: _alone(known[device.kind], device.metric) for device in asked.devices}
    pilot, warnings = _pilot(asked, models, tell)
    models = {kind: _slowed(asked, kind, pilot, model) for kind, model in models.items()}
    jobs = [planned for batch in range(asked.batches) for planned in _predicted(asked, models, known, batch)]
    tell(f"{len(jobs)} jobs predicted; deciding {asked.batches} schedules")
    batches = tuple(_decided(asked, tuple(job for job in jobs if job.batch == batch), batch) for batch in range(asked.batches))
    told = tuple(dict.fromkeys(text for one in known.values() for text in one.calibration.warnings))
    return Frozen(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=asked.command,
        seed=asked.seed,
        at_once=asked.at_once,
        robust_budget=asked.robust_budget,
        machine=machine,
        places=tuple(
            Place(
                name=one.name, kind=one.kind, title=one.title(at_once=asked.at_once), metric="cpu_s" if one.metric == "cpu_s" else "wall_s"
            )
            for one in asked.devices
        ),
        models=models,
        pilot=pilot,
        jobs=tuple(jobs),
        batches=batches,
        runs=planned_runs(asked),
        attempts=asked.attempts,
        warnings=(*asked.warnings, *told, *warnings),
    )


def best_schedule(jobs: Jobs, time_limit_s: float, seed: int) -> tuple[Ints, float, bool]:
    """The schedule of least makespan found, a bound that is proved for it, and whether both meet."""
    kind = catalogue.kinds()["program"]
    problem = kind.problem.model_validate(program(jobs))
    start = kind.plan.model_validate({"values": started(jobs, improved(jobs.times, listed(jobs.times, longest_first(jobs.times))))})
    result = solve(problem, Limits(time_limit_s=time_limit_s, gap=GAP, seed=seed), warm_start=start)
    if result.plan is None or result.certificate is None:
        raise ValueError(f"no schedule was found: {result.failure or result.outcome.value}")
    values: Sequence[float] = getattr(result.plan, "values")  # noqa: B009  (a plan of the kind program)
    return assigned(jobs, values), max(0.0, result.certificate.bound), result.outcome is Outcome.optimal


def planned_runs(asked: Asked) -> tuple[PlannedRun, ...]:
    """The optimal schedule of every batch; on some batches, spread evenly, the rivals between; the first schedule again at the end.

    The order of the policies turns from one such batch to the next: a drift of the machine meets all alike.
    """
    rivals = [policy for policy in asked.policies if policy is not Policy.optimal]
    chosen = {round(place * asked.batches / asked.executed_rivals) for place in range(asked.executed_rivals)} if rivals else set()
    runs: list[PlannedRun] = []
    turn = 0
    for batch in range(asked.batches):
        order = [Policy.optimal]
        if batch in chosen:
            order = [Policy.optimal, *rivals]
            order = order[turn % len(order) :] + order[: turn % len(order)]
            turn += 1
        runs += [PlannedRun(batch=batch, policy=policy) for policy in order]
    return (*runs, PlannedRun(batch=0, policy=Policy.optimal, repeat=1))


def _alone(known: Known, metric: str) -> Model:
    return Model(
        calibration=known.calibration,
        start_up=start_up_of(known.calibration, known.records, metric),
        slow_down=pairs_slow_down(known.pairs),
    )


def _pilot(asked: Asked, models: dict[str, Model], tell: Callable[[str], None]) -> tuple[tuple[PilotJob, ...], tuple[str, ...]]:
    """Other jobs of the same draw on all devices at once; what they took in parts, and what to warn of."""
    if not asked.pilot:
        return (), ("no pilot: slow-downs come from measured pairs, or none are assumed, and the end of a process is left out",)
    made = drawn(asked.grid, asked.pilot, (asked.seed, PILOT_DRAW), least_s=asked.least_s, most_s=asked.most_s)
    jobs = [_with_steps(asked, models, one, f"pilot-{place + 1}") for place, one in enumerate(made)]
    tell(f"pilot: {len(jobs)} jobs on {len(asked.devices)} devices")
    # Dealt out in turns: each device gets its share of the jobs, whatever their lengths.
    schedule = Schedule(devices=tuple(place % len(asked.devices) for place in range(len(jobs))))
    before = accounts()
    done = run_jobs(jobs, asked.devices, schedule, lambda _: None, at_once=asked.at_once)
    _, reasons = disturbances(before, accounts(), done, asked.devices)
    failed = next((finished for finished in done if finished.ran.failed), None)
    if failed is not None:
        raise PilotError(f"{jobs[failed.job].id} ({made[failed.job].job.id}) failed: {failed.ran.failed}")
    rows = tuple(_piloted(asked, models, jobs, finished) for finished in sorted(done, key=lambda one: one.job))
    return rows, (f"the pilot was disturbed ({', '.join(reasons)}): the slow-downs may be those of its neighbours",) if reasons else ()


def _piloted(asked: Asked, models: dict[str, Model], jobs: Sequence[JobSpec], finished: Finished) -> PilotJob:
    job, device = jobs[finished.job], asked.devices[finished.device]
    model = models[device.kind].model_copy(update={"slow_down": SlowDown()})
    step_s = job_seconds(job, model).step_s
    parts: dict[str, float] = finished.ran.answer[device.metric]
    start_s = math.fsum(parts.values()) - parts["steps"]
    return PilotJob(
        job=job,
        device=finished.device,
        start_s=max(1e-6, start_s),
        start_alone_s=max(1e-6, model.start_up.seconds(job, step_s)),
        steps_s=max(1e-6, parts["steps"]),
        steps_alone_s=(job.steps - 1) * step_s,
        end_s=max(0.0, getattr(finished.ran, device.metric) - math.fsum(parts.values())),
    )


def _slowed(asked: Asked, kind: str, pilot: Sequence[PilotJob], model: Model) -> Model:
    """The model with the slow-downs that the pilot showed on devices of its kind."""
    rows = [row for row in pilot if asked.devices[row.device].kind == kind]
    return model.model_copy(update={"slow_down": widened(pilot_slow_down(rows), rows, model)}) if rows else model


def _with_steps(asked: Asked, models: dict[str, Model], one: Drawn, name: str) -> JobSpec:
    """As many steps as fill the job's seconds, in the geometric mean over the devices."""
    logs = [math.log(job_seconds(one.job, models[device.kind]).step_s) for device in asked.devices]
    return one.with_steps(math.exp(math.fsum(logs) / len(logs)), name)


def _predicted(asked: Asked, models: dict[str, Model], known: dict[str, Known], batch: int) -> list[PlannedJob]:
    """The jobs of a batch with their predictions on every device."""
    made = drawn(asked.grid, asked.jobs, (asked.seed, batch), least_s=asked.least_s, most_s=asked.most_s)
    jobs = [_with_steps(asked, models, one, f"{batch + 1}-{place + 1}-{one.job.id}") for place, one in enumerate(made)]
    on = {kind: _of_kind(jobs, model, known[kind]) for kind, model in models.items()}
    planned = [
        PlannedJob(batch=batch, job=job, on=tuple(on[device.kind][place] for device in asked.devices)) for place, job in enumerate(jobs)
    ]
    stuck = next((one.job for one in planned if not any(one.on)), None)
    if stuck is not None:
        raise ValueError(f"job {stuck.id} fits into the memory of no device; give larger devices")
    return planned


def _of_kind(jobs: Sequence[JobSpec], model: Model, known: Known) -> list[Seconds | None]:
    """Predictions on one kind of device, with those of simpler forms beside; None where a job does not fit."""
    simple = simple_steps(known.records, jobs)
    found: list[Seconds | None] = []
    for place, job in enumerate(jobs):
        told = job_seconds(job, model)
        if simple is not None:
            slow = model.slow_down.of_step(job) * (job.steps - 1)
            naive, ridge = (told.start_up_s + slow * float(steps[place]) for steps in simple)
            told = told.model_copy(update={"naive_s": naive, "ridge_s": ridge})
        found.append(told if memory(job, known.calibration.device).fits_probability >= FITS else None)
    return found


def _decided(asked: Asked, jobs: Sequence[PlannedJob], batch: int) -> PlannedBatch:
    """Every policy's schedule of one batch, and the best ones of simpler forecasts."""
    begun = time.monotonic()
    times = _times(jobs, "p50")
    late = np.where(np.isfinite(times), _times(jobs, "p90") - np.where(np.isfinite(times), times, 0.0), 0.0)
    names = tuple(device.name for device in asked.devices)
    robust = asked.robust_budget > 0
    found, bound, proved = best_schedule(
        Jobs(times, names, late if robust else None, asked.robust_budget if robust else 0.0), asked.time_limit_s, asked.seed + batch
    )
    schedules = {
        Policy.optimal: Schedule(devices=tuple(found.tolist())),
        Policy.fifo: Schedule(queue=first_in(len(jobs))),
        Policy.round_robin: Schedule(devices=tuple(round_robin(times).tolist())),
        Policy.lpt: Schedule(queue=longest_first(times)),
        Policy.random: Schedule(devices=tuple(random_assignment(times, asked.seed + RANDOM_DRAW + batch).tolist())),
    }
    return PlannedBatch(
        batch=batch,
        schedules={policy: schedules[policy] for policy in dict.fromkeys((Policy.optimal, *asked.policies))},
        bound_s=bound,
        proved=proved,
        solve_s=time.monotonic() - begun,
        by_forecast=_by_forecast(jobs),
    )


def _by_forecast(jobs: Sequence[PlannedJob]) -> dict[str, Schedule]:
    """The best schedules of the simpler forecasts: exact for few jobs, else longest first and exchanges."""
    made = {}
    for name, field_name in FORECASTS.items():
        times = _times(jobs, field_name)
        if name != "model" and (np.isfinite(times) == np.isfinite(_times(jobs, FORECASTS["model"]))).all():
            best = exact(times)
            best = improved(times, listed(times, longest_first(times))) if best is None else best
            made[name] = Schedule(devices=tuple(best.tolist()))
    return made


def _times(jobs: Sequence[PlannedJob], what: str) -> Floats:
    return np.array([[np.inf if one is None else seconds_of(one, what) for one in job.on] for job in jobs])
