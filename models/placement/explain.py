"""Why a placement plan is as it is: what it uses, which limits it meets, and for each waiting job why it is not in the plan.

Reasons are counts over all nodes in closed form; nothing here searches or solves. A reason is ``proved`` when it is such a
count or follows from one: "with the rest of the plan as it is" then says what was held fixed. It is ``heuristic`` when it
says what was tried, such as the changes of a single rule that would place a job.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from models.contract import Reason
from models.placement.explain_displace import displaces
from models.placement.explain_holders import Displaceable
from models.placement.explain_plan import binding, changed, summary
from models.placement.explain_refusal import why_not
from models.placement.explain_relax import would_place
from models.placement.explain_repair import CUT_COLUMNS, FIRM_RULES, repair_text
from models.placement.explain_rest import Layout, Rest
from models.placement.explain_room import Room
from models.placement.explain_words import MOST_IDS, amount, listed, many, rule_units
from models.placement.schema import Rule, Use
from models.placement.verify import verify

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from models.placement.schema import Job, Plan, Problem

__all__ = ["CUT_COLUMNS", "FIRM_RULES", "alike", "explain", "repair_text", "rule_units", "subjects"]

MOST_GROUPS = 200  # of alike waiting jobs that are explained with the whole plan; the most valuable first
MOST_WORK = 100_000  # workers x nodes, over the groups, up to which it is told unasked whom forcing them would displace
FEWEST_GROUPS = 5  # explained even when there is no time
MOST_CHANGES = 2  # that would place a job, told with the whole plan


def explain(problem: Problem, plan: Plan, subject: str | None = None, seconds: float = math.inf) -> tuple[Reason, ...]:
    """The reasons for a plan, or all that can be told about one ``subject``: a job, a tenant with a quota, or a node.

    Of the whole plan, alike waiting jobs are explained once: the reasons have the first one as subject and say how many are
    alike (``alike`` names them); after about ``seconds`` the rest of them is only counted. The plan must be right by
    ``verify``; of one that uses what there is not only that is told.

    Raises KeyError for a subject that is no job, tenant with a quota or node of the problem.
    """
    deadline = time.monotonic() + seconds
    layout = Layout(problem)
    if subject is not None and not _known(layout, subject):
        raise KeyError(f"'{subject}' is no job, node or tenant with a quota of this problem")
    try:
        rest = Rest(layout, plan)
    except (KeyError, IndexError):  # a job, node or GPU that there is not
        return _wrong(problem, plan, subject)
    if rest.overdrawn:
        return _wrong(problem, plan, subject)
    if subject is None:
        return tuple(_whole(rest, plan, deadline))
    if subject in layout.job_at:
        return tuple(_job(rest, plan, layout.job_at[subject]))
    return tuple(_tenant(rest, subject) if subject in layout.quota else _node(rest, subject))


def subjects(problem: Problem, plan: Plan) -> tuple[str, ...]:
    """The ids one may ask about: jobs that are not placed, then evicted and moved ones, then all others, tenants and nodes."""
    placed = {placement.job for placement in plan.placements}
    waiting = [job.id for job in problem.jobs if job.id not in placed and job.running is None]
    quotas = [tenant.id for tenant in problem.tenants if tenant.quota_gpus is not None]
    everyone = (*waiting, *plan.evicted, *plan.moved, *(job.id for job in problem.jobs), *quotas, *(node.id for node in problem.nodes))
    return tuple(dict.fromkeys(everyone))


def alike(problem: Problem, plan: Plan) -> tuple[tuple[str, ...], ...]:
    """The waiting jobs that the plan leaves out, in groups that fit or do not fit together; the first of each is the subject.

    A preemption decides about one job alone: the others are one group.
    """
    layout = Layout(problem)
    waiting = _waiting(problem, {placement.job for placement in plan.placements})
    groups = _groups(layout, waiting) if problem.use is not Use.preempt else [waiting] if waiting else []
    return tuple(tuple(problem.jobs[place].id for place in group) for group in groups)


def _known(layout: Layout, subject: str) -> bool:
    return subject in layout.job_at or subject in layout.node_at or subject in layout.quota


def _wrong(problem: Problem, plan: Plan, subject: str | None) -> tuple[Reason, ...]:
    """What is wrong with a plan that cannot be counted on."""
    broken = verify(problem, plan)
    first = broken.violations[0]
    text = f"The plan breaks rules ({broken.violation_count:,} times), first of all: {first.message}. It is not explained further."
    return (Reason(subject or "", "summary", first.rule, first.ids[:MOST_IDS], text, "proved"),)


def _waiting(problem: Problem, placed: set[str]) -> list[int]:
    return [place for place, job in enumerate(problem.jobs) if job.running is None and job.id not in placed]


# ---------------------------------------------------------------- the whole plan


def _whole(rest: Rest, plan: Plan, deadline: float) -> Iterator[Reason]:
    problem = rest.layout.problem
    waiting = _waiting(problem, {placement.job for placement in plan.placements})
    yield summary(rest, plan)
    yield from binding(rest, plan, waiting)
    yield from changed(rest, plan)
    if problem.use is Use.preempt:
        yield from _not_asked(rest, waiting)
        return
    groups = _groups(rest.layout, waiting)
    empty = Rest(rest.layout)
    others = Displaceable.of(rest, len(plan.evicted))
    work = MOST_WORK
    told = 0
    for group in groups[:MOST_GROUPS]:
        if told >= FEWEST_GROUPS and time.monotonic() > deadline:
            break
        told += 1
        room = Room.of(rest, group[0])
        first, *further = why_not(room, Room.of(empty, group[0]))
        yield replace(first, text=f"{first.text} {_others(len(group))}".rstrip())
        yield from further
        if room.fits is None:
            yield from would_place(room, at_most=MOST_CHANGES)
            needed = room.fewest * len(problem.nodes)
            if needed <= work and room.quota_workers >= room.fewest:
                work -= needed
                yield from displaces(room, others)
    if len(groups) > told:
        more = [place for group in groups[told:] for place in group]
        sorts = many(len(groups) - told, "sort")
        text = f"{amount(len(more))} further waiting jobs of {sorts} are not explained here; ask for one by its id."
        yield Reason("", "summary", Rule.gang.value, tuple(problem.jobs[place].id for place in more[:MOST_IDS]), text, "proved")


def _others(count: int) -> str:
    if count == 1:
        return ""
    return f"And {amount(count - 1)} alike."


def _not_asked(rest: Rest, waiting: Sequence[int]) -> Iterator[Reason]:
    """Of a preemption: waiting jobs other than the named one."""
    problem = rest.layout.problem
    if waiting:
        names = tuple(problem.jobs[place].id for place in waiting)
        text = f"This preemption is for {problem.preempt_for} alone: the plan does not decide about it. {_others(len(names))}".rstrip()
        yield Reason(names[0], "why_not", Rule.must_place.value, (problem.preempt_for or "",), text, "proved")


def _groups(layout: Layout, waiting: Sequence[int]) -> list[list[int]]:
    """Jobs that fit or do not fit together, the groups of most value first."""
    jobs = layout.problem.jobs
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place in waiting:
        groups[_wish(jobs[place], layout.foes.get(place, ()))].append(place)
    return sorted(groups.values(), key=lambda group: -sum(jobs[place].priority * jobs[place].value for place in group))


def _wish(job: Job, foes: Hashable) -> Hashable:
    """Equal for jobs that fit, or do not, under the same circumstances."""
    sizes = (job.tenant, job.workers, job.workers_min, job.gpus_per_worker, job.gpu_memory_gib, job.cpu_cores, job.memory_gib)
    models, labels, together, spread = job.model_speeds, job.node_selector, job.colocate, job.spread
    return (
        sizes,
        frozenset(models) if models else None,
        frozenset(labels.items()) if labels else None,
        together.level if together is not None and together.required else None,
        (spread.level, spread.max_workers) if spread is not None else None,
        foes,
        job.priority * job.value > 0,
    )


# ---------------------------------------------------------------- one subject


def _job(rest: Rest, plan: Plan, place: int) -> Iterator[Reason]:
    problem = rest.layout.problem
    job = problem.jobs[place]
    nodes = rest.nodes_of(place).tolist()
    yield from changed(rest, plan, job.id)
    if nodes:
        names = list(dict.fromkeys(problem.nodes[node].id for node in nodes))
        text = f"Placed: {many(len(nodes), 'worker')} on {'node' if len(names) == 1 else 'nodes'} {listed(names)}."
        yield Reason(job.id, "summary", Rule.gang.value, tuple(names)[:MOST_IDS], text, "proved")
        return
    if job.running is not None and problem.use is not Use.repack:
        return
    if problem.use is Use.preempt:
        yield from _not_asked(rest, [place])
    room = Room.of(rest, place)
    yield from why_not(room, Room.of(Rest(rest.layout), place))
    if room.fits is None:
        yield from would_place(room, at_most=MOST_IDS)
        yield from displaces(room, Displaceable.of(rest, len(plan.evicted)))


def _tenant(rest: Rest, tenant: str) -> Iterator[Reason]:
    held, quota = rest.held.get(tenant, 0.0), rest.layout.quota[tenant]
    text = f"Tenant {tenant} holds {amount(round(held, 6))} of its {amount(quota)} quota GPUs."
    yield Reason(tenant, "summary", Rule.tenant_quota.value, (tenant,), text, "proved")


def _node(rest: Rest, name: str) -> Iterator[Reason]:
    at = rest.layout.node_at[name]
    node = rest.layout.problem.nodes[at]
    places = sorted(set(rest.seat_job[rest.seat_node == at].tolist()))
    jobs = tuple(rest.layout.problem.jobs[place].id for place in places)
    gpus = node.gpus - float(rest.share[at].clip(0.0).sum())
    text = f"{many(len(jobs), 'job')} on it use {amount(round(gpus, 6))} of {many(node.gpus, 'GPU')}, "
    text += f"{amount(round(node.cpu_cores - float(rest.cpu[at]), 6))} of {amount(node.cpu_cores)} CPU cores and "
    text += f"{amount(round(node.memory_gib - float(rest.memory[at]), 6))} of {amount(node.memory_gib)} GiB of memory."
    yield Reason(name, "summary", Rule.node_gpus.value, jobs[:MOST_IDS], text, "proved")
    if node.state != "ready":
        yield Reason(name, "binding", Rule.drained.value, (name,), f"It is {node.state} and takes no new worker.", "proved")
    if node.reserved_for is not None:
        text = f"It is reserved for tenant {node.reserved_for}."
        yield Reason(name, "binding", Rule.reserved.value, (name, node.reserved_for), text, "proved")
