"""Small cases for the tests of replays, and what must hold after every event."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from models.placement.online.fgd import Fragmentation, typical
from models.placement.online.state import MILLI, Cluster, NodeSpec, Request, Seats
from models.placement.schema import Job, JobPlacement, Node, Plan, Problem, WorkerPlace
from models.placement.verify import verify
from service.replay.engine import Case, Costs, Simulation
from service.replay.history import History
from service.replay.jobs import TraceJob
from service.replay.outages import Outage
from service.replay.planning import Planner
from service.replay.policies import RULES
from service.replay.queues import DISCIPLINES, Queue


def nodes(*gpus: int, model: str = "V100", cpu: int = 64_000) -> Cluster:
    return Cluster([NodeSpec(f"n{at}", count, model if count else None, cpu, 1 << 20) for at, count in enumerate(gpus)])


def job(name: str, arrival_s: float, duration_s: float, gpus: int = 1, workers: int = 1, share: int = MILLI) -> TraceJob:
    return TraceJob(Request(name, gpus, share if gpus == 1 else MILLI, workers=workers), arrival_s, duration_s)


class Replayed:
    """A replay with all that can be asked of it afterwards."""

    def __init__(  # noqa: PLR0913  (a case is told by that much)
        self,
        cluster: Cluster,
        jobs: Sequence[TraceJob],
        discipline: str = "fifo",
        rule: str = "best_fit",
        *,
        estimates: Sequence[float] | None = None,
        outages: Sequence[Outage] = (),
        costs: Costs | None = None,
        checked: bool = True,
        planner: Planner | None = None,
    ) -> None:
        self.empty = cluster
        own = cluster.copy()
        self.jobs = list(jobs)
        case = Case(self.jobs, estimates or [one.duration_s for one in jobs], outages, costs or Costs())
        requests = [one.request for one in jobs]
        self.queue = Queue(DISCIPLINES[discipline])
        self.seats: dict[int, list[tuple[float, Seats]]] = {}
        self.fragmentation = Fragmentation(own, typical(requests))
        self.simulation = Simulation(
            case,
            own,
            self.queue,
            RULES[rule](own, requests, 0),
            fragmentation=self.fragmentation,
            planner=planner,
            after=self.check if checked else None,
        )
        self.history: History = self.simulation.run()

    def check(self, simulation: Simulation) -> None:
        """No GPU, core or GiB twice; gangs whole; nobody on a closed node; and everybody is somewhere."""
        cluster, empty = simulation.cluster, self.empty
        free, cpu = empty.free_milli.copy(), empty.free_cpu.copy()
        for number, run in simulation.running.runs.items():
            self.seats.setdefault(number, [])
            if not self.seats[number] or self.seats[number][-1][0] != run.start_s:
                self.seats[number].append((run.start_s, run.seats))
            assert len(run.seats) == run.request.workers
            for seat in run.seats:
                assert cluster.open[seat.node]
                assert len(set(seat.gpus)) == run.request.gpus
                cpu[seat.node] -= run.request.cpu_milli
                for gpu in seat.gpus:
                    free[seat.node, gpu] -= run.request.share_milli
        assert (free == cluster.free_milli).all()
        assert (cpu == cluster.free_cpu).all()
        assert free.min(initial=0) >= 0
        assert cpu.min() >= 0
        ended = int((~np.isnan(simulation.history.end_s)).sum())
        came = sum(one.arrival_s <= simulation.now_s for one in self.jobs)
        assert ended + len(simulation.running.runs) + simulation.waiting.count == came
        fragmented = np.where(cluster.open, self.fragmentation.of(cluster), 0.0).sum() / MILLI
        assert abs(fragmented - simulation.history.state("fragmented_gpus")[-1]) < 1e-6
        assert verified(simulation)

    @property
    def starts(self) -> dict[str, float]:
        return {one.request.id: float(start) for one, start in zip(self.jobs, self.history.start_s, strict=True)}

    @property
    def ends(self) -> dict[str, float]:
        return {one.request.id: float(end) for one, end in zip(self.jobs, self.history.end_s, strict=True)}


def verified(simulation: Simulation) -> bool:
    """Whether the placement kind's own verifier finds the state right."""
    cluster = simulation.cluster
    found = [
        Node(id=node.id, gpu_model=node.model, gpus=node.gpus, cpu_cores=node.cpu_milli / MILLI, memory_gib=node.memory_mib / 1024)
        for node in cluster.nodes
    ]
    runs = simulation.running.runs.values()
    jobs = [
        Job(
            id=run.request.id,
            workers=run.request.workers,
            gpus_per_worker=run.request.gpu_milli / MILLI,
            cpu_cores=run.request.cpu_milli / MILLI,
            memory_gib=run.request.memory_mib / 1024,
            model_speeds=dict.fromkeys(sorted(run.request.models), 1.0),
        )
        for run in runs
    ]
    placements = [
        JobPlacement(job=run.request.id, workers=tuple(WorkerPlace(node=cluster.nodes[seat.node].id, gpus=seat.gpus) for seat in run.seats))
        for run in runs
    ]
    return verify(Problem(nodes=tuple(found), jobs=tuple(jobs)), Plan(placements=tuple(placements))).ok


@st.composite
def small_jobs(draw: st.DrawFn, most: int = 12, gangs: bool = True, shares: bool = True) -> list[TraceJob]:
    """Jobs that the cluster of ``nodes(4, 4, 2)`` can hold, by arrival, with whole times so that sums are exact."""
    count = draw(st.integers(1, most))
    found = []
    time = 0
    for number in range(count):
        time += draw(st.integers(0, 6))
        gpus = draw(st.sampled_from([1, 1, 2, 3, 4]))
        workers = draw(st.integers(1, {1: 6, 2: 4, 3: 2, 4: 2}[gpus])) if gangs else 1
        share = draw(st.sampled_from([MILLI, MILLI, 500, 300])) if shares and gpus == 1 else MILLI
        found.append(job(f"j{number}", float(time), float(draw(st.integers(1, 20))), gpus, workers, share))
    return found
