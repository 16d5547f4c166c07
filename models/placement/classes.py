"""What is interchangeable in a placement problem: classes of jobs, and the nodes that may take a job's workers.

Everything here is plain grouping: no search, no solver. A class is exact, not an approximation: every plan of the class
splits into plans of its jobs with the same value, and the other way round.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.placement.checks import holds
from models.placement.schema import GoalName, Rule
from models.vocabulary import Level

if TYPE_CHECKING:
    from models.placement.schema import Job, Node, Problem

Domain = tuple[str, ...]
_LEVELS = tuple(level.value for level in Level if level is not Level.node)


@dataclass(frozen=True, slots=True)
class JobClass:
    """Waiting jobs that differ in nothing but their id: their positions in ``problem.jobs``, in order."""

    jobs: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many jobs the class has."""
        return len(self.jobs)

    @property
    def first(self) -> int:
        """The job that stands for the class."""
        return self.jobs[0]


def job_classes(problem: Problem) -> tuple[JobClass, ...]:
    """The classes of the waiting jobs, in the order of their first jobs.

    Running jobs are in no class. In a class the workers on each node (and in each colocation domain) can be dealt out
    to the jobs afterwards without loss, so ``count`` jobs are decided as one. Jobs for which that is not so stand
    alone; ``_stands_alone`` says which and why.
    """
    named = {other for job in problem.jobs if job.anti_affinity is not None for other in job.anti_affinity.jobs}
    if problem.preempt_for is not None:
        named.add(problem.preempt_for)
    by_distance = GoalName.topology_distance in problem.ordered_goals()
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for position, job in enumerate(problem.jobs):
        if job.running is None:
            alone = job.id in named or _stands_alone(job, by_distance=by_distance)
            groups[job.id if alone else _likeness(job)].append(position)
    return tuple(JobClass(tuple(jobs)) for jobs in groups.values())


def _stands_alone(job: Job, *, by_distance: bool) -> bool:
    """Whether the workers of several such jobs cannot be told apart after the fact, although the jobs are alike.

    One worker always can. Anti-affinity is about one job's domains, and so is the goal topology_distance (a gang that
    only prefers colocation is counted there). Elastic gangs would need a smallest number of workers in each domain
    that any of them uses. Gangs with colocation and spread together would need the spread counted inside each
    domain. Rigid gangs with only one of the two do split: a colocation domain holds whole gangs, and x workers in a
    spread domain with x <= max_workers * jobs are dealt out in turn.
    """
    if job.anti_affinity is not None:
        return True
    if job.workers == 1:
        return False
    together = job.colocate is not None and job.colocate.required
    return by_distance or job.workers_min is not None or (together and job.spread is not None)


def _likeness(job: Job) -> Hashable:
    """Equal for two jobs that differ only in what does not matter: the id, and rules about other workers of a single one."""
    rules = (job.spread if job.workers > 1 else None, job.colocate if job.colocate is not None and job.colocate.required else None)
    return (
        (job.tenant, job.workers, job.workers_min, job.priority, job.value),
        (job.gpus_per_worker, job.gpu_memory_gib, job.cpu_cores, job.memory_gib),
        tuple(sorted(job.model_speeds.items())),
        tuple(sorted(job.node_selector.items())),
        tuple(None if rule is None else tuple(rule.__dict__.items()) for rule in rules),
    )


def domain_of(node: Node, level: Level) -> Domain | None:
    """The domain of ``level`` that the node lies in, as a path of names; None when it names none. A node is its own ``node``."""
    return (node.id,) if level is Level.node else node.topology.domain(level)


def own_domain_of(node: Node, level: Level) -> tuple[str, Domain]:
    """As ``domain_of``, but a node without a domain counts as one of its own, different from every named one."""
    domain = domain_of(node, level)
    return (Level.node.value, (node.id,)) if domain is None else (level.value, domain)


def refusals(node: Node, job: Job) -> tuple[Rule, ...]:
    """The rules by which the node, even empty, takes no new worker of the job; sizes in cores, GiB and GPUs apart."""
    broken = []
    if job.model_speeds and node.gpu_model not in job.model_speeds:
        broken.append(Rule.accepted_model)
    if any(node.labels.get(label) != wanted for label, wanted in job.node_selector.items()):
        broken.append(Rule.node_selector)
    if node.state != "ready":
        broken.append(Rule.drained)
    if node.reserved_for is not None and node.reserved_for != job.tenant:
        broken.append(Rule.reserved)
    if job.colocate is not None and job.colocate.required and domain_of(node, job.colocate.level) is None:
        broken.append(Rule.colocation)
    return tuple(broken)


def can_host(node: Node, job: Job) -> bool:
    """Whether the node takes new workers of the job at all, whatever else runs: see ``refusals``."""
    return not refusals(node, job)


class Hosts:
    """Which nodes could take a new worker of a job if they were empty, found once for each kind of node and of wish.

    ``kind_of[node]`` is the number of a node's kind: nodes of one kind are the same to every job when empty.
    """

    def __init__(self, problem: Problem) -> None:
        """Group the nodes by everything a job can ask of them (of labels only those that some job selects by)."""
        labels = sorted({label for job in problem.jobs for label in job.node_selector})
        kinds: defaultdict[Hashable, list[int]] = defaultdict(list)
        for place, node in enumerate(problem.nodes):
            kinds[_traits(node, labels)].append(place)
        self._kinds = [(problem.nodes[places[0]], places) for places in kinds.values()]
        self.kind_of: dict[int, int] = {place: number for number, (_, places) in enumerate(self._kinds) for place in places}
        self._reserving = any(node.reserved_for is not None for node, _ in self._kinds)
        self._kinds_found: dict[Hashable, frozenset[int]] = {}
        self._places_found: dict[frozenset[int], tuple[int, ...]] = {}

    def kinds(self, job: Job) -> frozenset[int]:
        """Numbers of the kinds of node that can hold and take a worker of the job; equal sets are the same object."""
        wish = _wish(job, tenant=self._reserving)
        if wish not in self._kinds_found:
            self._kinds_found[wish] = frozenset(
                number for number, (node, _) in enumerate(self._kinds) if holds(node, job) and can_host(node, job)
            )
        return self._kinds_found[wish]

    def sample(self, kind: int) -> Node:
        """One node of a kind."""
        return self._kinds[kind][0]

    def of(self, job: Job) -> tuple[int, ...]:
        """Positions of the nodes that can hold and take a worker of the job, ascending."""
        kinds = self.kinds(job)
        if kinds not in self._places_found:
            self._places_found[kinds] = tuple(sorted(place for number in kinds for place in self._kinds[number][1]))
        return self._places_found[kinds]

    def gpus_of(self, job: Job) -> int:
        """How many GPUs the nodes of ``of(job)`` have together."""
        return sum(self._kinds[number][0].gpus * len(self._kinds[number][1]) for number in self.kinds(job))


def _traits(node: Node, labels: list[str]) -> Hashable:
    levels = tuple(getattr(node.topology, name) is not None for name in _LEVELS)
    size = (node.gpus, node.gpu_memory_gib, node.cpu_cores, node.memory_gib)
    return (node.gpu_model, size, node.state, node.reserved_for, levels, _chosen(node.labels, labels))


def _chosen(given: Mapping[str, str], labels: list[str]) -> tuple[str | None, ...]:
    return tuple(given.get(label) for label in labels)


def _wish(job: Job, *, tenant: bool) -> Hashable:
    level = job.colocate.level if job.colocate is not None and job.colocate.required else None
    size = (job.gpus_per_worker, job.gpu_memory_gib, job.cpu_cores, job.memory_gib)
    selector = tuple(sorted(job.node_selector.items())) if job.node_selector else ()
    return (job.tenant if tenant else None, size, frozenset(job.model_speeds), selector, level)
