"""The sums that rules and goals are made of: how many workers where, who stays, what is on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.placement.formulation_residents import Resident, Stay
from models.placement.formulation_terms import Rows, Terms

if TYPE_CHECKING:
    from models.placement.formulation_setting import Demand, Gpu, Host, Setting


def workers_on(rows: Rows, setting: Setting, number: int, place: int) -> Terms:
    """How many workers of a demand are on a node."""
    demand, node = setting.demands[number], setting.nodes[place].id
    terms = Terms()
    if demand.shares:
        for gpu in setting.share_gpus[number, place]:
            terms.add(1.0, rows.columns["place_share"][demand.name, node, gpu])
    else:
        terms.add(1.0, rows.columns["place"][demand.name, node])
    return terms


def all_workers(rows: Rows, setting: Setting, number: int, places: list[int] | None = None) -> Terms:
    """How many workers of a demand are on the given nodes, on all of its nodes by default."""
    terms = Terms()
    for place in setting.demands[number].room if places is None else places:
        terms.plus(workers_on(rows, setting, number, place))
    return terms


def kept(rows: Rows, resident: Resident) -> Terms:
    """1 when a running job stays exactly as it is, else 0."""
    if resident.stay is Stay.certain:
        return Terms(1.0)
    if resident.stay is Stay.evict:
        return Terms(1.0).add(-1.0, rows.columns["evict"][(resident.name,)])
    return Terms().add(1.0, rows.columns["keep"][(resident.name,)])


def runs(rows: Rows, demand: Demand) -> Terms:
    """How many jobs of a demand run (a running job: whether it moves)."""
    return Terms().add(1.0, rows.columns[demand.run][(demand.name,)])


def opened(rows: Rows, host: Host, gpu: Gpu) -> Terms:
    """1 when a GPU is open for sharing, else 0."""
    return Terms(1.0) if gpu.open else Terms().add(1.0, rows.columns["open_share"][host.node.id, gpu.name])


def shared(rows: Rows, setting: Setting, host: Host, gpu: Gpu, *, memory: bool = False) -> Terms:
    """What columns put on one GPU: shares of it, or GiB of its memory."""
    terms = Terms()
    for number in host.demands:
        demand = setting.demands[number]
        if demand.shares and gpu.name in setting.share_gpus[number, host.position]:
            amount = demand.job.gpu_memory_gib if memory else demand.job.gpus_per_worker
            terms.add(amount, rows.columns["place_share"][demand.name, host.node.id, gpu.name])
    for position in gpu.sharers:
        resident = setting.residents[position]
        amount = resident.job.gpu_memory_gib if memory else resident.job.gpus_per_worker
        terms.plus(kept(rows, resident), amount * resident.shares[host.position, gpu.index])
    return terms


def whole_gpus(rows: Rows, setting: Setting, host: Host) -> Terms:
    """GPUs of the node that are used whole, but for those that certainly are."""
    terms = Terms()
    for number in host.demands:
        if not setting.demands[number].shares:
            terms.plus(workers_on(rows, setting, number, host.position), setting.demands[number].job.gpus_per_worker)
    for position in host.residents:
        resident = setting.residents[position]
        terms.plus(kept(rows, resident), len(resident.whole.get(host.position, ())))
    return terms
