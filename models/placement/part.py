"""A large part of a plan, to be packed anew: for plans that are good already and miss a little everywhere.

A plan carried over from another problem (``carried.py``) leaves idle what the old jobs could not use; new ones wait that could, if
others made way. The nodes that waste most are emptied together, and everyone who waits may come in: with many alike nodes and
jobs the relaxation of the part is as good as that of the whole, and packing reaches it in a fraction of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.placement.neighbourhood import Whole
from models.placement.relaxation import COUNTED, worth_of
from models.placement.schema import GoalName, Use

if TYPE_CHECKING:
    import random

    from models.contract import Neighbourhood
    from models.placement.schema import Job, Plan, Problem

SHARE = 0.06  # of the nodes are in a part
FEWEST_NODES = 16
JITTERS = (1.0, 0.4)  # shares of what a node falls short that are shuffled: so that no two parts are the same
CROWD = 4.0  # times the part's GPUs: no more waiting jobs than that are offered


def part(problem: Problem, plan: Plan, rng: random.Random) -> Neighbourhood | None:
    """A part of ``plan`` to be solved by relaxation and packing; None where packing does not apply, or there is nothing to pack.

    The nodes that earn least for their GPUs, as far as ``rng`` does not shuffle them, with the jobs that lie wholly on them and those
    that wait. Jobs that an anti-affinity concerns stay as they are, and quotas and power are what the rest leaves.
    """
    if problem.use is not Use.place:
        return None
    whole = Whole(problem, plan)
    if not whole.waiting:
        return None
    nodes = _wasteful(whole, rng)
    return whole.around(nodes, lambda: _offered(whole, rng, nodes)) if nodes else None


def _wasteful(whole: Whole, rng: random.Random) -> set[str]:
    """The nodes that fall shortest, in the first goal, of what a GPU of this plan earns on average."""
    able = [name for name in whole.names if whole.nodes[name].gpus and whole.nodes[name].state == "ready"]
    earned = _earned(whole)
    average = sum(earned[name] for name in able) / max(sum(whole.nodes[name].gpus for name in able), 1)
    jitter = rng.choice(JITTERS)
    short = {name: (average * whole.nodes[name].gpus - earned[name]) * (1.0 - jitter * rng.random()) for name in able}
    return set(sorted(able, key=lambda name: -short[name])[: max(FEWEST_NODES, round(SHARE * len(able)))])


def _earned(whole: Whole) -> dict[str, float]:
    """What the workers on each node add to the first goal that counts them; in GPUs where none does."""
    goal = next((goal for goal in whole.problem.ordered_goals() if goal in COUNTED), GoalName.allocated_gpus)
    earned = dict.fromkeys(whole.names, 0.0)
    for placement in whole.plan.placements:
        job = whole.jobs[placement.job]
        worth = worth_of(job, goal) / job.workers
        for worker in placement.workers:
            earned[worker.node] += worth
    return earned


def _offered(whole: Whole, rng: random.Random, nodes: set[str]) -> tuple[Job, ...]:
    """The waiting jobs that may fit; of very many the first in greedy order, and others at random."""
    jobs = list(whole.fitting(whole.waiting, nodes))
    left = CROWD * sum(whole.nodes[node].gpus for node in nodes)
    if sum(_gpus(job) for job in jobs) <= left:
        return tuple(jobs)
    chosen = _taken(jobs, left / 2)
    others = jobs[len(chosen) :]
    rng.shuffle(others)
    return (*chosen, *_taken(others, left / 2))


def _taken(jobs: list[Job], most: float) -> list[Job]:
    """The first jobs, up to ``most`` GPUs together."""
    taken: list[Job] = []
    for job in jobs:
        most -= _gpus(job)
        if most < 0:
            break
        taken.append(job)
    return taken


def _gpus(job: Job) -> float:
    return job.gpus_per_worker * job.workers
