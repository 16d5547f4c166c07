"""Online placement on openb: pods come one by one until they ask for all GPUs; how many GPUs each rule allocates.

``python -m benchmarks.replay [--traces ...] [--rules ...] [--seeds N] [--moves] [--bounds] [--held-out] --out FILE``

What ``quartermaster replay --fill`` does, on the six traces of openb with the orders in ``data/openb``: the 1,213 nodes that have
GPUs, every pod of the trace's list once in a shuffled order, then pods drawn with replacement, until they ask for more than the 6,212
GPUs (``service.replay.fill_arrivals``). Every rule runs on exactly the same sequences. FGD and ours know the list of pods, not the
order nor what is drawn. With ``--held-out`` they know every second pod of the list only, and all arrivals are of the other half.

The rule ``quartermaster`` refuses nobody that fits; ``quartermaster_declining`` also refuses who would cost more GPUs of its plan than it
brings, and plans for all expected work instead of the part that fits. ``--moves`` adds both with one move for every 20 arrivals.
``--bounds`` adds, for each sequence, what no plan that knew it all could exceed, and what none could that takes, as
``quartermaster`` did, every pod up to its first refusal.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import facts
from service.replay.cluster_file import read_cluster
from service.replay.comparison import compared
from service.replay.fill_arrivals import Pool, read_pool
from service.replay.fill_whole import LEADING, bounds_of, fills_of, pairs_of
from service.replay.filling import MEASURES, POLICIES
from service.replay.traces import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.placement.online.state import Cluster
    from service.replay.comparison import Compared
    from service.replay.fill_whole import Bounds
    from service.replay.filling import Fill

DATA = Path(__file__).resolve().parent / "data" / "openb"
TRACES = ("default", "cpu050", "cpu100", "gpushare40", "gpuspec10", "multigpu20")
OURS = ("quartermaster", "quartermaster_declining")
PLAIN = tuple(name for name, policy in POLICIES.items() if not policy.plans)
MOVING = "_moves"


@lru_cache
def cluster() -> Cluster:
    """The nodes that have GPUs, empty."""
    return read_cluster(str(DATA / "openb_node_list_gpu_node.csv"))


def pool(trace: str, *, held_out: bool = False) -> Pool:
    """The trace's list of pods, with the given order for seed 0."""
    order = None if held_out else str(DATA / f"arrivals_{trace}.csv")
    found = read_pool("openb", str(DATA / f"openb_pod_list_{trace}.csv"), Reading(cluster()), order, held_out=held_out)
    return Pool(trace, found.requests, found.given, held_out)


def measure(trace: str, rules: Sequence[str], seeds: int, *, bounds: bool, held_out: bool) -> dict[str, Any]:
    """All rules on all sequences of one trace."""
    pods = pool(trace, held_out=held_out)
    fills, notes = fills_of(pods, cluster(), [POLICIES[name] for name in rules], range(seeds))
    found: dict[str, Any] = {"trace": trace, "notes": notes, "rules": {}}
    for one in compared(fills, MEASURES):
        if one.measure == LEADING:
            found["rules"][one.policy] = summary(one, [fill for fill in fills if fill.policy == one.policy])
            print(f"{trace:12} {one.policy:30} {one.mean:7.3f} +- {found['rules'][one.policy]['interval_95']}", flush=True)
    found["pairs"] = [{"rule": one.policy, "against": first, **difference(one)} for first, one in pairs_of(fills)]
    if bounds:
        found["bounds"] = bound_means([bounds_of(pods, cluster(), seed, fills) for seed in range(seeds)])
        print(f"{trace:12} {'bounds':30} {found['bounds']['means']}", flush=True)
    return found


def summary(one: Compared, fills: Sequence[Fill]) -> dict[str, Any]:
    """Mean over the seeds, half the width of its 95% interval (Student's t; None for one seed), and every run."""
    values = [fill.measures[LEADING] or 0.0 for fill in fills]
    return {
        "mean": _rounded(one.mean),
        "interval_95": _half(one.low, one.high),
        "lowest": _rounded(min(values)),
        "highest": _rounded(max(values)),
        "runs": [_run(fill) for fill in fills],
    }


def difference(one: Compared) -> dict[str, Any]:
    """The mean difference seed by seed, in points, and half the width of its 95% interval."""
    return {"mean": _rounded(one.difference), "interval_95": _half(one.difference_low, one.difference_high)}


def bound_means(bounds: Sequence[Bounds]) -> dict[str, Any]:
    """The means over the seeds, and every bound."""
    means: dict[str, float | None] = {"any_percent": _rounded(statistics.fmean(one.any_percent for one in bounds))}
    same = [one.same_prefix_percent for one in bounds if one.same_prefix_percent is not None]
    if same:
        means["same_prefix_percent"] = _rounded(statistics.fmean(same))
    return {"means": means, "runs": [asdict(one) for one in bounds]}


def _run(fill: Fill) -> dict[str, Any]:
    measures = {name: _rounded(value) for name, value in fill.measures.items()}
    return {"seed": fill.seed, **measures, "first_refused": fill.first_refused, "cpu_s": round(fill.cpu_s, 2)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _half(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else round((high - low) / 2, 4)


def main() -> None:
    """Prints a line for each trace and rule, and writes all numbers to a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--traces", nargs="+", choices=TRACES, default=TRACES)
    parser.add_argument("--rules", nargs="+", choices=(*PLAIN, *OURS), default=(*PLAIN, *OURS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--moves", action="store_true", help="also ours with one move for every 20 arrivals")
    parser.add_argument("--bounds", action="store_true", help="also what no rule could exceed")
    parser.add_argument("--held-out", action="store_true", help="every second pod is told, and the arrivals are of the others")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    if asked.seeds < 1:
        parser.error("--seeds must be 1 or more")
    rules = [*asked.rules, *(f"{name}{MOVING}" for name in OURS if asked.moves and name in asked.rules)]
    found: dict[str, Any] = {"schema_version": 2, "date": datetime.now(UTC).date().isoformat(), "machine": facts(), "seeds": asked.seeds}
    found |= {"held_out": asked.held_out, "traces": []}
    for trace in asked.traces:
        found["traces"].append(measure(trace, rules, asked.seeds, bounds=asked.bounds, held_out=asked.held_out))
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
