"""How many workers of one job a cluster takes, from how many each node takes: colocation, spread and the power cap.

``most`` is never too small, so that "no room" is a proof; ``seats`` gives workers their nodes, so that "room" is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE
from models.placement.explain_rest import MANY, Rest, limits
from models.placement.schema import Rule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.placement.schema import Job
    from models.program import Floats, Ints

MOST_DOMAINS = 8  # tried for one colocated job when the power cap is in the way


@dataclass(frozen=True)
class Room:
    """The room for one waiting job beside a plan. ``place`` is the job's position; see ``limits`` for ``by_rule``."""

    rest: Rest
    place: int
    by_rule: dict[Rule, Ints]

    @classmethod
    def of(cls, rest: Rest, place: int) -> Room:
        """Count it."""
        return cls(rest, place, limits(rest, place))

    @property
    def job(self) -> Job:
        """The job."""
        return self.rest.layout.problem.jobs[self.place]

    @property
    def fewest(self) -> int:
        """Fewest workers with which the job runs."""
        return self.job.workers_min or self.job.workers

    @cached_property
    def on_node(self) -> Ints:
        """How many workers each node takes, shape (nodes,)."""
        return self.on_node_without(())

    def on_node_without(self, ignored: Iterable[Rule]) -> Ints:
        """As ``on_node``, with some rules ignored."""
        skip = set(ignored)
        room = np.full(len(self.rest.cpu), self.job.workers, dtype=np.int64)
        for rule, limit in self.by_rule.items():
            if rule not in skip:
                np.minimum(room, limit, out=room)
        return room

    @cached_property
    def quota_workers(self) -> int:
        """How many workers the tenant's quota leaves."""
        size = self.job.gpus_per_worker
        left = self.rest.quota_left(self.job.tenant)
        return MANY if size == 0 or left == np.inf else max(0, int((left + TOLERANCE) // size))

    @cached_property
    def total(self) -> int:
        """An upper bound on the workers that find room, the quota aside."""
        return most(self.rest, self.job, self.on_node)

    @cached_property
    def fits(self) -> dict[int, int] | None:
        """Nodes (positions) and workers that show that the job fits beside the plan, or None."""
        return None if self.quota_workers < self.fewest else seats(self.rest, self.job, self.on_node, self.fewest)

    @property
    def impossible(self) -> bool:
        """Whether the counts prove that the job does not fit beside the plan."""
        return self.quota_workers < self.fewest or self.total < self.fewest


def by_domain(rest: Rest, job: Job, room: Ints, *, together: bool = True, apart: bool = True) -> tuple[Ints, Ints]:
    """How many workers each colocation domain takes under the job's spread, and each node's domain.

    Without colocation (or ``together=False``) the cluster is one domain; ``apart=False`` ignores the spread.
    """
    domains, count = np.zeros(len(room), dtype=np.int64), 1
    if together and job.colocate is not None and job.colocate.required:
        domains, count = rest.layout.domains(job.colocate.level)
    if not apart or job.spread is None:
        return np.bincount(domains, weights=room, minlength=count).astype(np.int64), domains
    inner, inner_count = rest.layout.domains(job.spread.level)
    pairs, pair_of = np.unique(domains * inner_count + inner, return_inverse=True)
    sums = np.minimum(np.bincount(pair_of, weights=room, minlength=len(pairs)), job.spread.max_workers)
    return np.bincount(pairs // inner_count, weights=sums, minlength=count).astype(np.int64), domains


def most(rest: Rest, job: Job, room: Ints, *, together: bool = True, apart: bool = True) -> int:
    """No more than this many workers of the job find room; exact but for the power cap, of which it takes the LP bound."""
    totals, _ = by_domain(rest, job, room, together=together, apart=apart)
    return min(int(totals.max(initial=0)), _by_power(rest, room))


def _by_power(rest: Rest, room: Ints) -> int:
    """No more than this many workers find room on nodes in use and on idle ones that the power cap allows to start."""
    left = rest.power_left
    if left == np.inf:
        return MANY
    power = rest.layout.power
    idle = (rest.workers == 0) & (power > 0) & (room > 0)
    total = float(room[~idle].sum())
    nodes = np.flatnonzero(idle)
    nodes = nodes[np.argsort(power[nodes] / room[nodes], kind="stable")]
    drawn = np.cumsum(power[nodes])
    whole = int(np.searchsorted(drawn, left + TOLERANCE, side="right"))
    total += float(room[nodes[:whole]].sum())
    if whole < len(nodes):
        spare = max(0.0, left + TOLERANCE - (float(drawn[whole - 1]) if whole else 0.0))
        total += float(room[nodes[whole]]) * spare / float(power[nodes[whole]])
    return min(MANY, int(total + TOLERANCE))


def seats(
    rest: Rest, job: Job, room: Ints, wanted: int, *, together: bool = True, apart: bool = True, power_left: float | None = None
) -> dict[int, int] | None:
    """Nodes for ``wanted`` workers within ``room``, colocation, spread and the power cap; None when this found none.

    Without a power cap None means that there are none.
    """
    totals, domains = by_domain(rest, job, room, together=together, apart=apart)
    large = np.flatnonzero(totals >= wanted)
    large = large[np.argsort(-totals[large], kind="stable")][:MOST_DOMAINS]
    left = rest.power_left if power_left is None else power_left
    for domain in large.tolist():
        nodes = np.flatnonzero((domains == domain) & (room > 0)) if len(totals) > 1 else np.flatnonzero(room)
        for preferred in _orders(rest, room, nodes, left):
            found = _filled(rest, job, room, preferred, wanted, left, apart=apart)
            if found is not None:
                return found
    return None


def _orders(rest: Rest, room: Ints, nodes: Ints, left: float) -> list[Ints]:
    """Orders in which to fill nodes: the roomiest first; under a power cap also the nodes in use, then the most room for the power."""
    if left == np.inf:
        return [nodes[np.argsort(-room[nodes], kind="stable")]]
    power: Floats = np.where(rest.workers[nodes] > 0, 0.0, rest.layout.power[nodes])
    return [
        nodes[np.argsort(power / room[nodes], kind="stable")],
        nodes[np.lexsort((-room[nodes], power))],
        nodes[np.lexsort((power, -room[nodes], power > 0))],
    ]


def _filled(rest: Rest, job: Job, room: Ints, nodes: Ints, wanted: int, left: float, *, apart: bool) -> dict[int, int] | None:
    spread = job.spread if apart else None
    domains = rest.layout.domains(spread.level)[0] if spread is not None else None
    in_domain: dict[int, int] = {}
    found: dict[int, int] = {}
    for node in nodes.tolist():
        take = min(int(room[node]), wanted)
        if spread is not None and domains is not None:
            take = min(take, spread.max_workers - in_domain.get(int(domains[node]), 0))
        draws = 0.0 if rest.workers[node] > 0 else float(rest.layout.power[node])
        if take <= 0 or draws > left + TOLERANCE:
            continue
        left -= draws
        found[node] = take
        wanted -= take
        if domains is not None:
            in_domain[int(domains[node])] = in_domain.get(int(domains[node]), 0) + take
        if wanted == 0:
            return found
    return None
