"""A snapshot as a ``placement`` problem: who may be placed now, and who runs and stays.

Only jobs that opted in, are whole and wait may be placed; all that runs, ours or not, takes its room away and is otherwise left
alone. Nothing here ever raises for what a snapshot says: what cannot be taken over is told.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from models.placement.schema import Colocate, Job, Node, Problem, Running, Spread, Tenant, WorkerPlace
from models.vocabulary import Level
from service.plugins.occupancy import LONGEST_NAME, Occupied, Places, complaint_of_job, occupied

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.plugins.cluster import NodeState, SeenJob, SeenNode, Snapshot
    from service.plugins.patience import Kept
    from service.plugins.reservations import Reservation

ALLOWED = "quartermaster.dev/allowed-"  # a label that stands for a set of nodes that jobs may use
NOWHERE = "quartermaster.dev/nowhere"  # asked for, and on no node
KEEPER = "quartermaster.dev/kept"  # the tenant for whom nodes are kept free
MODEL_UNKNOWN = "unknown"
MOST_ALLOWED = 3_000_000  # nodes in the distinct sets of allowed nodes together: beyond it the later jobs are left out
STEP = 10.0  # a GPU of a job is worth so many of the next lower priority ...
SPAN = 1e6  # ... but the highest is worth at most so many of the lowest: more would drown in rounding
FIRST_WAIT_S = 60.0
LONGEST_WAIT_STEPS = 12  # of doubled waiting: 60 s * 2^12 is about three days
SMALLEST_SIZE = 0.1  # GPUs that a worker without any counts as


@dataclass(frozen=True, slots=True)
class Asked:
    """A placement problem made of ``snapshot``. Jobs and nodes have the scheduler's ids in it.

    ``problem`` is None when there is nothing to plan: no node, or no job that could be placed. ``planned`` are the waiting jobs in
    it; ``left_out`` are those that opted in, wait and are not in it, with a sentence each. ``occupied`` is what is held, with the
    indices of GPUs that were made up: give its ``seats`` to the next call.
    """

    snapshot: Snapshot
    problem: Problem | None
    planned: tuple[str, ...]
    left_out: Mapping[str, str]
    occupied: Occupied
    warnings: tuple[str, ...] = ()
    jobs: Mapping[str, SeenJob] = field(default_factory=dict)  # of the snapshot, by id
    nodes: Mapping[str, SeenNode] = field(default_factory=dict)


def problem(  # noqa: PLR0913  (each is left out by somebody)
    snapshot: Snapshot,
    *,
    held_only: bool = False,
    tenants: Sequence[Tenant] = (),
    reservations: Iterable[Reservation] = (),
    before: Mapping[str, Places] | None = None,
    also: Sequence[str] = (),
    kept: Kept | None = None,
    keep_empty: bool = False,
    rules_of_running: bool = False,
) -> Asked:
    """The problem of placing what waits, ``use`` place: running jobs are in it and stay where they are.

    ``held_only`` leaves jobs out that the scheduler may start by itself at any moment. ``tenants`` may have quotas; one that is
    exceeded already is raised to what is held. ``reservations`` are released jobs that do not run yet: they hold their seats.
    ``before`` are the ``occupied.seats`` of an earlier call. ``also`` are waiting jobs to plan whether or not they opted in. ``kept``
    names nodes that take no new job but one; it is left aside where there are ``tenants``, whose quotas count by the job's owner.
    ``keep_empty`` gives a problem also where no job waits, and ``rules_of_running`` leaves running jobs the rules that say where they
    may run, which they may break where they are: for questions that move them.
    """
    released = tuple(reservations)
    found = occupied(snapshot, released, before)
    reserved = {one.job.id for one in released}
    sizes = [machine.node.gpus for machine in found.machines.values()]
    largest, total = max(sizes, default=0), sum(sizes)
    left_out: dict[str, str] = {}
    waiting = []
    for job in found.jobs.values():
        if not job.waits or job.id in found.seats or job.id in reserved or not (job.opted_in or job.id in also):
            continue
        if held_only and not job.held and job.id not in also:
            continue
        wrong = complaint_of_job(job) or _incomplete(job) or _misfit(job, largest, total)
        if wrong is None:
            waiting.append(job)
        else:
            left_out[job.id] = f"not planned: {wrong}"
    maker = _Maker(snapshot, found, waiting, left_out, kept if not tenants else None, rules_of_running=rules_of_running)
    made = maker.made(tenants) if waiting or keep_empty else None
    if made is None:
        why = "no node is known" if not found.machines else "the snapshot could not be made a problem; the log says why"
        left_out |= {job.id: f"not planned: {why}" for job in waiting}
    planned = () if made is None else tuple(job.id for job in made.jobs if job.running is None)
    nodes = {name: machine.node for name, machine in found.machines.items()}
    return Asked(
        snapshot,
        made if planned or keep_empty else None,
        planned,
        left_out,
        found,
        (*snapshot.warnings, *found.warnings),
        found.jobs,
        nodes,
    )


def _incomplete(job: SeenJob) -> str | None:
    if job.whole:
        return None
    return f"{job.workers_seen} of its {job.workers} workers exist so far"


def _misfit(job: SeenJob, largest: int, total: int) -> str | None:
    """Why no cluster with these GPUs on its largest node, and in all, could ever hold the job."""
    if job.gpus_per_worker > largest:
        return f"a worker of it needs {job.gpus_per_worker:g} GPUs and the largest node has {largest}"
    if job.workers * job.gpus_per_worker > total:
        return f"it needs {job.workers * job.gpus_per_worker:g} GPUs and the whole cluster has {total}"
    if job.together is not None and job.together_required and _level(job.together) is None:
        return f"its workers are to share one '{job.together}', and the levels are {', '.join(level.value for level in Level)}"
    return None


def _level(name: str) -> Level | None:
    return Level(name) if name in Level.__members__ else None


# ---------------------------------------------------------------- priorities


def ranks(priorities: Iterable[int]) -> dict[int, int]:
    """The priorities numbered from 1, the lowest first: schedulers count them in thousands or by the billion."""
    return {priority: place for place, priority in enumerate(sorted(set(priorities)), start=1)}


def step_of(count: int) -> float:
    """How much more a GPU of one priority is worth than one of the next lower, where there are ``count`` priorities."""
    return min(STEP, SPAN ** (1.0 / (count - 1))) if count > 1 else STEP


def value_of(job: SeenJob, rank: int, step: float, now: float) -> float:
    """What placing the job is worth: its GPUs, times ``step`` for each lower priority, and up to half a step more for having waited.

    The wait counts in doublings of a minute, so that jobs of about the same age stay alike, which solving is quicker for.
    """
    size = job.workers * max(job.gpus_per_worker, SMALLEST_SIZE)
    waited = max(now - job.submitted_at, 0.0) if job.submitted_at is not None else 0.0
    doublings = min(math.floor(math.log2(1.0 + waited / FIRST_WAIT_S)), LONGEST_WAIT_STEPS) if math.isfinite(waited) else 0
    return size * step ** (rank - 1) * (1.0 + 0.5 * (step - 1.0) * doublings / LONGEST_WAIT_STEPS)


# ---------------------------------------------------------------- the document


class _Maker:
    """Makes the document; waiting jobs that cannot be said in it end in ``left_out``."""

    def __init__(
        self,
        snapshot: Snapshot,
        found: Occupied,
        waiting: list[SeenJob],
        left_out: dict[str, str],
        kept: Kept | None,
        *,
        rules_of_running: bool,
    ) -> None:
        self.snapshot, self.found, self.waiting, self.left_out = snapshot, found, waiting, left_out
        self.rules_of_running = rules_of_running
        self.kept = kept if kept is not None and any(job.id == kept.job for job in waiting) else None
        self.labels: dict[str, dict[str, str]] = {}  # of the nodes, those that count
        self._sets: dict[frozenset[str], str] = {}
        self._named = 0
        self._holding = {seat.node for seats in found.seats.values() for seat in seats}
        holding = [found.jobs[name].priority for name in found.seats if name in found.jobs]
        self.ranks = ranks([*holding, *(job.priority for job in waiting)])
        self.levels = ranks(job.priority for job in waiting)  # who runs is worth nothing here, and must not make the steps smaller
        self.step = step_of(len(self.levels))

    def made(self, tenants: Sequence[Tenant]) -> Problem | None:
        if not self.found.machines:
            return None
        self._label_nodes()
        jobs = [made for made in map(self._waiting, self.waiting) if made is not None]
        for name, seats in self.found.seats.items():
            jobs.append(self._running(name, seats))
        nodes = tuple(self._node(machine.node) for machine in self.found.machines.values())
        try:
            return Problem(nodes=nodes, jobs=tuple(jobs), tenants=_tenants(tenants, jobs))
        except ValidationError as error:  # a fault of ours, and no reason to stop: the round has nothing to plan
            self.found.warnings.append(f"the snapshot could not be planned: {error.errors()[0]['msg']}")
            return None

    def _label_nodes(self) -> None:
        """Keep those labels of the nodes that some job selects: the others would only make alike nodes different."""
        held = [self.found.jobs[name] for name in self.found.seats] if self.rules_of_running else []
        asked = {item for job in (*self.waiting, *held) for item in job.node_selector.items()}
        if not asked:
            return
        names = {name for name, _ in asked}
        for name, machine in self.found.machines.items():
            labels = machine.node.labels
            kept = {label: labels[label] for label in names if label in labels and (label, labels[label]) in asked}
            if kept:
                self.labels[name] = kept

    def _node(self, node: SeenNode) -> Node:
        taken = node.id in self.found.aside
        state: NodeState = "ready"
        if node.state != "ready" or taken:  # who runs on a drained node stays until it ends: to a problem that is a cordoned one
            state = "cordoned" if node.id in self._holding else "drained"
        return Node(
            id=node.id,
            gpu_model=(node.gpu_model or MODEL_UNKNOWN) if node.gpus else None,
            gpus=node.gpus,
            gpu_memory_gib=node.gpu_memory_gib,
            cpu_cores=node.cpu_cores,
            memory_gib=node.memory_gib,
            topology=node.topology,
            labels=self.labels.get(node.id, {}),
            state=state,
            reserved_for=KEEPER if self.kept is not None and node.id in self.kept.nodes else None,
        )

    def _waiting(self, job: SeenJob) -> Job | None:
        rules = self._rules(job, job.workers)
        if rules is None:
            self.left_out[job.id] = "not planned: too many different lists of allowed nodes are in the queue"
            return None
        rank = self.ranks[job.priority]
        try:
            return Job(
                id=job.id,
                tenant=KEEPER if self.kept is not None and job.id == self.kept.job else _tenant(job),
                workers=job.workers,
                gpus_per_worker=job.gpus_per_worker,
                gpu_memory_gib=job.gpu_memory_gib if job.gpus_per_worker else 0.0,
                cpu_cores=job.cpu_cores,
                memory_gib=job.memory_gib,
                priority=rank,
                value=value_of(job, self.levels[job.priority], self.step, self.snapshot.taken_at) / rank,
                **rules,
            )
        except ValidationError as error:
            self.left_out[job.id] = f"not planned: {error.errors()[0]['msg']}"
            return None

    def _rules(self, job: SeenJob, workers: int) -> dict[str, Any] | None:
        """The fields of a job that say where it may run; None when its list of allowed nodes is one too many."""
        selector = dict(job.node_selector)
        label = self._allowed(job.nodes_allowed) if job.nodes_allowed is not None else ""
        if label is None:
            return None
        if label:
            selector[label] = "yes"
        level = _level(job.together) if job.together is not None else None
        return {
            "model_speeds": dict.fromkeys(job.gpu_models, 1.0),
            "node_selector": selector,
            "colocate": Colocate(level=level, required=job.together_required) if level is not None and workers > 1 else None,
            "spread": Spread(level=Level.node, max_workers=1) if job.one_worker_per_node and workers > 1 else None,
        }

    def _running(self, name: str, seats: Places) -> Job:
        """A job that holds something: what it holds, and unless its rules are asked for no rule that it might break where it is."""
        job = self.found.jobs[name]  # seats are those of jobs that were seen
        rules = (self._rules(job, len(seats)) if self.rules_of_running else None) or {}
        return Job(
            id=name,
            tenant=_tenant(job),
            workers=len(seats),
            gpus_per_worker=job.gpus_per_worker,
            gpu_memory_gib=job.gpu_memory_gib if job.gpus_per_worker else 0.0,
            cpu_cores=job.cpu_cores,
            memory_gib=job.memory_gib,
            priority=self.ranks[job.priority],
            value=0.0,  # it stays whatever is decided: its worth would only hide the gap of the rest
            running=Running(
                workers=tuple(WorkerPlace(node=seat.node, gpus=seat.gpus) for seat in seats), evictable=job.evictable and job.waits is False
            ),
            **rules,
        )

    def _allowed(self, nodes: frozenset[str]) -> str | None:
        """The label of a set of nodes: empty when it is all of them, None when there are too many different sets."""
        if nodes not in self._sets:
            here = sorted(nodes & self.found.machines.keys())
            if len(here) == len(self.found.machines):
                self._sets[nodes] = ""
            elif not here:
                self._sets[nodes] = NOWHERE
            else:
                if self._named + len(here) > MOST_ALLOWED:
                    return None
                self._named += len(here)
                label = ALLOWED + hashlib.sha256("\n".join(here).encode()).hexdigest()[:12]
                for name in here:
                    self.labels.setdefault(name, {})[label] = "yes"
                self._sets[nodes] = label
        return self._sets[nodes]


def _tenant(job: SeenJob) -> str:
    return job.tenant[:LONGEST_NAME] or "default"


def _tenants(tenants: Sequence[Tenant], jobs: Sequence[Job]) -> tuple[Tenant, ...]:
    """The tenants, those who own a job and were not named too; no quota below what is held."""
    if not tenants:
        return ()
    held: dict[str, float] = dict.fromkeys((job.tenant for job in jobs), 0.0)
    for job in jobs:
        if job.running is not None:
            held[job.tenant] += job.gpus_per_worker * len(job.running.workers)
    known: dict[str, Tenant] = {}
    for tenant in tenants:
        quota = None if tenant.quota_gpus is None else max(tenant.quota_gpus, held.get(tenant.id, 0.0))
        known.setdefault(tenant.id, Tenant(id=tenant.id, quota_gpus=quota))
    return tuple(known[name] if name in known else Tenant(id=name) for name in {**known, **held})


__all__ = ["Asked", "problem", "ranks", "step_of", "value_of"]
