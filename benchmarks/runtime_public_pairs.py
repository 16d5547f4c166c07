"""Gavel's pairs: two jobs on one GPU, predicted from a random fifth of the pairs of that GPU type alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.runtime_public_statistics import interval, rounded
from models.runtime.speeds.interference import JobType, PairSpeed, fit

if TYPE_CHECKING:
    from benchmarks.runtime_public_data import Gavel
    from models.program import Floats

SHARE = 0.2  # of the unordered pairs that are measured
SEEDS = 10
RIDGE = 1.0

Rule = Callable[[tuple[JobType, ...], list[PairSpeed], list[str], list[str]], "Floats"]


def evaluate(data: Gavel, seeds: int = SEEDS) -> dict[str, Any]:
    """Mean absolute errors of normalised speed (each side of a pair counts) by GPU type, over random fifths."""
    rules: dict[str, Rule] = {"half_each": half_each, "family_means": family_means, "log_ridge": log_ridge}
    table: dict[str, Any] = {}
    for gpu, pairs in data.pairs.items():
        scored: dict[str, list[float]] = defaultdict(list)
        by_job: dict[str, list[float]] = defaultdict(list)
        covered = []
        for seed in range(seeds):
            known, hidden = split(pairs, seed)
            first = [pair.first for pair in hidden] + [pair.second for pair in hidden]
            second = [pair.second for pair in hidden] + [pair.first for pair in hidden]
            speed = np.array([pair.first_speed for pair in hidden] + [pair.second_speed for pair in hidden])
            found = fit(data.jobs, known).predict(first, second)
            covered.append(float(((found.p10 <= speed) & (speed <= found.p90)).mean()))
            predictions = {"ours": found.p50, "sensitivity_and_pressure": fit(data.jobs, known, habits=False).predict(first, second).p50}
            predictions |= {name: rule(data.jobs, known, first, second) for name, rule in rules.items()}
            for name, predicted in predictions.items():
                scored[name].append(float(np.abs(predicted - speed).mean()))
            for job, error in zip(first, np.abs(found.p50 - speed), strict=True):
                by_job[job].append(float(error))
        table[gpu] = {
            "pairs": len(pairs),
            "refused_pairs": data.refused[gpu],
            "errors": {name: _over_seeds(errors) for name, errors in scored.items()},
            "interval_95_over_jobs": interval([np.array(errors) for errors in by_job.values()], np.mean),
            "covered_by_p10_p90": rounded(float(np.mean(covered))),
            "noise_floor": None,  # one run of each pair
        }
    return {"rule": f"a random {SHARE:.0%} of the pairs of each GPU type, {seeds} draws; tested on the rest", "gpus": table}


def split(pairs: list[PairSpeed], seed: int) -> tuple[list[PairSpeed], list[PairSpeed]]:
    """A random fifth of the pairs, and the rest."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    count = round(SHARE * len(pairs))
    return [pairs[place] for place in order[:count]], [pairs[place] for place in order[count:]]


def half_each(_jobs: tuple[JobType, ...], _known: list[PairSpeed], first: list[str], _second: list[str]) -> Floats:
    """Each of the two attains half of its speed."""
    return np.full(len(first), 0.5)


def family_means(jobs: tuple[JobType, ...], known: list[PairSpeed], first: list[str], second: list[str]) -> Floats:
    """The mean of the measured pairs of the same two families; of all pairs where there is none."""
    family = {job.name: job.family for job in jobs}
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for pair in known:
        found[family[pair.first], family[pair.second]].append(pair.first_speed)
        found[family[pair.second], family[pair.first]].append(pair.second_speed)
    overall = float(np.mean([speed for speeds in found.values() for speed in speeds]))
    return np.array([float(np.mean(found.get((family[a], family[b]), [overall]))) for a, b in zip(first, second, strict=True)])


def log_ridge(jobs: tuple[JobType, ...], known: list[PairSpeed], first: list[str], second: list[str]) -> Floats:
    """Log of the speed linear in which job is asked and which is beside it, with a ridge."""
    at = {job.name: place for place, job in enumerate(jobs)}

    def design(asked: list[str], beside: list[str]) -> Floats:
        table = np.zeros((len(asked), 2 * len(jobs)))
        rows = np.arange(len(asked))
        table[rows, [at[name] for name in asked]] = 1.0
        table[rows, [len(jobs) + at[name] for name in beside]] = 1.0
        return table

    logs = np.log([pair.first_speed for pair in known] + [pair.second_speed for pair in known])
    firsts, seconds = [pair.first for pair in known], [pair.second for pair in known]
    table = design(firsts + seconds, seconds + firsts)
    middle = logs.mean()
    weights = np.linalg.solve(table.T @ table + RIDGE * np.eye(table.shape[1]), table.T @ (logs - middle))
    return np.asarray(np.minimum(1.0, np.exp(middle + design(first, second) @ weights)))


def _over_seeds(errors: list[float]) -> dict[str, float]:
    return {
        "mean": rounded(float(np.mean(errors))),
        "spread": rounded(float(np.std(errors))),
        "lowest": rounded(min(errors)),
        "highest": rounded(max(errors)),
    }
