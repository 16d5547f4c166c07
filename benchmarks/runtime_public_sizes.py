"""Lambda's throughputs and MLPerf Training v5.0: noise floors, and one number of accelerators from smaller ones. For information."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.runtime_public_statistics import described, relative_errors, rounded
from models.runtime.strong_scaling import in_proportion, time_to_train, weak_scaling

if TYPE_CHECKING:
    from benchmarks.runtime_public_data import Throughput
    from models.program import Floats

LEAST_MACHINES = 5
FITTED_GPUS = 2  # weak scaling is fitted on one and two GPUs
LEAST_SIZES = 3


def evaluate_lambda(machines: list[Throughput], kinds: list[Throughput]) -> dict[str, Any]:
    """How alike identical machines are, and 4 and 8 GPUs predicted from 1 and 2."""
    return {"machine_to_machine": _machine_noise(machines), "weak_scaling": _weak(kinds)}


def _machine_noise(machines: list[Throughput]) -> dict[str, Any]:
    """One machine predicted by the median of the others with the same GPUs, by task."""
    alike: dict[tuple[str, int, str, str], list[float]] = defaultdict(list)
    for one in machines:
        alike[one.gpu, one.gpus, one.task, one.precision].append(one.per_s)
    found: dict[str, dict[str, Any]] = {}
    for (gpu, gpus, task, precision), values in sorted(alike.items()):
        if len(values) >= LEAST_MACHINES:
            row = found.setdefault(f"{gpus} x {gpu}", {"machines": len(values)})
            others = np.array([np.median(np.delete(values, place)) for place in range(len(values))])
            row[f"{task} {precision}"] = rounded(float(relative_errors(others, np.array(values)).mean()))
    return found


def _weak(kinds: list[Throughput]) -> dict[str, Any]:
    sizes: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for one in kinds:
        sizes[one.gpu, one.task, one.precision][one.gpus] = one.per_s
    ours: dict[str, list[Floats]] = defaultdict(list)
    plain: dict[str, list[Floats]] = defaultdict(list)
    covered = []
    for (gpu, _task, _precision), values in sizes.items():
        small = np.array([count for count in sorted(values) if count <= FITTED_GPUS], dtype=np.float64)
        large = np.array([count for count in sorted(values) if count > FITTED_GPUS], dtype=np.float64)
        if len(small) < FITTED_GPUS or not len(large):
            continue
        measured, truth = np.array([values[int(count)] for count in small]), np.array([values[int(count)] for count in large])
        found = weak_scaling(small, measured).predict(large)
        ours[gpu].append(relative_errors(found.p50, truth))
        plain[gpu].append(relative_errors(in_proportion(small[:1], measured[:1], large, weak=True), truth))
        covered.append((found.p10 <= truth) & (truth <= found.p90))
    return {
        "ours": described({gpu: np.concatenate(found) for gpu, found in ours.items()}),
        "in_proportion_to_gpus": described({gpu: np.concatenate(found) for gpu, found in plain.items()}),
        "by_gpu": {gpu: rounded(float(np.concatenate(found).mean())) for gpu, found in ours.items()},
        "covered_by_p10_p90": rounded(float(np.concatenate(covered).mean())),
    }


def evaluate_mlperf(minutes: dict[tuple[str, str, str], dict[int, list[float]]]) -> dict[str, Any]:
    """Time to train on the most accelerators from the smaller submissions of the same organisation, and run-to-run noise."""
    ours: dict[str, list[Floats]] = defaultdict(list)
    plain: dict[str, list[Floats]] = defaultdict(list)
    rows, covered = [], []
    for (organisation, accelerator, benchmark), sizes in sorted(minutes.items()):
        if len(sizes) < LEAST_SIZES:
            continue
        counts = sorted(sizes)
        known = np.array(counts[:-1], dtype=np.float64)
        times = np.array([float(np.median(sizes[count])) for count in counts])
        most, truth = np.array([float(counts[-1])]), times[-1:]
        found = time_to_train(known, times[:-1]).predict(most)
        simple = in_proportion(known, times[:-1], most, weak=False)
        ours[benchmark].append(relative_errors(found.p50, truth))
        plain[benchmark].append(relative_errors(simple, truth))
        covered.append(bool(found.p10[0] <= truth[0] <= found.p90[0]))
        rows.append(
            {
                "case": f"{organisation}, {accelerator}, {benchmark}",
                "fitted_on": counts[:-1],
                "predicted": counts[-1],
                "measured_minutes": rounded(float(truth[0])),
                "p10_p50_p90_minutes": [rounded(float(value[0])) for value in (found.p10, found.p50, found.p90)],
                "in_proportion_minutes": rounded(float(simple[0])),
            }
        )
    return {
        "ours": described({name: np.concatenate(found) for name, found in ours.items()}),
        "in_proportion": described({name: np.concatenate(found) for name, found in plain.items()}),
        "covered_by_p10_p90": rounded(float(np.mean(covered))),
        "run_to_run": _run_noise(minutes),
        "cases": rows,
    }


def _run_noise(minutes: dict[tuple[str, str, str], dict[int, list[float]]]) -> dict[str, float]:
    """Mean error of one run predicted by the median of the others of its submission size, by benchmark."""
    found: dict[str, list[Floats]] = defaultdict(list)
    for (_organisation, _accelerator, benchmark), sizes in minutes.items():
        for values in sizes.values():
            if len(values) > 1:
                others = np.array([np.median(np.delete(values, place)) for place in range(len(values))])
                found[benchmark].append(relative_errors(others, np.array(values)))
    return {name: rounded(float(np.concatenate(errors).mean())) for name, errors in sorted(found.items())}
