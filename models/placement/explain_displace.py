"""Whom forcing a waiting job into a plan would displace: the placed jobs of least value together that make room for it.

For a job of one worker the nodes are searched in the order of a lower bound and each node's jobs in the order of their
value together, so the first set that makes room is the cheapest: exact unless a count runs out. For a gang the nodes are cleared
greedily, and what was cleared needlessly is put back.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Reason
from models.placement.explain_holders import Desk, Displaceable
from models.placement.explain_rest import Rest, shut_out
from models.placement.explain_room import Room, by_domain
from models.placement.explain_words import MOST_IDS, amount, listed
from models.placement.schema import GoalName, Rule

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints

MOST_NODES = 400  # searched for one worker
MOST_SETS = 3_000  # of jobs of one node that are tried
MOST_ROUNDS = 200  # nodes cleared for a gang
MOST_DOMAINS = 3  # tried for a colocated gang

Cheapest = tuple[float, int, tuple[int, ...]]  # what a set of jobs is worth, how many they are, and who: in the order of preference


@dataclass(frozen=True, slots=True)
class Displaced:
    """Jobs (positions) whose leaving makes room, what they are worth together, and whether no cheaper set exists."""

    places: tuple[int, ...]
    worth: float
    cheapest: bool


def displaces(room: Room, others: Displaceable) -> list[Reason]:
    """Whom forcing the job would displace, as one reason; none when nobody who may be displaced makes room."""
    found = displaced(room, others)
    if found is None:
        return []
    problem, job = room.rest.layout.problem, room.job
    names = tuple(problem.jobs[place].id for place in found.places)
    best = max(job.model_speeds.values(), default=1.0)
    text = f"Forcing it in would displace {listed(names)}, worth {amount(found.worth)}"
    text += f" {'together ' if len(names) > 1 else ''}where the job itself is worth up to {amount(job.priority * job.value * best)}"
    text += "; no set of jobs worth less makes room while all others stay where they are." if found.cheapest else "."
    rule = GoalName.placed_value if job.running is None else Rule.evictable
    return [Reason(job.id, "displaces", rule.value, names[:MOST_IDS], text, "proved" if found.cheapest else "heuristic")]


def displaced(room: Room, others: Displaceable) -> Displaced | None:
    """The cheapest set found of jobs whose leaving makes room; None when none was found or the job fits as it is."""
    if room.fits is not None or not others.may.any():
        return None
    able = _able(room)
    if not able.any():
        return None
    if room.fewest == 1 and room.quota_workers >= 1 and room.rest.power_left == np.inf:
        return _for_one(room, others, able)
    found = _for_many(room, others, able)
    if found is None or not others.within_budget(found):
        return None
    return Displaced(tuple(sorted(found)), others.total(found), cheapest=False)


def _able(room: Room) -> Bools:
    """Nodes that could hold a worker of the job if all who may leave left."""
    layout = room.rest.layout
    return np.isin(np.arange(len(room.rest.cpu)), layout.hosts.of(room.job))


# ---------------------------------------------------------------- one worker


def _for_one(room: Room, others: Displaceable, able: Bools) -> Displaced | None:
    best: Cheapest | None = None
    bound, must_go = _lower_bounds(room, others, able, np.ones(len(able), dtype=np.int64))
    order = np.argsort(bound, kind="stable")
    order = order[np.isfinite(bound[order])]
    exact = True
    for count, node in enumerate(order.tolist()):
        if best is not None and bound[node] >= best[0] - TOLERANCE:
            break
        if count == MOST_NODES:
            exact = False
            break
        below = best[0] if best is not None else np.inf
        found, complete = _on_one_node(room, others, node, must_go.get(node, ()), below=below)
        exact = exact and complete
        if found is not None and (best is None or found < best):
            best = found
    return None if best is None else Displaced(tuple(sorted(best[2])), best[0], cheapest=exact)


def _lower_bounds(room: Room, others: Displaceable, able: Bools, wanted: Ints) -> tuple[Floats, dict[int, tuple[int, ...]]]:
    """On no node is less than this displaced for ``wanted`` workers on it (infinite: impossible), and who must leave in any case."""
    job, rest = room.job, room.rest
    per_job, per_gpu, per_core, per_gib = others.rates
    must_go = _foes_near(room, others, able)
    bound = np.zeros(len(rest.cpu))
    whole = job.gpus_per_worker if job.gpus_per_worker >= 1 else 0.0
    for missing, rate in (
        (np.maximum(wanted * whole - rest.untouched.sum(axis=1), 0.0), per_gpu),
        (np.maximum(wanted * job.cpu_cores - rest.cpu - TOLERANCE, 0.0), per_core),
        (np.maximum(wanted * job.memory_gib - rest.memory - TOLERANCE, 0.0), per_gib),
    ):
        short = missing > 0
        bound[short] = np.maximum(bound[short], missing[short] * rate[short])
    full = room.on_node_without([Rule.anti_affinity]) < wanted
    bound[full] = np.maximum(bound[full], per_job[full])
    for node, foes in must_go.items():
        bound[node] = max(bound[node], others.total(foes))
        if not others.may[list(foes)].all():
            able = able.copy()
            able[node] = False
    return np.where(able, bound, np.inf), must_go


def _foes_near(room: Room, others: Displaceable, able: Bools) -> dict[int, tuple[int, ...]]:
    """Placed jobs that the job must keep away from, by node in whose domain they are."""
    rest = others.rest
    if not shut_out(rest, room.place).any():
        return {}
    found: dict[int, list[int]] = {}
    for foe, level in rest.layout.foes[room.place]:
        domains, _ = rest.layout.domains(level)
        for node in np.flatnonzero(able & np.isin(domains, domains[rest.nodes_of(foe)])).tolist():
            found.setdefault(node, []).append(foe)
    return {node: tuple(sorted(set(foes))) for node, foes in found.items()}


def _on_one_node(
    room: Room,
    others: Displaceable,
    node: int,
    must_go: tuple[int, ...],
    *,
    below: float = np.inf,
    wanted: int = 1,
    skip: frozenset[int] | set[int] = frozenset(),
) -> tuple[Cheapest | None, bool]:
    """What makes room for ``wanted`` workers on the node, if worth less than ``below``, and whether the search was complete.

    ``must_go`` leave in any case; those in ``skip`` are gone already.

    Sets of the node's jobs come off the heap in the order of their worth: from each, one grows it by the next job and one puts
    the next job in place of its last.
    """
    desk = Desk(room, node)
    jobs = [place for place in others.on_node.get(node, []) if place not in must_go and place not in skip]
    base = others.total(must_go)
    heap: list[tuple[float, int, tuple[int, ...]]] = [(base, 0, ())]
    for _ in range(MOST_SETS):
        if not heap or heap[0][0] >= below - TOLERANCE:
            return None, True
        worth, count, picked = heapq.heappop(heap)
        gone = (*must_go, *(jobs[one] for one in picked))
        if others.within_budget(gone) and desk.takes(gone) >= wanted:
            return (worth, len(gone), gone), True
        following = picked[-1] + 1 if picked else 0
        if following < len(jobs):
            step = float(others.worth[jobs[following]])
            heapq.heappush(heap, (worth + step, count + 1, (*picked, following)))
            if picked:
                heapq.heappush(heap, (worth + step - float(others.worth[jobs[picked[-1]]]), count, (*picked[:-1], following)))
    return None, False


# ---------------------------------------------------------------- a gang, or a quota or the power in the way


def _for_many(room: Room, others: Displaceable, able: Bools) -> set[int] | None:
    """Jobs whose leaving makes room for a gang; greedy, the best of a few domains when it must stay together."""
    job, rest = room.job, room.rest
    if job.colocate is None or not job.colocate.required:
        return _cleared(room, others, able)
    have, domains = by_domain(rest, job, room.on_node)
    empty = Room.of(Rest(rest.layout), room.place)
    could, _ = by_domain(rest, job, np.where(able, empty.on_node, 0))
    large = np.flatnonzero(could >= room.fewest)
    large = large[np.argsort(-have[large], kind="stable")][:MOST_DOMAINS]
    found = [_cleared(room, others, able & (domains == domain)) for domain in large.tolist()]
    return min((one for one in found if one is not None), key=others.total, default=None)


def _cleared(room: Room, others: Displaceable, able: Bools) -> set[int] | None:
    """Clear one node after another, the one that costs least for what it lacks first, and put back what was not needed."""
    gone = _for_quota(room, others)
    if gone is None:
        return None
    now = _after(room, gone)
    able = able.copy()
    for _ in range(MOST_ROUNDS):
        if now.fits is not None:
            return _put_back(room, others, gone)
        bound, must_go = _lower_bounds(now, others, able, now.on_node + 1)
        bound[now.on_node >= room.job.workers] = np.inf
        node = int(np.argmin(bound))
        if not np.isfinite(bound[node]):
            return None
        must = tuple(foe for foe in must_go.get(node, ()) if foe not in gone)
        wanted = int(now.on_node[node]) + 1
        found, _ = _on_one_node(now, others, node, must, wanted=wanted, skip=gone)
        if found is None or not found[2]:
            able[node] = False  # nothing more to be had here
            continue
        gone = gone | set(found[2])
        now = _after(room, gone)
    return None


def _for_quota(room: Room, others: Displaceable) -> set[int] | None:
    """Jobs of the same tenant, the least worth per GPU first, until the quota leaves enough; None when it never does."""
    job, rest = room.job, room.rest
    short = job.gpus_per_worker * room.fewest - rest.quota_left(job.tenant) - TOLERANCE
    if short <= 0:
        return set()
    jobs = rest.layout.problem.jobs
    places, workers = np.unique(rest.seat_job, return_counts=True)
    held = {
        place: jobs[place].gpus_per_worker * count
        for place, count in zip(places.tolist(), workers.tolist(), strict=True)
        if others.may[place] and jobs[place].tenant == job.tenant and jobs[place].gpus_per_worker > 0
    }
    gone = set[int]()
    for place in sorted(held, key=lambda one: float(others.worth[one]) / held[one]):
        gone.add(place)
        short -= held[place]
        if short <= 0:
            return gone
    return None


def _after(room: Room, gone: set[int]) -> Room:
    return Room.of(room.rest.without(gone), room.place) if gone else room


def _put_back(room: Room, others: Displaceable, gone: set[int]) -> set[int]:
    """Those of ``gone`` that must leave for the job to fit, after the dearest have been put back where possible."""
    needed = set(gone)
    for place in sorted(gone, key=lambda one: -float(others.worth[one])):
        fewer = needed - {place}
        if _after(room, fewer).fits is not None:
            needed = fewer
    return needed
