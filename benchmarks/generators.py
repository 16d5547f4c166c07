"""Seeded instances: gangs that ask for 2.5 times the cluster, a full cluster to preempt on, and a badly packed one to repack.

The same arguments give the same Problem, byte for byte, on every machine: one ``random.Random`` is threaded through.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.placement.schema import Colocate, GoalName, Job, Node, Problem, Running, Tenant, Use
from models.vocabulary import Level, Topology

if TYPE_CHECKING:
    from models.placement.schema import Plan

DEMAND_OVER_SUPPLY = 2.5
GPUS_PER_NODE = 8
NODES_PER_RACK = 16
RACKS_PER_ROW = 16
TENANTS = 10
LARGEST_PRIORITY = 10


@dataclass(frozen=True, slots=True)
class _Model:
    """A GPU model: how common it is, its nodes, and how fast a job may be on it relative to the A100."""

    name: str
    share: float
    gpu_memory_gib: float
    cpu_cores: float
    memory_gib: float
    speed: tuple[float, float]


_MODELS = (
    _Model("H100", 0.25, 80.0, 192.0, 2048.0, (1.6, 2.4)),
    _Model("A100", 0.45, 80.0, 128.0, 1024.0, (1.0, 1.0)),
    _Model("L40S", 0.30, 48.0, 128.0, 768.0, (0.4, 0.8)),
)
# How often each gang size is asked for before the list is tilted to the wanted mean: many small, most GPUs in the large.
_SIZES = {1: 0.50, 2: 0.20, 4: 0.14, 8: 0.10, 16: 0.04, 32: 0.015, 64: 0.005}
# What a GPU's worker brings along: mostly less than the node has per GPU, sometimes more.
_CORES_PER_GPU = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 20.0)
_CORES_WEIGHTS = (8, 14, 16, 20, 16, 14, 8, 4)
_GIB_PER_GPU = (16.0, 32.0, 48.0, 64.0, 80.0, 96.0, 128.0, 192.0)
_GIB_WEIGHTS = (10, 18, 18, 18, 14, 12, 7, 3)
# Which models a job accepts, and how often; a job that needs more memory than an L40S has never accepts that one.
_ACCEPTED = (
    (("H100",), 14),
    (("A100",), 18),
    (("L40S",), 10),
    (("H100", "A100"), 22),
    (("A100", "L40S"), 12),
    (("H100", "A100", "L40S"), 24),
)
# Quota as a share of the GPUs the tenant would get if supply were split by demand: some bind, some do not, some are absent.
_QUOTA_SHARES = (0.6, 0.7, 0.8, 0.9, 1.2, 1.4, 1.6, None, None, None)


def gangs(jobs: int, nodes: int, seed: int) -> Problem:
    """``jobs`` gangs of 1 to 64 GPUs that together ask for 2.5 times the GPUs of ``nodes`` nodes with 8 GPUs each.

    Racks of 16 nodes, three GPU models, priorities 1 to 10, ten tenants of which some have binding quotas, required or
    preferred racks for the large gangs. Goals: placed value, then allocated GPUs.

    Raises ValueError when that many jobs cannot reach the demand.
    """
    rng = random.Random(f"gangs {jobs} {nodes} {seed}")
    cluster = _cluster(rng, nodes)
    sizes = _gang_sizes(rng, jobs, nodes * GPUS_PER_NODE)
    weights = [1.0 / (place + 1) ** 0.7 for place in range(TENANTS)]
    width = len(str(jobs - 1))
    made = tuple(_gang(rng, f"job-{place:0{width}d}", size, weights) for place, size in enumerate(sizes))
    return Problem(nodes=cluster, jobs=made, tenants=_tenants(weights, nodes), goals=(GoalName.placed_value, GoalName.allocated_gpus))


def _cluster(rng: random.Random, nodes: int) -> tuple[Node, ...]:
    """Racks of one model each, in shuffled order; one rack in eight is half renewed and holds two models."""
    racks = math.ceil(nodes / NODES_PER_RACK)
    models = [model for model in _MODELS for _ in range(math.ceil(model.share * racks))]
    rng.shuffle(models)
    width = len(str(nodes - 1))
    made = []
    for place in range(nodes):
        rack, slot = divmod(place, NODES_PER_RACK)
        model = models[rack]
        if rack % 8 == 7 and slot >= NODES_PER_RACK // 2:
            model = models[rack - 1]
        name = f"node-{place:0{width}d}"
        path = Topology(site="site-0", row=f"row-{rack // RACKS_PER_ROW:02d}", rack=f"rack-{rack:03d}", nvlink_domain=name)
        made.append(_node(name, model, path))
    return tuple(made)


def _node(name: str, model: _Model, path: Topology) -> Node:
    return Node(
        id=name,
        gpu_model=model.name,
        gpus=GPUS_PER_NODE,
        gpu_memory_gib=model.gpu_memory_gib,
        cpu_cores=model.cpu_cores,
        memory_gib=model.memory_gib,
        topology=path,
    )


def _gang_sizes(rng: random.Random, jobs: int, supply: int) -> list[int]:
    """``jobs`` sizes that add up to 2.5 times the supply as nearly as sizes can, in shuffled order."""
    target = DEMAND_OVER_SUPPLY * supply
    sizes = [size for size in _SIZES if size <= max(1, supply // 4)]
    if not jobs <= target <= jobs * sizes[-1]:
        raise ValueError(
            f"{jobs} gangs of 1 to {sizes[-1]} GPUs cannot ask for {target:g} GPUs; give between {target / sizes[-1]:.0f} and {target:.0f}"
        )
    shares = _tilted(sizes, target / jobs)
    counts = {size: math.floor(share * jobs) for size, share in shares.items()}
    counts[1] += jobs - sum(counts.values())
    missing = round(target) - sum(size * count for size, count in counts.items())
    # Rounding down lost a few GPUs: turn single GPUs into larger gangs until they are back.
    for size in reversed(sizes[1:]):
        swaps = max(0, min(missing // (size - 1), counts[1]))
        counts[size] += swaps
        counts[1] -= swaps
        missing -= swaps * (size - 1)
    made = [size for size, count in counts.items() for _ in range(count)]
    rng.shuffle(made)
    return made


def _tilted(sizes: list[int], mean: float) -> dict[int, float]:
    """The usual shares times ``size ** t``, with t found by bisection so that the mean size is ``mean``."""
    low, high = -20.0, 20.0
    shares: dict[int, float] = {}
    for _ in range(80):
        power = (low + high) / 2
        weights = {size: _SIZES[size] * float(size) ** power for size in sizes}
        total = sum(weights.values())
        shares = {size: weight / total for size, weight in weights.items()}
        if sum(size * share for size, share in shares.items()) < mean:
            low = power
        else:
            high = power
    return shares


def _gang(rng: random.Random, name: str, size: int, tenant_weights: list[float]) -> Job:
    per_worker = min(size, GPUS_PER_NODE)
    if size > 1 and rng.random() < 0.2:
        per_worker = max(1, per_worker // 2)
    workers = size // per_worker
    gpu_memory = rng.choice((12.0, 20.0, 32.0, 40.0, 60.0, 72.0))
    cores = rng.choices(_CORES_PER_GPU, _CORES_WEIGHTS)[0] * per_worker
    memory = rng.choices(_GIB_PER_GPU, _GIB_WEIGHTS)[0] * per_worker
    return Job(
        id=name,
        tenant=f"tenant-{rng.choices(range(TENANTS), tenant_weights)[0]}",
        workers=workers,
        gpus_per_worker=float(per_worker),
        gpu_memory_gib=gpu_memory,
        cpu_cores=cores,
        memory_gib=memory,
        model_speeds=_speeds(rng, gpu_memory, cores, memory),
        priority=rng.randint(1, LARGEST_PRIORITY),
        value=round(size * rng.lognormvariate(0.0, 0.25), 2),
        colocate=_colocation(rng, workers, size),
    )


def _speeds(rng: random.Random, gpu_memory: float, cores: float, memory: float) -> dict[str, float]:
    """The accepted models with a speed each; a model whose nodes could never hold a worker is not accepted."""
    fitting = {
        model.name for model in _MODELS if gpu_memory <= model.gpu_memory_gib and cores <= model.cpu_cores and memory <= model.memory_gib
    }
    choices = [(names, weight) for names, weight in _ACCEPTED if fitting.issuperset(names)]
    names = rng.choices([names for names, _ in choices], [weight for _, weight in choices])[0]
    return {model.name: round(rng.uniform(*model.speed), 2) for model in _MODELS if model.name in names}


def _colocation(rng: random.Random, workers: int, size: int) -> Colocate | None:
    if workers == 1:
        return None
    draw = rng.random()
    if size <= GPUS_PER_NODE:
        return Colocate(level=Level.nvlink_domain, required=True) if draw < 0.3 else None
    if draw < 0.4:
        return Colocate(level=Level.rack, required=True)
    return Colocate(level=Level.rack, required=False) if draw < 0.9 else None


def _tenants(weights: list[float], nodes: int) -> tuple[Tenant, ...]:
    total = sum(weights)
    made = []
    for place, (weight, share) in enumerate(zip(weights, _QUOTA_SHARES, strict=True)):
        quota = None if share is None else float(round(share * weight / total * nodes * GPUS_PER_NODE))
        made.append(Tenant(id=f"tenant-{place}", quota_gpus=quota))
    return tuple(made)


def preempt_full(nodes: int = 200, seed: int = 0) -> Problem:
    """A cluster on which every GPU is used by running jobs of 1 to 16 GPUs, and a waiting gang of 8 workers with 8 GPUs.

    One job in six runs across two nodes; one in eight may not be evicted; priorities are 1 to 10 and the waiting gang's is
    10, so that running jobs of priority 10 are safe too. Goals: evictions, then their cost.
    """
    rng = random.Random(f"preempt {nodes} {seed}")
    width = len(str(nodes - 1))
    cluster = tuple(_preempt_node(place, width) for place in range(nodes))
    jobs: list[Job] = []
    free = [list(range(GPUS_PER_NODE)) for _ in range(nodes)]
    for place in range(nodes):
        while free[place]:
            jobs.append(_running_job(rng, f"run-{len(jobs):05d}", cluster, free, place))
    waiting = Job(
        id="waiting-64",
        tenant="tenant-0",
        workers=8,
        gpus_per_worker=8.0,
        cpu_cores=64.0,
        memory_gib=512.0,
        priority=LARGEST_PRIORITY,
        value=64.0,
    )
    return Problem(
        use=Use.preempt, nodes=cluster, jobs=(*jobs, waiting), preempt_for=waiting.id, goals=(GoalName.evictions, GoalName.eviction_cost)
    )


def _preempt_node(place: int, width: int) -> Node:
    name = f"node-{place:0{width}d}"
    rack = place // NODES_PER_RACK
    path = Topology(site="site-0", row=f"row-{rack // RACKS_PER_ROW:02d}", rack=f"rack-{rack:03d}", nvlink_domain=name)
    return _node(name, _MODELS[1], path)


def _running_job(rng: random.Random, name: str, cluster: tuple[Node, ...], free: list[list[int]], place: int) -> Job:
    """One running job on node ``place``, or on it and a later one; takes its GPUs out of ``free``."""
    here = len(free[place])
    per_worker = rng.choice([size for size in (1, 1, 2, 2, 4, 4, 8) if size <= here])
    partners = [other for other in range(place + 1, min(place + 6, len(free))) if len(free[other]) >= per_worker]
    places = [place]
    if per_worker >= 2 and partners and rng.random() < 1 / 6:
        places.append(rng.choice(partners))
    used = []
    for at in places:
        used.append({"node": cluster[at].id, "gpus": tuple(free[at][:per_worker])})
        del free[at][:per_worker]
    size = per_worker * len(places)
    running = Running.model_validate(
        {"workers": used, "move_cost": round(size * rng.uniform(0.5, 2.0), 1), "evictable": rng.random() >= 1 / 8}
    )
    return Job(
        id=name,
        tenant=f"tenant-{rng.randrange(TENANTS)}",
        workers=len(places),
        gpus_per_worker=float(per_worker),
        cpu_cores=8.0 * per_worker,
        memory_gib=64.0 * per_worker,
        priority=rng.randint(1, LARGEST_PRIORITY),
        value=float(size),
        running=running,
    )


def repack_openb(problem: Problem, plan: Plan, max_moves: int = 100) -> Problem:
    """The problem with the plan's jobs running where the plan has them and the others waiting, to be repacked.

    At most ``max_moves`` jobs may move. Goals: allocated GPUs, then moves.
    """
    places = {placement.job: placement.workers for placement in plan.placements}
    jobs = tuple(job.model_copy(update={"running": Running(workers=places[job.id])}) if job.id in places else job for job in problem.jobs)
    return Problem(
        use=Use.repack,
        nodes=problem.nodes,
        jobs=jobs,
        tenants=problem.tenants,
        max_moves=max_moves,
        goals=(GoalName.allocated_gpus, GoalName.moves),
    )
