"""The drawing of a placement plan: every GPU of the cluster as a cell, use by GPU model before and after, and what moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from models.placement.schema import Job, Plan, Problem, WorkerPlace
from service.report.drawing import Drawing, Figure, Table
from service.report.placement_cells import Picture, picture
from service.report.placement_free import free_gpus
from service.report.placement_state import NodeState, running_placements, states
from service.report.wording import EXACT, count, number, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.vocabulary import Document
    from optimizer.result import GoalCertificate

MOST_MOVES = 100
MOST_PLACES = 3  # nodes of one job that are named in a table

_PROVES = {  # what a bound proves, and what it proves when the plan attains it
    "placed_value": (
        "No plan can place jobs worth more than {bound}; these are worth {objective}.",
        "The placed jobs are worth {objective}, and no plan can place jobs worth more.",
    ),
    "evictions": (
        "No plan can do with fewer than {bound} evictions; this one needs {objective}.",
        "This plan evicts {objective} running job{s}, and no plan can do with fewer.",
    ),
    "eviction_cost": (
        "No plan can evict at a lower cost than {bound}; this one costs {objective}.",
        "Evicting costs {objective}, and no plan can do it at a lower cost.",
    ),
    "moves": (
        "No plan can move at a lower cost than {bound}; this one costs {objective}.",
        "Moving costs {objective}, and no plan can do it at a lower cost.",
    ),
    "fragmentation": (
        "No plan can leave fewer than {bound} GPUs in pieces; this one leaves {objective}.",
        "This plan leaves {objective} GPUs in pieces, and no plan can leave fewer.",
    ),
    "topology_distance": (
        "No plan can span fewer than {bound} further domains; this one spans {objective}.",
        "The gangs span {objective} domain{s} more than one each, and no plan can span fewer.",
    ),
    "nodes_powered": (
        "No plan can use fewer than {bound} nodes; this one uses {objective}.",
        "This plan uses {objective} node{s}, and no plan can use fewer.",
    ),
}


@dataclass(frozen=True, slots=True)
class Use:
    """Capacity of one GPU model, and how much of it is allocated before and after."""

    model: str
    capacity: int
    before: float
    after: float

    @property
    def before_share(self) -> float:
        """Allocated before, as a share of the capacity."""
        return self.before / self.capacity

    @property
    def after_share(self) -> float:
        """Allocated after, as a share of the capacity."""
        return self.after / self.capacity


def draw(problem: Document, plan: Document, before: Document | None) -> Drawing:
    """The cluster under ``plan``; ``before`` is the plan to compare with (None: where jobs run now)."""
    problem, plan = cast("Problem", problem), cast("Plan", plan)
    earlier = cast("Plan", before).placements if before is not None else running_placements(problem)
    after, past = states(problem, plan.placements), states(problem, earlier)
    placed = {placement.job for placement in plan.placements}
    left_out = tuple(job for job in problem.jobs if job.id not in placed)
    free = free_gpus(problem, after, left_out)
    marked = {*plan.moved, *([problem.preempt_for] if problem.preempt_for is not None else [])}
    drawn = picture(problem, after, free.unusable, marked)
    return Drawing(
        figures=_figures(problem, plan, after, left_out),
        template="placement.html.j2",
        values={
            "picture": drawn,
            "uses": _uses(after, past),
            "started_full": any(place.allocated for place in past),
            "compared_with": "the plan to compare with" if before is not None else "the jobs that run now",
            "free": free,
            "tables": _changes(problem, plan),
            "data": _data(problem, drawn, after),
        },
        left_out=tuple(job.id for job in left_out if job.id not in plan.evicted),
        facts={job.id: _facts(job) for job in left_out},
    )


def sentence(goal: GoalCertificate, metrics: dict[str, float]) -> str | None:
    """What a goal's bound proves, in the words of placement; None for a goal that has none of its own."""
    capacity = metrics.get("capacity_gpus")
    if goal.name == "allocated_gpus" and capacity:
        ceiling, have = percent(goal.bound / capacity, 2), percent(goal.objective / capacity, 2)
        amounts = f"{number(goal.bound)} of {number(capacity)}"
        if goal.gap < EXACT:
            return f"This plan allocates {have} of the GPUs ({amounts}), and no plan can allocate more."
        return f"No plan can allocate more than {ceiling} of the GPUs ({amounts}); this one allocates {have} ({number(goal.objective)})."
    if goal.name == "balance":
        return f"No plan can keep its fullest node below {percent(goal.bound)}; here the fullest is at {percent(goal.objective)}."
    templates = _PROVES.get(goal.name)
    if templates is None:
        return None
    plural = "" if goal.objective == 1 else "s"
    return templates[goal.gap < EXACT].format(bound=number(goal.bound, 2), objective=number(goal.objective, 2), s=plural)


def _figures(problem: Problem, plan: Plan, after: Sequence[NodeState], left_out: Sequence[Job]) -> tuple[Figure, ...]:
    live = [place for place in after if place.node.state != "drained"]
    have, capacity = sum(place.allocated for place in live), sum(place.node.gpus for place in live)
    wanted = sum(job.gpus_per_worker * job.workers for job in left_out if job.id not in plan.evicted)
    figures = [
        Figure("GPUs allocated", percent(have / capacity) if capacity else "none", f"{number(have)} of {number(capacity)}"),
        Figure("Jobs placed", number(len(plan.placements)), f"of {number(len(problem.jobs))}"),
        Figure("Not placed", number(len(left_out) - len(plan.evicted)), f"they ask for {number(wanted)} GPUs" if wanted else ""),
    ]
    if plan.moved or problem.use == "repack":
        limit = f"of {problem.max_moves:,} allowed" if problem.max_moves is not None else "any number allowed"
        figures.append(Figure("Moved", number(len(plan.moved)), limit))
    if plan.evicted or problem.use == "preempt":
        figures.append(
            Figure("Evicted", number(len(plan.evicted)), f"for {problem.preempt_for}" if problem.preempt_for else "running jobs")
        )
    return tuple(figures)


def _uses(after: Sequence[NodeState], past: Sequence[NodeState]) -> list[Use]:
    """By model, the largest first; drained nodes have no capacity."""
    sums: dict[str, list[float]] = {}
    for new, old in zip(after, past, strict=True):
        if new.node.gpus and new.node.state != "drained":
            found = sums.setdefault(new.node.gpu_model or "", [0.0, 0.0, 0.0])
            for position, amount in enumerate((new.node.gpus, old.allocated, new.allocated)):
                found[position] += amount
    return sorted((Use(model, int(total), was, now) for model, (total, was, now) in sums.items()), key=lambda use: -use.capacity)


def _facts(job: Job) -> str:
    size = f"{job.gpus_per_worker:g} GPU{'s' if job.gpus_per_worker > 1 else ''}" if job.gpus_per_worker else "no GPU"
    parts = [
        f"{count(job.workers, 'worker')} × {size}" if job.workers > 1 else size,
        f"{job.cpu_cores:g} cores",
        f"{job.memory_gib:.4g} GiB",
    ]
    if job.tenant != "default":
        parts.append(job.tenant)
    if job.model_speeds:
        parts.append("on " + " or ".join(job.model_speeds))
    return ", ".join(parts)


def _changes(problem: Problem, plan: Plan) -> list[Table]:
    """What was moved and what was evicted."""
    jobs = {job.id: job for job in problem.jobs}
    places = {placement.job: placement.workers for placement in plan.placements}

    def row(name: str) -> tuple[str, ...]:
        running = jobs[name].running
        there = _where(running.workers) if running is not None else ""
        cost = f"{running.move_cost:g}" if running is not None else ""
        return (name, jobs[name].tenant, there, *([_where(places[name])] if name in places else []), cost)

    tables = []
    for title, names, columns in (
        ("Moved", plan.moved, ("job", "tenant", "from", "to", "cost")),
        ("Evicted", plan.evicted, ("job", "tenant", "from", "cost")),
    ):
        if names:
            shown = tuple(row(name) for name in names[:MOST_MOVES])
            tables.append(Table(f"{title}: {count(len(names), 'job')}", columns, shown, max(0, len(names) - MOST_MOVES)))
    return tables


def _where(workers: Iterable[WorkerPlace]) -> str:
    """``node-1 GPU 0, 1; node-2 GPU 4``, cut after a few nodes."""
    gpus: dict[str, list[int]] = {}
    for worker in workers:
        gpus.setdefault(worker.node, []).extend(worker.gpus)
    told = [f"{node} GPU {', '.join(map(str, sorted(used)))}" if used else node for node, used in gpus.items()]
    return "; ".join(told[:MOST_PLACES]) + (f" and {len(told) - MOST_PLACES} more nodes" if len(told) > MOST_PLACES else "")


def _data(problem: Problem, drawn: Picture, after: Sequence[NodeState]) -> dict[str, Any]:
    """What the tooltips and the search tell, as short lists."""
    jobs = [problem.jobs[index] for index in drawn.jobs]
    return {
        "tenants": drawn.tenants,
        "jobs": [[job.id, drawn.tenant_index[job.tenant], job.workers, job.gpus_per_worker] for job in jobs],
        "nodes": [_node_data(after[index]) for index in drawn.nodes],
    }


def _node_data(place: NodeState) -> list[object]:
    node = place.node
    amounts = (round(place.cpu_cores, 1), node.cpu_cores, round(place.memory_gib, 1), round(node.memory_gib, 1))
    path = " / ".join(step for step in (node.topology.site, node.topology.row, node.topology.rack, node.topology.nvlink_domain) if step)
    return [node.id, node.gpu_model or "no GPU", *amounts, place.without_gpu, path, node.state]
