"""Lambda's throughputs and MLPerf Training v5.0: noise floors, and one number of accelerators from smaller ones. For information.

Intervals are as wide as the other tasks (benchmarks) ask for: the one that is predicted is left out, with all that was measured of it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.runtime_public_statistics import described, relative_errors, rounded
from models.runtime.scaling.strong import Curve, in_proportion, time_to_train, weak_scaling

if TYPE_CHECKING:
    from benchmarks.runtime_public_data import Throughput
    from models.program import Bools, Floats

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
    cases, gpus = [], []
    plain: dict[str, list[Floats]] = defaultdict(list)
    for (gpu, task, _precision), values in sizes.items():
        small = np.array([count for count in sorted(values) if count <= FITTED_GPUS], dtype=np.float64)
        large = np.array([count for count in sorted(values) if count > FITTED_GPUS], dtype=np.float64)
        if len(small) < FITTED_GPUS or not len(large):
            continue
        measured, truth = np.array([values[int(count)] for count in small]), np.array([values[int(count)] for count in large])
        cases.append(Case(task, weak_scaling(small, measured), large, truth))
        gpus.append(gpu)
        plain[gpu].append(relative_errors(in_proportion(small[:1], measured[:1], large, weak=True), truth))
    ours: dict[str, list[Floats]] = defaultdict(list)
    for gpu, case in zip(gpus, cases, strict=True):
        ours[gpu].append(relative_errors(case.curve.predict(case.sizes).p50, case.truth))
    by_gpu = [case._replace(group=gpu) for gpu, case in zip(gpus, cases, strict=True)]
    return {
        "ours": described({gpu: np.concatenate(found) for gpu, found in ours.items()}),
        "in_proportion_to_gpus": described({gpu: np.concatenate(found) for gpu, found in plain.items()}),
        "by_gpu": {gpu: rounded(float(np.concatenate(found).mean())) for gpu, found in ours.items()},
        "intervals": _intervals(cases) | {"widened_by_other_gpu_types": _covered(_widened(by_gpu))},
    }


class Case(NamedTuple):
    """One law and what it is asked: ``group`` of cases that resemble it, sizes (R,) beyond those fitted, and what was measured there."""

    group: str
    curve: Curve
    sizes: Floats
    truth: Floats


def _widened(cases: list[Case]) -> list[Case]:
    """Each case with intervals that the other groups' scores tell: nothing measured of its own group beyond the fitted sizes is used."""
    scores: dict[str, list[Floats]] = defaultdict(list)
    for case in cases:
        scores[case.group].append(case.curve.scores(case.sizes, case.truth))
    joined = {group: np.concatenate(found) for group, found in scores.items()}
    return [case._replace(curve=case.curve.widened([found for group, found in joined.items() if group != case.group])) for case in cases]


def _covered(cases: list[Case]) -> dict[str, Any]:
    """How often p10 to p90 holds what was measured, in all and by group, and how wide it is."""
    found: dict[str, list[Bools]] = defaultdict(list)
    widths = []
    for case in cases:
        told = case.curve.predict(case.sizes)
        found[case.group].append((told.p10 <= case.truth) & (case.truth <= told.p90))
        widths.append(told.p90 / told.p10)
    inside = {group: np.concatenate(every) for group, every in found.items()}
    return {
        "covered_by_p10_p90": rounded(float(np.concatenate(list(inside.values())).mean())),
        "median_p90_over_p10": rounded(float(np.median(np.concatenate(widths)))),
        "covered_by_group": {group: rounded(float(every.mean())) for group, every in inside.items()},
    }


def _intervals(cases: list[Case]) -> dict[str, Any]:
    """The fit's own intervals, those where no other case is known, and those that other groups have widened."""
    own = [case._replace(curve=replace(case.curve, widening=1.0)) for case in cases]
    return {"not_widened": _covered(own), "nothing_else_known": _covered(cases), "widened_by_other_groups": _covered(_widened(cases))}


def evaluate_mlperf(minutes: dict[tuple[str, str, str], dict[int, list[float]]]) -> dict[str, Any]:
    """Time to train on the most accelerators from the smaller submissions of the same organisation, and run-to-run noise."""
    cases, names, known = [], [], []
    for (organisation, accelerator, benchmark), sizes in sorted(minutes.items()):
        if len(sizes) < LEAST_SIZES:
            continue
        counts = sorted(sizes)
        times = np.array([float(np.median(sizes[count])) for count in counts])
        known.append((np.array(counts[:-1], dtype=np.float64), times[:-1]))
        cases.append(Case(benchmark, time_to_train(*known[-1]), np.array([float(counts[-1])]), times[-1:]))
        names.append(f"{organisation}, {accelerator}, {benchmark}")
    ours: dict[str, list[Floats]] = defaultdict(list)
    plain: dict[str, list[Floats]] = defaultdict(list)
    rows = []
    for name, (sizes_fitted, times_fitted), case in zip(names, known, _widened(cases), strict=True):
        found = case.curve.predict(case.sizes)
        simple = in_proportion(sizes_fitted, times_fitted, case.sizes, weak=False)
        ours[case.group].append(relative_errors(found.p50, case.truth))
        plain[case.group].append(relative_errors(simple, case.truth))
        rows.append(
            {
                "case": name,
                "fitted_on": [int(count) for count in sizes_fitted],
                "predicted": int(case.sizes[0]),
                "measured_minutes": rounded(float(case.truth[0])),
                "p10_p50_p90_minutes": [rounded(float(value[0])) for value in (found.p10, found.p50, found.p90)],
                "in_proportion_minutes": rounded(float(simple[0])),
            }
        )
    return {
        "ours": described({name: np.concatenate(found) for name, found in ours.items()}),
        "in_proportion": described({name: np.concatenate(found) for name, found in plain.items()}),
        "intervals": _intervals(cases),
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
