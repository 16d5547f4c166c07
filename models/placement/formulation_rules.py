"""The rules of a plan as columns and rows. The page gives each formula; names are those of ``Rule`` and of the page."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from models.contract import TOLERANCE
from models.placement.formulation_residents import Resident, Stay
from models.placement.formulation_sums import all_workers, kept, opened, runs, shared, whole_gpus, workers_on
from models.placement.formulation_terms import Column, Columns, Rows, Terms
from models.placement.formulation_topology import topology_columns, write_topology
from models.placement.schema import GoalName, Rule, Use

if TYPE_CHECKING:
    from models.placement.formulation_setting import Demand, Gpu, Host, Setting

# ---------------------------------------------------------------- columns


def rule_columns(setting: Setting, goals: set[GoalName]) -> Columns:
    """The columns that the rules need; the goals add some about domains and power."""
    found: Columns = defaultdict(dict, topology_columns(setting, goals))
    for number, demand in enumerate(setting.demands):
        found[demand.run][(demand.name,)] = Column(demand.count)
        for place, most in demand.room.items():
            node = setting.nodes[place].id
            if demand.shares:
                for gpu, workers in setting.share_gpus[number, place].items():
                    found["place_share"][demand.name, node, gpu] = Column(workers)
            else:
                found["place"][demand.name, node] = Column(most)
    for host in setting.hosts:
        found["open_share"].update({(host.node.id, gpu.name): Column(1) for gpu in host.gpus if not gpu.open})
    for resident in setting.mobile:
        if resident.stay is not Stay.evict:
            found["keep"][(resident.name,)] = Column(1)
        if resident.stay is not Stay.must:
            found["evict"][(resident.name,)] = Column(1)
    if setting.problem.power_cap_kw is not None or GoalName.nodes_powered in goals:
        for host in setting.hosts:
            if not host.occupied and (host.demands or host.residents):
                found["power"][(host.node.id,)] = Column(1)
    return found


# ---------------------------------------------------------------- nodes and GPUs


def write_rules(rows: Rows, setting: Setting, goals: set[GoalName]) -> None:
    """All rows but those of the goals."""
    for host in setting.hosts:
        if host.demands:
            _node_amounts(rows, setting, host)
        if host.demands or host.gpus:
            _node_gpus(rows, setting, host)
        for gpu in host.gpus:
            _gpu(rows, setting, host, gpu)
    for number in range(len(setting.demands)):
        _gang(rows, setting, number)
    write_topology(rows, setting, goals)
    _tenant_quota(rows, setting)
    _running(rows, setting)
    _power(rows, setting)
    if setting.problem.use is Use.preempt:
        _named(rows, setting)


def _node_amounts(rows: Rows, setting: Setting, host: Host) -> None:
    """node_cpu, node_memory: sum of what each worker takes <= what the node has."""
    for rule, field, left in ((Rule.node_cpu, "cpu_cores", host.cpu_left), (Rule.node_memory, "memory_gib", host.memory_left)):
        terms = Terms()
        for number in host.demands:
            terms.plus(workers_on(rows, setting, number, host.position), getattr(setting.demands[number].job, field))
        if not terms.columns:
            continue
        for position in host.residents:
            resident = setting.residents[position]
            terms.plus(kept(rows, resident), getattr(resident.job, field) * resident.here[host.position])
        rows.row(rule, (host.node.id,), terms, upper=left)


def _node_gpus(rows: Rows, setting: Setting, host: Host) -> None:
    """node_gpus: GPUs used whole + GPUs open for sharing <= GPUs of the node."""
    closed = [gpu for gpu in host.gpus if not gpu.open]  # the others are off gpus_left, or nobody wants a GPU whole
    if not closed and not any(setting.demands[number].job.gpus_per_worker >= 1 for number in host.demands):
        return
    terms = whole_gpus(rows, setting, host)
    for gpu in closed:
        terms.plus(opened(rows, host, gpu))
    rows.row(Rule.node_gpus, (host.node.id,), terms, upper=host.gpus_left)


def _gpu(rows: Rows, setting: Setting, host: Host, gpu: Gpu) -> None:
    """gpu_share, gpu_memory: what is on one GPU."""
    ids = (host.node.id, gpu.name)
    load = shared(rows, setting, host, gpu)
    if not gpu.open:
        rows.row(Rule.gpu_share, ids, load.plus(opened(rows, host, gpu), -1.0), upper=0.0)
        _open_gpu(rows, setting, host, gpu)
    elif load.columns:
        if gpu.holder is not None:
            load.plus(kept(rows, setting.residents[gpu.holder]))
        rows.row(Rule.gpu_share, ids, load, upper=gpu.share_left)
    for number in host.demands:
        demand = setting.demands[number]
        most = setting.share_gpus.get((number, host.position), {}).get(gpu.name, 0)
        if not most or most * demand.job.gpus_per_worker > 1 - TOLERANCE:
            continue  # gpu_share says as much
        share = Terms().add(1.0, rows.columns["place_share"][demand.name, *ids])
        if not gpu.open:
            rows.row("open_for", (demand.name, *ids), share.plus(opened(rows, host, gpu), -most), upper=0.0)
        elif gpu.holder is not None:
            rows.row("open_for", (demand.name, *ids), share.plus(kept(rows, setting.residents[gpu.holder]), most), upper=most)
    if gpu.memory_left_gib is not None:
        memory = shared(rows, setting, host, gpu, memory=True)
        if memory.columns:
            rows.row(Rule.gpu_memory, ids, memory, upper=gpu.memory_left_gib)


def _open_gpu(rows: Rows, setting: Setting, host: Host, gpu: Gpu) -> None:
    """gpu_whole_or_shared, gpu_opened, gpu_order: when a GPU may be, must be and should be open."""
    ids = (host.node.id, gpu.name)
    if gpu.holder is not None:
        either = opened(rows, host, gpu).plus(kept(rows, setting.residents[gpu.holder]))
        rows.row("gpu_whole_or_shared", ids, either, upper=1.0)
    for position in gpu.sharers:
        resident = setting.residents[position]
        rows.row("gpu_opened", (*ids, resident.name), kept(rows, resident).plus(opened(rows, host, gpu), -1.0), upper=0.0)
    if gpu.after is not None:
        before = rows.columns["open_share"][host.node.id, gpu.after]
        rows.row("gpu_order", ids, opened(rows, host, gpu).add(-1.0, before), upper=0.0)


# ---------------------------------------------------------------- the job


def _gang(rows: Rows, setting: Setting, number: int) -> None:
    """gang: workers = workers of a gang x gangs that run; an elastic one between its two limits."""
    demand = setting.demands[number]
    workers, ids = all_workers(rows, setting, number), (demand.name,)
    rigid = demand.fewest == demand.job.workers
    terms = Terms().plus(workers).plus(runs(rows, demand), -demand.fewest)
    rows.row(Rule.gang, ids, terms, lower=0.0, upper=0.0 if rigid else None)
    if not rigid:
        rows.row("gang_most", ids, workers.plus(runs(rows, demand), -demand.job.workers), upper=0.0)
    for place, rule in demand.returning.items():
        if place in demand.room:
            here = setting.nodes[place].id
            rows.row(rule, (demand.name, here), workers_on(rows, setting, number, place), upper=demand.room[place])
    for rule, places in demand.refused.items():
        rows.row(rule, ids, all_workers(rows, setting, number, list(places)), upper=0.0)


# ---------------------------------------------------------------- the whole


def _tenant_quota(rows: Rows, setting: Setting) -> None:
    """tenant_quota: GPUs that the tenant's jobs hold <= its quota."""
    used: defaultdict[str, Terms] = defaultdict(Terms)
    limited = {tenant.id: tenant.quota_gpus for tenant in setting.problem.tenants if tenant.quota_gpus is not None}
    for number, demand in enumerate(setting.demands):
        if demand.job.tenant in limited:
            used[demand.job.tenant].plus(all_workers(rows, setting, number), demand.job.gpus_per_worker)
    for resident in setting.residents.values():
        used[resident.job.tenant].plus(kept(rows, resident), resident.gpus)
    for tenant, quota in limited.items():
        if used[tenant].columns:
            rows.row(Rule.tenant_quota, (tenant,), used[tenant], upper=quota)


def _running(rows: Rows, setting: Setting) -> None:
    """running_stays, evictable, the budgets, and the rules that a running job breaks where it is."""
    evicted, moved = Terms(), Terms()
    problem = setting.problem
    for resident in setting.mobile:
        ids = (resident.name,)
        states = Terms()
        if resident.stay is not Stay.must:
            states.add(1.0, rows.columns["evict"][ids])
            evicted.add(1.0, rows.columns["evict"][ids])
            if not resident.evictable:
                rows.row(Rule.evictable, ids, Terms().add(1.0, rows.columns["evict"][ids]), upper=0.0)
        if resident.stay is Stay.move:
            states.add(1.0, rows.columns["move"][ids])
            moved.add(1.0, rows.columns["move"][ids])
        if resident.stay is not Stay.evict:  # there the column that keeps a job is 1 - evict
            rows.row(Rule.running_stays, ids, states.plus(kept(rows, resident)), lower=1.0, upper=1.0)
        for rule, broken in resident.breaks:
            rows.row(rule, broken, kept(rows, resident), upper=0.0)
    if moved.columns and problem.max_moves is not None:
        rows.row(Rule.move_budget, (), moved, upper=problem.max_moves)
    budget = problem.max_evictions if problem.use is Use.preempt else problem.max_evictions or 0
    if evicted.columns and budget is not None:
        rows.row(Rule.eviction_budget, (), evicted, upper=budget)


def _power(rows: Rows, setting: Setting) -> None:
    """power_cap: power of the nodes in use <= the cap; node_powered: a node with a worker is in use."""
    drawn = Terms()
    powers = rows.columns["power"]
    for host in setting.hosts:
        power = powers.get((host.node.id,))
        if power is None:
            drawn.constant += host.node.power_kw if host.occupied else 0.0
            continue
        drawn.add(host.node.power_kw, power)
        used: dict[str, tuple[int, Terms]] = {}
        for number in host.demands:
            demand = setting.demands[number]
            used[demand.name] = demand.room[host.position], workers_on(rows, setting, number, host.position)
        for position in host.residents:
            resident = setting.residents[position]
            most, terms = used.get(resident.name, (1, Terms()))
            # A running job that stays has no worker elsewhere: one row covers both.
            used[resident.name] = most, terms.plus(kept(rows, resident), most)
        for name, (most, terms) in used.items():
            rows.row("node_powered", (host.node.id, name), terms.add(-most, power), upper=0.0)
    if setting.problem.power_cap_kw is not None and (drawn.columns or drawn.constant):
        rows.row(Rule.power_cap, (), drawn, upper=setting.problem.power_cap_kw)


def _named(rows: Rows, setting: Setting) -> None:
    """must_place: the job that a preemption is for runs; room_left: what a node can take of it while another job stays."""
    demand = setting.demands[0]
    rows.row(Rule.must_place, (demand.name,), runs(rows, demand), lower=1.0)
    if demand.shares:
        return
    for place, most in demand.room.items():
        host = setting.hosts[place]
        for position in host.residents:
            resident = setting.residents[position]
            left = min(most, _beside(setting, demand, host, resident))
            if left < most:
                terms = workers_on(rows, setting, 0, place).plus(kept(rows, resident), most - left)
                rows.row("room_left", (host.node.id, resident.name), terms, upper=most)


def _beside(setting: Setting, demand: Demand, host: Host, resident: Resident) -> int:
    """How many workers the node could take while this one resident stays on it."""
    place, workers = host.position, resident.here[host.position]
    gpus = len(resident.whole.get(place, ())) + sum(1 for at, _ in resident.shares if at == place)
    without = replace(
        host,
        cpu_left=max(0.0, host.cpu_left - workers * resident.job.cpu_cores),
        memory_left=max(0.0, host.memory_left - workers * resident.job.memory_gib),
        gpus_left=host.gpus_left - gpus,
    )
    return setting.capacity(without, demand.job, demand.room[place])
