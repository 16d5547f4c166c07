"""Brute force for tiering: every set of copies of every object, with plain Python arithmetic, and a linear program for who reads which.

Nothing of ``models.tiering`` but the schema is used: prices, times and rules are written down here once more, from the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from scipy.optimize import linprog

from models.tiering.schema import GoalName, Object, Problem, Reader, Tier

MAX_PLANS = 20_000
SLACK = 1e-9
GBIT = 8.589934592
Copy = tuple[Tier, bool]


@dataclass(frozen=True)
class Way:
    """One copy that may serve one read, with what it costs, how long it takes, and what it loads."""

    cost: float
    time: float
    load: float
    tier: str
    link: tuple[str, str] | None


def best(problem: Problem) -> tuple[float, ...] | None:
    """The lexicographically least goal values, in the order of the goals; None when there is no plan."""
    choices = [list(_sets(problem, one)) for one in problem.objects]
    if math.prod(len(each) for each in choices) > MAX_PLANS:
        raise ValueError("too many plans to try them all")
    found: tuple[float, ...] | None = None
    for plan in product(*choices):
        values = _values(problem, plan)
        if values is not None and (found is None or _less(values, found)):
            found = values
    return found


def _less(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    for one, other in zip(first, second, strict=True):
        if abs(one - other) > 1e-9 * max(1.0, abs(other)):
            return one < other
    return False


def _share(one: Object, packed: bool) -> float:
    return float(one.compressed_share or 1.0) if packed else 1.0


def _sets(problem: Problem, one: Object) -> Iterator[tuple[Copy, ...]]:
    """Every set of copies that the object's own rules allow."""
    options = [
        (tier, packed)
        for tier in problem.tiers
        for packed in ((False, True) if one.compressed_share is not None else (False,))
        if (one.regions is None or tier.region in one.regions)
        and set(one.protections) <= set(tier.protections)
        and tier.latency_ms + packed * problem.compression.latency_ms <= (one.latency_limit_ms or math.inf) + 1e-6
    ]
    for count in range(one.replicas, (one.copies_max or one.replicas) + 1):
        for copies in combinations(options, count):
            if len({tier.id for tier, _ in copies}) < count:
                continue
            domains = {(tier.failure_domain is None, tier.failure_domain or tier.id) for tier, _ in copies}
            if len(domains) < one.replicas:
                continue
            there = {(tier.id, packed) for tier, packed in copies}
            if all((now.tier, now.compressed) in there for now in one.current if now.stored_days < one.minimum_stay_days):
                yield copies


def _values(problem: Problem, plan: tuple[tuple[Copy, ...], ...]) -> tuple[float, ...] | None:
    used: dict[str, float] = {}
    written: dict[str, float] = {}
    cost = moved_gib = moved_usd = 0.0
    tiers = {tier.id: tier for tier in problem.tiers}
    for one, copies in zip(problem.objects, plan, strict=True):
        kept, gib, usd = _of_object(problem, one, copies, tiers)
        cost += kept + usd
        moved_gib, moved_usd = moved_gib + gib, moved_usd + usd
        for tier, packed in copies:
            used[tier.id] = used.get(tier.id, 0.0) + one.size_gib * _share(one, packed)
            written[tier.id] = written.get(tier.id, 0.0) + one.write_gbps * _share(one, packed)
    for tier in problem.tiers:
        if _over(used.get(tier.id, 0.0), tier.capacity_gib) or _over(written.get(tier.id, 0.0), tier.write_gbps):
            return None
    if _over(moved_gib, problem.migration.gib) or _over(moved_usd, problem.migration.usd):
        return None
    served = _served(problem, plan, cost)
    if served is None:
        return None
    values = {GoalName.cost: cost + served[0], GoalName.access_time: served[1], GoalName.moved_gib: moved_gib}
    return tuple(values[goal] for goal in problem.goals)


def _over(value: float, limit: float | None) -> bool:
    return limit is not None and value > limit + SLACK * max(1.0, limit)


def _of_object(problem: Problem, one: Object, copies: tuple[Copy, ...], tiers: dict[str, Tier]) -> tuple[float, float, float]:
    """USD of keeping it, GiB moved, and USD of moving it."""
    days = min(problem.period_days, one.lifetime_days or math.inf)
    lifetime = one.lifetime_days if one.lifetime_days is not None else math.inf
    ages = {(now.tier, now.compressed): now.stored_days for now in one.current}
    reading = [
        one.size_gib * _share(one, now.compressed) * tiers[now.tier].usd_per_gib_read
        + now.compressed * one.size_gib * problem.compression.usd_per_gib
        for now in one.current
    ]
    kept = gib = usd = 0.0
    for tier, packed in copies:
        size = one.size_gib * _share(one, packed)
        age = ages.get((tier.id, packed))
        rest = max(0.0, tier.minimum_days - (age or 0.0) - lifetime)
        kept += size * tier.usd_per_gib_month * (days + rest) / (365 / 12)
        kept += days * 86400 * one.writes_per_s / 1000 * tier.usd_per_1000_writes
        kept += days * 86400 * one.write_gbps / GBIT * _share(one, packed) * tier.usd_per_gib_written
        if age is None and one.current:
            gib += size
            usd += min(reading) + size * tier.usd_per_gib_written
        elif age is None:
            kept += size * tier.usd_per_gib_written
    there = {(tier.id, packed) for tier, packed in copies}
    for now in one.current:
        if (now.tier, now.compressed) not in there:
            tier = tiers[now.tier]
            early = max(0.0, tier.minimum_days - now.stored_days)
            usd += one.size_gib * _share(one, now.compressed) * tier.usd_per_gib_month * early / (365 / 12)
    return kept, gib, usd


def _ways(problem: Problem, one: Object, copies: tuple[Copy, ...], reader: Reader | None, gbps: float, per_s: float) -> list[Way]:
    seconds = min(problem.period_days, one.lifetime_days or math.inf) * 86400
    links = {(link.source, link.target): link for link in problem.site_links}
    found = []
    for tier, packed in copies:
        link = None
        if reader is not None and tier.site != reader.site and reader.accelerator not in tier.accelerators:
            link = links.get((tier.site, reader.site))
            if link is None:
                continue
        latency = tier.latency_ms + packed * problem.compression.latency_ms + (link.latency_ms if link else 0.0)
        if latency > (one.latency_limit_ms or math.inf) + 1e-6:
            continue
        streams = [tier.stream_gbps if tier.stream_gbps is not None else tier.read_gbps]
        streams += [link.stream_gbps or link.gbps] if link else []
        stream = min((each for each in streams if each is not None), default=math.inf)
        load = gbps * _share(one, packed)
        by_gib = _share(one, packed) * (tier.usd_per_gib_read + (link.usd_per_gib if link else 0.0))
        cost = seconds * (per_s / 1000 * tier.usd_per_1000_reads + gbps / GBIT * (by_gib + packed * problem.compression.usd_per_gib))
        time = load / stream + per_s * latency / 1000
        found.append(Way(cost, time, load, tier.id, (link.source, link.target) if link else None))
    return found


def _served(problem: Problem, plan: tuple[tuple[Copy, ...], ...], spent: float) -> tuple[float, float] | None:
    """The best cost and time of all reads, by the goals in their order; None where they cannot all be served."""
    at = {one.id: place for place, one in enumerate(problem.objects)}
    reads = [
        _ways(problem, one, plan[place], None, one.read_gbps, one.reads_per_s)
        for place, one in enumerate(problem.objects)
        if one.read_gbps or one.reads_per_s
    ]
    for reader in problem.readers:
        for read in reader.reads:
            place = at[read.object]
            reads.append(_ways(problem, problem.objects[place], plan[place], reader, read.read_gbps, read.reads_per_s))
    if any(not ways for ways in reads):
        return None
    order = [goal for goal in problem.goals if goal is not GoalName.moved_gib]
    chosen = [min(ways, key=lambda way: [way.cost if goal is GoalName.cost else way.time for goal in order]) for ways in reads]
    if _fits(problem, chosen, spent):
        return sum(way.cost for way in chosen), sum(way.time for way in chosen)
    return _split(problem, reads, order, spent)


def _fits(problem: Problem, chosen: list[Way], spent: float) -> bool:
    for tier in problem.tiers:
        if _over(sum(way.load for way in chosen if way.tier == tier.id), tier.read_gbps):
            return False
    for link in problem.site_links:
        if _over(sum(way.load for way in chosen if way.link == (link.source, link.target)), link.gbps):
            return False
    return not _over(spent + sum(way.cost for way in chosen), problem.budget_usd)


def _split(problem: Problem, reads: list[list[Way]], order: Sequence[GoalName], spent: float) -> tuple[float, float] | None:
    ways = [way for each in reads for way in each]
    sums = np.zeros((len(reads), len(ways)))
    start = 0
    for row, each in enumerate(reads):
        sums[row, start : start + len(each)] = 1.0
        start += len(each)
    rows, sides = [], []
    for tier in problem.tiers:
        if tier.read_gbps is not None:
            rows.append([way.load * (way.tier == tier.id) for way in ways])
            sides.append(tier.read_gbps)
    for link in problem.site_links:
        if link.gbps is not None:
            rows.append([way.load * (way.link == (link.source, link.target)) for way in ways])
            sides.append(link.gbps)
    cost, time = [way.cost for way in ways], [way.time for way in ways]
    if problem.budget_usd is not None:
        rows.append(cost)
        sides.append(problem.budget_usd - spent)
    if not ways:
        return None  # the budget is exceeded without a read
    values = np.zeros(len(ways))
    for goal in order or [GoalName.cost]:
        aim = cost if goal is GoalName.cost else time
        answer = linprog(aim, A_ub=rows or None, b_ub=sides or None, A_eq=sums, b_eq=np.ones(len(reads)), bounds=(0, 1))
        if answer.status != 0:
            return None
        values = answer.x
        rows.append(aim)
        sides.append(answer.fun + 1e-9 * max(1.0, abs(answer.fun)))
    return float(np.dot(cost, values)), float(np.dot(time, values))
