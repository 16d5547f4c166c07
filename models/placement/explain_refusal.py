"""Why a waiting job is not in a plan, rule by rule, by counting over all nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Reason, Sense
from models.placement.explain_rest import STATIC
from models.placement.explain_room import Room, most
from models.placement.explain_words import MOST_IDS, amount, gpus_of_worker, listed, many, workers_wanted
from models.placement.goals import goals
from models.placement.schema import GoalName, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from models.placement.schema import Job, Problem
    from models.program import Floats

GIVEN = "with the rest of the plan as it is"
EMPTY = "even with nothing else in the cluster"
_SIZES = (Rule.node_gpus, Rule.gpu_share, Rule.gpu_memory, Rule.node_cpu, Rule.node_memory)


def why_not(room: Room, empty: Room) -> list[Reason]:
    """Why the job has no place beside the plan (``room``), or could have one; ``empty`` is its room in an empty cluster."""
    hopeless = empty.impossible
    counted = empty if hopeless else room
    reasons = list(_blocked(counted, EMPTY if hopeless else GIVEN))
    if reasons:
        return reasons
    if room.fits is None:
        text = "The search found no nodes for it under the power cap, and counting alone does not rule it out"
        return [_reason(room, Rule.power_cap, (), text + ".", "heuristic")]
    return [_left_out(room)]


def _reason(room: Room, rule: Rule, ids: tuple[str, ...], text: str, status: Literal["proved", "heuristic"] = "proved") -> Reason:
    return Reason(room.job.id, "why_not", rule.value, ids[:MOST_IDS], text, status)


def _blocked(room: Room, given: str) -> Iterator[Reason]:
    """What the counts prove to be in the way: first of all nodes, then of the quota."""
    if room.total < room.fewest:
        yield from _no_room(room, given)
    if room.quota_workers < room.fewest:
        job = room.job
        left, needed = max(0.0, room.rest.quota_left(job.tenant)), job.gpus_per_worker * room.fewest
        quota = room.rest.layout.quota[job.tenant]
        text = (
            f"Tenant {job.tenant} has {amount(left)} of its {amount(quota)} quota GPUs left, and the job needs {amount(needed)}, {given}."
        )
        yield _reason(room, Rule.tenant_quota, (job.tenant,), text)


def _no_room(room: Room, given: str) -> Iterator[Reason]:
    """The rule at which too little room remains when the rules are applied one after another, and for a gang how much does."""
    counts = _Funnel(room)
    rule = counts.rule
    if rule is None:  # each node's rules leave room: the gang's own shape or the power of all its nodes does not
        yield _gathered(room, given)
        return
    text, ids = (_static_text if rule in STATIC else _free_text)(room, counts, rule)
    # That no node accepts the model does not depend on what else is in the plan.
    told = "" if rule in STATIC else f", {given}"
    yield _reason(room, rule, ids, f"{text}{told}.")
    if room.fewest > 1 and room.total != counts.workers:
        told = f"There is room for {amount(room.total)} of its {many(room.job.workers, 'worker')}"
        needed = f" and it needs {amount(room.fewest)}" if room.fewest < room.job.workers else ""
        yield _reason(room, Rule.gang, (room.job.id,), f"{told}{needed}, {given}.")


class _Funnel:
    """The rules applied one after another: how many nodes and workers are left after each.

    ``rule`` is the first after which too few workers are left, ``nodes_before`` the nodes that were left before it,
    ``workers`` the workers after it, ``passed`` the rules before it.
    """

    def __init__(self, room: Room) -> None:
        self.rule: Rule | None = None
        left = np.full(len(room.rest.cpu), room.job.workers, dtype=np.int64)
        self.nodes_before = np.flatnonzero(left)
        self.workers = int(left.sum())
        self.passed: list[Rule] = []
        # The scarcest size comes last: it is the one that is told to be missing where all others are there.
        hosts = np.minimum.reduce([left, *(room.by_rule[rule] for rule in STATIC if rule in room.by_rule)])
        roomy = sorted(
            (rule for rule in _SIZES if rule in room.by_rule), key=lambda rule: -int(np.minimum(hosts, room.by_rule[rule]).sum())
        )
        for rule in (*STATIC, *roomy, Rule.power_cap, Rule.anti_affinity):
            if rule not in room.by_rule:
                continue
            after = np.minimum(left, room.by_rule[rule])
            self.nodes_before, self.workers = np.flatnonzero(left), int(after.sum())
            if self.workers < room.fewest:
                self.rule = rule
                return
            left = after
            self.passed.append(rule)


def _static_text(room: Room, counts: _Funnel, rule: Rule) -> tuple[str, tuple[str, ...]]:
    job, nodes = room.job, room.rest.layout.problem.nodes
    before = len(counts.nodes_before)
    able = int((room.by_rule[rule][counts.nodes_before] > 0).sum())
    of = many(before, "node") if before == len(nodes) else f"{many(before, 'node')} left by {_and(counts.passed)}"
    level = job.colocate.level.value if job.colocate is not None else "domain"
    facts = {
        Rule.accepted_model: f"have an accepted model ({', '.join(sorted(job.model_speeds))})",
        Rule.node_selector: "carry the labels " + ", ".join(f"{label}={value}" for label, value in sorted(job.node_selector.items())),
        Rule.drained: "are ready: the others are drained or cordoned",
        Rule.reserved: f"may take new workers of tenant {job.tenant}: the others are reserved for other tenants",
        Rule.colocation: f"name a {level} that the job could stay together in",
    }
    refusing = [nodes[node].id for node in counts.nodes_before.tolist() if not room.by_rule[rule][node]]
    ids = tuple(refusing) if rule in (Rule.drained, Rule.reserved) else (job.id,)
    return f"{amount(able)} of {of} {facts[rule]}", ids


def _and(rules: list[Rule]) -> str:
    words = {Rule.accepted_model: "its accepted models", Rule.node_selector: "its node selector", Rule.drained: "drains"}
    words |= {Rule.reserved: "reservations"}
    return listed([words.get(rule, rule.value) for rule in rules if rule in words]) or "the rules before"


def _free_text(room: Room, counts: _Funnel, rule: Rule) -> tuple[str, tuple[str, ...]]:
    """Too few workers fit because of what is free on the nodes that earlier rules left."""
    job, layout = room.job, room.rest.layout
    nodes = counts.nodes_before
    where = f"of the {many(len(nodes), 'node')} {_having(room, counts.passed)}"
    if rule is Rule.power_cap:
        left = amount(max(0.0, room.rest.power_left))
        return f"The power cap leaves {left} kW, and each idle node {where} draws more", (job.id,)
    if rule is Rule.anti_affinity:
        foes = [layout.problem.jobs[foe].id for foe, _ in layout.foes[room.place] if len(room.rest.nodes_of(foe))]
        able = int((room.by_rule[rule][nodes] > 0).sum())
        return f"{amount(able)} {where} are in no domain with a job that it must keep away from ({listed(foes)})", (job.id, *foes)
    free, need = _free(room, rule)
    best = int(nodes[np.argmax(free[nodes])]) if len(nodes) else 0
    name, largest = layout.problem.nodes[best].id, round(float(free[best]), 6)
    at_most = f"the most is {amount(largest)}{_unit(rule, largest)}, on node {name}" if largest > 0 else "nothing of it is free"
    if room.fewest == 1:
        return f"None {where} has {need} ({at_most})", (name,)
    found = f"{amount(counts.workers)} of its {many(job.workers, 'worker')} {'finds' if counts.workers == 1 else 'find'} {need}"
    needed = f", and it needs {amount(room.fewest)}" if room.fewest < job.workers else ""
    return f"On the {many(len(nodes), 'node')} {_having(room, counts.passed)}, only {found} ({at_most}){needed}", (name,)


def _having(room: Room, passed: list[Rule]) -> str:
    """What the nodes that are left have, in words: ``that it may use and that have 8 free GPUs``."""
    told = [_free(room, rule)[1] for rule in passed if rule in _SIZES]
    return "it may use" if not told else f"it may use with {listed(told)}"


def _free(room: Room, rule: Rule) -> tuple[Floats, str]:
    """What is free of a rule's resource on each node, and what one worker needs of it, in words."""
    rest, job = room.rest, room.job
    if rule is Rule.gpu_share:
        has_memory = rest.gpu_memory + TOLERANCE >= job.gpu_memory_gib
        share = np.where(has_memory, rest.share, 0.0)
        return share.max(axis=1, initial=0.0), gpus_of_worker(job)
    if rule is Rule.node_gpus:
        return rest.untouched.sum(axis=1).astype(np.float64), gpus_of_worker(job)
    if rule is Rule.gpu_memory:
        limit = np.where(np.isinf(rest.layout.gpu_limit), 0.0, rest.layout.gpu_limit)
        return limit, f"GPUs of {amount(job.gpu_memory_gib)} GiB"
    if rule is Rule.node_cpu:
        return rest.cpu, f"{amount(job.cpu_cores)} free CPU cores"
    return rest.memory, f"{amount(job.memory_gib)} GiB of free memory"


def _unit(rule: Rule, value: float) -> str:
    units = {Rule.gpu_share: " GPUs", Rule.node_gpus: " GPUs", Rule.node_cpu: " cores"}
    return units.get(rule, " GiB").removesuffix("s" if value == 1 else "")


def _gathered(room: Room, given: str) -> Reason:
    """Each node's own rules leave room, but staying together, spreading out or the power of all its nodes does not."""
    job, rest = room.job, room.rest
    able = f"{amount(room.total)} of its {workers_wanted(job)}"
    if job.colocate is not None and job.colocate.required and most(rest, job, room.on_node, apart=False) < room.fewest:
        text = f"The best {job.colocate.level} has room for {able}, {given}."
        return _reason(room, Rule.colocation, (job.id,), text)
    if job.spread is not None and most(rest, job, room.on_node, apart=False) >= room.fewest:
        limit = f"at most {many(job.spread.max_workers, 'worker')} in one {job.spread.level}"
        return _reason(room, Rule.spread, (job.id,), f"With {limit} there is room for {able}, {given}.")
    left = amount(max(0.0, rest.power_left))
    text = f"The power cap leaves {left} kW to start nodes with, which is room for {able}, {given}."
    return _reason(room, Rule.power_cap, (job.id,), text)


# ---------------------------------------------------------------- it would fit


def _left_out(room: Room) -> Reason:
    """The job fits, and the plan leaves it out: say so, and whether any goal gains from it."""
    problem, job = room.rest.layout.problem, room.job
    seats = room.fits or {}
    names = tuple(problem.nodes[node].id for node in seats)
    where = f"It would fit {GIVEN}, for example on {'node' if len(names) == 1 else 'nodes'} {listed(names)}"
    gaining, before = gain(problem, job)
    first = problem.ordered_goals()[0]
    if gaining is None:
        text = f"{where}, but no goal of the problem gains from placing it."
        return Reason(job.id, "why_not", first.value, names[:MOST_IDS], text, "heuristic" if before else "proved")
    if before:
        goals_before = listed([name.value for name in before])
        text = f"{where}. Placing it may worsen {goals_before}, which comes before {gaining.value}, or the search has simply left it out."
        return Reason(job.id, "why_not", before[0].value, names[:MOST_IDS], text, "heuristic")
    text = f"{where}; the search has simply left it out, and {gaining.value} would gain from it."
    return Reason(job.id, "why_not", gaining.value, names[:MOST_IDS], text, "heuristic")


def gain(problem: Problem, job: Job) -> tuple[GoalName | None, tuple[GoalName, ...]]:
    """The first goal that surely gains when the job is placed besides the others, and the goals before it that may lose.

    No goal: then the second part has those goals of which it is not known (a job may fill a gap that nobody else can use).
    """
    worth = {GoalName.placed_value: job.priority * job.value, GoalName.allocated_gpus: job.gpus_per_worker}
    before: list[GoalName] = []
    ordered = problem.ordered_goals()
    for name, goal in zip(ordered, goals(problem), strict=True):
        if worth.get(name, 0.0) > 0:
            return name, tuple(before)
        if goal.sense is Sense.minimise and name not in (GoalName.evictions, GoalName.eviction_cost, GoalName.moves):
            before.append(name)
    return None, tuple(name for name in before if name is GoalName.fragmentation)
