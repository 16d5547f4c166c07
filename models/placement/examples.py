"""Small problems to start from, one for each use: they are printed by ``quartermaster example placement NAME``."""

from __future__ import annotations

from models.placement.schema import (
    AntiAffinity,
    Colocate,
    GoalName,
    Job,
    Node,
    Problem,
    Running,
    Spread,
    Tenant,
    Use,
    WorkerPlace,
)
from models.vocabulary import Level, Topology


def examples() -> dict[str, Problem]:
    """Every example by name; the first is the usual one."""
    return {"place": place(), "repack": repack(), "preempt": preempt()}


def place() -> Problem:
    """Waiting jobs to be placed: three racks, two GPU models, two tenants, gangs, fractions and one running job."""
    racks = {"r1": "H100", "r2": "H100", "r3": "L40S"}
    nodes = tuple(
        Node(
            id=f"{rack}-n{number}",
            gpu_model=model,
            gpus=8 if model == "H100" else 4,
            gpu_memory_gib=80.0 if model == "H100" else 48.0,
            cpu_cores=128.0,
            memory_gib=1024.0,
            topology=Topology(site="s1", row="a", rack=rack, nvlink_domain=f"{rack}-n{number}"),
            power_kw=10.0 if model == "H100" else 3.0,
        )
        for rack, model in racks.items()
        for number in (1, 2)
    )
    jobs = (
        Job(id="train-llm", tenant="research", workers=2, gpus_per_worker=8, cpu_cores=64.0, memory_gib=512.0, priority=5, value=16.0,
            model_speeds={"H100": 1.0}, colocate=Colocate(level=Level.rack)),
        Job(id="train-vision", tenant="research", workers=4, workers_min=2, gpus_per_worker=2, cpu_cores=16.0, memory_gib=128.0, priority=3,
            value=8.0, model_speeds={"H100": 1.0, "L40S": 0.4}),
        Job(id="tune", tenant="product", workers=3, gpus_per_worker=4, cpu_cores=32.0, memory_gib=256.0, priority=2, value=12.0,
            model_speeds={"H100": 1.0, "L40S": 0.5}, spread=Spread(level=Level.node, max_workers=1)),
        Job(id="serve-a", tenant="product", gpus_per_worker=0.6, gpu_memory_gib=30.0, cpu_cores=8.0, memory_gib=64.0, priority=4,
            anti_affinity=AntiAffinity(jobs=("serve-b",))),
        Job(id="serve-b", tenant="product", gpus_per_worker=0.6, gpu_memory_gib=30.0, cpu_cores=8.0, memory_gib=64.0, priority=4),
        Job(id="notebook", tenant="research", gpus_per_worker=0.25, gpu_memory_gib=10.0, cpu_cores=4.0, memory_gib=32.0),
        Job(id="batch", tenant="product", workers=2, gpus_per_worker=8, cpu_cores=96.0, memory_gib=512.0, value=10.0,
            running=Running(workers=(WorkerPlace(node="r1-n1", gpus=tuple(range(8))), WorkerPlace(node="r1-n2", gpus=tuple(range(8)))))),
    )  # fmt: skip
    tenants = (Tenant(id="research", quota_gpus=24.0), Tenant(id="product", quota_gpus=32.0))
    return Problem(nodes=nodes, jobs=jobs, tenants=tenants)


def repack() -> Problem:
    """Two half-used nodes and a job that needs a whole one: which single move lets it in?"""
    nodes = tuple(Node(id=f"n{number}", gpu_model="A100", gpus=4, cpu_cores=64.0, memory_gib=512.0) for number in (1, 2, 3))
    running = (("web", "n1", (0,)), ("search", "n2", (0,)), ("ads", "n2", (1,)), ("mail", "n3", (0,)), ("maps", "n3", (1,)))
    jobs = tuple(
        Job(
            id=name,
            gpus_per_worker=1,
            cpu_cores=8.0,
            memory_gib=64.0,
            running=Running(workers=(WorkerPlace(node=node, gpus=gpus),), move_cost=2.0 if name == "maps" else 1.0),
        )
        for name, node, gpus in running
    )
    train = Job(id="train", gpus_per_worker=4, cpu_cores=32.0, memory_gib=256.0, priority=5, value=4.0)
    goals = (GoalName.allocated_gpus, GoalName.moves)
    return Problem(use=Use.repack, nodes=nodes, jobs=(*jobs, train), max_moves=2, goals=goals)


def preempt() -> Problem:
    """A full cluster and an urgent gang: whom to evict, so that it really fits, and as few as possible?"""
    nodes = tuple(
        Node(id=f"n{number}", gpu_model="H100", gpus=8, cpu_cores=128.0, memory_gib=1024.0, topology=Topology(rack="r1"))
        for number in (1, 2, 3)
    )
    places = {
        "batch": (("n1", (0, 1, 2, 3)), ("n2", (0, 1, 2, 3))),
        "tune-a": (("n1", (4, 5, 6, 7)),),
        "tune-b": (("n2", (4, 5, 6, 7)),),
        "serving": (("n3", (0, 1, 2, 3)),),
        "sweep": (("n3", (4, 5, 6, 7)),),
    }
    jobs = tuple(
        Job(
            id=name,
            workers=len(seats),
            gpus_per_worker=4,
            cpu_cores=16.0,
            memory_gib=128.0,
            priority=8 if name == "serving" else 2,
            running=Running(
                workers=tuple(WorkerPlace(node=node, gpus=gpus) for node, gpus in seats),
                move_cost=5.0 if name == "sweep" else 1.0,
                evictable=name != "serving",
            ),
        )
        for name, seats in places.items()
    )
    urgent = Job(id="urgent", workers=2, gpus_per_worker=8, cpu_cores=64.0, memory_gib=512.0, priority=9)
    return Problem(use=Use.preempt, nodes=nodes, jobs=(*jobs, urgent), preempt_for="urgent")
