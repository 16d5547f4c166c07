"""A scheduler in memory, with a judge of its own: what a follower does to it is checked against the facts, not against snapshots.

``Pretend`` fulfils ``service.plugins.scheduler.Scheduler``. Time stands still until ``advance`` is called. With ``trusting`` it
carries out whatever it is told, and notes in ``wrong`` what no scheduler should have been told; without, it refuses as real
ones do. ``before_call`` is called with the name of each call before it is served: for whoever wants to change something there.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from models.vocabulary import Topology
from service.plugins.cluster import NodeState, SeenJob, SeenNode, SeenWorker, Snapshot
from service.plugins.orders import Order, Wait
from service.plugins.scheduler import Committed, SchedulerError

EPSILON = 1e-6


@dataclass
class Machine:
    """A node as it really is. ``changes`` counts everything that its version tells of."""

    name: str
    gpus: int = 8
    cpu_cores: float = 64.0
    memory_gib: float = 512.0
    state: NodeState = "ready"
    model: str = "h100"
    rack: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    changes: int = 0


@dataclass
class Task:
    """A job as it really is; ``spec`` is what it asks for."""

    spec: SeenJob
    held: bool
    pin: tuple[str, ...] = ()
    on: tuple[tuple[str, tuple[int, ...]], ...] = ()  # where its workers run
    runs_s: float | None = None  # how long it runs once it has started
    started_at: float | None = None
    released_at: float | None = None
    how: str = ""  # committed, freed, or by itself


class Pretend:
    """The scheduler. ``tells_gpus`` puts indices of GPUs into snapshots; ``slow_s`` passes between a release and the start."""

    name = "pretend"

    def __init__(self, machines: Iterable[Machine] = (), *, trusting: bool = True, tells_gpus: bool = True, slow_s: float = 0.0) -> None:
        self.now = 1_000_000.0
        self.machines = {machine.name: machine for machine in machines}
        self.tasks: dict[str, Task] = {}
        self.trusting, self.tells_gpus, self.slow_s = trusting, tells_gpus, slow_s
        self.wrong: list[str] = []
        self.told: list[Wait] = []
        self.calls: Counter[str] = Counter()
        self.down = False
        self.promise_s = 60.0  # how long a pinned job that does not start keeps its seats
        self.pins_are_final = False  # as a node selector of a pod that was ungated
        self.duplicates = False  # every job is in a snapshot twice, as after a duplicate event
        self.before_call: Callable[[str], None] = lambda _: None
        self._identities = itertools.count(1)
        self.news = True
        self.starts: list[str] = []

    # ------------------------------------------------------------ what happens in a cluster

    def submit(self, spec: SeenJob, *, runs_s: float | None = None) -> str:
        """A new job; it has an identity of its own. Held when its spec says so."""
        self.tasks[spec.id] = Task(
            replace(spec, identity=f"{spec.id}/{next(self._identities)}", submitted_at=self.now), spec.held, runs_s=runs_s
        )
        self.news = True
        return spec.id

    def resize(self, name: str, **asks: object) -> None:
        """A waiting job asks for something else: another identity."""
        task = self.tasks[name]
        task.spec = replace(task.spec, identity=f"{name}/{next(self._identities)}", **asks)  # type: ignore[arg-type]
        self.news = True

    def cancel(self, name: str) -> None:
        self.tasks.pop(name, None)
        self.news = True

    def change(self, name: str, **facts: object) -> None:
        """Something about a node changes, and with it its version; who runs there goes on."""
        machine = self.machines[name]
        for fact, value in facts.items():
            setattr(machine, fact, value)
        machine.changes += 1
        self.news = True

    def advance(self, seconds: float) -> None:
        """Time passes: jobs end, and what was released starts where there is room."""
        self.now += seconds
        for name, task in list(self.tasks.items()):
            if task.started_at is not None and task.runs_s is not None and self.now >= task.started_at + task.runs_s:
                del self.tasks[name]
                self.news = True
        self.schedule()

    def schedule(self) -> None:
        """Start released jobs: a pinned one on its nodes alone, others wherever they fit first."""
        for name, task in self.tasks.items():
            if task.on or task.held:
                continue
            if task.released_at is not None and self.now < task.released_at + self.slow_s:
                continue
            if task.spec.workers_seen is not None and task.spec.workers_seen < task.spec.workers:
                continue
            self._try(name, task, Counter(task.pin) if task.pin else None)

    def _try(self, name: str, task: Task, pin: Counter[str] | None) -> None:
        places: list[tuple[str, tuple[int, ...]]] = []
        for _ in range(task.spec.workers):
            allowed = list(pin.elements()) if pin is not None else [node for node in self.machines if self.suits(node, task.spec)]
            place = next((found for node in allowed if (found := self._room(node, task.spec, places)) is not None), None)
            if place is None:
                return
            places.append(place)
            if pin is not None:
                pin[place[0]] -= 1
        task.on, task.started_at = tuple(places), self.now
        self.starts.append(name)
        self.news = True

    def suits(self, node: str, spec: SeenJob) -> bool:
        machine = self.machines[node]
        return (
            machine.state == "ready"
            and (not spec.gpu_models or machine.model in spec.gpu_models)
            and (spec.nodes_allowed is None or node in spec.nodes_allowed)
            and all(machine.labels.get(label) == value for label, value in spec.node_selector.items())
        )

    def _room(self, node: str, spec: SeenJob, more: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[str, tuple[int, ...]] | None:
        """A place for one worker on the node, beside all that runs and ``more`` workers of the same job."""
        machine = self.machines.get(node)
        if machine is None or machine.state != "ready":
            return None
        cpu, memory, shares = self._used(node)
        for other, gpus in more:
            if other == node:
                cpu, memory = cpu + spec.cpu_cores, memory + spec.memory_gib
                for gpu in gpus:
                    shares[gpu] = shares.get(gpu, 0.0) + min(spec.gpus_per_worker, 1.0)
        if cpu + spec.cpu_cores > machine.cpu_cores + EPSILON or memory + spec.memory_gib > machine.memory_gib + EPSILON:
            return None
        size = spec.gpus_per_worker
        needed = int(size) if size >= 1 else int(size > 0)
        free = [gpu for gpu in range(machine.gpus) if shares.get(gpu, 0.0) + min(size, 1.0) <= 1 + EPSILON]
        free.sort(key=lambda gpu: -shares.get(gpu, 0.0))
        return (node, tuple(free[:needed])) if len(free) >= needed else None

    def _used(self, node: str) -> tuple[float, float, dict[int, float]]:
        cpu = memory = 0.0
        shares: dict[int, float] = {}
        for task in self.tasks.values():
            for where, gpus in task.on:
                if where == node:
                    cpu, memory = cpu + task.spec.cpu_cores, memory + task.spec.memory_gib
                    for gpu in gpus:
                        shares[gpu] = shares.get(gpu, 0.0) + min(task.spec.gpus_per_worker, 1.0)
        return cpu, memory, shares

    # ------------------------------------------------------------ the protocol

    def snapshot(self) -> Snapshot:
        self._called("snapshot")
        nodes = tuple(
            SeenNode(
                machine.name,
                f"{machine.name}#{machine.changes}",
                machine.state,
                machine.model if machine.gpus else None,
                machine.gpus,
                None,
                machine.cpu_cores,
                machine.memory_gib,
                Topology(rack=machine.rack),
                dict(machine.labels),
            )
            for machine in self.machines.values()
        )
        jobs = tuple(self._seen(task) for task in self.tasks.values())
        return Snapshot(self.name, self.now, nodes, jobs * 2 if self.duplicates else jobs)

    def _seen(self, task: Task) -> SeenJob:
        running = tuple(SeenWorker(node, gpus if self.tells_gpus else None) for node, gpus in task.on)
        ends_at = task.started_at + task.runs_s if task.started_at is not None and task.runs_s is not None else None
        pinned = task.pin if not task.held and not task.on else ()
        return replace(task.spec, held=task.held, running=running, started_at=task.started_at, ends_at=ends_at, pinned=pinned)

    def changed(self, timeout_s: float) -> bool:
        self._called("changed")
        if not self.news:
            self.advance(timeout_s)
        found, self.news = self.news, False
        return found

    def commit(self, orders: Sequence[Order]) -> tuple[Committed, ...]:
        self._called("commit")
        answers = tuple(self._commit(order) for order in orders)
        self.schedule()
        return answers

    def _commit(self, order: Order) -> Committed:
        complaint = self.judge(order)
        if complaint is not None and not self.trusting:
            return Committed(order.job, "gone" if order.job not in self.tasks else "refused", complaint)
        if complaint is not None:
            self.wrong.append(f"{order.job}: {complaint}")
        task = self.tasks.get(order.job)
        if task is None:
            return Committed(order.job, "gone")
        task.pin, task.held, task.released_at, task.how = tuple(seat.node for seat in order.seats), False, self.now, "committed"
        return Committed(order.job, "done")

    def free(self, jobs: Sequence[str]) -> tuple[str, ...]:
        self._called("free")
        freed = []
        for name in jobs:
            task = self.tasks.get(name)
            if task is not None and task.held:
                task.held, task.released_at, task.how = False, self.now, "freed"
                freed.append(name)
        self.schedule()
        return tuple(freed)

    def unpin(self, jobs: Sequence[str]) -> tuple[str, ...]:
        self._called("unpin")
        done = [name for name in jobs if name in self.tasks and not self.tasks[name].on and not self.pins_are_final]
        for name in done:
            self.tasks[name].pin = ()
        self.schedule()
        return tuple(done)

    def tell(self, waits: Sequence[Wait]) -> None:
        self._called("tell")
        self.told += waits

    def _called(self, call: str) -> None:
        self.before_call(call)
        self.calls[call] += 1
        if self.down:
            raise SchedulerError("the pretended scheduler is down; wait until it is up")

    # ------------------------------------------------------------ the judge

    def judge(self, order: Order) -> str | None:
        """What is wrong with carrying this order out now, by the facts; None when nothing is."""
        task = self.tasks.get(order.job)
        if task is None:
            return "there is no such job"
        spec, nodes = task.spec, [seat.node for seat in order.seats]
        if spec.identity != order.identity:
            return "it is another job than the one that was planned"
        if task.on or not task.held:
            return "it runs, or is not held"
        if len(nodes) != spec.workers or (spec.workers_seen is not None and spec.workers_seen < spec.workers):
            return "the gang is split"
        return next(filter(None, (self._unfit(node, spec, order) for node in set(nodes))), None) or self._overfull(order)

    def _unfit(self, node: str, spec: SeenJob, order: Order) -> str | None:
        machine, nodes = self.machines.get(node), [seat.node for seat in order.seats]
        if machine is None or machine.state != "ready":
            return f"node {node} takes nothing"
        if order.node_versions.get(node) != f"{node}#{machine.changes}":
            return f"node {node} is not the one that was planned with"
        if not self.suits(node, spec):
            return f"node {node} does not suit it"
        if spec.one_worker_per_node and nodes.count(node) > 1:
            return "two workers are on one node"
        split = {self.machines[other].rack for other in nodes if other in self.machines} != {machine.rack}
        return "its workers are on several racks" if spec.together == "rack" and spec.together_required and split else None

    def _overfull(self, order: Order) -> str | None:
        """Whether a node would be promised more than it has: to who runs, to who was released with a pin, and to this job."""
        promised: Counter[tuple[str, str]] = Counter()
        spec = self.tasks[order.job].spec
        claims = [(task.spec, [node for node, _ in task.on] or self._promised(task)) for task in self.tasks.values()]
        for asked, nodes in [*claims, (spec, [seat.node for seat in order.seats])]:
            for node in nodes:
                promised[node, "gpus"] += asked.gpus_per_worker  # type: ignore[assignment]
                promised[node, "cpu"] += asked.cpu_cores  # type: ignore[assignment]
                promised[node, "memory"] += asked.memory_gib  # type: ignore[assignment]
        for node in {seat.node for seat in order.seats}:
            machine = self.machines[node]
            for what, has in (("gpus", machine.gpus), ("cpu", machine.cpu_cores), ("memory", machine.memory_gib)):
                if promised[node, what] > has + EPSILON:
                    return f"node {node} has {has} {what} and {promised[node, what]} are promised"
        return None

    def _promised(self, task: Task) -> list[str]:
        """Where a released job is going to start, as long as that may be waited for."""
        late = task.released_at is None or self.now >= task.released_at + self.promise_s
        return [] if task.held or late else list(task.pin)

    def over_allocated(self) -> list[str]:
        """GPUs that are used by more than one worker's worth."""
        used: Counter[tuple[str, int]] = Counter()
        for task in self.tasks.values():
            for node, gpus in task.on:
                for gpu in gpus:
                    used[node, gpu] += min(task.spec.gpus_per_worker, 1.0)  # type: ignore[assignment]
        return [f"{node} GPU {gpu}" for (node, gpu), share in used.items() if share > 1 + EPSILON]

    @property
    def waiting(self) -> list[str]:
        """Jobs that have not started."""
        return [name for name, task in self.tasks.items() if not task.on]


def job(name: str, gpus: float = 1.0, workers: int = 1, **facts: object) -> SeenJob:
    """A held job that opted in."""
    return replace(SeenJob(name, name, workers=workers, gpus_per_worker=gpus, opted_in=True, held=True), **facts)  # type: ignore[arg-type]
