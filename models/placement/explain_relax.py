"""What would place a waiting job: for each rule the smallest change of that rule alone (and a full quota) that makes room for it.

Every change offered is checked: with it the job has seats. That no smaller change of the same rule exists holds for a job of one
worker; for a gang the change is a cheapest way to add the missing workers where the other rules leave room.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Reason
from models.placement.explain_rest import MANY, gpu_rule, workers_by_share
from models.placement.explain_room import Room, by_domain, most, seats
from models.placement.explain_words import MOST_IDS, amount, at_least, listed, many
from models.placement.schema import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.program import Floats, Ints


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one rule. ``ids`` are whom it is about, ``amounts`` how much for each of them (empty: the rule is dropped).

    Amounts are in the rule's unit; those of ``spread`` and ``gang`` are the new limit and the new number of workers.
    ``model`` is the GPU model to accept; ``quota`` is by how many GPUs the tenant's quota must rise as well.
    """

    rule: Rule
    ids: tuple[str, ...]
    amounts: tuple[float, ...]
    text: str
    model: str = ""
    quota: float = 0.0


def would_place(room: Room, *, at_most: int) -> list[Reason]:
    """One reason for each change of a single rule that places the job; one that says so when there is none."""
    found = changes(room)
    told = [Reason(room.job.id, "would_place", one.rule.value, one.ids[:MOST_IDS], one.text, "heuristic") for one in found[:at_most]]
    if told:
        return told
    text = "No change of one rule alone would place it, as far as the changes tried tell."
    return [Reason(room.job.id, "would_place", Rule.gang.value, (room.job.id,), text, "heuristic")]


def changes(room: Room) -> list[Change]:
    """All the changes found, more of a resource first, a wish dropped last."""
    if room.total >= room.fewest:
        if room.fits is None:
            return list(_quota(room)) if room.quota_workers < room.fewest else list(_power(room))
        return []
    steps = (_gpus, _gpu_memory, _cpu_or_memory, _power, _apart, _spread, _together, _closed, _wishes)
    found = [change for step in steps for change in step(room)]
    if room.quota_workers < room.fewest:
        more = _quota_missing(room)
        also = f" together with {at_least(more)} GPUs more quota for tenant {room.job.tenant}."
        found = [replace(change, quota=more, text=change.text.removesuffix(".") + also) for change in found]
    return [*found, *_fewer_workers(room)]


def _quota_missing(room: Room) -> float:
    return room.job.gpus_per_worker * room.fewest - room.rest.quota_left(room.job.tenant)


# ---------------------------------------------------------------- more of a resource on some nodes


@dataclass(frozen=True, slots=True)
class _Growth:
    """Adding workers by adding to one resource: the room with as much of it as wanted, and what the next workers cost on each node.

    ``first`` is the cost of the first worker more on a node, ``later`` of each further one.
    """

    without: Ints
    first: Floats
    later: Floats


def _grown(room: Room, growth: _Growth) -> dict[int, float] | None:
    """The least of the resource to add, by node, so that the job has seats; None when no such addition is enough."""
    job, rest = room.job, room.rest
    if most(rest, job, growth.without) < room.fewest:
        return None
    have, domains = by_domain(rest, job, room.on_node)
    missing = np.maximum(room.fewest - have, 0)
    extra = np.minimum(growth.without - room.on_node, missing[domains])
    if job.spread is not None:
        extra = np.minimum(extra, job.spread.max_workers)
    nodes = np.repeat(np.arange(len(extra)), extra)
    starts = np.repeat(np.cumsum(extra) - extra, extra)
    is_first = np.arange(len(nodes)) == starts
    cost = np.where(is_first, growth.first[nodes], growth.later[nodes])
    order = np.lexsort((cost, domains[nodes]))
    nodes, cost = nodes[order], cost[order]
    domain = domains[nodes]
    begins = np.searchsorted(domain, np.arange(len(have)))
    chosen = np.arange(len(nodes)) - begins[domain] < missing[domain]
    # A domain with too few workers to add is no choice.
    count = np.bincount(domain[chosen], minlength=len(have))
    total = np.where(count >= missing, np.bincount(domain[chosen], weights=cost[chosen], minlength=len(have)), np.inf)
    if not np.isfinite(total).any():
        return None
    best = int(np.argmin(total))
    picked = chosen & (domain == best)
    added = Counter(nodes[picked].tolist())
    wider = room.on_node.copy()
    for node, workers in added.items():
        wider[node] += workers
    if seats(rest, job, wider, room.fewest) is None:
        return None
    return {node: float(growth.first[node] + (workers - 1) * growth.later[node]) for node, workers in added.items()}


def _whole_gpus(added: dict[int, float]) -> dict[int, float]:
    return {node: float(np.ceil(gpus - TOLERANCE)) for node, gpus in added.items()}


def _addition(room: Room, rule: Rule, growth: _Growth, what: str) -> Iterator[Change]:
    added = _grown(room, growth)
    if not added:
        return
    if rule in (Rule.node_gpus, Rule.gpu_share):
        added = _whole_gpus(added)
    nodes = room.rest.layout.problem.nodes
    names, amounts = tuple(nodes[node].id for node in added), tuple(added.values())
    if len(names) == 1:
        more = at_least(amounts[0])
        text = f"{more} more {what.removesuffix('s') if more == '1' else what} on node {names[0]} would place it."
    else:
        text = f"{at_least(sum(amounts))} more {what} would place it, spread over nodes {listed(names)} where its missing workers would go."
    yield Change(rule, names, amounts, text)


def _cpu_or_memory(room: Room) -> Iterator[Change]:
    job, rest = room.job, room.rest
    resources = (
        (Rule.node_cpu, rest.cpu, job.cpu_cores, "free CPU cores"),
        (Rule.node_memory, rest.memory, job.memory_gib, "GiB of free memory"),
    )
    for rule, free, need, what in resources:
        if rule in room.by_rule:
            first = np.maximum((room.by_rule[rule] + 1) * need - free, 0.0)
            yield from _addition(room, rule, _Growth(room.on_node_without([rule]), first, np.full(len(free), need)), what)


def _gpus(room: Room) -> Iterator[Change]:
    """More GPUs of the node's own kind; none on nodes without GPUs, whose kind nobody knows."""
    job, rest = room.job, room.rest
    rule, size = gpu_rule(job), job.gpus_per_worker
    if rule not in room.by_rule:
        return
    without = np.where(rest.layout.gpus > 0, room.on_node_without([rule]), room.on_node)
    without = np.where(rest.layout.gpu_limit + TOLERANCE >= job.gpu_memory_gib, without, room.on_node)
    if size >= 1:
        first = (room.by_rule[rule] + 1) * size - rest.untouched.sum(axis=1)
        growth = _Growth(without, np.maximum(first, 0.0), np.full(len(first), size))
    else:
        per_gpu = np.floor((1.0 + TOLERANCE) / size) if size else 1.0
        by_memory = np.floor((rest.layout.gpu_limit + TOLERANCE) / job.gpu_memory_gib) if job.gpu_memory_gib else np.inf
        each = 1.0 / np.clip(np.minimum(np.full(len(without), per_gpu), by_memory), 1.0, None)
        growth = _Growth(without, each, each)
    yield from _addition(room, rule, growth, "free GPUs")


def _gpu_memory(room: Room) -> Iterator[Change]:
    """GPUs of more memory, where that is all that one worker, or the whole gang on nodes without other load, lacks."""
    job, rest = room.job, room.rest
    if not job.gpu_memory_gib or not job.gpus_per_worker:
        return
    short = np.where(np.isinf(rest.layout.gpu_limit), 0.0, job.gpu_memory_gib - rest.layout.gpu_limit)
    if job.gpus_per_worker >= 1:
        without = room.on_node_without([Rule.gpu_memory])
    else:
        wide = workers_by_share(rest, job.gpus_per_worker, 0.0)
        now = workers_by_share(rest, job.gpus_per_worker, job.gpu_memory_gib)
        lacking = np.where(now < wide, (now + 1) * job.gpu_memory_gib - rest.gpu_memory, np.inf)
        # To add memory for one worker on the GPU that lacks least is enough for one worker more on the node.
        short = lacking.min(axis=1, initial=np.inf)
        without = np.minimum(room.on_node_without([Rule.gpu_share]), room.on_node + np.isfinite(short))
    growth = _Growth(without, np.maximum(short, 0.0), np.zeros(len(short)))
    added = _grown(room, growth)
    if added:
        names = tuple(room.rest.layout.problem.nodes[node].id for node in added)
        more = at_least(max(added.values()))
        text = f"{more} GiB more memory on each GPU of {'node' if len(names) == 1 else 'nodes'} {listed(names)} would place it."
        yield Change(Rule.gpu_memory, names, tuple(added.values()), text)


# ---------------------------------------------------------------- limits of the whole


def _quota(room: Room) -> Iterator[Change]:
    """A larger quota, when only that is missing."""
    job = room.job
    if seats(room.rest, job, room.on_node, room.fewest) is None:
        return
    more = _quota_missing(room)
    text = f"Raising tenant {job.tenant}'s quota by {at_least(more)} GPUs would place it."
    yield Change(Rule.tenant_quota, (job.tenant,), (more,), text)
    yield from _fewer_workers(room)


def _power(room: Room) -> Iterator[Change]:
    """A higher power cap: enough for the idle nodes that a way to seat the job starts."""
    left = room.rest.power_left
    if left == np.inf:
        return
    wide = room.on_node_without([Rule.power_cap])
    power = np.where(room.rest.workers > 0, 0.0, room.rest.layout.power)
    draws = []
    # The power of one idle node is the smallest rise for one worker; all of it together shows whether any rise helps a gang.
    for extra in (*np.unique(power).tolist(), float(power.sum())):
        found = seats(room.rest, room.job, wide, room.fewest, power_left=max(extra, left))
        if found is not None:
            draws.append(sum(float(power[node]) for node in found))
    if draws and min(draws) > left:
        more = min(draws) - left
        yield Change(Rule.power_cap, (), (more,), f"Raising the power cap by {at_least(more)} kW would place it.")


def _fewer_workers(room: Room) -> Iterator[Change]:
    """Fewer workers, for a gang that finds room and quota for some of them."""
    count = min(room.total, room.quota_workers, room.fewest - 1)
    while count >= 1 and seats(room.rest, room.job, room.on_node, count) is None:
        count -= 1  # only a power cap makes this step back
    if count >= 1:
        text = f"With {many(count, 'worker')} instead of {amount(room.fewest)} it would fit."
        yield Change(Rule.gang, (room.job.id,), (float(count),), text)


# ---------------------------------------------------------------- a rule given up


def _apart(room: Room) -> Iterator[Change]:
    """Sharing a domain with jobs that it is kept away from."""
    if Rule.anti_affinity not in room.by_rule:
        return
    layout = room.rest.layout
    found = seats(room.rest, room.job, room.on_node_without([Rule.anti_affinity]), room.fewest)
    if found is None:
        return
    met = []
    for foe, level in layout.foes[room.place]:
        domains, _ = layout.domains(level)
        if np.isin(domains[list(found)], domains[room.rest.nodes_of(foe)]).any():
            met.append((layout.problem.jobs[foe].id, level))
    names = tuple(dict.fromkeys(name for name, _ in met))
    levels = listed(list(dict.fromkeys(str(level) for _, level in met)))
    yield Change(Rule.anti_affinity, names, (), f"Letting it share a {levels} with {listed(names)} would place it.")


def _spread(room: Room) -> Iterator[Change]:
    """A higher limit of workers in one domain."""
    job = room.job
    if job.spread is None or most(room.rest, job, room.on_node, apart=False) < room.fewest:
        return
    for limit in range(job.spread.max_workers + 1, job.workers + 1):
        wider = job.model_copy(update={"spread": job.spread.model_copy(update={"max_workers": limit})})
        if seats(room.rest, wider, room.on_node, room.fewest) is not None:
            text = f"Allowing {limit} instead of {job.spread.max_workers} of its workers in one {job.spread.level} would place it."
            yield Change(Rule.spread, (job.id,), (float(limit),), text)
            return


def _together(room: Room) -> Iterator[Change]:
    """No colocation."""
    job = room.job
    if job.colocate is None or not job.colocate.required:
        return
    wide = room.on_node_without([Rule.colocation])
    if seats(room.rest, job, wide, room.fewest, together=False) is not None:
        text = f"Letting its workers be in more than one {job.colocate.level} would place it."
        yield Change(Rule.colocation, (job.id,), (), text)


def _closed(room: Room) -> Iterator[Change]:
    """Nodes back in service, or their reservations lifted; as few as a simple choice finds."""
    nodes = room.rest.layout.problem.nodes
    for rule in (Rule.drained, Rule.reserved):
        if rule not in room.by_rule:
            continue
        names = tuple(nodes[node].id for node in _fewest_open(room, rule))
        if not names:
            continue
        word = "node" if len(names) == 1 else "nodes"
        lifted = (
            f"Taking {word} {listed(names)} back into service"
            if rule is Rule.drained
            else f"Opening the reserved {word} {listed(names)} to it"
        )
        yield Change(rule, names, (), f"{lifted} would place it.")


def _fewest_open(room: Room, rule: Rule) -> list[int]:
    """Nodes closed by ``rule`` that are enough to open for the job, none of them needless; none when all together are not."""
    wide = room.on_node_without([rule])
    found = seats(room.rest, room.job, wide, room.fewest)
    if found is None:
        return []
    opened = [node for node in found if room.by_rule[rule][node] < MANY]
    for node in tuple(opened):
        fewer = [other for other in opened if other != node]
        closed = room.by_rule[rule] < MANY
        closed[fewer] = False
        if fewer and seats(room.rest, room.job, np.where(closed, 0, wide), room.fewest) is not None:
            opened = fewer
    return opened


def _wishes(room: Room) -> Iterator[Change]:
    """Another model accepted, or the node selector dropped."""
    job, nodes = room.job, room.rest.layout.problem.nodes
    if Rule.accepted_model in room.by_rule:
        wide = room.on_node_without([Rule.accepted_model])
        layout, accepted = room.rest.layout, room.by_rule[Rule.accepted_model] > 0
        for number in np.unique(layout.model_of[(wide > room.on_node) & (layout.model_of >= 0)]).tolist():
            model = layout.models[number]
            if seats(room.rest, job, np.where(accepted | (layout.model_of == number), wide, 0), room.fewest) is not None:
                yield Change(Rule.accepted_model, (job.id,), (), f"Accepting the GPU model {model} as well would place it.", model)
                break
    if Rule.node_selector in room.by_rule:
        found = seats(room.rest, job, room.on_node_without([Rule.node_selector]), room.fewest)
        if found is not None:
            names = tuple(nodes[node].id for node in found)
            yield Change(Rule.node_selector, names, (), f"Dropping its node selector would place it, for example on {listed(names)}.")
