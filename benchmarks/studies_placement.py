"""A study of the openb cluster with nodes added or lost, against the same scenarios solved from scratch at the same gap."""

from __future__ import annotations

import random
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from benchmarks import studies_today
from benchmarks.placement import openb
from benchmarks.studies_linear import studied, told
from benchmarks.studies_today import PROCESSES, Took, spread
from optimizer.study.executors.pool import LocalPool
from optimizer.study.run import limits_of
from optimizer.study.scenarios.expansion import expanded
from optimizer.study.schema import Study

if TYPE_CHECKING:
    from pathlib import Path

    from models.placement.schema import Problem

SEED = 0
MOST_NODES = 64  # added or lost at once
RACK = 16  # openb tells no racks: neighbours in its list of nodes stand for one
LIMITS = {"time_limit_s": 60.0, "gap": 1e-3}


def study_of(base: Problem, scenarios: int) -> Study:
    """The cluster as it is, and with nodes added, lost at random, or lost by the rack, in turn."""
    rng = random.Random(SEED)
    models = {str(one.gpu_model): one.id for one in base.nodes if one.gpus == max(node.gpus for node in base.nodes)}
    options = []
    for number in range(scenarios - 1):
        count = rng.randint(1, MOST_NODES)
        if number % 3 == 0:
            model = rng.choice(sorted(models))
            copies = {"op": "copies", "of": f"/nodes/[id={models[model]}]", "count": count, "id": "more-{n}"}
            options.append({"label": f"{number}-add-{count}-{model}", "edits": [copies]})
            continue
        if number % 3 == 1:
            word, lost = f"lose-{count}", rng.sample(base.nodes, count)
        else:
            first = rng.randrange(len(base.nodes) // RACK) * RACK
            word, lost = f"rack-{first // RACK}", list(base.nodes[first : first + RACK])
        options.append({"label": f"{number}-{word}", "edits": [{"op": "remove", "at": f"/nodes/[id={one.id}]"} for one in lost]})
    return Study.model_validate(
        {
            "name": "openb",
            "kind": "placement",
            "base": {"file": "openb.json"},
            "axes": [{"name": "nodes", "options": options}],
            "limits": LIMITS,
        }
    )


def placement(folder: Path, scenarios: int = 100, cold: int = 12) -> dict[str, Any]:
    """One line: half of the cold solves, the study, the other half."""
    base = openb("default")
    study = study_of(base, scenarios)
    with studies_today.pool(studies_today.hold, "placement", base.model_dump_json().encode()) as workers:
        asked = expanded(study, base)
        chosen = spread(len(asked), cold)
        limits = limits_of(study.limits, 0)

        def solved(places: list[int]) -> list[Took]:
            waiting: list[Future[Took]] = [workers.submit(studies_today.cold, asked[place].changes, limits) for place in places]
            return [one.result() for one in waiting]

        took = solved(chosen[::2])
        table, spent = studied(folder / "study", study, base, LocalPool(PROCESSES))
        took += solved(chosen[1::2])
    rows = [one.row for one in table.answered]
    same = [table.rows[place] for place in chosen]
    reached = sum(row.verified and all(goal.gap <= study.limits.gap for goal in row.goals) for row in rows)
    count = len(asked)
    cpu_s, wall_s = (count / len(took) * sum(seconds) for seconds in zip(*((one.cpu_s, one.wall_s) for one in took), strict=True))
    return {
        "scenarios": count,
        **told(table, spent),
        "gap": study.limits.gap,
        "short_of_gap": count - reached,
        "cold_sample": len(took),
        "cold_short_of_gap": sum(one.gap > study.limits.gap or not one.verified for one in took),
        "cold_largest_gap": max(one.gap for one in took),
        "same_largest_gap": max((goal.gap for row in same if row is not None for goal in row.goals), default=1.0),
        "cold_each_wall_s": round(wall_s / count, 3),
        "cold_each_cpu_s": round(cpu_s / count, 3),
        "hot_each_own_s": round(sum(row.seconds for row in rows) / count, 3),
        "faster_than_cold": round(wall_s / PROCESSES / spent.wall_s, 2),
        "less_cpu_than_cold": round(cpu_s / spent.cpu_s, 2),
    }
