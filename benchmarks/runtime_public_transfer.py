"""Gavel's speeds on a device that is left out, from two jobs measured there and all jobs on the other devices; two readings.

- ``other placement known``: one of the file's six device types is left out; its GPU type is still known consolidated or spread. One-GPU
  jobs run alike in both, so their error is nothing: they are reported apart.
- ``gpu type unknown``: the GPU type is left out in both placements.

The two jobs are those that ``Transfer.to_measure`` names; it looks at the other devices only. Random choices are reported beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.runtime_public_statistics import described, relative_errors, rounded
from models.runtime.speeds.transfer import Device, Speeds, Transfer, constant_ratio, prepare

if TYPE_CHECKING:
    from models.program import Bools, Floats

MEASURED = 2
MORE = (4, 8, 16)
RANDOM = 100
RIDGE = 1.0


def evaluate(speeds: Speeds) -> dict[str, Any]:
    """Both readings, the simple forms, random choices, more measured jobs, and a left-out model family."""
    return {
        "rule": f"{MEASURED} jobs measured on the left-out device; median of |predicted / measured - 1| over the others",
        "other_placement_known": _reading(speeds, placements=False),
        "gpu_type_unknown": _reading(speeds, placements=True),
    }


def _reading(speeds: Speeds, *, placements: bool) -> dict[str, Any]:
    devices = [one for one in speeds.devices if one.consolidated or not placements]
    pooled: dict[str, dict[str, Floats]] = {name: {} for name in ("ours", "constant_ratio", "log_ridge", "several_gpus", "one_gpu")}
    rows, covered, random, family_out = {}, [], [], []
    more: dict[int, list[Floats]] = {count: [] for count in MORE}
    hindsight = []
    for device in devices:
        case = Case.of(speeds, device, placements=placements)
        chosen = case.chosen(MEASURED)
        name = device.gpu + ("" if device.consolidated else " spread")
        errors, several, inside = case.errors(chosen)
        pooled["ours"][name], pooled["several_gpus"][name], pooled["one_gpu"][name] = errors, errors[several], errors[~several]
        covered.append(inside)
        pooled["constant_ratio"][name] = case.simple(chosen)
        pooled["log_ridge"][name] = case.ridge(chosen)
        draws = case.random(RANDOM)
        random.append(draws)
        family_out += case.without_family()
        hindsight.append(case.hindsight())
        for count in MORE:
            more[count].append(case.errors(case.chosen(count))[0])
        rows[name] = {
            "median": rounded(float(np.median(errors))),
            "several_gpus": rounded(float(np.median(errors[several]))),
            "constant_ratio": rounded(float(np.median(pooled["constant_ratio"][name]))),
            "random_choices": rounded(float(np.mean(draws))),
            "best_line_in_hindsight": rounded(float(np.median(hindsight[-1]))),
            "measured": [f"{speeds.jobs[job].name}, {speeds.jobs[job].gpus} GPUs" for job in chosen],
        }
    return {
        "all": {name: described(found, np.median) for name, found in pooled.items()},
        "devices": rows,
        "random_choices": rounded(float(np.mean(random))),
        "median_by_measured_jobs": {str(count): rounded(float(np.median(np.concatenate(found)))) for count, found in more.items()},
        "left_out_family": rounded(float(np.median(np.concatenate(family_out)))),
        "best_line_in_hindsight": rounded(float(np.median(np.concatenate(hindsight)))),
        "covered_by_p10_p90": rounded(float(np.concatenate(covered).mean())),
        "noise_floor": None,  # one run of each
    }


class Case:
    """One left-out device: its true speeds, and what the other devices say of it."""

    def __init__(self, table: Speeds, device: Device, truth: Floats) -> None:
        """``table`` without the device; ``truth`` (J,) its speeds, NaN where a job does not run."""
        runs = np.isfinite(truth)
        kept = [job for job, there in zip(table.jobs, runs, strict=True) if there]
        self.table = Speeds(tuple(kept), table.devices, table.steps_per_s[runs])
        self.device, self.truth = device, truth[runs]
        self.at = np.flatnonzero(runs)
        self.transfer: Transfer = prepare(self.table, device)

    @classmethod
    def of(cls, speeds: Speeds, device: Device, *, placements: bool) -> Case:
        """The case of a device of the whole table."""
        return cls(speeds.without(device, placements=placements), device, speeds.steps_per_s[:, speeds.devices.index(device)])

    def chosen(self, count: int) -> list[int]:
        """The jobs to measure, as positions in the whole table."""
        return [int(self.at[job]) for job in self.transfer.to_measure(count)]

    def errors(self, measured: list[int]) -> tuple[Floats, Bools, Bools]:
        """Errors of the jobs that were not measured, which of them have several GPUs, and which lie between p10 and p90."""
        own = [int(np.searchsorted(self.at, job)) for job in measured]
        found = self.transfer.predict(self._speeds(own))
        asked = ~np.isin(found.jobs, own)
        jobs = found.jobs[asked]
        truth = self.truth[jobs]
        several = np.array([self.table.jobs[job].gpus > 1 for job in jobs])
        return relative_errors(found.p50[asked], truth), several, (found.p10[asked] <= truth) & (truth <= found.p90[asked])

    def simple(self, measured: list[int]) -> Floats:
        """Errors of one constant ratio to the other devices."""
        own = [int(np.searchsorted(self.at, job)) for job in measured]
        found = constant_ratio(self.table, self.device, self._speeds(own))
        asked = ~np.isin(found.jobs, own)
        return relative_errors(found.p50[asked], self.truth[found.jobs[asked]])

    def ridge(self, measured: list[int]) -> Floats:
        """Errors of a log-ridge from the other devices' log speeds to this one's, drawn to equal weights."""
        own = [int(np.searchsorted(self.at, job)) for job in measured]
        logs = np.log(self.table.steps_per_s)
        jobs = np.flatnonzero(np.isfinite(logs).all(axis=1))
        own = [job for job in own if job in jobs]
        columns = logs.shape[1]
        base = logs.mean(axis=1)
        away = np.log(self.truth) - base
        level = float(np.mean(away[own]))
        design = logs[own] - logs[own].mean(axis=0)
        weights = np.linalg.solve(design.T @ design + RIDGE * np.eye(columns), design.T @ (away[own] - level))
        asked = np.setdiff1d(jobs, own)
        predicted = base[asked] + level + (logs[asked] - logs[own].mean(axis=0)) @ weights
        return relative_errors(np.exp(predicted), self.truth[asked])

    def random(self, draws: int) -> Floats:
        """Median error (draws,) when two random jobs are measured."""
        rng = np.random.default_rng(0)
        pairs = [rng.choice(self.transfer.jobs, MEASURED, replace=False) for _ in range(draws)]
        return np.array([float(np.median(self.errors([int(self.at[job]) for job in pair])[0])) for pair in pairs])

    def without_family(self) -> list[Floats]:
        """Errors of each family's jobs when the two measured jobs are of other families: nothing of the family ran on the device."""
        found = []
        for family in sorted({job.family for job in self.table.jobs}):
            rest = np.array([job.family != family for job in self.table.jobs])
            others = Speeds(
                tuple(job for job, kept in zip(self.table.jobs, rest, strict=True) if kept),
                self.table.devices,
                self.table.steps_per_s[rest],
            )
            chosen = [int(np.flatnonzero(rest)[job]) for job in prepare(others, self.device).to_measure(MEASURED)]
            predicted = self.transfer.predict(self._speeds(chosen))
            asked = ~rest[predicted.jobs]
            if np.any(asked):
                found.append(relative_errors(predicted.p50[asked], self.truth[predicted.jobs[asked]]))
        return found

    def hindsight(self) -> Floats:
        """Errors of the line in mean and contrast of the other devices that fits all true speeds with the least absolute log error."""
        logs = np.log(self.table.steps_per_s)
        columns = np.column_stack([np.ones(len(logs)), logs])
        whole = np.isfinite(columns).all(axis=1)
        columns, truth = columns[whole], np.log(self.truth[whole])
        weights = np.linalg.lstsq(columns, truth, rcond=None)[0]
        for _ in range(50):  # least absolute deviations by weighted least squares
            weight = 1.0 / np.maximum(np.abs(truth - columns @ weights), 1e-3)
            scaled = columns * weight[:, None]
            weights = np.linalg.solve(scaled.T @ columns + 1e-9 * np.eye(columns.shape[1]), scaled.T @ truth)
        return relative_errors(np.exp(columns @ weights), np.exp(truth))

    def _speeds(self, own: list[int]) -> dict[int, float]:
        return {job: float(self.truth[job]) for job in own}
