"""When a waiting job would fit, by the time limits of the jobs that run.

Running jobs end at their limits at the latest, and what the plan starts now likewise; a job without a limit stays. The ends are taken
in order, and the first moment at which the waiting job has room is found by bisection: more ends only make more room. If limits are
kept and nobody takes the room, the job fits then, or earlier; what else is started meanwhile may take it, so it is a forecast and no
promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.placement.ledger import Ledger
from models.placement.seating import seat_job

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from models.placement.ledger import Seat
    from models.placement.schema import Job, Plan
    from service.plugins.problem import Asked


@dataclass(frozen=True, slots=True)
class Forecast:
    """The job fits at ``at`` at the latest (seconds since the epoch), on ``nodes``, as soon as the last of ``after`` has ended.

    ``after`` are the jobs on those nodes whose ends make the room; none: it fits now.
    """

    at: float
    nodes: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(slots=True)
class _Search:
    """The bisection of one wish: it fits after ``enough`` ends and not after ``few``."""

    place: int
    few: int
    enough: int
    nodes: tuple[int, ...]


def forecasts(asked: Asked, plan: Plan, names: Iterable[str], now: float) -> dict[str, Forecast]:
    """When each of ``names``, waiting jobs that the plan leaves out, would fit at the latest; without those that never would.

    ``now`` is by the scheduler's clock. A job past its limit counts as ending now.
    """
    problem = asked.problem
    if problem is None:
        return {}
    ledger = Ledger(problem)
    ledger.book_plan(plan)
    ends = _ends(asked, ledger, now)
    holders = _holders(ledger)
    groups: dict[Hashable, list[str]] = {}
    for name in names:
        if name in ledger.position and ledger.position[name] not in ledger.seats:
            groups.setdefault(wish(problem.jobs[ledger.position[name]]), []).append(name)
    found: dict[str, Forecast] = {}
    searches = _bisected(ledger, [ledger.position[group[0]] for group in groups.values()], [place for _, place in ends])
    for search, group in zip(searches, groups.values(), strict=True):
        if search is None:
            continue
        nodes = tuple(dict.fromkeys(problem.nodes[node].id for node in search.nodes))
        ended = {place for _, place in ends[: search.enough]}
        there = dict.fromkeys(place for node in search.nodes for place in holders.get(node, ()))
        after = tuple(problem.jobs[place].id for place in there if place in ended)
        at = ends[search.enough - 1][0] if search.enough else now
        found |= dict.fromkeys(group, Forecast(at, nodes, after))
    return found


def wish(job: Job) -> Hashable:
    """Equal for jobs that fit at the same times."""
    sizes = (job.tenant, job.workers, job.gpus_per_worker, job.gpu_memory_gib, job.cpu_cores, job.memory_gib)
    together = job.colocate.level if job.colocate is not None and job.colocate.required else None
    return (sizes, frozenset(job.model_speeds), frozenset(job.node_selector.items()), together, job.spread is not None)


def _ends(asked: Asked, ledger: Ledger, now: float) -> list[tuple[float, int]]:
    """When each job that holds something ends at the latest, where that is known, and its position; in order."""
    known = []
    for place in ledger.seats:
        job = asked.jobs.get(ledger.problem.jobs[place].id)
        if job is None:
            continue
        if job.running and job.ends_at is not None:
            known.append((max(job.ends_at, now), place))
        elif job.waits and job.time_limit_s is not None:  # it starts now
            known.append((now + max(job.time_limit_s, 0.0), place))
    return sorted(known)


def _holders(ledger: Ledger) -> Mapping[int, list[int]]:
    """The positions of the jobs on each node."""
    holders: dict[int, list[int]] = {}
    for place, seats in ledger.seats.items():
        for node in dict.fromkeys(node for node, _ in seats):
            holders.setdefault(node, []).append(place)
    return holders


def _bisected(ledger: Ledger, places: list[int], ends: list[int]) -> list[_Search | None]:
    """For each job the fewest ends after which it fits. All are bisected together: one pass over the ends for each halving."""
    searches: list[_Search | None] = [None] * len(places)
    for number, nodes in _swept(ledger, ends, [(len(ends), number, place) for number, place in enumerate(places)]).items():
        if nodes:
            searches[number] = _Search(places[number], -1, len(ends), nodes)
    while True:
        questions = [
            ((one.few + one.enough) // 2, number, one.place)
            for number, one in enumerate(searches)
            if one is not None and one.enough - one.few > 1
        ]
        if not questions:
            return searches
        answers = _swept(ledger, ends, questions)
        for count, number, _ in questions:
            search = searches[number]
            if search is None:
                continue
            if answers[number]:
                search.enough, search.nodes = count, answers[number]
            else:
                search.few = count


def _swept(ledger: Ledger, ends: list[int], questions: list[tuple[int, int, int]]) -> dict[int, tuple[int, ...]]:
    """The nodes on which each job of a question (how many ends, its number, its place) fits then; empty: it does not."""
    gone: dict[int, list[Seat]] = {}
    answers: dict[int, tuple[int, ...]] = {}
    for count, number, place in sorted(questions):
        for other in ends[len(gone) : count]:
            gone[other] = ledger.unbook(other)
        answers[number] = ()
        if seat_job(ledger, place):
            answers[number] = tuple(dict.fromkeys(node for node, _ in ledger.unbook(place)))
    for other, seats in gone.items():
        ledger.book(other, seats)
    return answers
