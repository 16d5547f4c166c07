"""The flat program, without symmetry or columns: how many workers of each kind of job go to each node (or shared GPU).

Jobs that are alike in everything are one kind. Whole-GPU workers and those without GPUs are counted per node, shares per
single GPU, so that a solution is a plan. It is what one writes down first, and what large clusters defeat: programs above
MOST_COLUMNS are refused, because reading them alone takes longer than the limits of these benchmarks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.cluster import Cluster, Floats, Ints, Places
from models.placement.schema import GoalName, Use
from models.program_builder import ProductIds, ProgramBuilder
from optimizer.limits import Limits

if TYPE_CHECKING:
    from models.placement.schema import Job, Plan, Problem
    from models.program import LinearProgram
    from optimizer.backend import Backend

MOST_COLUMNS = 2_000_000


class TooLargeError(ValueError):
    """The flat program would have more than MOST_COLUMNS columns; the message says how many."""


@dataclass(frozen=True, slots=True)
class Flat:
    """The program and how its columns read: kind, node and GPU (-1: none in particular) of each, after the gang columns.

    ``place`` says where those columns lie; shape (columns,) each.
    """

    program: LinearProgram
    kinds: list[list[Job]]
    place: slice
    kind: Ints
    node: Ints
    gpu: Ints


def flat_mip(problem: Problem, seconds: float) -> Plan | None:
    """HiGHS on the flat program for at most ``seconds``, building included; None when it finds no plan."""
    from optimizer.highs import HighsBackend

    return _solve(problem, HighsBackend(), seconds)


def cp_sat(problem: Problem, seconds: float) -> Plan | None:
    """CP-SAT on the flat program for at most ``seconds``, building included; None when it finds no plan."""
    from optimizer.cpsat import CpSatBackend

    return _solve(problem, CpSatBackend(), seconds)


def _solve(problem: Problem, backend: Backend, seconds: float) -> Plan | None:
    begun = time.monotonic()
    flat = build(problem)
    left = max(1.0, seconds - (time.monotonic() - begun))
    result = backend.solve(flat.program, Limits(time_limit_s=left))
    return None if result.values is None else extract(problem, flat, result.values)


def build(problem: Problem) -> Flat:
    """The flat program of a problem in which running jobs stay and gangs have one size.

    Raises TooLargeError above MOST_COLUMNS columns, ValueError for a problem it cannot express (another use, elastic
    gangs, spread, anti-affinity, power caps, GPU memory of shares).
    """
    if problem.use is not Use.place or any(job.workers_min for job in problem.jobs):
        raise ValueError("the flat program knows only use = place and gangs of one size")
    if any(job.gpu_memory_gib and 0 < job.gpus_per_worker < 1 for job in problem.jobs):
        raise ValueError("the flat program does not know the GPU memory of shares")
    cluster = Cluster(problem)
    kinds = _kinds(problem)
    kind, node, gpu = _columns(cluster, kinds)
    made = _Program(problem, cluster, kinds, kind, node, gpu)
    return Flat(made.build(), kinds, made.place, kind, node, gpu)


def extract(problem: Problem, flat: Flat, values: Floats) -> Plan:
    """The plan that column values (columns,) stand for."""
    cluster = Cluster(problem)
    counts = np.round(values[flat.place]).astype(np.int64)
    spots: list[list[tuple[int, int]]] = [[] for _ in flat.kinds]
    for column in np.flatnonzero(counts):
        spot = (int(flat.node[column]), int(flat.gpu[column]))
        spots[flat.kind[column]].extend([spot] * int(counts[column]))
    # Shares first: they name their GPU, the others take any idle one.
    for kind in sorted(range(len(flat.kinds)), key=lambda one: not 0 < flat.kinds[one][0].gpus_per_worker < 1):
        _seat(cluster, flat.kinds[kind], spots[kind])
    return cluster.plan()


def _seat(cluster: Cluster, jobs: list[Job], spots: list[tuple[int, int]]) -> None:
    """Give the spots of one kind to its jobs, gang by gang."""
    colocate, workers = jobs[0].colocate, jobs[0].workers
    if colocate is not None and colocate.required:
        domain = cluster.domain(colocate.level)  # each domain holds whole gangs, so sorted spots cut into gangs
        spots = sorted(spots, key=lambda spot: int(domain[spot[0]]))
    for at in range(len(spots) // workers):
        places: Places = []
        for node, gpu in spots[at * workers : (at + 1) * workers]:
            places.append((node, (gpu,) if gpu >= 0 else cluster.pick(jobs[at], node)))
            cluster.put(jobs[at], *places[-1])
        cluster.record(jobs[at], places)


def _kinds(problem: Problem) -> list[list[Job]]:
    groups: dict[Job | str, list[Job]] = {}
    for job in problem.jobs:
        if job.running is None:
            groups.setdefault(job.model_copy(update={"id": "any"}).model_dump_json(), []).append(job)
    return list(groups.values())


def _columns(cluster: Cluster, kinds: list[list[Job]]) -> tuple[Ints, Ints, Ints]:
    """Kind, node and GPU of every column that can be more than 0."""
    total = 0
    parts: list[tuple[Ints, Ints, Ints]] = []
    for place, jobs in enumerate(kinds):
        job = jobs[0]
        if 0 < job.gpus_per_worker < 1:
            nodes, gpus = np.nonzero(cluster.usable(job) & (cluster.room(job) > 0)[:, None])
        else:
            nodes = np.flatnonzero(cluster.room(job))
            gpus = np.full(len(nodes), -1)
        total += len(nodes)
        if total > MOST_COLUMNS:
            total += sum(int(cluster.accepts(later[0]).sum()) for later in kinds[place + 1 :])
            raise TooLargeError(f"the flat program has at least {total:,} columns; {MOST_COLUMNS:,} are the most that are tried")
        parts.append((np.full(len(nodes), place), nodes, gpus))
    empty = np.zeros(0, dtype=np.int64)
    kind, node, gpu = (np.concatenate([empty, *(part[at] for part in parts)]) for at in range(3))
    return kind, node, gpu


@dataclass(slots=True)
class _Program:
    """Builds the program block by block."""

    problem: Problem
    cluster: Cluster
    kinds: list[list[Job]]
    kind: Ints
    node: Ints
    gpu: Ints
    place: slice = field(init=False)

    def build(self) -> LinearProgram:
        size = self._of(lambda job: job.gpus_per_worker)
        shared = (size > 0) & (size < 1)
        builder = ProgramBuilder(maximise=True)
        firsts = [jobs[0] for jobs in self.kinds]
        every = ProductIds([job.id for job in firsts])
        # How many jobs of each kind run: this is what makes gangs whole.
        jobs = builder.add_columns("run", every, upper=[len(jobs) for jobs in self.kinds], integer=True)
        ids = ProductIds(range(len(self.kind)))
        room = np.where(shared, np.floor(1.0 / np.where(shared, size, 1.0) + 1e-9), np.inf)
        workers = self._of(lambda job: job.workers)[self.kind]
        most = np.minimum(room[self.kind], workers * np.array([len(jobs) for jobs in self.kinds])[self.kind])
        self.place = builder.add_columns("place", ids, cost=self._worth(), upper=most, integer=True)
        columns = np.arange(self.place.start, self.place.stop)
        gang_columns = np.arange(jobs.start, jobs.stop)
        builder.add_rows(
            "gang",
            every,
            lower=0.0,
            upper=0.0,
            row_index=np.concatenate((self.kind, np.arange(len(firsts)))),
            column_index=np.concatenate((columns, gang_columns)),
            coefficient=np.concatenate((np.ones(len(columns)), -self._of(lambda job: job.workers))),
        )
        self._node_rows(builder, columns, shared)
        self._quota_rows(builder, gang_columns)
        self._colocation_rows(builder, columns)
        return builder.build()

    def _of(self, quantity: Callable[[Job], float]) -> Floats:
        """The quantity of one job of each kind, shape (kinds,)."""
        return np.array([float(quantity(jobs[0])) for jobs in self.kinds])

    def _worth(self) -> Floats:
        """What one worker adds to the first goal."""
        goal = self.problem.ordered_goals()[0]
        if goal is GoalName.allocated_gpus:
            return self._of(lambda job: job.gpus_per_worker)[self.kind]
        if goal is not GoalName.placed_value:
            raise ValueError(f"the flat program does not know the goal {goal}")
        each = self._of(lambda job: job.priority * job.value / job.workers)
        speeds = np.array([self.cluster.speed(jobs[0]) for jobs in self.kinds])
        return np.asarray(each[self.kind] * speeds[self.kind, self.node])

    def _node_rows(self, builder: ProgramBuilder, columns: Ints, shared: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
        cluster, nodes = self.cluster, ProductIds([node.id for node in self.problem.nodes])
        for name, free, need in (
            ("node_cpu", cluster.cpu, self._of(lambda job: job.cpu_cores)),
            ("node_memory", cluster.memory, self._of(lambda job: job.memory_gib)),
        ):
            builder.add_rows(name, nodes, upper=free, row_index=self.node, column_index=columns, coefficient=need[self.kind])
        size = self._of(lambda job: job.gpus_per_worker)
        whole = ~shared[self.kind]
        spots, spot = np.unique(self.node[~whole] * cluster.most_gpus + self.gpu[~whole], return_inverse=True)
        spot_node, spot_gpu = spots // cluster.most_gpus, spots % cluster.most_gpus
        idle = cluster.gpus[spot_node, spot_gpu]
        fresh = idle >= 1.0  # a GPU that is shared already is not taken away from whole use again
        ids = ProductIds([(self.problem.nodes[node].id, int(gpu)) for node, gpu in zip(spot_node, spot_gpu, strict=True)])
        opened = builder.add_columns("open", ids, upper=1.0, integer=True)
        opened_columns = np.arange(opened.start, opened.stop)
        builder.add_rows(
            "gpu_share",
            ids,
            upper=0.0,
            row_index=np.concatenate((spot, np.arange(len(spots)))),
            column_index=np.concatenate((columns[~whole], opened_columns)),
            coefficient=np.concatenate((size[self.kind[~whole]], -idle)),
        )
        builder.add_rows(
            "node_gpus",
            nodes,
            upper=np.count_nonzero(cluster.gpus >= 1.0, axis=1),
            row_index=np.concatenate((self.node[whole], spot_node)),
            column_index=np.concatenate((columns[whole], opened_columns)),
            coefficient=np.concatenate((size[self.kind[whole]], fresh.astype(np.float64))),
        )

    def _quota_rows(self, builder: ProgramBuilder, gang_columns: Ints) -> None:
        tenants = list(self.cluster.quota)
        at = {tenant: place for place, tenant in enumerate(tenants)}
        bound = np.array([place for place, jobs in enumerate(self.kinds) if jobs[0].tenant in at], dtype=np.int64)
        rows = np.array([at[self.kinds[place][0].tenant] for place in bound], dtype=np.int64)
        gpus = self._of(lambda job: job.gpus_per_worker * job.workers)[bound]
        builder.add_rows(
            "tenant_quota",
            ProductIds(tenants),
            upper=[self.cluster.quota[tenant] for tenant in tenants],
            row_index=rows,
            column_index=gang_columns[bound],
            coefficient=gpus,
        )

    def _colocation_rows(self, builder: ProgramBuilder, columns: Ints) -> None:
        """Whole gangs in each domain: its workers there are a multiple of the gang's size."""
        for level in {jobs[0].colocate.level for jobs in self.kinds if jobs[0].colocate is not None and jobs[0].colocate.required}:
            bound = np.array(
                [(job := jobs[0]).colocate is not None and job.colocate.required and job.colocate.level is level for jobs in self.kinds]
            )
            domain = self.cluster.domain(level)[self.node]
            used = np.flatnonzero(bound[self.kind])
            width = int(domain.max(initial=0)) + 2
            pairs, pair = np.unique(self.kind[used] * width + domain[used] + 1, return_inverse=True)
            named = (pairs % width) > 0  # a node without a domain cannot hold the gang: no gang is counted there
            ids = ProductIds(range(len(pairs)))
            gangs = builder.add_columns(f"gangs_in_{level}", ids, upper=np.where(named, np.inf, 0.0), integer=True)
            workers = self._of(lambda job: job.workers)[pairs // width]
            builder.add_rows(
                f"colocation_{level}",
                ids,
                lower=0.0,
                upper=0.0,
                row_index=np.concatenate((pair, np.arange(len(pairs)))),
                column_index=np.concatenate((columns[used], np.arange(gangs.start, gangs.stop))),
                coefficient=np.concatenate((np.ones(len(used)), -workers)),
            )
