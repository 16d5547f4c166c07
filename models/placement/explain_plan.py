"""A placement plan as a whole: how much of the cluster it uses, which limits it meets, and why running jobs moved or left."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Reason
from models.placement.classes import refusals
from models.placement.explain_words import MOST_IDS, amount, listed, many
from models.placement.schema import GoalName, Rule, Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from models.placement.explain_rest import Rest
    from models.placement.schema import Job, Plan, Problem
    from models.program import Floats

MOST_TOLD = 100  # moved or evicted jobs, or tenants, that are told one by one


def summary(rest: Rest, plan: Plan) -> Reason:
    """How many jobs and GPUs the plan places."""
    problem = rest.layout.problem
    ready = np.array([node.state != "drained" for node in problem.nodes], dtype=np.bool_)
    capacity = float(rest.layout.gpus[ready].sum())
    used = sum(rest.held.values())
    share = f" ({100 * used / capacity:.1f}%)" if capacity else ""
    text = f"The plan places {amount(len(plan.placements))} of {many(len(problem.jobs), 'job')}"
    text += f" on {amount(round(used, 6))} of {amount(capacity)} GPUs{share}"
    for word, jobs in (("moved", plan.moved), ("evicted", plan.evicted)):
        text += f", {many(len(jobs), 'running job')} {word}" if jobs else ""
    return Reason("", "summary", GoalName.allocated_gpus.value, (), text + ".", "proved")


def binding(rest: Rest, plan: Plan, waiting: Sequence[int]) -> Iterator[Reason]:
    """The limits that the plan meets: idle GPUs nobody can reach, quotas, budgets, the power cap, closed nodes."""
    yield from _idle(rest, waiting)
    yield from _closed(rest)
    yield from _quotas(rest, waiting)
    yield from _power(rest)
    yield from _budgets(rest.layout.problem, plan)


def _binding(rule: Rule, ids: Iterable[str], text: str) -> Reason:
    return Reason("", "binding", rule.value, tuple(ids)[:MOST_IDS], text, "proved")


def _idle(rest: Rest, waiting: Sequence[int]) -> Iterator[Reason]:
    """Idle GPUs on nodes that are ready, and how many of them are out of reach of every waiting worker, and why."""
    layout, nodes = rest.layout, rest.layout.problem.nodes
    free: Floats = np.where(layout.exists, np.maximum(rest.share, 0.0), 0.0)
    free[[node.state != "ready" for node in nodes]] = 0.0
    idle = free.sum(axis=1)
    total = float(idle.sum())
    if total <= TOLERANCE:
        yield _binding(Rule.node_gpus, (), "Every GPU of the nodes that are ready is used.")
        return
    sizes = layout.job_sizes[[place for place in waiting if layout.job_sizes[place, 2] > 0]]
    told = f"{amount(round(total, 3))} GPUs are idle"
    if not len(sizes):
        yield _binding(Rule.node_gpus, _most(rest, idle), f"{told}, and no job that wants GPUs waits.")
        return
    small, where_small = _too_small(free, float(sizes[:, 2].min()))
    stranded = (
        (Rule.node_cpu, "nodes with fewer free CPU cores than any waiting worker needs", _below(rest.cpu, sizes[:, 0], idle)),
        (Rule.node_memory, "nodes with less free memory than any waiting worker needs", _below(rest.memory, sizes[:, 1], idle)),
        (Rule.gpu_share, where_small, small),
    )
    lost = [(rule, where, by_node) for rule, where, by_node in stranded if by_node.sum() > TOLERANCE]
    if not lost:
        yield _binding(
            Rule.node_gpus,
            _most(rest, idle),
            f"{told}; cores, memory and the size of what is free leave each of them in reach of some job.",
        )
    for rule, where, by_node in lost:
        yield _binding(rule, _most(rest, by_node), f"{told}: {amount(round(float(by_node.sum()), 3))} of them on {where}.")


def _too_small(free: Floats, least: float) -> tuple[Floats, str]:
    """By node what is free in pieces too small for a worker of ``least`` GPUs, and where that is in words."""
    if least < 1:
        pieces = np.where(free < least - TOLERANCE, free, 0.0)
        return pieces.sum(axis=1), "GPUs of which less is free than any waiting worker needs"
    whole = free > 1 - TOLERANCE
    enough = whole.sum(axis=1) >= least - TOLERANCE
    pieces = np.where(whole & enough[:, None], 0.0, free)
    return pieces.sum(axis=1), "GPUs that are shared, or on nodes with fewer whole GPUs free than any waiting worker needs"


def _below(free: Floats, needs: Floats, idle: Floats) -> Floats:
    """The idle GPUs of nodes that have less free than the least that anyone needs."""
    return np.where(free + TOLERANCE < needs.min(), idle, 0.0)


def _most(rest: Rest, by_node: Floats) -> list[str]:
    """The nodes with the most of it."""
    order = np.argsort(-by_node, kind="stable")[:MOST_IDS]
    return [rest.layout.problem.nodes[node].id for node in order.tolist() if by_node[node] > 0]


def _closed(rest: Rest) -> Iterator[Reason]:
    for rule, state in ((Rule.drained, "drained"), (Rule.drained, "cordoned")):
        nodes = [node for node in rest.layout.problem.nodes if node.state == state]
        if nodes:
            gpus = sum(node.gpus for node in nodes)
            yield _binding(
                rule, [node.id for node in nodes], f"{many(len(nodes), 'node')} with {many(gpus, 'GPU')} {_are(len(nodes))} {state}."
            )
    kept = [node for node in rest.layout.problem.nodes if node.reserved_for is not None]
    if kept:
        gpus, tenants = sum(node.gpus for node in kept), sorted({node.reserved_for or "" for node in kept})
        text = f"{many(len(kept), 'node')} with {many(gpus, 'GPU')} {_are(len(kept))} reserved for {listed(tenants)}."
        yield _binding(Rule.reserved, [node.id for node in kept], text)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _quotas(rest: Rest, waiting: Sequence[int]) -> Iterator[Reason]:
    """Tenants whose quota leaves too little for any of their waiting jobs."""
    jobs = rest.layout.problem.jobs
    needs: defaultdict[str, list[float]] = defaultdict(list)
    for place in waiting:
        job = jobs[place]
        if job.gpus_per_worker > 0:
            needs[job.tenant].append(job.gpus_per_worker * (job.workers_min or job.workers))
    at_limit = []
    for tenant, quota in rest.layout.quota.items():
        left = rest.quota_left(tenant)
        if needs[tenant] and left + TOLERANCE < min(needs[tenant]):
            at_limit.append((tenant, quota, left))
    for tenant, quota, left in at_limit[:MOST_TOLD]:
        count = len(needs[tenant])
        who = "its one waiting job needs" if count == 1 else f"the least of its {amount(count)} waiting jobs needs"
        text = f"Tenant {tenant} holds {amount(round(quota - left, 6))} of its {amount(quota)} quota GPUs"
        text += f", and {who} {amount(min(needs[tenant]))} more."
        yield _binding(Rule.tenant_quota, (tenant,), text)


def _power(rest: Rest) -> Iterator[Reason]:
    cap, left = rest.layout.problem.power_cap_kw, rest.power_left
    idle = (rest.workers == 0) & (rest.layout.power > left + TOLERANCE)
    if cap is not None and idle.any():
        drawn = f"The nodes in use draw {amount(round(cap - left, 6))} of {amount(cap)} kW"
        text = f"{drawn}, which leaves too little to start {many(int(idle.sum()), 'idle node')}."
        yield _binding(Rule.power_cap, _most(rest, np.where(idle, rest.layout.power, 0.0)), text)


def _budgets(problem: Problem, plan: Plan) -> Iterator[Reason]:
    moves = problem.max_moves if problem.use is Use.repack else None
    if moves is not None and len(plan.moved) >= moves:
        yield _binding(
            Rule.move_budget, plan.moved, f"All {many(moves, 'move')} that are allowed are used." if moves else "No move is allowed."
        )
    evictions = None if problem.use is Use.place else problem.max_evictions
    if evictions and len(plan.evicted) >= evictions:
        yield _binding(Rule.eviction_budget, plan.evicted, f"All {many(evictions, 'eviction')} that are allowed are used.")


# ---------------------------------------------------------------- running jobs that did not stay


def changed(rest: Rest, plan: Plan, only: str | None = None) -> Iterator[Reason]:
    """For each job that moved or was evicted: who has its place now, or what keeps it from going back."""
    jobs = rest.layout.problem.jobs
    for code, names in (("moved", plan.moved), ("evicted", plan.evicted)):
        told = [name for name in names if only is None or name == only]
        for name in told[:MOST_TOLD]:
            yield _why_left(rest, jobs[rest.layout.job_at[name]], code)
        if len(told) > MOST_TOLD:
            rule = Rule.running_stays if code == "moved" else Rule.evictable
            text = f"{amount(len(told) - MOST_TOLD)} more jobs {'are' if code == 'evicted' else 'have'} {code}; ask for one by its id."
            yield Reason("", code, rule.value, tuple(told[MOST_TOLD:])[:MOST_IDS], text, "proved")


def _why_left(rest: Rest, job: Job, code: str) -> Reason:
    layout, nodes = rest.layout, rest.layout.problem.nodes
    workers = job.running.workers if job.running is not None else ()
    old = list(dict.fromkeys(worker.node for worker in workers))
    place = layout.job_at[job.id]
    new = list(dict.fromkeys(nodes[node].id for node in rest.nodes_of(place).tolist()))
    told = f"Moved from {listed(old)} to {listed(new)}" if code == "moved" else f"Evicted from {listed(old)}"
    rule = Rule.running_stays if code == "moved" else Rule.evictable
    for name in old:
        closed = [one for one in refusals(nodes[layout.node_at[name]], job) if one is not Rule.reserved]
        if closed and not (closed == [Rule.drained] and nodes[layout.node_at[name]].state == "cordoned"):
            text = f"{told}: node {name} refuses it ({', '.join(one.value for one in closed)})."
            return Reason(job.id, code, closed[0].value, (name,), text, "proved")
    takers = _takers(rest, place)
    if takers:
        names = [layout.problem.jobs[taker].id for taker in takers]
        where = "its GPUs are now used" if job.gpus_per_worker else "its nodes are now filled"
        return Reason(job.id, code, rule.value, tuple(names)[:MOST_IDS], f"{told}: {where} by {listed(names)}.", "proved")
    first = layout.problem.ordered_goals()[0]
    text = f"{told}: nobody uses its old GPUs; what it gives way to, or {first.value}, is served elsewhere."
    return Reason(job.id, code, rule.value, (job.id,), text, "heuristic")


def _takers(rest: Rest, place: int) -> list[int]:
    """The placed jobs, running jobs that stayed aside, that use GPUs (or without any, nodes) which the job uses now."""
    layout = rest.layout
    job = layout.problem.jobs[place]
    held = {(layout.node_at[one.node], gpu) for one in (job.running.workers if job.running is not None else ()) for gpu in one.gpus}
    old = {layout.node_at[one.node] for one in (job.running.workers if job.running is not None else ())}
    found = dict[int, None]()
    seats = np.flatnonzero(np.isin(rest.seat_node, list(old)))
    for seat in seats.tolist():
        other = int(rest.seat_job[seat])
        if other == place or _stayed(rest, other, seat):
            continue
        first, last = np.searchsorted(rest.gpu_seat, (seat, seat + 1))
        if not held or any((int(rest.seat_node[seat]), gpu) in held for gpu in rest.gpu_index[first:last].tolist()):
            found[other] = None
    return list(found)


def _stayed(rest: Rest, place: int, seat: int) -> bool:
    """Whether a running job has this seat already."""
    running = rest.layout.problem.jobs[place].running
    name = rest.layout.problem.nodes[int(rest.seat_node[seat])].id
    return running is not None and any(worker.node == name for worker in running.workers)
