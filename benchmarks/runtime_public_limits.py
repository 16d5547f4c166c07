"""Why two measured jobs do not tell a GPU type that is in no placement: what the best rules in hindsight leave, and a nested test.

Hindsight looks at the very speeds that are asked for. Nothing of it is a prediction; it is what rules of these forms could reach at most:

- ``best_pair``: the model, with the two jobs that leave the least median error, of all pairs;
- ``lines``: the linear laws with the least absolute log error on all true speeds, with more and more regressors.

``nested``: each GPU type predicted from one other with two measured jobs, the third left out of everything. Variants of the model are to be
compared there, not on the device that is asked for.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.runtime_public_statistics import relative_errors, rounded
from models.runtime.speeds.transfer import MEASURING, Device, Speeds, Transfer, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.program import Floats

FLOPS_PER_SAMPLE = {
    "ResNet-18": 3.3e9,  # 32 pixels
    "ResNet-50": 24.6e9,  # 224 pixels
    "Transformer": 10e9,  # a pair of sentences of some 30 words
    "LM": 2.8e9,  # 35 words
    "Recommendation": 48e6,
    "CycleGAN": 1e12,
    "A3C": 1e8,
}
"""Of a training step, roughly: three forward passes of the published networks."""
PARAMETERS = {
    "ResNet-18": 11.2e6,
    "ResNet-50": 25.6e6,
    "Transformer": 60e6,
    "LM": 13e6,
    "Recommendation": 8e6,
    "CycleGAN": 28e6,
    "A3C": 1e6,
}
LAWS = {
    "one_ratio": ("ratio",),
    "line_in_the_other_devices": ("ratio", "others"),
    "and_gangs": ("ratio", "others", "gangs"),
    "and_flops_and_parameters": ("ratio", "others", "gangs", "work"),
    "one_ratio_a_family": ("families",),
    "line_and_one_ratio_a_family": ("families", "others"),
}


def evaluate(speeds: Speeds) -> dict[str, Any]:
    """All of it, by GPU type and over all of them."""
    devices = [one for one in speeds.devices if one.consolidated]
    pairs, laws = {}, {}
    sizes: dict[str, int] = {}
    for device in devices:
        table, truth = _left_out(speeds, device)
        pairs[device.gpu] = best_pair(prepare(table, device), truth)
        found = {name: _law_errors(table, truth, parts) for name, parts in LAWS.items()}
        laws[device.gpu] = {name: errors for name, (errors, _) in found.items()}
        sizes |= {name: count for name, (_, count) in found.items()}
    return {
        "best_pair_in_hindsight": _medians(pairs),
        "laws_in_hindsight": {
            name: _medians({gpu: found[name] for gpu, found in laws.items()}) | {"numbers": sizes[name]} for name in LAWS
        },
        "nested": nested(speeds),
        "gangs_of_twice_the_gpus": _doublings(speeds),
    }


def best_pair(transfer: Transfer, truth: Floats) -> Floats:
    """Errors of the jobs that are not measured when the two are those with the least median error; ``truth`` (J,) by position."""
    off = np.log(truth[transfer.jobs]) - transfer.mean
    best, least = np.zeros(0), np.inf
    for pair in combinations(range(len(off)), 2):
        at = list(pair)
        known = transfer.covariance[np.ix_(at, at)] + MEASURING**2 * np.eye(2)
        left = np.delete(off - transfer.covariance[:, at] @ np.linalg.solve(known, off[at]), at)
        errors = np.abs(np.exp(-left) - 1.0)
        median = float(np.median(errors))
        if median < least:
            best, least = errors, median
    return best


def nested(speeds: Speeds) -> dict[str, float]:
    """Median error of each GPU type (consolidated) from one other type alone, two jobs measured, by "asked from known"."""
    gpus = [one.gpu for one in speeds.devices if one.consolidated]
    found = {}
    for asked in gpus:
        for known in gpus:
            if asked == known:
                continue
            kept = [place for place, one in enumerate(speeds.devices) if one.gpu == known]
            column = speeds.steps_per_s[:, speeds.devices.index(Device(asked))]
            runs = np.isfinite(column)
            jobs = tuple(job for job, there in zip(speeds.jobs, runs, strict=True) if there)
            table = Speeds(jobs, tuple(speeds.devices[place] for place in kept), speeds.steps_per_s[runs][:, kept])
            transfer = prepare(table, Device(asked))
            truth = column[runs]
            chosen = transfer.to_measure(2)
            told = transfer.predict({job: float(truth[job]) for job in chosen})
            rest = ~np.isin(told.jobs, chosen)
            found[f"{asked} from {known}"] = rounded(float(np.median(relative_errors(told.p50[rest], truth[told.jobs[rest]]))))
    return found


def least_absolute(columns: Floats, values: Floats) -> Floats:
    """Weights (K,) of ``columns`` (N, K) with the least sum of absolute errors, by weighted least squares."""
    weights = np.linalg.lstsq(columns, values, rcond=None)[0]
    for _ in range(80):
        scaled = columns / np.maximum(np.abs(values - columns @ weights), 1e-3)[:, None]
        weights = np.linalg.solve(scaled.T @ columns + 1e-9 * np.eye(columns.shape[1]), scaled.T @ values)
    return np.asarray(weights)


def _left_out(speeds: Speeds, device: Device) -> tuple[Speeds, Floats]:
    """The table without the GPU type, and the true speeds, for the jobs that run there."""
    truth = speeds.steps_per_s[:, speeds.devices.index(device)]
    runs = np.isfinite(truth)
    kept = speeds.without(device, placements=True)
    jobs = tuple(job for job, there in zip(kept.jobs, runs, strict=True) if there)
    return Speeds(jobs, kept.devices, kept.steps_per_s[runs]), truth[runs]


def _law_errors(table: Speeds, truth: Floats, parts: tuple[str, ...]) -> tuple[Floats, int]:
    """Errors of the best law with these regressors, and how many numbers it has; it tells the ratio to the mean of the other devices."""
    logs = np.log(table.steps_per_s[:, [one.consolidated for one in table.devices]])
    families = [job.family for job in table.jobs]
    doublings = np.log2([job.gpus for job in table.jobs])
    work = [FLOPS_PER_SAMPLE[job.family] * job.batch for job in table.jobs]
    columns = {
        "ratio": [np.ones(len(logs))],
        "others": list(logs.T),
        "gangs": [(doublings > 0).astype(np.float64), doublings],
        "work": [np.log(work), np.log([PARAMETERS[family] for family in families])],
        "families": [np.array([float(one == family) for one in families]) for family in dict.fromkeys(families)],
    }
    design = np.column_stack([column for part in parts for column in columns[part]])
    whole = np.isfinite(logs).all(axis=1)
    ratio = np.log(truth) - logs.mean(axis=1)
    left = design[whole] @ least_absolute(design[whole], ratio[whole]) - ratio[whole]
    return np.abs(np.exp(left) - 1.0), design.shape[1]


def _medians(errors: Mapping[str, Floats]) -> dict[str, Any]:
    """The median over all rows, and of each GPU type."""
    every = float(np.median(np.concatenate(list(errors.values()))))
    return {"all": rounded(every), "by_gpu": {gpu: rounded(float(np.median(found))) for gpu, found in errors.items()}}


def _doublings(speeds: Speeds) -> dict[str, dict[str, int]]:
    """How often twice the GPUs make a job slower, and more than twice as fast, by device: neither is the job's alone."""
    place = {(job.family, job.batch, job.gpus): at for at, job in enumerate(speeds.jobs)}
    gangs = [(at, place[family, batch, gpus // 2]) for (family, batch, gpus), at in place.items() if (family, batch, gpus // 2) in place]
    larger, smaller = (speeds.steps_per_s[list(side)] for side in zip(*gangs, strict=True))
    gain = larger / smaller
    names = [one.gpu + ("" if one.consolidated else " spread") for one in speeds.devices]
    return {
        name: {
            "doublings": int(np.isfinite(column).sum()),
            "slower": int((column < 1.0).sum()),
            "more_than_twice_as_fast": int((column > 2.0).sum()),
        }
        for name, column in zip(names, gain.T, strict=True)
    }
