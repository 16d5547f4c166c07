"""Online placement on openb: pods come one by one until they ask for all GPUs; how many GPUs each rule allocates.

``python -m benchmarks.replay [--traces ...] [--rules ...] [--seeds N] [--moves] [--bounds] [--held-out] --out FILE``

Protocol, after the published experiments (github.com/hkust-adsl/kubernetes-scheduler-simulator, runs of 2023_0511): the 1,213
nodes that have GPUs; every pod of the trace's list once in a shuffled order, then pods drawn from the list with replacement;
the sequence ends with the pod by which the demand exceeds the 6,212 GPUs. Pods stay for good, a pod that finds no seat does
not come again, and pods without GPUs come too and take CPU and memory. Allocated are thousandths of GPUs in use at the end.
Seed 0 is the sequence ``arrivals_<trace>.csv``; seed s > 0 shuffles the list, sorted by name, with numpy's generator of seed s.
Every rule runs on exactly the same sequences. FGD and ours know the list of pods, not the order nor what is drawn.
With ``--held-out`` they know every second pod of the list only, and all arrivals are of the other half.

The rule ``quartermaster`` refuses nobody that fits; ``quartermaster_declining`` also refuses who would cost more GPUs of its plan than it
brings, and plans for all expected work instead of the part that fits. ``--moves`` adds both with one move for every 20 arrivals.
``--bounds`` adds, for each sequence, what no plan that knew it all could exceed, and what none could that takes, as
``quartermaster`` did, every pod up to its first refusal.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import facts
from models.placement import scale
from models.placement.online.fgd import TYPICAL_PART, Fgd, typical
from models.placement.online.moving import Moving
from models.placement.online.planned import Planned
from models.placement.online.planning import as_problem, node_of, planned_places
from models.placement.online.rules import BestFit, DotProduct, FirstFit, Packing, RandomFit
from models.placement.online.state import MILLI, Cluster, NodeSpec, Request
from models.placement.schema import GoalName, Job, Problem
from models.placement.verify import verify
from optimizer.columns import generate
from optimizer.limits import Limits
from optimizer.solve import solve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.placement.online.planned import Place
    from models.placement.online.rules import SeatRule
    from models.placement.schema import Plan

    Places = list[tuple[int, Place]]

DATA = Path(__file__).resolve().parent / "data" / "openb"
TRACES = ("default", "cpu050", "cpu100", "gpushare40", "gpuspec10", "multigpu20")
PLAIN = ("random", "first_fit", "dot_product", "packing", "best_fit", "fgd")
OURS = ("quartermaster", "quartermaster_declining")
MOVING = "+moves"
PLAN_S = 120.0  # most seconds for the plan; it ends before where the gap closes
PLAN_GAP = 2e-4
BOUND_S = 120.0
MUST = 1.0  # worth of taking one pod that must be taken, in GPUs: any choice gives a valid bound


# ---------------------------------------------------------------- the protocol


@lru_cache
def nodes() -> tuple[NodeSpec, ...]:
    """The nodes that have GPUs."""
    with (DATA / "openb_node_list_gpu_node.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return tuple(NodeSpec(row["sn"], int(row["gpu"]), row["model"] or None, int(row["cpu_milli"]), int(row["memory_mib"])) for row in rows)


@lru_cache
def pods(trace: str) -> dict[str, Request]:
    """The trace's list of pods by name."""
    with (DATA / f"openb_pod_list_{trace}.csv").open(encoding="utf-8") as stream:
        return {row["name"]: _request(row) for row in csv.DictReader(stream)}


def _request(row: dict[str, str]) -> Request:
    return Request(
        row["name"],
        gpus=int(row["num_gpu"]),
        share_milli=int(row["gpu_milli"]) if int(row["num_gpu"]) else MILLI,
        cpu_milli=int(row["cpu_milli"]),
        memory_mib=int(row["memory_mib"]),
        models=frozenset(model for model in row.get("gpu_spec", "").split("|") if model),
    )


def told(trace: str, *, held_out: bool = False) -> list[Request]:
    """The pods that FGD and ours know of: the list, or every second pod of it."""
    return [pod for _, pod in sorted(pods(trace).items())][:: 2 if held_out else 1]


def sequence(trace: str, seed: int, *, held_out: bool = False) -> list[Request]:
    """The arrivals of one seed; a pod that comes again is called ``<pod>#2`` and so on. ``held_out``: of pods that are not told."""
    known = pods(trace)
    capacity = sum(node.gpus for node in nodes()) * MILLI
    asked, times, found = 0, dict.fromkeys(known, 0), []
    for name in _names(trace, seed, held_out=held_out):
        times[name] += 1
        found.append(known[name] if times[name] == 1 else replace(known[name], id=f"{name}#{times[name]}"))
        asked += known[name].gpu_milli
        if asked > capacity:
            break
    return found


def _names(trace: str, seed: int, *, held_out: bool) -> Iterator[str]:
    if seed == 0 and not held_out:
        with (DATA / f"arrivals_{trace}.csv").open(encoding="utf-8") as stream:
            yield from (row["name"] for row in csv.DictReader(stream))
        return
    names, draw = sorted(pods(trace))[1 if held_out else 0 :: 2 if held_out else 1], np.random.default_rng(seed)
    yield from (names[at] for at in draw.permutation(len(names)))
    while True:
        yield names[draw.integers(len(names))]


# ---------------------------------------------------------------- plans and bounds


class Solving:
    """The solver that plans and bounds, on one thread."""

    def bound(self, problem: Problem) -> float:
        """The bound of the relaxation by groups, recomputed from its duals."""
        goal = problem.ordered_goals()[0]
        source = scale.relaxation(problem, goal)
        if source is None:
            raise ValueError(f"the relaxation does not know the goal {goal}")
        return generate(source, Limits(time_limit_s=BOUND_S)).bound

    def plan(self, problem: Problem) -> Plan:
        """The plan with the smallest gap in the time there is."""
        result = solve(problem, Limits(time_limit_s=PLAN_S, gap=PLAN_GAP), isolate=False)
        if result.plan is None:
            raise RuntimeError(f"no plan: {result.failure or result.outcome}")
        return result.plan  # type: ignore[return-value]


def offline_bound(arrivals: Sequence[Request], must: int = 0) -> float:
    """GPUs that no placement of any of ``arrivals`` exceeds, in which the first ``must`` that fit an empty node are all placed.

    Lagrangian: who must be placed is worth MUST more, and what that is worth in all is taken off the bound again.
    """
    empty = Cluster(nodes())
    forced = [place < must and bool(empty.fits(request).any()) for place, request in enumerate(arrivals)]
    jobs = tuple(_job(request, MUST * one) for request, one in zip(arrivals, forced, strict=True))
    problem = Problem(nodes=tuple(node_of(node) for node in nodes()), jobs=jobs, goals=(GoalName.placed_value,))
    return Solving().bound(problem) - MUST * sum(forced)


def _job(request: Request, more: float) -> Job:
    gpus = request.gpu_milli / MILLI
    return Job(
        id=request.id,
        gpus_per_worker=gpus,
        cpu_cores=request.cpu_milli / MILLI,
        memory_gib=request.memory_mib / 1024,
        model_speeds=dict.fromkeys(sorted(request.models), 1.0),
        value=gpus + more,
    )


# ---------------------------------------------------------------- one run


def rule_called(name: str, cluster: Cluster, known: Sequence[Request], seed: int, places: dict[str, Places]) -> SeatRule:
    """The rule of that name, new, for ``cluster``; ``known`` is what FGD knows, ``places`` are those of each of OURS."""
    if name == "fgd":
        return Fgd(cluster, typical(known, TYPICAL_PART))
    if name in OURS:
        return Planned(cluster, places[name], typical(known), decline=name == "quartermaster_declining")
    plain = {"first_fit": FirstFit, "best_fit": BestFit, "dot_product": DotProduct, "packing": Packing}
    return RandomFit(seed) if name == "random" else plain[name]()


def run(name: str, trace: str, seed: int, places: dict[str, Places], *, held_out: bool = False) -> dict[str, Any]:
    """One rule on one sequence; the end is checked by the placement kind's own verify."""
    arrivals, cluster = sequence(trace, seed, held_out=held_out), Cluster(nodes())
    rule = rule_called(name.removesuffix(MOVING), cluster, told(trace, held_out=held_out), seed, places)
    moving = Moving(rule) if name.endswith(MOVING) and isinstance(rule, Planned) else None
    began, empty, refused = time.process_time(), Cluster(nodes()), []
    for place, request in enumerate(arrivals):
        if moving is not None:
            seats = moving.place(cluster, request)
        else:
            seats = rule.choose(cluster, request)
            if seats is not None:
                cluster.seat(request, seats)
        if seats is None and empty.fits(request).any():
            refused.append(place)
    seconds = time.process_time() - began
    verdict = verify(*as_problem(cluster))
    if not verdict.ok:
        raise RuntimeError(f"{name} on {trace}, seed {seed}: {verdict.violations[0].message}")
    return {
        "seed": seed,
        "allocated_percent": round(100 * cluster.used_milli() / cluster.total_milli(), 4),
        "refused": len(refused),
        "first_refused": refused[0] if refused else len(arrivals),
        "moves": 0 if moving is None else len(moving.moves),
        "cpu_s": round(seconds, 2),
    }


def summary(runs: Sequence[dict[str, Any]], key: str = "allocated_percent") -> dict[str, Any]:
    """Mean over the seeds, and half the width of its 95% interval (Student's t); None for one seed."""
    from scipy.stats import t as student  # an extra of the tests and benchmarks

    values = np.array([one[key] for one in runs])
    half = None
    if len(values) > 1:
        half = round(float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))), 4)
    return {"mean": round(float(values.mean()), 4), "interval_95": half, "lowest": float(values.min()), "highest": float(values.max())}


def measure(trace: str, rules: Sequence[str], seeds: int, *, bounds: bool, held_out: bool) -> dict[str, Any]:
    """All rules on all sequences of one trace."""
    asked = {name.removesuffix(MOVING) for name in rules}
    began = time.process_time()
    known = told(trace, held_out=held_out)
    parts = {"quartermaster": None, "quartermaster_declining": 1.0}
    places = {name: planned_places(Cluster(nodes()), known, Solving(), parts[name]) for name in OURS if name in asked}
    found: dict[str, Any] = {"trace": trace, "planning_cpu_s": round(time.process_time() - began, 1), "rules": {}}
    for name in rules:
        runs = [run(name, trace, seed, places, held_out=held_out) for seed in range(seeds)]
        found["rules"][name] = {**summary(runs), "runs": runs}
        print(f"{trace:12} {name:30} {found['rules'][name]['mean']:7.3f} +- {found['rules'][name]['interval_95']}", flush=True)
    if bounds:
        found["bounds"] = _bounds(trace, seeds, found["rules"].get("quartermaster", {}).get("runs", []), held_out=held_out)
    return found


def _bounds(trace: str, seeds: int, ours: Sequence[dict[str, Any]], *, held_out: bool) -> dict[str, Any]:
    total, found = sum(node.gpus for node in nodes()), []
    for seed in range(seeds):
        arrivals = sequence(trace, seed, held_out=held_out)
        one = {"seed": seed, "offline_percent": round(100 * offline_bound(arrivals) / total, 4)}
        if ours:
            must = ours[seed]["first_refused"]
            one |= {"must_take": must, "taking_percent": round(100 * offline_bound(arrivals, must) / total, 4)}
        found.append(one)
    means = {key: summary(found, key)["mean"] for key in found[0] if key.endswith("_percent")}
    print(f"{trace:12} {'bounds':30} {means}", flush=True)
    return {**means, "runs": found}


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
    found = {"schema_version": 1, "date": datetime.now(UTC).date().isoformat(), "machine": facts(), "seeds": asked.seeds}
    found |= {"held_out": asked.held_out, "traces": []}
    for trace in asked.traces:
        found["traces"].append(measure(trace, rules, asked.seeds, bounds=asked.bounds, held_out=asked.held_out))
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
