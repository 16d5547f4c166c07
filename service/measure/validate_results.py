"""What the rows of an execution say: predicted against measured, and what other rules and forecasts would have made of the same jobs.

Each batch counts by its accepted run of the optimal schedule. The measured seconds of that run are what every other schedule is replayed
on, and what the oracle, the best schedule there is, is found for. Rivals that were executed are told beside as they were measured.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from models.runtime.schedules.makespan import loads, makespan
from models.runtime.schedules.rules import exact, expected_even, expected_random
from service.measure.validate_frozen import FORECASTS, Policy, assignment
from service.measure.validate_run import JobRow, RunRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.program import Floats, Ints
    from service.measure.validate_frozen import Frozen
    from service.measure.validate_run import AnyRan

RESAMPLES, LEVEL = 10_000, 0.95
LIMITS = {"makespan_error": (None, 0.08), "regret": (None, 0.03), "saving": (0.15, None)}
NOISY = 0.5  # share of runs refused from which nothing is claimed


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """An execution that ended: its row, and seconds (J,) of its jobs in their devices' metrics, with their devices (J,)."""

    row: RunRow
    seconds: Floats
    devices: Ints
    wall_s: float

    @property
    def makespan_s(self) -> float:
        """Seconds of the device with most."""
        return float(np.bincount(self.devices, weights=self.seconds).max())


def results(
    frozen: Frozen, digest: str, rows: Sequence[AnyRan], solved: Callable[[Floats], tuple[Ints, float]], *, lenient: bool = False
) -> dict[str, Any]:
    """The whole evaluation as one document.

    ``solved`` gives the best schedule and a bound for times (J, D) with more schedules than can be counted. ``lenient`` counts disturbed
    runs, which is told; of a noisy or lenient evaluation nothing is claimed. Raises ValueError when no batch has a run that counts.
    """
    every = runs(frozen, rows)
    accepted = [run for run in every if run.row.accepted or (lenient and "failed" not in run.row.reasons)]
    ours = {run.row.batch: run for run in sorted(accepted, key=_quietest_last) if run.row.policy is Policy.optimal and run.row.repeat == 0}
    if not ours:
        raise ValueError(
            f"none of {len(every)} runs counts ({_why(every)}): nothing can be said; run it on a quiet machine (a new folder, or --resume)"
        )
    batches = [_batch(frozen, ours[batch], solved) for batch in sorted(ours)]
    refused = sum(not run.row.accepted for run in every)
    flags = _flags(frozen, len(every), refused, len(batches)) + (["lenient: disturbed runs are counted"] if lenient and refused else [])
    noisy = refused > NOISY * len(every) or (lenient and refused > 0)
    told: dict[str, Any] = {
        "sha256": digest,
        "frozen_at": frozen.date,
        "machine": frozen.machine.model_dump(mode="json", exclude_defaults=True),
        "devices": [place.model_dump(mode="json") for place in frozen.places],
        "seed": frozen.seed,
        "runs": {
            "made": len(every),
            "refused": refused,
            "reasons": _reasons(every),
            "batches": len(frozen.batches),
            "counted": len(batches),
        },
        "flags": flags,
        "claims": _claims(frozen, batches, noisy=noisy),
        "batches": batches,
        "jobs": _jobs(frozen, ours),
        "forecasts": _forecasts(frozen, batches, ours),
        "rules": _rules(frozen, batches, accepted, ours),
        "noise": _noise(accepted),
    }
    return told


def _quietest_last(run: Run) -> bool:
    """For a stable sort after which an accepted run counts before a disturbed one."""
    return run.row.accepted


def runs(frozen: Frozen, rows: Sequence[AnyRan]) -> list[Run]:
    """The runs that ended with all their jobs, in the order of the rows."""
    jobs: dict[tuple[object, ...], dict[int, JobRow]] = defaultdict(dict)
    found = []
    for row in rows:
        key = (row.batch, row.policy, row.repeat, row.attempt)
        if isinstance(row, JobRow):
            jobs[key][row.job] = row
            continue
        made = jobs[key]
        if len(made) == len(frozen.of(row.batch)):
            ordered = [made[job] for job in sorted(made)]
            seconds = np.array([getattr(one, frozen.places[one.device].metric) for one in ordered])
            wall_s = max(one.began_s + one.wall_s for one in ordered)
            found.append(Run(row, np.maximum(seconds, 1e-9), np.array([one.device for one in ordered]), wall_s))
    return found


def measured_times(frozen: Frozen, run: Run) -> Floats:
    """Seconds (J, D) of a run's jobs on every device.

    Where a job did not run: as measured, on devices of the same kind; on others its prediction there, as far off as it was where it ran.
    """
    predicted = frozen.times(run.row.batch)
    at = np.arange(len(run.seconds))
    factor = run.seconds / predicted[at, run.devices]
    kinds = np.array([place.kind for place in frozen.places])
    return np.asarray(np.where(kinds[None, :] == kinds[run.devices][:, None], run.seconds[:, None], predicted * factor[:, None]))


def interval(values: Sequence[float], statistic: Callable[..., Floats], seed: int) -> dict[str, float]:
    """A statistic over batches with its 95% interval by the percentile bootstrap (Efron, "Bootstrap methods", 1979), seeded."""
    found = np.array(values)
    rng = np.random.default_rng(seed)
    draws = statistic(found[rng.integers(len(found), size=(RESAMPLES, len(found)))], axis=1)
    low, high = np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return {"value": float(statistic(found)), "low": float(low), "high": float(high)}


def _batch(frozen: Frozen, run: Run, solved: Callable[[Floats], tuple[Ints, float]]) -> dict[str, Any]:
    """One batch: predicted, measured, oracle, random, and every rule replayed."""
    batch = run.row.batch
    plan, predicted, times = frozen.plan(batch), frozen.times(batch), measured_times(frozen, run)
    best = exact(times)
    oracle, proved = (makespan(times, best), True) if best is not None else (solved(times)[1], False)
    promised = makespan(predicted, assignment(plan.schedules[Policy.optimal], predicted))
    told: dict[str, Any] = {
        "batch": batch,
        "predicted_s": promised,
        "predicted_bound_s": plan.bound_s,
        "proved": plan.proved,
        "measured_s": run.makespan_s,
        "wall_s": run.wall_s,
        "error": promised / run.makespan_s - 1.0,
        "oracle_s": oracle,
        "oracle": "exact" if proved else "bound",
        "regret": run.makespan_s / oracle - 1.0,
        "random_s": expected_random(times, frozen.seed),
        "random_even_s": expected_even(times, frozen.seed),
        "replayed_s": {policy.value: makespan(times, assignment(schedule, times)) for policy, schedule in plan.schedules.items()},
        "loads_s": loads(times, run.devices).tolist(),
    }
    told["saving"] = 1.0 - run.makespan_s / told["random_s"]
    told["saving_even"] = 1.0 - run.makespan_s / told["random_even_s"]
    return told


def _claims(frozen: Frozen, batches: Sequence[dict[str, Any]], *, noisy: bool) -> dict[str, Any]:
    """What must hold, each with its interval over batches; ``met`` is None where noise forbids a claim."""
    found: dict[str, dict[str, Any]] = {
        "makespan_error": interval([abs(row["error"]) for row in batches], np.median, frozen.seed),
        "regret": interval([row["regret"] for row in batches], np.mean, frozen.seed),
        "saving": interval([row["saving"] for row in batches], np.mean, frozen.seed),
        "saving_even": interval([row["saving_even"] for row in batches], np.mean, frozen.seed),
    }
    for name, (least, most) in LIMITS.items():
        value = found[name]["value"]
        met = (least is None or value >= least) and (most is None or value <= most)
        found[name] |= {"at_least": least, "at_most": most, "met": None if noisy else met}
    return found


def _jobs(frozen: Frozen, ours: dict[int, Run]) -> list[dict[str, Any]]:
    """Each job of the counted runs: predicted and measured."""
    rows = []
    for batch, run in sorted(ours.items()):
        for place, planned in enumerate(frozen.of(batch)):
            device = int(run.devices[place])
            told = planned.on[device]
            seconds = float(run.seconds[place])
            if told is not None:
                rows.append(
                    {
                        "batch": batch,
                        "job": planned.job.id,
                        "family": planned.job.family.value,
                        "mode": planned.job.mode.value,
                        "device": frozen.places[device].name,
                        "measured_s": seconds,
                        "p10": told.p10,
                        "p50": told.p50,
                        "p90": told.p90,
                        "error": told.p50 / seconds - 1.0,
                        "extrapolated": told.extrapolated,
                    }
                )
    return rows


def _forecasts(frozen: Frozen, batches: Sequence[dict[str, Any]], ours: dict[int, Run]) -> dict[str, Any]:
    """The model and the simpler forecasts on the same jobs: errors of jobs, and of the schedules each would have chosen (replayed)."""
    made: dict[str, Any] = {}
    for name, field in FORECASTS.items():
        told = {batch: frozen.times(batch, field) for batch in ours}
        if not all((np.isfinite(times) | ~np.isfinite(frozen.times(batch))).all() for batch, times in told.items()):
            continue  # it says nothing of some device
        jobs = [
            abs(told[batch][place, device] / seconds - 1.0)
            for batch, run in ours.items()
            for place, (device, seconds) in enumerate(zip(run.devices, run.seconds, strict=True))
        ]
        errors, regrets, savings = [], [], []
        for row in batches:
            plan, times = frozen.plan(row["batch"]), measured_times(frozen, ours[row["batch"]])
            chosen = assignment(plan.by_forecast.get(name, plan.schedules[Policy.optimal]), told[row["batch"]])
            span = makespan(times, chosen)
            errors.append(abs(makespan(told[row["batch"]], chosen) / span - 1.0))
            regrets.append(span / row["oracle_s"] - 1.0)
            savings.append(1.0 - span / row["random_s"])
        made[name] = {
            "job_error_median": float(np.median(jobs)),
            "job_error_p90": float(np.quantile(jobs, 0.9)),
            "makespan_error": interval(errors, np.median, frozen.seed),
            "regret": interval(regrets, np.mean, frozen.seed),
            "saving": interval(savings, np.mean, frozen.seed),
        }
    inside = [row["p10"] <= row["measured_s"] <= row["p90"] for row in _jobs(frozen, ours)]
    made["model"]["p10_to_p90_cover"] = float(np.mean(inside))
    return made


def _rules(frozen: Frozen, batches: Sequence[dict[str, Any]], accepted: Sequence[Run], ours: dict[int, Run]) -> dict[str, Any]:
    """How much longer each rule takes than our schedule: replayed on all batches, and as executed where it was."""
    made: dict[str, Any] = {}
    for policy in frozen.batches[0].schedules:
        if policy is Policy.optimal:
            continue
        replayed = [row["replayed_s"][policy.value] / row["measured_s"] - 1.0 for row in batches]
        made[policy.value] = {"replayed": interval(replayed, np.mean, frozen.seed)}
        pairs = [(run, ours[run.row.batch]) for run in accepted if run.row.policy is policy and run.row.batch in ours]
        if pairs:
            executed = [theirs.makespan_s / mine.makespan_s - 1.0 for theirs, mine in pairs]
            walls = [theirs.wall_s / mine.wall_s - 1.0 for theirs, mine in pairs]
            made[policy.value] |= {
                "executed": interval(executed, np.mean, frozen.seed),
                "executed_wall": interval(walls, np.mean, frozen.seed),
                "batches_executed": len(pairs),
            }
    return made


def _noise(accepted: Sequence[Run]) -> dict[str, Any]:
    """What the same job, and the same schedule, differ by when they are run again; None where nothing was repeated."""
    by_job: dict[tuple[int, int], list[float]] = defaultdict(list)
    for run in accepted:
        for job, seconds in enumerate(run.seconds):
            by_job[run.row.batch, job].append(float(seconds))
    jobs = [abs(math.log(a / b)) for group in by_job.values() for a, b in combinations(group, 2)]
    optimal: dict[int, list[Run]] = defaultdict(list)
    for run in accepted:
        if run.row.policy is Policy.optimal:
            optimal[run.row.batch].append(run)
    spans = [abs(math.log(a.makespan_s / b.makespan_s)) for group in optimal.values() for a, b in combinations(group, 2)]
    return {
        "job_median": float(np.median(jobs)) if jobs else None,
        "job_p90": float(np.quantile(jobs, 0.9)) if jobs else None,
        "pairs_of_jobs": len(jobs),
        "makespan_median": float(np.median(spans)) if spans else None,
        "pairs_of_runs": len(spans),
    }


def _flags(frozen: Frozen, made: int, refused: int, counted: int) -> list[str]:
    flags = list(frozen.warnings)
    if refused > NOISY * made:
        flags.append(f"too noisy: {refused} of {made} runs were refused as disturbed; run it again on a quiet machine")
    if counted < len(frozen.batches):
        flags.append(f"{len(frozen.batches) - counted} of {len(frozen.batches)} batches have no run that counts and are left out")
    if not frozen.at_once:
        flags.append("serial replay: the devices ran one after the other, so no contention is in the numbers")
    return flags


def _reasons(every: Sequence[Run]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for run in every:
        for reason in run.row.reasons:
            found[reason] += 1
    return dict(found)


def _why(every: Sequence[Run]) -> str:
    return ", ".join(f"{reason} {count} times" for reason, count in _reasons(every).items()) or "none ended"
