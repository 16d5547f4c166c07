"""The goals as linear expressions. Each equals what ``goals.py`` computes from the plan, once it is driven to its best value.

Goals that count or compare (domains, powered nodes, the fullest node, stranded GPUs) have columns of their own, and rows
that hold those on the safe side: they may look worse than the plan is, never better, and at the optimum they are equal.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.contract import TOLERANCE, Sense
from models.placement.formulation_residents import Stay
from models.placement.formulation_sums import all_workers, kept, opened, shared, whole_gpus, workers_on
from models.placement.formulation_terms import Column, Columns, Handle, Rows, Terms
from models.placement.formulation_topology import NAMED_LEVELS
from models.placement.fragmentation import TaskClass, task_classes
from models.placement.schema import GoalName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.placement.formulation_setting import Demand, Gpu, Host, OwnDomain, Setting
    from models.placement.schema import Job
    from models.vocabulary import Level

SENSES: dict[GoalName, Sense] = dict.fromkeys(GoalName, Sense.minimise) | dict.fromkeys(
    (GoalName.placed_value, GoalName.allocated_gpus), Sense.maximise
)


def goal_columns(setting: Setting, goals: set[GoalName]) -> Columns:
    """The columns that these goals need besides those of the rules."""
    found: Columns = defaultdict(dict)
    if GoalName.topology_distance in goals:
        for demand in setting.demands:
            for level, domains in spanned(setting, demand).items():
                found["extra_domains"][demand.name, level.value] = Column(len(domains), integer=False)
    if GoalName.balance in goals:
        found["peak"][()] = Column(1.0, integer=False)
    if GoalName.fragmentation in goals:
        tasks = Tasks(setting)
        for host in tasks.hosts:
            node = host.node.id
            for size, name in tasks.sizes.items():
                for gpu in host.gpus:
                    if gpu.share_left >= size - TOLERANCE:
                        found["suits"][node, gpu.name, name] = Column(1)
                        found["leaves"][node, gpu.name, name] = Column(1.0, integer=False)
            for number in tasks.on(host):
                found["fits"][node, tasks.names[number]] = Column(1)
                found["offers"][node, tasks.names[number]] = Column(host.node.gpus, integer=False)
    return found


def goal_terms(rows: Rows, setting: Setting, goal: GoalName) -> Terms:
    """The value of a goal; writes the rows that hold its own columns."""
    return _WRITERS[goal](rows, setting)


# ---------------------------------------------------------------- sums over jobs


def speed(setting: Setting, job: Job, place: int) -> float:
    """The job's speed on a node; 0 on a model that it does not accept."""
    return job.model_speeds.get(setting.nodes[place].gpu_model or "", 0.0) if job.model_speeds else 1.0


def _placed_value(rows: Rows, setting: Setting) -> Terms:
    """Sum of priority x value x speed / workers over all workers."""
    terms = Terms()
    for number, demand in enumerate(setting.demands):
        worth = demand.job.priority * demand.job.value / demand.job.workers
        for place in demand.room:
            terms.plus(workers_on(rows, setting, number, place), worth * speed(setting, demand.job, place))
    for resident in setting.residents.values():
        worth = resident.job.priority * resident.job.value / resident.job.workers
        speeds = sum(workers * speed(setting, resident.job, place) for place, workers in resident.here.items())
        terms.plus(kept(rows, resident), worth * speeds)
    return terms


def _allocated_gpus(rows: Rows, setting: Setting) -> Terms:
    """Sum of gpus_per_worker over all workers."""
    terms = Terms()
    for number, demand in enumerate(setting.demands):
        terms.plus(all_workers(rows, setting, number), demand.job.gpus_per_worker)
    for resident in setting.residents.values():
        terms.plus(kept(rows, resident), resident.gpus)
    return terms


def _evictions(rows: Rows, setting: Setting) -> Terms:
    """Number of evicted jobs."""
    terms = Terms()
    for resident in setting.mobile:
        if resident.stay is not Stay.must:
            terms.add(1.0, rows.columns["evict"][(resident.name,)])
    return terms


def _eviction_cost(rows: Rows, setting: Setting) -> Terms:
    """Sum of move_cost over the evicted jobs."""
    terms = Terms()
    for resident in setting.mobile:
        if resident.stay is not Stay.must:
            terms.add(resident.move_cost, rows.columns["evict"][(resident.name,)])
    return terms


def _moves(rows: Rows, setting: Setting) -> Terms:
    """Sum of move_cost over the moved jobs."""
    terms = Terms()
    for resident in setting.mobile:
        if resident.stay is Stay.move:
            terms.add(resident.move_cost, rows.columns["move"][(resident.name,)])
    return terms


# ---------------------------------------------------------------- topology, power, balance


def spanned(setting: Setting, demand: Demand) -> dict[Level, dict[OwnDomain, list[int]]]:
    """For each level at which a gang could span several named domains: those domains with their nodes."""
    found = {}
    if demand.job.workers > 1:
        for level in NAMED_LEVELS:
            named = {domain: places for domain, places in setting.domains(demand.room, level).items() if domain[0] == level.value}
            if len(named) > 1:
                found[level] = named
    return found


def named_domains(setting: Setting, places: Mapping[int, int]) -> int:
    """Distance of a gang: over the levels, the named domains that it lies in, minus 1 where there is any."""
    counts = (len({domain for domain in setting.domains(dict(places), level) if domain[0] == level.value}) for level in NAMED_LEVELS)
    return sum(max(0, count - 1) for count in counts)


def _topology_distance(rows: Rows, setting: Setting) -> Terms:
    """domains_spanned: named domains that a gang uses - 1 <= extra_domains, at each level; the goal is their sum."""
    terms = Terms()
    for demand in setting.demands:
        for level, domains in spanned(setting, demand).items():
            extra = rows.columns["extra_domains"][demand.name, level.value]
            used = Terms().add(-1.0, extra).add(-1.0, rows.columns[demand.run][(demand.name,)])
            for domain in domains:
                used.add(1.0, rows.columns["use_domain"][demand.name, level.value, setting.label(domain)])
            rows.row("domains_spanned", (demand.name, level.value), used, upper=0.0)
            terms.add(1.0, extra)
    for resident in setting.residents.values():
        terms.plus(kept(rows, resident), named_domains(setting, resident.here))
    return terms


def _nodes_powered(rows: Rows, setting: Setting) -> Terms:
    """Number of nodes in use (node_powered holds the columns)."""
    powers = rows.columns["power"]
    terms = Terms(sum(1.0 for host in setting.hosts if host.occupied))
    for power in powers.values():
        terms.add(1.0, power)
    return terms


def allocated(rows: Rows, setting: Setting, host: Host) -> Terms:
    """GPUs of one node that workers hold, fractions counted as such."""
    terms = Terms()
    for number in host.demands:
        terms.plus(workers_on(rows, setting, number, host.position), setting.demands[number].job.gpus_per_worker)
    for resident in setting.residents_on.get(host.position, ()):
        terms.plus(kept(rows, resident), resident.here[host.position] * resident.job.gpus_per_worker)
    return terms


def _balance(rows: Rows, setting: Setting) -> Terms:
    """node_peak: allocated share of a node's GPUs <= peak."""
    peak = rows.columns["peak"][()]
    for host in setting.hosts:
        if host.node.gpus:
            share = Terms().plus(allocated(rows, setting, host), 1.0 / host.node.gpus)
            if share.columns or share.constant:
                rows.row("node_peak", (host.node.id,), share.add(-1.0, peak), upper=0.0)
    return Terms().add(1.0, peak)


# ---------------------------------------------------------------- fragmentation


@dataclass(slots=True, init=False)
class Tasks:
    """The task classes of the fragmentation measure: their names (a job that has the demand), the fractions among them."""

    classes: tuple[TaskClass, ...]
    names: tuple[str, ...]
    sizes: dict[float, str]
    hosts: list[Host]

    def __init__(self, setting: Setting) -> None:
        self.classes = task_classes(setting.problem)
        first: dict[tuple[object, ...], str] = {}
        for job in setting.problem.jobs:
            first.setdefault((job.gpus_per_worker, job.cpu_cores, job.memory_gib, tuple(sorted(job.model_speeds))), job.id)
        self.names = tuple(first[one.gpus_per_worker, one.cpu_cores, one.memory_gib, one.models] for one in self.classes)
        self.sizes = {one.gpus_per_worker: f"{one.gpus_per_worker:g}" for one in self.classes if one.gpus_per_worker < 1}
        if len(set(self.sizes.values())) < len(self.sizes):  # sizes that differ by less than is printed
            self.sizes = {size: repr(size) for size in self.sizes}
        self.hosts = [host for host in setting.hosts if host.node.gpus and host.node.state != "drained"]

    def on(self, host: Host) -> list[int]:
        """The task classes whose model the node has; to the others all that is free on it is lost."""
        return [number for number, one in enumerate(self.classes) if not one.models or host.node.gpu_model in one.models]


def _fragmentation(rows: Rows, setting: Setting) -> Terms:
    """Free GPUs - popularity x usable, over nodes and task classes."""
    tasks = Tasks(setting)
    terms = Terms()
    if not tasks.classes:
        return terms
    for host in tasks.hosts:
        free = Terms(host.node.gpus).plus(allocated(rows, setting, host), -1.0)
        terms.plus(free)
        usable_gpus = _usable_gpus(rows, setting, tasks, host)
        idle = idle_gpus(rows, setting, host)
        for number in tasks.on(host):
            usable = _usable(rows, setting, host, tasks.classes[number], tasks, tasks.names[number], idle, usable_gpus)
            terms.add(-tasks.classes[number].popularity, usable)
    return terms


def idle_gpus(rows: Rows, setting: Setting, host: Host) -> Terms:
    """GPUs of a node that are neither used whole nor open for sharing."""
    terms = Terms(host.gpus_left).plus(whole_gpus(rows, setting, host), -1.0)
    for gpu in host.gpus:
        if not gpu.open:
            terms.plus(opened(rows, host, gpu), -1.0)
    return terms


def share_left(rows: Rows, setting: Setting, host: Host, gpu: Gpu) -> Terms:
    """What is left of a GPU that is open for sharing; 0 of one that is not."""
    left = Terms(gpu.share_left) if gpu.open else opened(rows, host, gpu)
    return left.plus(shared(rows, setting, host, gpu), -1.0)


def amount_taken(rows: Rows, setting: Setting, host: Host, field: str) -> Terms:
    """Cores or GiB of a node that are taken, but for what certainly is."""
    taken = Terms()
    for number in host.demands:
        taken.plus(workers_on(rows, setting, number, host.position), getattr(setting.demands[number].job, field))
    for position in host.residents:
        resident = setting.residents[position]
        taken.plus(kept(rows, resident), getattr(resident.job, field) * resident.here[host.position])
    return taken


def _usable_gpus(rows: Rows, setting: Setting, tasks: Tasks, host: Host) -> dict[str, tuple[Terms, Terms]]:
    """For each fraction: how many open GPUs have so much left (gpu_large_enough), and how much those have left (gpu_usable)."""
    found = {}
    for size, name in tasks.sizes.items():
        count, amount = Terms(), Terms()
        for gpu in host.gpus:
            ids = (host.node.id, gpu.name, name)
            large = rows.columns["suits"].get(ids)
            if large is None:
                continue
            usable = rows.columns["leaves"][ids]
            left = share_left(rows, setting, host, gpu)
            rows.row("gpu_large_enough", ids, Terms().add(size, large).plus(left, -1.0), upper=0.0)
            rows.row("gpu_usable", ids, Terms().add(1.0, usable).plus(left, -1.0), upper=0.0)
            rows.row("gpu_usable_large", ids, Terms().add(1.0, usable).add(-1.0, large), upper=0.0)
            count.add(1.0, large)
            amount.add(1.0, usable)
        found[name] = count, amount
    return found


def _usable(
    rows: Rows,
    setting: Setting,
    host: Host,
    task: TaskClass,
    tasks: Tasks,
    name: str,
    idle: Terms,
    usable_gpus: dict[str, tuple[Terms, Terms]],
) -> Handle:
    """usable, fits: what a worker of one class could use of the node: nothing when it does not fit, else the GPUs that suit it."""
    ids = (host.node.id, name)
    fits, usable = rows.columns["fits"][ids], rows.columns["offers"][ids]
    for kind, field, left in (("cpu", "cpu_cores", host.cpu_left), ("memory", "memory_gib", host.memory_left)):
        needed = getattr(task, field)
        if needed:
            rows.row(f"fits_{kind}", ids, amount_taken(rows, setting, host, field).add(needed, fits), upper=left)
    suited, amount = Terms().plus(idle), Terms().plus(idle)
    if task.gpus_per_worker < 1:
        count, left_over = usable_gpus[tasks.sizes[task.gpus_per_worker]]
        suited.plus(count)
        amount.plus(left_over)
    rows.row("fits_gpus", ids, Terms().add(max(task.gpus_per_worker, 1.0), fits).plus(suited, -1.0), upper=0.0)
    rows.row("usable", ids, Terms().add(1.0, usable).plus(amount, -1.0), upper=0.0)
    rows.row("usable_fits", ids, Terms().add(1.0, usable).add(-host.node.gpus, fits), upper=0.0)
    return usable


_WRITERS: dict[GoalName, Callable[[Rows, Setting], Terms]] = {
    GoalName.placed_value: _placed_value,
    GoalName.allocated_gpus: _allocated_gpus,
    GoalName.evictions: _evictions,
    GoalName.eviction_cost: _eviction_cost,
    GoalName.moves: _moves,
    GoalName.fragmentation: _fragmentation,
    GoalName.topology_distance: _topology_distance,
    GoalName.nodes_powered: _nodes_powered,
    GoalName.balance: _balance,
}
