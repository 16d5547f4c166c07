"""Running jobs as the formulation sees them: where they are, what may become of them, and which rules they break as they run."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from models.contract import TOLERANCE
from models.placement.classes import domain_of, own_domain_of, refusals
from models.placement.schema import GoalName, Rule, Use

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from models.placement.schema import Job, Node, Problem

# Goals that an eviction far away from the named job can improve.
FAR_REACHING = frozenset({GoalName.fragmentation, GoalName.topology_distance, GoalName.nodes_powered, GoalName.balance})


class Stay(StrEnum):
    """What may become of a running job.

    It stays for certain (no column), must stay (a column and a row that says so, because it breaks a rule as it runs, and
    the conflict must have a name), or may be evicted, or also moved.
    """

    certain = "certain"
    must = "must"
    evict = "evict"
    move = "move"


@dataclass(frozen=True, slots=True)
class Resident:
    """One running job: its workers by node (positions), the GPUs it has whole by node, its workers by shared (node, GPU)."""

    name: str
    position: int
    job: Job
    here: dict[int, int]
    whole: dict[int, tuple[int, ...]]
    shares: dict[tuple[int, int], int]
    stay: Stay = Stay.certain
    evictable: bool = True
    breaks: tuple[tuple[Rule, tuple[str, ...]], ...] = ()

    @property
    def move_cost(self) -> float:
        """What touching the job costs."""
        return self.job.running.move_cost if self.job.running is not None else 0.0

    @property
    def gpus(self) -> float:
        """GPUs it holds, fractions counted as such."""
        return self.job.gpus_per_worker * sum(self.here.values())


def residents_of(problem: Problem, at: Mapping[str, int]) -> Iterator[Resident]:
    """Every running job; ``at`` are the nodes' positions."""
    for position, job in enumerate(problem.jobs):
        if job.running is None:
            continue
        here: Counter[int] = Counter()
        shares: Counter[tuple[int, int]] = Counter()
        whole: defaultdict[int, list[int]] = defaultdict(list)
        for worker in job.running.workers:
            place = at[worker.node]
            here[place] += 1
            if 0 < job.gpus_per_worker < 1:
                shares[place, worker.gpus[0]] += 1
            else:
                whole[place].extend(worker.gpus)
        held = {place: tuple(gpus) for place, gpus in whole.items()}
        yield Resident(job.id, position, job, dict(here), held, dict(shares), breaks=tuple(_broken(problem.nodes, job, here)))


def _broken(nodes: tuple[Node, ...], job: Job, here: Mapping[int, int]) -> Iterator[tuple[Rule, tuple[str, ...]]]:
    """The rules, with their ids, that a running job breaks by itself where it is."""
    for place in here:
        node = nodes[place]
        for rule in refusals(node, job):
            cordoned = rule is Rule.drained and node.state == "cordoned"
            if rule not in (Rule.reserved, Rule.colocation) and not cordoned:  # workers that are there may stay
                yield rule, (job.id, node.id)
    wish = job.colocate
    if wish is not None and wish.required:
        domains = {domain_of(nodes[place], wish.level) for place in here}
        if len(domains) > 1 or None in domains:
            yield Rule.colocation, (job.id,)
    if job.spread is not None:
        crowd: Counter[tuple[str, tuple[str, ...]]] = Counter()
        for place, workers in here.items():
            crowd[own_domain_of(nodes[place], job.spread.level)] += workers
        if max(crowd.values()) > job.spread.max_workers:
            yield Rule.spread, (job.id,)


def settled(problem: Problem, residents: Mapping[str, Resident], reached: set[int]) -> dict[int, Resident]:
    """Residents by position, with what may become of each; ``reached`` are the nodes that some demand can go to."""
    if problem.use is Use.repack:
        free, stay = set(residents), Stay.move
    else:
        free = _at_odds(problem, residents)
        stay = Stay.must
        if problem.use is Use.preempt:
            stay = Stay.evict
            free |= _in_the_way(problem, residents, reached)
    named = next((job for job in problem.jobs if job.id == problem.preempt_for), None)
    found = {}
    for name, resident in residents.items():
        running = resident.job.running
        evictable = running is not None and running.evictable and (named is None or resident.job.priority < named.priority)
        found[resident.position] = replace(resident, stay=stay if name in free else Stay.certain, evictable=evictable)
    return found


def _at_odds(problem: Problem, residents: Mapping[str, Resident]) -> set[str]:
    """Residents that break a rule as they run, alone or together: no plan exists in which all of them stay."""
    found = {name for name, resident in residents.items() if resident.breaks}
    for name, other, _ in apart(problem, residents):
        if other in residents and name in residents:
            found |= {name, other}
    held: defaultdict[str, float] = defaultdict(float)
    for resident in residents.values():
        held[resident.job.tenant] += resident.gpus
    over = {one.id for one in problem.tenants if one.quota_gpus is not None and held[one.id] > one.quota_gpus + TOLERANCE}
    found |= {name for name, resident in residents.items() if resident.job.tenant in over}
    powered = {place for resident in residents.values() for place in resident.here}
    drawn = sum(problem.nodes[place].power_kw for place in powered)
    if problem.power_cap_kw is not None and drawn > problem.power_cap_kw + TOLERANCE:
        found |= set(residents)
    return found


def apart(problem: Problem, residents: Mapping[str, Resident]) -> Iterator[tuple[str, str, Job]]:
    """Pairs (job, other, the job that asks) of anti-affinity in which, if both run, both run in one domain now."""
    for job in problem.jobs:
        wish = job.anti_affinity
        for other in wish.jobs if wish is not None else ():
            if wish is not None and job.id in residents and other in residents:
                mine, theirs = (
                    {own_domain_of(problem.nodes[place], wish.level) for place in residents[name].here} for name in (job.id, other)
                )
                if mine & theirs:
                    yield job.id, other, job


def _in_the_way(problem: Problem, residents: Mapping[str, Resident], reached: set[int]) -> set[str]:
    """Residents whose eviction can help the job that a preemption is for; evicting any other is never better."""
    if problem.power_cap_kw is not None or FAR_REACHING & set(problem.ordered_goals()):
        return set(residents)
    named = next(job for job in problem.jobs if job.id == problem.preempt_for)
    held = sum(resident.gpus for resident in residents.values() if resident.job.tenant == named.tenant)
    quota = next((one.quota_gpus for one in problem.tenants if one.id == named.tenant), None)
    short = quota is not None and held + named.gpus_per_worker * named.workers > quota + TOLERANCE
    found = set()
    for name, resident in residents.items():
        wish, other = resident.job.anti_affinity, named.anti_affinity
        rivals = (wish is not None and named.id in wish.jobs) or (other is not None and name in other.jobs)
        if rivals or (short and resident.job.tenant == named.tenant) or not reached.isdisjoint(resident.here):
            found.add(name)
    return found
