"""A whole comparison of policies that fill a cluster: every run, means and paired differences with intervals, bounds, files."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.placement.online.state import MILLI
from service.replay.comparison import CONFIDENCE, Compared, compared, pair
from service.replay.files import comparison_csv, fills_csv, saved
from service.replay.fill_arrivals import demand_percent, read_pool
from service.replay.fill_solving import Solving, offline_bound
from service.replay.filling import MEASURES, USUAL, Fill, FillPolicy, Plans, filled, policy_called
from service.replay.jobs import ReplayError
from service.replay.traces import Reading
from service.replay.whole import cluster_of, distinct

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.placement.online.state import Cluster
    from service.replay.fill_arrivals import Pool
    from service.replay.whole import Asked, Filling

SCHEMA_VERSION = 1
LEADING = "allocated_percent"
FULL = 99.9  # % of the GPUs asked for, below which a given order does not fill the cluster
OURS = "quartermaster"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Per cent of the GPUs that cannot be exceeded on the sequence of one seed.

    ``any_percent``: by any policy. ``same_prefix_percent``: by any that takes, as ``quartermaster`` did, the first ``must_take`` arrivals.
    """

    trace: str
    seed: int
    any_percent: float
    must_take: int | None = None
    same_prefix_percent: float | None = None


@dataclass(frozen=True, slots=True)
class WholeFill:
    """All that is told of a fill. ``pairs`` holds, of every two policies, the allocated GPUs of the second against the first."""

    settings: dict[str, Any]
    fills: tuple[Fill, ...]
    compared: tuple[Compared, ...]
    pairs: tuple[tuple[str, Compared], ...]
    bounds: tuple[Bounds, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "settings": self.settings,
            "notes": list(self.notes),
            "confidence": CONFIDENCE,
            "measures": [asdict(one) for one in MEASURES],
            "fills": [asdict(one) for one in self.fills],
            "compared": [one.as_json() for one in self.compared],
            "pairs": [{"against": first, **one.as_json()} for first, one in self.pairs],
            "bounds": [asdict(one) for one in self.bounds],
        }


def compare_fills(asked: Asked, filling: Filling, tell: Callable[[Fill], None] | None = None) -> WholeFill:
    """Fill the cluster from every trace under every policy and seed. ``tell`` is called after each run. Raises ReplayError."""
    policies = [policy_called(name.strip()) for name in asked.policies or USUAL]
    distinct("policy", [policy.name for policy in policies])
    distinct("trace", asked.traces)
    if filling.orders and len(filling.orders) != len(asked.traces):
        raise ReplayError(f"--order: {len(filling.orders)} are given for {len(asked.traces)} traces; give one for each, or none")
    if filling.orders and filling.held_out:
        raise ReplayError("--order and --held-out: a given order has jobs that are told; leave one of the two out")
    cluster = cluster_of(asked)
    reading = Reading(cluster, None if asked.throughputs is None else Path(asked.throughputs), asked.skip_unknown)
    pools = [
        read_pool(asked.form, path, reading, order, held_out=filling.held_out)
        for path, order in zip(asked.traces, filling.orders or [None] * len(asked.traces), strict=True)
    ]
    fills: list[Fill] = []
    bounds: list[Bounds] = []
    notes: list[str] = []
    for pool in pools:
        own, told = fills_of(pool, cluster, policies, range(asked.seeds), tell)
        fills += own
        notes += told
        if filling.bounds:
            bounds += [bounds_of(pool, cluster, seed, own) for seed in range(asked.seeds)]
    found = compared(fills, MEASURES)
    told_settings = asdict(asked) | asdict(filling) | {"policies": [policy.name for policy in policies], "fill": True}
    told_settings |= {"cluster_nodes": len(cluster.nodes), "cluster_gpus": cluster.total_milli() // MILLI}
    told_settings |= {"policy_meanings": {policy.name: policy.meaning for policy in policies}}
    return WholeFill(told_settings, tuple(fills), found, pairs_of(fills), tuple(bounds), tuple(notes))


def fills_of(
    pool: Pool, cluster: Cluster, policies: Sequence[FillPolicy], seeds: Sequence[int], tell: Callable[[Fill], None] | None = None
) -> tuple[list[Fill], list[str]]:
    """Every run of one pool, policy by policy, and notes. Raises ReplayError."""
    solver = Solving()
    plans = Plans(cluster, pool.told(), solver)
    found = []
    for policy in policies:
        for seed in seeds:
            found.append(filled(pool, cluster, policy, seed, plans))
            if tell is not None:
                tell(found[-1])
    notes = [f"{pool.name}: plans took {plans.cpu_s:.0f} CPU seconds"] if plans.cpu_s else []
    if solver.stopped:
        notes.append(f"{pool.name}: {solver.stopped} plans were stopped by their time limit and may differ elsewhere")
    demand = min(demand_percent(pool.arrivals(cluster, seed), cluster) for seed in seeds)
    if demand < FULL:
        notes.append(f"{pool.name}: the given order asks for {demand:.1f}% of the GPUs only, which does not fill the cluster")
    return found, notes


def pairs_of(fills: Sequence[Fill]) -> tuple[tuple[str, Compared], ...]:
    """The allocated GPUs of every policy against each that was named before it, seed by seed."""
    found = []
    for trace in dict.fromkeys(one.trace for one in fills):
        policies = dict.fromkeys(one.policy for one in fills if one.trace == trace)
        found += [(first, pair(fills, trace, LEADING, first, second, MEASURES)) for first, second in combinations(policies, 2)]
    return tuple(found)


def bounds_of(pool: Pool, cluster: Cluster, seed: int, fills: Sequence[Fill] = ()) -> Bounds:
    """The bounds of one sequence; that of the same prefix where ``fills`` has a run of ``quartermaster`` on it."""
    arrivals, gpus = pool.arrivals(cluster, seed), cluster.total_milli() / MILLI
    ours = next((one for one in fills if (one.policy, one.seed) == (OURS, seed)), None)
    whole = 100 * offline_bound(cluster, arrivals) / gpus
    if ours is None:
        return Bounds(pool.name, seed, whole)
    return Bounds(pool.name, seed, whole, ours.first_refused, 100 * offline_bound(cluster, arrivals, ours.first_refused) / gpus)


def mean_bounds(bounds: Sequence[Bounds], trace: str) -> tuple[float | None, float | None]:
    """The means over the seeds of the bound for any policy and of that for the same prefix; None where there is none."""
    own = [one for one in bounds if one.trace == trace]
    same = [one.same_prefix_percent for one in own if one.same_prefix_percent is not None]
    return statistics.fmean(one.any_percent for one in own) if own else None, statistics.fmean(same) if same else None


def written(whole: WholeFill, folder: Path) -> list[tuple[str, str]]:
    """Writes the files into an existing folder; what each is, and its path. Raises ReplayError where it cannot be written."""
    files = {
        "fills": ("fills.csv", fills_csv(whole.fills)),
        "comparison": ("comparison.csv", comparison_csv(whole.compared)),
        "everything": ("fill.json", json.dumps(whole.as_json(), allow_nan=False, indent=1)),
    }
    return saved(files, folder)
