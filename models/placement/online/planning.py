"""From what is expected to places: the problem to plan, how much of the expected work it is to hold, and the plan's places.

Nothing is solved here; a ``Solver`` is handed in. What is expected are kinds of workers and how many of each there are when
all that has come asks for as many GPUs as there are. That is more than fits together, and whoever refuses nobody cannot choose
who is left out: the plan is made for the smallest even part of the expected work of which not all fits. With less the cluster
would not be full, and with more the plan would leave out kinds that come all the same.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from models.placement.online.planned import Place
from models.placement.online.state import MILLI, Cluster, NodeSpec, Request
from models.placement.schema import GoalName, Job, JobPlacement, Node, Plan, Problem, WorkerPlace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.placement.online.state import Kind

MIB_PER_GIB = 1024
PARTS = 200  # parts of the expected work are tried in steps of 1 / 200
SLACK = 1e-6  # of a thousandth or a MiB: what a product of doubles may be off
ALL = 1e-4  # work counts as all fitting when the bound leaves out no more than this part of it


class Solver(Protocol):
    """Who solves placement problems whose goal is allocated GPUs."""

    def bound(self, problem: Problem) -> float:
        """GPUs that no plan exceeds."""

    def plan(self, problem: Problem) -> Plan:
        """As good a plan as there is time for."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Kinds of workers, and how many of each are expected until all that has come asks for every GPU there is."""

    kinds: tuple[Kind, ...]
    counts: tuple[float, ...]

    def number(self, part: float) -> tuple[int, ...]:
        """Whole workers of each kind in this part of all, rounded to the nearest."""
        return tuple(int(part * count + 0.5) for count in self.counts)


def expected(cluster: Cluster, requests: Iterable[Request]) -> Expected:
    """What ``requests`` let expect on the empty ``cluster``; kinds that none of its nodes could ever hold are left out.

    Raises ValueError where nobody who could be held asks for GPUs.
    """
    empty = Cluster(cluster.nodes)
    counts: Counter[Kind] = Counter()
    for request in requests:
        counts[request.kind] += request.workers
    able = {kind: count for kind, count in counts.items() if empty.fits(_worker("", kind)).any()}
    asked = sum(kind.gpu_milli * count for kind, count in able.items())
    if not asked:
        raise ValueError("no expected worker asks for GPUs that a node has; give requests that do")
    scale = cluster.total_milli() / asked
    kinds = sorted(able, key=lambda kind: kind.order())
    return Expected(tuple(kinds), tuple(able[kind] * scale for kind in kinds))


def planning_problem(nodes: Sequence[NodeSpec], work: Expected, part: float) -> Problem:
    """One job ``K.J`` for each worker J of kind number K in this part of the work; the goal is allocated GPUs."""
    jobs = [
        _job(f"{number}.{j}", kind, 1)
        for number, (kind, count) in enumerate(zip(work.kinds, work.number(part), strict=True))
        for j in range(count)
    ]
    return Problem(nodes=tuple(node_of(node) for node in nodes), jobs=tuple(jobs), goals=(GoalName.allocated_gpus,))


def largest_part(nodes: Sequence[NodeSpec], work: Expected, solver: Solver) -> float:
    """The smallest part of the work, in steps of 1 / PARTS, of which the solver's bound shows that not all fits; at most 1."""
    low, high = 0, PARTS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _all_fits(planning_problem(nodes, work, middle / PARTS), solver) else (low, middle)
    return high / PARTS


def _all_fits(problem: Problem, solver: Solver) -> bool:
    asked = sum(job.gpus_per_worker for job in problem.jobs)
    return solver.bound(problem) >= asked * (1 - ALL)


def planned_places(cluster: Cluster, requests: Iterable[Request], solver: Solver, part: float | None = None) -> list[tuple[int, Place]]:
    """The places of a plan for what ``requests`` let expect: of ``part`` of it, or of the largest part that fits and a step more.

    Raises ValueError where nobody asks for GPUs.
    """
    work = expected(cluster, requests)
    part = largest_part(cluster.nodes, work, solver) if part is None else part
    return places_of(cluster, work, solver.plan(planning_problem(cluster.nodes, work, part)))


def places_of(cluster: Cluster, work: Expected, plan: Plan) -> list[tuple[int, Place]]:
    """The places that ``plan``, of a ``planning_problem``, makes on the cluster's nodes."""
    return [
        (cluster.index[worker.node], Place(work.kinds[int(placement.job.partition(".")[0])], tuple(sorted(worker.gpus))))
        for placement in plan.placements
        for worker in placement.workers
    ]


# ---------------------------------------------------------------- between the two vocabularies


def as_problem(cluster: Cluster) -> tuple[Problem, Plan]:
    """Who sits on the cluster now as a placement problem and its plan, so that ``models.placement.verify`` can check the seats.

    Workers that sit under one request id are one job.
    """
    seats: dict[str, list[WorkerPlace]] = {}
    kinds: dict[str, Kind] = {}
    for node, here in zip(cluster.nodes, cluster.sitting, strict=True):
        for request, seat in here:
            kinds[request.id] = request.kind
            seats.setdefault(request.id, []).append(WorkerPlace(node=node.id, gpus=seat.gpus))
    jobs = tuple(_job(name, kind, len(seats[name])) for name, kind in kinds.items())
    placements = tuple(JobPlacement(job=name, workers=tuple(workers)) for name, workers in seats.items())
    return Problem(nodes=tuple(node_of(node) for node in cluster.nodes), jobs=jobs), Plan(placements=placements)


def node_spec(node: Node) -> NodeSpec:
    """A node of a placement problem, its amounts rounded down to thousandths and MiB."""
    return NodeSpec(node.id, node.gpus, node.gpu_model, _down(node.cpu_cores * MILLI), _down(node.memory_gib * MIB_PER_GIB))


def request_of(job: Job) -> Request:
    """A job of a placement problem, its amounts rounded up. Selectors, topology, GPU memory and tenants are not looked at."""
    share = job.gpus_per_worker < 1
    return Request(
        job.id,
        gpus=1 if 0 < job.gpus_per_worker < 1 else round(job.gpus_per_worker),
        share_milli=_up(job.gpus_per_worker * MILLI) if share and job.gpus_per_worker else MILLI,
        cpu_milli=_up(job.cpu_cores * MILLI),
        memory_mib=_up(job.memory_gib * MIB_PER_GIB),
        workers=job.workers,
        models=frozenset(job.model_speeds),
    )


def _down(amount: float) -> int:
    return math.floor(amount + SLACK)


def _up(amount: float) -> int:
    return math.ceil(amount - SLACK)


def _worker(name: str, kind: Kind) -> Request:
    return Request(name, kind.gpus, kind.share_milli, kind.cpu_milli, kind.memory_mib, models=kind.models)


def node_of(node: NodeSpec) -> Node:
    """The node of a placement problem that this is when empty."""
    return Node(
        id=node.id,
        gpu_model=node.model if node.gpus else None,
        gpus=node.gpus,
        cpu_cores=node.cpu_milli / MILLI,
        memory_gib=node.memory_mib / MIB_PER_GIB,
    )


def _job(name: str, kind: Kind, workers: int) -> Job:
    return Job(
        id=name,
        workers=workers,
        gpus_per_worker=kind.gpu_milli / MILLI,
        cpu_cores=kind.cpu_milli / MILLI,
        memory_gib=kind.memory_mib / MIB_PER_GIB,
        model_speeds=dict.fromkeys(sorted(kind.models), 1.0),
    )
