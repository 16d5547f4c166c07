"""Each object's best option at given prices of the shared limits, in closed form, and the bound that follows.

For prices p >= 0 of the rows, every plan costs at least  sum over objects of (its cheapest option, uses charged at p) - p'limits
(Lagrangian relaxation; Geoffrion, "Lagrangean relaxation for integer programming", 1974; Everett, "Generalized Lagrange multiplier
method", 1963). For an object with r replicas the cheapest option that serves from slot s has, beside s, the cheapest slot of
the r - 1 cheapest other failure domains: copies add up, and only the serving one is told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints
    from models.tiering.options import Options

BLOCK = 1 << 15  # objects that are priced together: their numbers fit into the cache
LEAST_PRICE = 1e-3  # of ``price_scale``: a price that a row without one may yet get
ROUNDING = 1e-13  # relative, for each of the sums of a bound


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """Every object's best option at some prices: ``sets`` (bits of slots), ``server`` (slot) and charged ``value``, each (objects,).

    ``closeness`` is by how large a share the prices must change before another option is as good: at least that, with
    ``LEAST_PRICE`` for rows that have none. ``bound`` holds for every plan; +inf when an object has
    no option at all.
    """

    prices: Floats
    bound: float
    sets: Ints
    server: Ints
    value: Floats
    closeness: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Charged:
    """Options of some objects at some prices, by server: ``value`` and ``sets``, each (slots, objects); +inf where there is none.

    ``paid`` is what of the value goes to limits, or more where several copies are wanted. ``other`` and ``other_sets`` are the next
    best that differ in one further copy, of the same shape; None where no object wants several.
    """

    value: Floats
    sets: Ints
    paid: Floats
    other: Floats | None
    other_sets: Ints | None


def priced(options: Options, prices: Floats) -> Priced:
    """The best option of every object at ``prices``, shape (rows,); negative prices count as 0."""
    prices = np.maximum(prices, 0.0)
    count = options.count
    sets, server = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    value, closeness = np.zeros(count), np.zeros(count)
    size = 0.0
    for start in range(0, count, BLOCK):
        here = slice(start, min(start + BLOCK, count))
        found = charged(options, prices, here)
        server[here], value[here], sets[here], closeness[here] = best_of(found, 2 * LEAST_PRICE * options.reach[here])
        size += float(np.abs(value[here]).sum())
    paid = float(prices @ options.limits)
    bound = options.constant + float(value.sum()) - paid
    slack = ROUNDING * (size + float(prices @ np.abs(options.limits)) + abs(options.constant)) * max(1.0, len(options.uses))
    return Priced(prices, bound - slack if np.isfinite(bound) else bound, sets, server, value, closeness)


def best_of(found: Charged, least_paid: Floats) -> tuple[Ints, Floats, Ints, Floats]:
    """Server, value, set and closeness of each object's best option."""
    best, change = changes(found, least_paid)
    across = np.arange(len(best))
    closeness = change.min(axis=0, initial=np.inf)
    least, paid = found.value[best, across], found.paid[best, across]
    if found.other is not None:
        with np.errstate(invalid="ignore"):
            closeness = np.fmin(closeness, (found.other[best, across] - least) / (2 * paid + least_paid))
    return best, least, found.sets[best, across], closeness


def changes(found: Charged, least_paid: Floats) -> tuple[Ints, Floats]:
    """Each object's best server, and by how large a share prices must change until each other one is as good, (slots, objects)."""
    best = np.argmin(found.value, axis=0)
    across = np.arange(len(best))
    least, paid = found.value[best, across], found.paid[best, across]
    with np.errstate(invalid="ignore"):
        change = (found.value - least) / (found.paid + (paid + least_paid))
    change[best, across] = np.inf
    change[np.isnan(change)] = np.inf
    return best, change


def nearest(options: Options, at: Priced, count: int) -> tuple[Ints, Floats]:
    """For every two servers up to ``count`` objects with the one that are closest to the other: each pair makes another kind of room.

    Also how far each object must look for such an option, as ``closeness``; shape (objects,).
    """
    reached = np.zeros(options.count)
    kept: dict[tuple[int, int], list[tuple[Ints, Floats]]] = {}
    for start in range(0, options.count, BLOCK):
        here = slice(start, min(start + BLOCK, options.count))
        best, change = changes(charged(options, at.prices, here), 2 * LEAST_PRICE * options.reach[here])
        for server in np.unique(best).tolist():
            mine = np.flatnonzero(best == server)
            for slot, near in enumerate(change[:, mine]):
                chosen = _smallest(near, count)
                kept.setdefault((server, slot), []).append((mine[chosen] + start, near[chosen]))
    for parts in kept.values():
        objects, near = (np.concatenate(each) for each in zip(*parts, strict=True))
        chosen = _smallest(near, count)
        reached[objects[chosen]] = np.maximum(reached[objects[chosen]], near[chosen])
    reached *= 1 + 1e-9
    reached = np.where(at.closeness <= reached, reached, 0.0)
    return np.flatnonzero((reached > 0) | (at.closeness == 0)), reached


def _smallest(values: Floats, count: int) -> Ints:
    """Positions of up to ``count`` of the smallest finite values."""
    chosen = np.argpartition(values, count - 1)[:count] if count < len(values) else np.arange(len(values))
    return chosen[np.isfinite(values[chosen])]


def price_scale(options: Options) -> Floats:
    """A price for each row at which all of its limit would be worth what all objects cost; shape (rows,)."""
    return options.worth / np.maximum(np.abs(options.limits), 1e-9)


def charged(options: Options, prices: Floats, where: slice | Ints) -> Charged:
    """The options of some objects (positions, or a slice of them) at ``prices``, by server."""
    keep, serve = options.keep[:, where], options.serve[:, where]
    slots, count = keep.shape
    paid = np.zeros((2, slots, count))  # for copies, for serving
    for use in options.uses:
        if prices[use.row] > 0:
            paid[int(use.served), use.slot] += prices[use.row] * use.amount[where]
    copies, reads = keep + paid[0], serve + paid[1]
    bits = np.left_shift(np.int64(1), np.arange(slots, dtype=np.int64))
    value, sets, total = copies + reads, np.repeat(bits[:, None], count, axis=1), paid[0] + paid[1]
    several = np.flatnonzero(options.several[where])
    if not len(several):
        return Charged(value, sets, total, None, None)
    other, other_sets = np.full_like(value, np.inf), np.zeros_like(sets)
    rest = _Rest(copies[:, several], options.domain, options.replicas[where][several])
    for slot in range(slots):
        added, with_bits, more, more_bits = rest.beside(options.domain[slot])
        value[slot, several] += added
        sets[slot, several] |= with_bits
        other[slot, several] = copies[slot, several] + reads[slot, several] + more
        other_sets[slot, several] = bits[slot] | more_bits
    dearest = np.where(np.isfinite(keep[:, several]), np.abs(paid[0][:, several]), 0.0).max(axis=0) * options.replicas[where][several]
    total[:, several] = dearest + np.abs(paid[1][:, several]).max(axis=0)
    return Charged(value, sets, total, other, other_sets)


class _Rest:
    """The cheapest slots in further failure domains, for objects with several replicas."""

    def __init__(self, copies: Floats, domain: Ints, replicas: Ints) -> None:
        domains = int(domain.max()) + 1
        count = copies.shape[1]
        cheapest, slot = np.full((domains, count), np.inf), np.zeros((domains, count), dtype=np.int64)
        for number in range(domains):
            members = np.flatnonzero(domain == number)
            at = np.argmin(copies[members], axis=0)
            cheapest[number], slot[number] = copies[members][at, np.arange(count)], members[at]
        self._order = np.argsort(cheapest, axis=0, kind="stable")
        self._rank = np.empty_like(self._order)
        np.put_along_axis(self._rank, self._order, np.arange(domains)[:, None], axis=0)
        self._cost = np.take_along_axis(cheapest, self._order, axis=0)
        bits = np.left_shift(np.int64(1), np.take_along_axis(slot, self._order, axis=0))
        nothing = np.zeros((1, count))
        self._sum = np.concatenate((nothing, np.cumsum(self._cost, axis=0)))
        self._bits = np.concatenate((nothing.astype(np.int64), np.bitwise_or.accumulate(bits, axis=0)))
        self._own_bits, self._wanted, self._domains = bits, replicas - 1, domains
        self._across = np.arange(count)

    def beside(self, domain: int) -> tuple[Floats, Ints, Floats, Ints]:
        """Cost and bits of the cheapest copies outside ``domain``; then the same with the dearest of them exchanged for the next."""
        rank, wanted = self._rank[domain], self._wanted
        best, best_bits, last, last_bits = self._first(wanted, rank)
        beyond, beyond_bits = self._at(wanted, rank)
        with np.errstate(invalid="ignore"):
            swapped = np.where(np.isinf(beyond) | np.isinf(best), np.inf, best - last + beyond)
        return best, best_bits, swapped, best_bits & ~last_bits | beyond_bits

    def _at(self, place: Ints, rank: Ints) -> tuple[Floats, Ints]:
        """Cost and bits of the ``place``-th cheapest domain (from 0) when that at ``rank`` is left out."""
        at = place + (place >= rank)
        inside: Bools = at < self._domains
        at = np.minimum(at, self._domains - 1)
        return np.where(inside, self._cost[at, self._across], np.inf), np.where(inside, self._own_bits[at, self._across], 0)

    def _first(self, wanted: Ints, rank: Ints) -> tuple[Floats, Ints, Floats, Ints]:
        """Cost and bits of the ``wanted`` cheapest domains without that at ``rank``, and of the dearest of them."""
        skips: Bools = rank < wanted
        upto = wanted + skips
        inside: Bools = upto <= self._domains
        upto = np.minimum(upto, self._domains)
        skipped, skipped_bits = self._cost[rank, self._across], self._own_bits[rank, self._across]
        with np.errstate(invalid="ignore"):
            total = self._sum[upto, self._across] - np.where(skips, skipped, 0.0)
        total = np.where(inside & ~np.isnan(total), total, np.inf)
        bits = np.where(skips, self._bits[upto, self._across] & ~skipped_bits, self._bits[upto, self._across])
        last, last_bits = self._at(wanted - 1, rank)
        return total, bits, last, last_bits
