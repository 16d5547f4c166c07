"""The benchmark of placement: six arrivals of the openb trace, gangs at two sizes, a preemption and a repack."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import generators
from benchmarks.baselines import BASELINES, best_fit
from benchmarks.suite import Instance, Suite, Target

if TYPE_CHECKING:
    from models.placement.schema import Problem

OPENB = Path(__file__).resolve().parent / "data" / "openb"
TRACES = ("default", "cpu050", "cpu100", "gpushare40", "gpuspec10", "multigpu20")
SEED = 0
MODEL_TIME = Target("build_and_hand_over_share", "at most", 0.20)  # writing the model may not cost more than this share
AHEAD = Target("ahead_of_baselines", "at least", 0.0)
ONLINE = ("first_fit", "best_fit", "fgd", "size_sorted_best_fit")
SOLVERS = ("flat_mip", "cp_sat")


def openb(trace: str) -> Problem:
    """One trace in its fixed order of arrival, as the importer reads it."""
    from service.importers.openb import import_openb

    return import_openb(OPENB / "openb_node_list_gpu_node.csv", OPENB / f"openb_pod_list_{trace}.csv", OPENB / f"arrivals_{trace}.csv")


def repacked(trace: str) -> Problem:
    """The trace after best fit placed its pods one by one: those it placed run, the rest wait."""
    problem = openb(trace)
    return generators.repack_openb(problem, best_fit(problem))


def _openb_instance(trace: str) -> Instance:
    targets = [Target("gap_points", "at most", 1.5)]
    if trace == "default":
        targets = [Target("allocated_percent", "at least", 96.0), Target("bound_percent", "at most", 97.2)]
    return Instance(
        name=f"openb-{trace}",
        summary=f"1,213 nodes, 6,212 GPUs, pods of openb_pod_list_{trace} up to 100% of the GPUs",
        read=partial(openb, trace),
        time_limit_s=60.0,
        targets=(*targets, Target("solve_wall_s", "at most", 61.0), AHEAD, MODEL_TIME),
        # The flat programs find no plan on any of these traces; one is enough to show it.
        baselines=(*ONLINE, *SOLVERS) if trace == "default" else ONLINE,
    )


def _gangs_instance(jobs: int, nodes: int, seconds: float, targets: tuple[Target, ...]) -> Instance:
    return Instance(
        name=f"gangs-{jobs}x{nodes}",
        summary=f"{jobs:,} gangs of 1 to 64 GPUs on {nodes:,} nodes with 8 GPUs, demand 2.5 times supply",
        read=partial(generators.gangs, jobs, nodes, SEED),
        time_limit_s=seconds,
        targets=(*targets, Target("solve_wall_s", "at most", seconds + 1.0), MODEL_TIME),
        baselines=("density_first_fit", "density_best_fit", *SOLVERS),
    )


SUITE = Suite(
    kind="placement",
    instances=(
        *(_openb_instance(trace) for trace in TRACES),
        # Small enough for the flat programs: here they say whether our optimum is theirs (to the gap, so no AHEAD).
        _gangs_instance(100, 20, 10.0, (Target("gap", "at most", 0.01),)),
        _gangs_instance(5_000, 1_000, 10.0, (Target("gap", "at most", 0.01), AHEAD)),
        _gangs_instance(50_000, 10_000, 120.0, (Target("gap", "at most", 0.02), Target("peak_memory_gb", "at most", 8.0), AHEAD)),
        Instance(
            name="preempt-200",
            summary="200 full nodes; evict the fewest jobs for a waiting gang of 64 GPUs",
            read=partial(generators.preempt_full, 200, SEED),
            time_limit_s=2.0,
            targets=(Target("gap", "at most", 0.0), Target("solve_wall_s", "at most", 2.0), AHEAD, MODEL_TIME),
            baselines=("greedy_preempt",),
        ),
        Instance(
            name="repack-openb",
            summary="openb-default after best fit one by one: at most 100 moves to let the most waiting GPUs in",
            read=partial(repacked, "default"),
            time_limit_s=60.0,
            targets=(Target("solve_wall_s", "at most", 61.0), AHEAD, MODEL_TIME),
            baselines=("greedy_repack",),
        ),
    ),
    baselines=dict(BASELINES),
)
