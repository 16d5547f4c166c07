"""What failures can take from reserved routes: exactly, without writing the scenarios down.

Liu, Kandula, Mahajan, Zhang, Gelernter, "Traffic engineering with forward fault correction", SIGCOMM 2014: a demand is granted what
the routes left after any failure still reserve. Up to k events of a family take from a demand the largest sum of reservations that k of
its events hit together: for k = 1 a sum for each event; for more a search over the sets of k events that hit its routes, cut by
what the best events left could add. That search is exact; at worst it looks at every set of k events on the demand's routes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.flow.failures.routes import RouteSet
    from models.flow.failures.scenarios import Family
    from models.program import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Loss:
    """What one demand loses when some events of a family happen together, in the unit of the reservations."""

    demand: int
    family: Family
    events: tuple[int, ...]
    lost: float


def worst_losses(routes: RouteSet, reserved: Floats, family: Family, demands: int, most: int = 1) -> Iterator[Loss]:
    """For each demand that any event hits, what the worst set of events takes; for single events the ``most`` worst of them."""
    route, event = routes.events(family)
    if not len(route):
        return
    if family.most == 1:
        yield from _singly(family, routes.demand[route], event, reserved[route], most)
        return
    owner = routes.demand[route]
    order = np.argsort(owner, kind="stable")
    route, event = route[order], event[order]
    ends = np.cumsum(np.bincount(owner, minlength=demands))
    for demand in np.unique(owner).tolist():
        part = slice(ends[demand - 1] if demand else 0, ends[demand])
        hit_routes, column = np.unique(route[part], return_inverse=True)
        events, row = np.unique(event[part], return_inverse=True)
        covers = np.zeros((len(events), len(hit_routes)), dtype=np.bool_)
        covers[row, column] = True
        lost, chosen = heaviest(covers, reserved[hit_routes], family.most)
        yield Loss(demand, family, tuple(events[list(chosen)].tolist()), lost)


def least_left(routes: RouteSet, reserved: Floats, families: tuple[Family, ...], demands: int) -> Floats:
    """What is left of each demand's reservations after the worst of all scenarios, shape (demands,)."""
    whole = np.bincount(routes.demand, weights=reserved, minlength=demands)
    lost = np.zeros(demands)
    for family in families:
        for loss in worst_losses(routes, reserved, family, demands):
            lost[loss.demand] = max(lost[loss.demand], loss.lost)
    return np.maximum(whole - lost, 0.0)


def _singly(family: Family, owner: Ints, event: Ints, reserved: Floats, most: int) -> Iterator[Loss]:
    key = owner * family.count + event
    pairs, place = np.unique(key, return_inverse=True)
    lost = np.bincount(place, weights=reserved)
    demand = pairs // family.count
    order = np.lexsort((-lost, demand))
    ranked = demand[order]
    rank = np.arange(len(order)) - np.searchsorted(ranked, ranked)
    for at in order[rank < most].tolist():
        yield Loss(int(demand[at]), family, (int(pairs[at] % family.count),), float(lost[at]))


def heaviest(covers: Bools, weights: Floats, most: int) -> tuple[float, tuple[int, ...]]:
    """The at most ``most`` rows of ``covers`` (rows, columns) whose columns together weigh most: the weight, and the rows.

    Exact, by branch and bound: a set is given up when even the heaviest rows left, each counted in full, cannot make it better.
    """
    best = _Best(covers, weights)
    best.look((), np.zeros(covers.shape[1], dtype=np.bool_), 0.0, np.arange(len(covers)), min(most, len(covers)))
    return best.weight, best.rows


class _Best:
    """The best set of rows so far."""

    def __init__(self, covers: Bools, weights: Floats) -> None:
        self._covers, self._weights = covers, weights
        self.weight = 0.0
        self.rows: tuple[int, ...] = ()

    def look(self, taken: tuple[int, ...], covered: Bools, weight: float, left: Ints, more: int) -> None:
        """Extend ``taken`` by at most ``more`` of the rows ``left``."""
        if weight > self.weight or not self.rows:
            self.weight, self.rows = weight, taken
        if not more or not len(left):
            return
        gains = self._covers[left] @ np.where(covered, 0.0, self._weights)
        order = np.argsort(gains * -1.0, kind="stable")
        left, gains = left[order], gains[order]
        for at in range(len(left)):
            bound = weight + float(gains[at : at + more].sum())
            if bound <= self.weight * (1.0 + 1e-12) or gains[at] <= 0.0:
                return
            row = int(left[at])
            self.look((*taken, row), covered | self._covers[row], weight + float(gains[at]), left[at + 1 :], more - 1)
