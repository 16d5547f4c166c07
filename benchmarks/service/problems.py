"""What the benchmark asks the service to solve."""

from __future__ import annotations

import random
from typing import Any

Document = dict[str, Any]


def tiny_lp(number: int) -> Document:
    """A linear program of 4 columns and 3 rows; every number gives another."""
    rng = random.Random(number)
    return {
        "sense": "maximise",
        "columns": {"cost": [rng.randint(1, 1_000) for _ in range(4)], "upper": [rng.randint(1, 50) for _ in range(4)]},
        "rows": {"upper": [rng.randint(20, 200) for _ in range(3)]},
        "entries": {"rows": [0, 0, 1, 1, 2, 2], "columns": [0, 1, 1, 2, 2, 3], "values": [rng.randint(1, 9) for _ in range(6)]},
    }


def infeasible_lp(number: int) -> Document:
    """Two rows that cannot both hold."""
    rng = random.Random(number)
    return {
        "columns": {"cost": [1, rng.randint(1, 9)]},
        "rows": {"lower": [rng.randint(10, 20), None], "upper": [None, rng.randint(1, 9)]},
        "entries": {"rows": [0, 0, 1, 1], "columns": [0, 1, 0, 1], "values": [1, 1, 1, 1]},
    }


def knapsacks(columns: int, rows: int, per_column: int, seed: int = 1) -> Document:
    """Many small knapsacks woven into each other: large ones keep a solver in presolve for many seconds, small ones in its tree."""
    rng = random.Random(seed)
    entry_rows: list[int] = []
    entry_columns: list[int] = []
    for column in range(columns):
        first = rng.randrange(rows)
        entry_rows += [(first + step * (rows // per_column)) % rows for step in range(per_column)]
        entry_columns += [column] * per_column
    return {
        "sense": "maximise",
        "columns": {"cost": [rng.randint(1, 99) for _ in range(columns)], "upper": [1] * columns, "integer": [True] * columns},
        "rows": {"upper": [7.5 * columns * per_column / rows] * rows},
        "entries": {"rows": entry_rows, "columns": entry_columns, "values": [rng.randint(1, 59) for _ in entry_rows]},
    }


def small_placement(number: int) -> Document:
    """A placement of 6 jobs on 4 nodes, solved to a proof in tens of milliseconds."""
    rng = random.Random(number)
    return {
        "nodes": [{"id": f"n{node}", "gpus": 8, "gpu_model": "h100", "cpu_cores": 64, "memory_gib": 512} for node in range(4)],
        "jobs": [
            {"id": f"j{job}", "gpus_per_worker": rng.choice([1, 2, 4, 8]), "workers": rng.choice([1, 2]), "value": rng.randint(1, 20)}
            for job in range(6)
        ],
    }


def gangs(jobs: int, nodes: int, seed: int) -> Document:
    """Gangs of 1 to 64 GPUs, more than the nodes can hold: a search that uses its whole limit."""
    from benchmarks.generators import gangs as generated

    made: Document = generated(jobs, nodes, seed).model_dump(mode="json", exclude_defaults=True)
    return made
