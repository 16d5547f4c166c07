"""Problems that have gone wrong before, as they were found, and random ones with numbers over many powers of ten."""

from __future__ import annotations

import json
import random
from pathlib import Path

from models.fairshare.schema import Problem

_KEPT = Path(__file__).with_name("fairshare_once_wrong.json")
ONCE_WRONG: tuple[str, ...] = tuple(json.loads(_KEPT.read_text(encoding="utf-8")))


def once_wrong(name: str) -> Problem:
    """One of them by name."""
    return Problem.model_validate(json.loads(_KEPT.read_text(encoding="utf-8"))[name]["problem"])


def extreme(seed: int) -> Problem:
    """Two classes, four workloads of like and unlike jobs on three accelerators, numbers of every size; the same for the same seed."""
    rng = random.Random(seed)

    def wide(low: float, high: float) -> float:
        return float(10.0 ** rng.uniform(low, high))

    names = ["a", "b", "c"]
    speeds = [[wide(-5, 8) for _ in names] for _ in range(4)]
    workloads = [
        {
            "id": f"w{k}",
            "gpus": rng.choice([1, 2]),
            "speeds": [{"accelerator": a, "steps_per_s": speeds[k][at]} for at, a in enumerate(names)],
        }
        for k in range(4)
    ]
    jobs = [
        {
            "id": f"j{k}",
            "workload": f"w{rng.randrange(4)}",
            "count": rng.choice([1, 2, 1000, 10**6]),
            "weight": wide(-5, 5),
            "priority": rng.randrange(2),
            "remaining_steps": wide(-1, 9),
            "arrival_s": -rng.choice([0.0, 100.0, 7200.0]),
        }
        for k in range(6)
    ]
    return Problem.model_validate(
        {
            "policy": rng.choice(["max_min_fair", "makespan", "finish_time_fair", "hierarchical"]),
            "accelerators": [{"id": a, "count": rng.choice([2, 8, 1000, 10**6])} for a in names],
            "workloads": workloads,
            "pairs": [
                {
                    "accelerator": "a",
                    "first": one["id"],
                    "second": one["id"],
                    "first_steps_per_s": 0.7 * fast,
                    "second_steps_per_s": 0.7 * fast,
                }
                for one, (fast, *_) in zip(workloads[:2], speeds, strict=False)
            ],
            "jobs": jobs,
        }
    )
