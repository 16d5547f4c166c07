"""The values of the formulation's columns for a given plan: where a search starts from."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from models.contract import TOLERANCE
from models.placement.formulation_goals import Tasks, allocated, amount_taken, goal_columns, idle_gpus, share_left, spanned
from models.placement.formulation_residents import Stay
from models.placement.formulation_rules import rule_columns
from models.placement.formulation_topology import colocation_domains, presence_levels
from models.placement.schema import GoalName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.placement.formulation_setting import Demand, Host, Setting
    from models.placement.formulation_terms import Handle, Ids, Terms, Values
    from models.placement.schema import Plan, WorkerPlace


class Start:
    """Fills in the columns, the plain ones first; those of the goals follow from the sums that the goals' rows are made of."""

    def __init__(self, setting: Setting, plan: Plan) -> None:
        self.setting = setting
        self.goals = set(setting.problem.ordered_goals())
        declared = [rule_columns(setting, self.goals), goal_columns(setting, self.goals)]
        self.found: Values = {name: dict.fromkeys(family, 0.0) for part in declared for name, family in part.items()}
        # A column is known by where its value is: so the sums of the rules can be evaluated.
        self.columns: Mapping[str, Mapping[Ids, Handle]] = defaultdict(
            dict, {name: {ids: (name, ids) for ids in family} for name, family in self.found.items()}
        )
        position_of = {job.id: position for position, job in enumerate(setting.problem.jobs)}
        self.placed = {position_of[one.job]: one.workers for one in plan.placements}

    def row(self, name: str, ids: Ids, terms: Terms, *, lower: float | None = None, upper: float | None = None) -> None:
        """Rows are of no interest here."""

    def value(self, terms: Terms) -> float:
        """The value of a sum of columns."""
        parts = zip(terms.coefficients, terms.columns, strict=True)
        return terms.constant + sum(coefficient * self.found[name][ids] for coefficient, (name, ids) in parts)

    def values(self) -> Values:
        """Every column's value."""
        staying = self._residents()
        for demand in self.setting.demands:
            jobs = [job for job in demand.jobs if job in self.placed and job not in staying]
            self._demand(demand, jobs)
        self._open_gpus()
        self._use_domains()
        self._use_nodes()
        if GoalName.fragmentation in self.goals:
            tasks = Tasks(self.setting)
            for host in tasks.hosts:
                self._fragmentation(tasks, host)
        return self.found

    def _residents(self) -> set[int]:
        """keep, evict; who stays as it is."""
        staying = set()
        for position, resident in self.setting.residents.items():
            running = resident.job.running
            now = running.workers if running is not None else ()
            stays = position in self.placed and _spots(self.placed[position]) == _spots(now)
            if stays:
                staying.add(position)
            if stays and (resident.name,) in self.columns["keep"]:
                self.found["keep"][(resident.name,)] = 1.0
            if position not in self.placed and resident.stay is not Stay.certain:
                self.found["evict"][(resident.name,)] = 1.0
        return staying

    def _demand(self, demand: Demand, jobs: list[int]) -> None:
        """Values of run or move, run_inside, place and place_share."""
        setting = self.setting
        self.found[demand.run][(demand.name,)] = float(len(jobs))
        workers = [worker for job in jobs for worker in self.placed[job]]
        for worker in workers:
            if demand.shares:
                gpu = self._renamed(setting.hosts[setting.at[worker.node]])[worker.gpus[0]]
                self.found["place_share"][demand.name, worker.node, gpu] += 1.0
            else:
                self.found["place"][demand.name, worker.node] += 1.0
        for domain, places in colocation_domains(setting, demand).items():
            inside = sum(1 for job in jobs if setting.at[self.placed[job][0].node] in places)
            self.found["run_inside"][demand.name, setting.label(domain)] = float(inside)

    def _renamed(self, host: Host) -> dict[int, str]:
        """For each GPU of the node that new workers share, the like one that the model offers in its place."""
        node = host.node.id
        loaded = set()
        for number in host.demands:
            demand = self.setting.demands[number]
            if demand.shares:
                jobs = (job for job in demand.jobs if job in self.placed)
                loaded |= {worker.gpus[0] for job in jobs for worker in self.placed[job] if worker.node == node}
        own = {gpu.index for gpu in host.gpus if not gpu.alike}
        _, holders = self.setting.users(host)
        offered: defaultdict[int | None, list[str]] = defaultdict(list)
        for gpu in host.gpus:
            if gpu.alike:
                offered[gpu.holder].append(gpu.name)
        names = {index: str(index) for index in loaded & own}
        for index in sorted(loaded - own):
            names[index] = offered[holders.get(index)].pop(0)
        return names

    def _open_gpus(self) -> None:
        """open_share: GPUs with a worker that shares them."""
        for host in self.setting.hosts:
            for gpu in host.gpus:
                # While the column is 0, what is left of the GPU is minus what is on it.
                if not gpu.open and self.value(share_left(self, self.setting, host, gpu)) < -TOLERANCE:
                    self.found["open_share"][host.node.id, gpu.name] = 1.0

    def _use_domains(self) -> None:
        """use_domain, extra_domains."""
        setting = self.setting
        for number, levels in presence_levels(setting, self.goals).items():
            demand = setting.demands[number]
            for level in levels:
                for domain, places in setting.domains(demand.room, level).items():
                    if any(self._workers(demand, number, place) for place in places):
                        self.found["use_domain"][demand.name, level.value, setting.label(domain)] = 1.0
        if GoalName.topology_distance in self.goals:
            for demand in setting.demands:
                for level, domains in spanned(setting, demand).items():
                    used = sum(self.found["use_domain"][demand.name, level.value, setting.label(domain)] for domain in domains)
                    self.found["extra_domains"][demand.name, level.value] = max(0.0, used - 1)

    def _workers(self, demand: Demand, number: int, place: int) -> float:
        node = self.setting.nodes[place].id
        if not demand.shares:
            return self.found["place"][demand.name, node]
        return sum(self.found["place_share"][demand.name, node, gpu] for gpu in self.setting.share_gpus[number, place])

    def _use_nodes(self) -> None:
        """power, peak."""
        used = {worker.node for workers in self.placed.values() for worker in workers}
        for (node,) in self.found.get("power", {}):
            self.found["power"][(node,)] = float(node in used)
        if GoalName.balance in self.goals:
            full = (self.value(allocated(self, self.setting, host)) / host.node.gpus for host in self.setting.hosts if host.node.gpus)
            self.found["peak"][()] = max(full, default=0.0)

    def _fragmentation(self, tasks: Tasks, host: Host) -> None:
        """suits, leaves, fits, offers: what each task class could use of one node."""
        node, setting = host.node.id, self.setting
        idle = self.value(idle_gpus(self, setting, host))
        cpu = host.cpu_left - self.value(amount_taken(self, setting, host, "cpu_cores"))
        memory = host.memory_left - self.value(amount_taken(self, setting, host, "memory_gib"))
        left = {gpu.name: self.value(share_left(self, setting, host, gpu)) for gpu in host.gpus}
        for number in tasks.on(host):
            task, ids = tasks.classes[number], (node, tasks.names[number])
            size = task.gpus_per_worker
            suited, usable = idle, idle
            for gpu, share in left.items() if size < 1 else ():
                place = (node, gpu, tasks.sizes[size])
                if share >= size - TOLERANCE and place in self.found["suits"]:
                    self.found["suits"][place] = 1.0
                    self.found["leaves"][place] = share
                    suited, usable = suited + 1, usable + share
            if suited >= max(size, 1.0) and task.cpu_cores <= cpu + TOLERANCE and task.memory_gib <= memory + TOLERANCE:
                self.found["fits"][ids] = 1.0
                self.found["offers"][ids] = usable


def _spots(workers: tuple[WorkerPlace, ...]) -> Counter[tuple[str, tuple[int, ...]]]:
    return Counter((worker.node, tuple(sorted(worker.gpus))) for worker in workers)
