"""Sia and Pollux: steps on more than 4 GPUs, predicted from runs on at most 4; beside Pollux's own form and two simpler ones.

The fit sees rows with at most 4 GPUs of every job and cluster; all other rows are the test, azure apart. Which form of the law holds and
how wide intervals are is asked of the fitted rows only: fit below 4 GPUs, predict 4.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.runtime_public_statistics import described, relative_errors, rounded
from models.runtime.scaling.pollux import log_ridge, no_communication, pollux
from models.runtime.scaling.pooled import Key, Scaling, choose_form, fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.program import Bools, Floats
    from models.runtime.scaling.law import Runs

MOST_FITTED = 4  # GPUs
APART = "azure"
BASELINES = {"pollux": pollux, "log_ridge": log_ridge, "no_communication": no_communication}


def evaluate(groups: dict[Key, Runs]) -> dict[str, Any]:
    """All numbers of the step times."""
    fitted = {key: runs.only(runs.gpus <= MOST_FITTED) for key, runs in groups.items()}
    asked = {key: runs.only(runs.gpus > MOST_FITTED) for key, runs in groups.items() if np.any(runs.gpus > MOST_FITTED)}
    main = {key: runs for key, runs in fitted.items() if key in asked and key[1] != APART}
    form, inner = choose_form(main)
    models = fit(main, form)
    everything = fit({key: runs for key, runs in fitted.items() if key in asked}, form)
    apart = {key: runs for key, runs in asked.items() if key[1] == APART}
    result = _compared({key: runs for key, runs in asked.items() if key in main}, fitted, models)
    return {
        "rule": f"fitted on rows with at most {MOST_FITTED} GPUs, tested on all rows with more; mean of |predicted / measured - 1|",
        "form": {"waiting": str(form.waiting), "hops": str(form.hops)},
        "form_errors_inside_the_fitted_rows": {f"{one.waiting}, {one.hops}": rounded(error) for one, error in inner.items()},
        "widening_of_intervals": {cluster: rounded(model.widening) for (_, cluster), model in (everything | models).items()},
        "without_azure": result | {"noise_floor": noise_floor({key: groups[key] for key in main})},
        "azure": _compared(apart, fitted, everything) | {"noise_floor": noise_floor({key: groups[key] for key in apart})},
        "rows": {f"{job} {cluster}": [len(fitted[job, cluster]), len(asked.get((job, cluster), ()))] for job, cluster in groups},
    }


def _compared(asked: dict[Key, Runs], fitted: dict[Key, Runs], models: dict[Key, Scaling]) -> dict[str, Any]:
    """Ours and the baselines on the same rows, in all, by cluster and by job."""
    predictions = {key: models[key].predict(runs.batch, runs.gpus, runs.nodes) for key, runs in asked.items()}
    errors = {"ours": {key: relative_errors(one.p50_s, asked[key].step_s) for key, one in predictions.items()}}
    for name, baseline in BASELINES.items():
        errors[name] = {key: relative_errors(baseline(fitted[key])(runs), runs.step_s) for key, runs in asked.items()}
    inside = {key: (one.p10_s <= asked[key].step_s) & (asked[key].step_s <= one.p90_s) for key, one in predictions.items()}
    return {
        "all": {name: described(found) for name, found in errors.items()},
        "by_cluster": {name: _means(found, 1) for name, found in errors.items()},
        "by_job": {name: _means(found, 0) for name, found in errors.items()},
        "by_job_and_cluster": {f"{job} {cluster}": rounded(float(found.mean())) for (job, cluster), found in errors["ours"].items()},
        "by_gpus": _by_gpus(errors["ours"], asked),
        "covered_by_p10_p90": rounded(float(np.concatenate(list(inside.values())).mean())),
        "covered_in_the_mean_of_groups": rounded(float(np.mean([found.mean() for found in inside.values()]))),
        "covered_by_cluster": _means(inside, 1),
        "flagged_as_extrapolation": rounded(float(np.concatenate([one.extrapolated for one in predictions.values()]).mean())),
        "median_p90_over_p10": rounded(float(np.median(np.concatenate([one.p90_s / one.p10_s for one in predictions.values()])))),
    }


def _means(errors: Mapping[Key, Floats | Bools], part: int) -> dict[str, float]:
    collected: dict[str, list[Floats | Bools]] = defaultdict(list)
    for key, found in errors.items():
        collected[key[part]].append(found)
    return {name: rounded(float(np.concatenate(found).mean())) for name, found in collected.items()}


def _by_gpus(errors: dict[Key, Floats], asked: dict[Key, Runs]) -> dict[str, float]:
    gpus, found = np.concatenate([asked[key].gpus for key in errors]), np.concatenate(list(errors.values()))
    bands = ((5, 8), (9, 16), (17, 32), (33, 64))
    chosen = {f"{low}-{high}": found[(gpus >= low) & (gpus <= high)] for low, high in bands}
    return {name: rounded(float(values.mean())) for name, values in chosen.items() if len(values)}


def noise_floor(groups: dict[Key, Runs]) -> dict[str, float]:
    """How well one run is foretold by the median of the others with the same batch, GPUs and nodes: no law of these three does better.

    It holds repeat noise and what the number of nodes leaves open (1 + 3 GPUs or 2 + 2).
    """
    every: list[float] = []
    for runs in groups.values():
        alike: dict[tuple[float, float, float], list[float]] = defaultdict(list)
        for batch, gpus, nodes, step_s in zip(runs.batch, runs.gpus, runs.nodes, runs.step_s, strict=True):
            alike[batch, gpus, nodes].append(step_s)
        for times in (np.array(found) for found in alike.values() if len(found) > 1):
            every += [abs(float(np.median(np.delete(times, place))) / time - 1.0) for place, time in enumerate(times)]
    return {"error": rounded(float(np.mean(every))), "runs": len(every)} if every else {}
