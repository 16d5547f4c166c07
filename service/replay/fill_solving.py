"""What the solver does for a fill: the plan that ours follows, and the bounds that tell what could be had at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.placement import scale
from models.placement.online.planning import node_of
from models.placement.online.state import MILLI
from models.placement.schema import GoalName, Job, Plan, Problem
from optimizer.columns import generate
from optimizer.limits import Limits
from optimizer.result import StopReason
from optimizer.solve import solve
from service.replay.jobs import ReplayError
from service.replay.running import fits_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.placement.online.state import Cluster, Request

PLAN_S = 120.0  # most seconds for the plan; it ends before where the gap closes
PLAN_GAP = 2e-4
BOUND_S = 120.0
MUST = 1.0  # worth of taking one job that must be taken, in GPUs: any choice gives a valid bound
MIB_PER_GIB = 1024


class Solving:
    """The solver that plans and bounds, on one thread in this process. ``stopped`` counts plans that the time limit ended.

    Such a plan may come out otherwise on another machine.
    """

    def __init__(self) -> None:
        self.stopped = 0

    def bound(self, problem: Problem) -> float:
        """The bound of the relaxation by groups, recomputed from its duals."""
        goal = problem.ordered_goals()[0]
        source = scale.relaxation(problem, goal)
        if source is None:
            raise ReplayError(f"the relaxation does not know the goal {goal}")
        return generate(source, Limits(time_limit_s=BOUND_S)).bound

    def plan(self, problem: Problem) -> Plan:
        """The plan with the smallest gap in the time there is. Raises ReplayError where there is none."""
        result = solve(problem, Limits(time_limit_s=PLAN_S, gap=PLAN_GAP), isolate=False)
        if not isinstance(result.plan, Plan):
            raise ReplayError(f"no plan of the expected work was found: {result.failure or result.outcome}")
        self.stopped += result.stop_reason is not StopReason.gap
        return result.plan


def offline_bound(empty: Cluster, arrivals: Sequence[Request], must: int = 0) -> float:
    """GPUs that no placement on the ``empty`` cluster exceeds that holds all of the first ``must`` arrivals, and any of the others.

    Of the first ``must`` those that do not fit the empty cluster are left out. With ``must`` 0 it holds for every policy, moves or not;
    else for every policy that takes all of these, whatever it does afterwards. A policy that refused one of them, be it for want of room,
    may exceed it. Lagrangian: who must be placed is worth MUST more, and what that is worth in all is taken off the bound again.
    """
    forced = [place < must and fits_whole(empty, request) for place, request in enumerate(arrivals)]
    jobs = tuple(_job(request, MUST * one) for request, one in zip(arrivals, forced, strict=True))
    problem = Problem(nodes=tuple(node_of(node) for node in empty.nodes), jobs=jobs, goals=(GoalName.placed_value,))
    return Solving().bound(problem) - MUST * sum(forced)


def _job(request: Request, more: float) -> Job:
    gpus = request.gpu_milli / MILLI
    return Job(
        id=request.id,
        workers=request.workers,
        gpus_per_worker=gpus,
        cpu_cores=request.cpu_milli / MILLI,
        memory_gib=request.memory_mib / MIB_PER_GIB,
        model_speeds=dict.fromkeys(sorted(request.models), 1.0),
        value=request.workers * gpus + more,
    )
