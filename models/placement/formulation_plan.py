"""Between a plan and the values of the formulation's columns, both ways."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from models.placement.classes import own_domain_of
from models.placement.formulation_residents import Resident, Stay
from models.placement.formulation_setting import Demand, Setting
from models.placement.formulation_start import Start
from models.placement.formulation_topology import colocation_domains
from models.placement.schema import JobPlacement, Plan, WorkerPlace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.placement.formulation_terms import Ids, Values
    from models.placement.schema import Problem

Unit = tuple[int, tuple[int, ...]]  # one worker: its node's position, its GPU indices


def extract(problem: Problem, values: Mapping[str, Mapping[Ids, float]]) -> Plan:
    """The plan that the values stand for: GPU indices chosen, classes dealt out to their jobs.

    ``values[name][ids]`` are the values of integer columns, rounded here; what is left out is 0. They must obey the
    rules, or the plan does not either.
    """
    return _Dealer(Setting(problem), values).plan()


def start(problem: Problem, plan: Plan) -> Values:
    """Values of all columns, of the rules and of all the problem's goals, for a right plan; what is left out is 0.

    GPUs that are alike are renamed to the ones that the model offers first. A plan for a preemption may hold further waiting
    jobs; the model has no columns for them, and they are left out.
    """
    return Start(Setting(problem), plan).values()


class _Dealer:
    """Hands out GPUs and workers."""

    def __init__(self, setting: Setting, values: Mapping[str, Mapping[Ids, float]]) -> None:
        self.setting = setting
        self.values = values
        self.taken: defaultdict[int, set[int]] = defaultdict(set)

    def value(self, name: str, *ids: str) -> int:
        """The value of one column."""
        return round(self.values.get(name, {}).get(ids, 0.0))

    def stays(self, resident: Resident) -> bool:
        """Whether a running job is left as it is."""
        if resident.stay is Stay.certain:
            return True
        if resident.stay is Stay.evict:
            return not self.value("evict", resident.name)
        return bool(self.value("keep", resident.name))

    def plan(self) -> Plan:
        """The whole plan, jobs in the problem's order."""
        setting = self.setting
        placed: dict[int, tuple[WorkerPlace, ...]] = {}
        for resident in setting.residents.values():
            if self.stays(resident) and resident.job.running is not None:
                placed[resident.position] = resident.job.running.workers
                for worker in resident.job.running.workers:
                    self.taken[setting.at[worker.node]].update(worker.gpus)
        shared = [self._shares(number) for number in range(len(setting.demands))]
        for units in shared:
            for place, gpus in units:
                self.taken[place].update(gpus)
        for demand, units in zip(setting.demands, shared, strict=True):
            dealt = self._deal(demand, units if demand.shares else self._wholes(demand))
            placed.update({job: self._workers(mine) for job, mine in dealt.items() if mine})
        moved, evicted = [], []
        for position, resident in setting.residents.items():
            if position not in placed:
                evicted.append(resident.name)
            elif _spots(placed[position]) != _spots(resident.job.running.workers if resident.job.running is not None else ()):
                moved.append(resident.name)
        jobs = setting.problem.jobs
        placements = tuple(JobPlacement(job=jobs[position].id, workers=placed[position]) for position in sorted(placed))
        return Plan(placements=placements, moved=tuple(moved), evicted=tuple(evicted))

    def _shares(self, number: int) -> list[Unit]:
        """The workers of a demand for fractions; none for another demand."""
        demand = self.setting.demands[number]
        units: list[Unit] = []
        if demand.shares:
            for place in demand.room:
                node = self.setting.nodes[place].id
                for gpu in self.setting.share_gpus[number, place]:
                    units += [(place, (int(gpu),))] * self.value("place_share", demand.name, node, gpu)
        return units

    def _wholes(self, demand: Demand) -> list[Unit]:
        """The workers of a demand for whole GPUs or none, each with the GPUs it has now if it can, else the lowest free ones."""
        size = int(demand.job.gpus_per_worker)
        resident = self.setting.residents.get(demand.jobs[0])
        units: list[Unit] = []
        for place in demand.room:
            node, taken = self.setting.nodes[place], self.taken[place]
            workers = self.value("place", demand.name, node.id)
            here = resident.job.running.workers if workers and resident is not None and resident.job.running is not None else ()
            old = [worker.gpus for worker in here if worker.node == node.id and size and taken.isdisjoint(worker.gpus)]
            for _ in range(workers):
                gpus = old.pop(0) if old else tuple([gpu for gpu in range(node.gpus) if gpu not in taken][:size])
                taken.update(gpus)
                units.append((place, gpus))
        return units

    def _deal(self, demand: Demand, units: list[Unit]) -> dict[int, list[Unit]]:
        """The workers of a class, dealt out to its jobs."""
        jobs = list(demand.jobs)
        domains = colocation_domains(self.setting, demand)
        if not domains:
            return self._deal_among(demand, jobs[: self.value(demand.run, demand.name)], units)
        dealt: dict[int, list[Unit]] = {}
        for domain, places in domains.items():
            inside = [unit for unit in units if unit[0] in set(places)]
            count = self.value("run_inside", demand.name, self.setting.label(domain))
            dealt.update(self._deal_among(demand, jobs[:count], inside))
            jobs = jobs[count:]
        return dealt

    def _deal_among(self, demand: Demand, jobs: list[int], units: list[Unit]) -> dict[int, list[Unit]]:
        """Equal numbers of workers for each job; in turn, domain by domain, where a job's workers must spread."""
        if not jobs:
            return {}
        spread = demand.job.spread
        if spread is not None:
            units = sorted(units, key=lambda unit: own_domain_of(self.setting.nodes[unit[0]], spread.level))
            return {job: units[turn :: len(jobs)] for turn, job in enumerate(jobs)}
        share = len(units) // len(jobs)  # a class of several gangs is rigid, so this leaves no remainder
        return {job: units[turn * share : (turn + 1) * share] for turn, job in enumerate(jobs)}

    def _workers(self, units: list[Unit]) -> tuple[WorkerPlace, ...]:
        return tuple(WorkerPlace(node=self.setting.nodes[place].id, gpus=gpus) for place, gpus in sorted(units))


def _spots(workers: tuple[WorkerPlace, ...]) -> Counter[tuple[str, tuple[int, ...]]]:
    return Counter((worker.node, tuple(sorted(worker.gpus))) for worker in workers)
