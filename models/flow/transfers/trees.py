"""The cheapest way of one volume to all its targets at given prices: a Steiner arborescence in the network over time.

A path for one target. For several, dynamic programming over sets of targets, exact: from each place and moment, the cheapest way to a set
is to wait, to send one copy on for the whole set, or to split the set. For very many targets a tree grown target by target stands in,
and the exact tree of a few of the targets bounds its price.

Sources: S. E. Dreyfus, R. A. Wagner, "The Steiner problem in graphs", Networks 1 (1971); R. E. Erickson, C. L. Monma, A. F. Veinott,
"Send-and-split method for minimum-concave-cost network flows", Mathematics of Operations Research 12 (1987); H. Takahashi,
A. Matsuyama, "An approximate solution for the Steiner problem in graphs", Mathematica Japonica 24 (1980).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from models.flow.transfers.expansion import Expansion, Legs
    from models.program import Bools, Floats, Ints

NUDGE = 1e-11  # of the price unit, added to each leg: of equally cheap ways the one with few and early legs
TABLE_ITEMS = 10**7  # of a table of prices in memory at once
EXACT_WORK = 5 * 10**7  # sums of two prices for one transfer, up to which its trees are exact
QUICK_TARGETS = 5  # up to so many the exact tree takes no longer than one that is just good
BOUND_TARGETS = 9  # of the targets of larger transfers that a bound looks at


@dataclass(frozen=True, slots=True)
class Way:
    """The way found for a transfer, with its price; no way is cheaper than ``least``. Without a way there is none, and all are inf."""

    transfer: int
    legs: Legs
    price: float
    least: float


@dataclass(frozen=True, slots=True, eq=False)
class _Splits:
    """For the sets of one size: ``whole`` (sets,), and all ways to part each in two, ``starts`` (sets,) into ``first``, ``second``."""

    whole: Ints
    starts: Ints
    first: Ints
    second: Ints


def work(expansion: Expansion, transfer: int) -> int:
    """About how many sums of two prices the exact tree of this transfer takes."""
    targets = len(expansion.targets[transfer])
    window = int(expansion.deadline[transfer] - expansion.release[transfer])
    return int(3**targets) * window * expansion.network.nodes // 2


def is_exact(expansion: Expansion, transfer: int) -> bool:
    """Whether the cheapest tree of this transfer is found exactly, and not just a good one."""
    targets = len(expansion.targets[transfer])
    items = 2**targets * (expansion.steps + 1) * expansion.network.nodes
    return targets == 1 or (work(expansion, transfer) <= EXACT_WORK and items <= TABLE_ITEMS)


def is_quick(expansion: Expansion, transfer: int) -> bool:
    """Whether the exact tree of this transfer takes hardly any time."""
    return len(expansion.targets[transfer]) <= QUICK_TARGETS and is_exact(expansion, transfer)


def ways(
    expansion: Expansion, which: Iterable[int], leg_price: Floats, wait_price: Floats, unit: float = 1.0, *, quick: bool = False
) -> list[Way]:
    """The cheapest way of each transfer of ``which`` at prices of at least 0 for legs (steps, arcs) and waiting (steps, nodes).

    A price of inf closes a leg or a place. ``unit`` is about the size of usual prices: legs that cost nothing are still spared.
    ``quick`` leaves exact trees out that take long: those ways are just good, and what bounds them is little.
    """
    nudge = NUDGE * unit * (1.0 + np.arange(expansion.steps) / expansion.steps)
    nudged = leg_price + nudge[:, None]
    groups: defaultdict[int, list[int]] = defaultdict(list)
    found: list[Way] = []
    for transfer in which:
        if is_quick(expansion, transfer) or (not quick and is_exact(expansion, transfer)):
            groups[len(expansion.targets[transfer])].append(transfer)
        else:
            found.append(_large(expansion, transfer, leg_price, nudged, wait_price, unit, quick=quick))
    for targets, members in groups.items():
        each = (expansion.steps + 1) * 2**targets * expansion.network.nodes
        at_once = max(1, TABLE_ITEMS // each)
        for start in range(0, len(members), at_once):
            part = np.array(members[start : start + at_once], dtype=np.int64)
            nodes = np.array([expansion.targets[one] for one in part.tolist()], dtype=np.int64)
            found += _exact(expansion, part, nodes, leg_price, nudged, wait_price, unit)
    return found


def _exact(
    expansion: Expansion, which: Ints, targets: Ints, leg_price: Floats, nudged: Floats, wait_price: Floats, unit: float
) -> list[Way]:
    """Ways of transfers with equally many targets, ``targets`` (transfers, targets)."""
    tables = _Tables(expansion, which, targets, nudged, wait_price)
    full = 2 ** targets.shape[1] - 2
    prices = tables.price[expansion.release[which], np.arange(len(which)), full, expansion.source[which]]
    legs = tables.legs(np.flatnonzero(np.isfinite(prices)))
    lost = 2.0 * NUDGE * unit * expansion.steps * targets.shape[1]  # what legs of the cheapest way may have been nudged by
    found = []
    for place, transfer in enumerate(which.tolist()):
        if not np.isfinite(prices[place]):
            found.append(Way(transfer, (), np.inf, np.inf))
            continue
        way = expansion.needed(transfer, legs[place])
        found.append(Way(transfer, way, price_of(expansion, transfer, way, leg_price, wait_price), float(prices[place]) - lost))
    return found


def price_of(expansion: Expansion, transfer: int, legs: Legs, leg_price: Floats, wait_price: Floats) -> float:
    """The price of one way at prices of legs (steps, arcs) and waiting (steps, nodes)."""
    sent = sum(float(leg_price[step, arc]) for arc, step in legs)
    return sent + sum(float(wait_price[step, node]) for node, step in expansion.waits(transfer, legs))


class _Tables:
    """Prices from every node and moment to every set of targets.

    ``price`` has the shape (steps + 1, transfers, sets, nodes); the set at position s - 1 has the targets whose bits are in s.
    """

    def __init__(self, expansion: Expansion, which: Ints, targets: Ints, leg_price: Floats, wait_price: Floats) -> None:
        self._expansion, self._which, self._targets = expansion, which, targets
        self._leg_price = leg_price
        self._wait_price = np.where(expansion.own[which][None, :, :], 0.0, wait_price[:, None, :])  # (steps, transfers, nodes)
        self._splits = _splits(targets.shape[1])
        self.price = self._filled()

    def _filled(self) -> Floats:
        expansion, network = self._expansion, self._expansion.network
        transfers, targets = self._targets.shape
        starts, arcs = network.out_arcs
        leaving = np.flatnonzero(np.diff(starts))
        first, heads = starts[:-1][leaving], network.arc_head[arcs]
        rows, single = np.arange(transfers)[:, None], (2 ** np.arange(targets) - 1)[None, :]
        end = np.full((transfers, 2**targets - 1, network.nodes), np.inf)
        end[rows, single, self._targets] = 0.0
        deadline = expansion.deadline[self._which]
        price = np.empty((expansion.steps + 1, *end.shape))
        begin, over = int(expansion.release[self._which].min()), int(deadline.max())
        price[over:] = end
        for step in range(over - 1, begin - 1, -1):
            later = price[step + 1]
            now = price[step]
            np.add(later, self._wait_price[step][:, None, :], out=now)
            if len(arcs):
                sent = np.minimum.reduceat(later[:, :, heads] + self._leg_price[step, arcs], first, axis=2)
                now[:, :, leaving] = np.minimum(now[:, :, leaving], sent)
            now[rows, single, self._targets] = 0.0
            for split in self._splits:
                parted = np.minimum.reduceat(now[:, split.first] + now[:, split.second], split.starts, axis=1)
                now[:, split.whole] = np.minimum(now[:, split.whole], parted)
            now[deadline <= step] = end[deadline <= step]
        return price

    def legs(self, places: Ints) -> dict[int, list[tuple[int, int]]]:
        """The legs (arc, step) of the cheapest tree of each transfer of ``places``, which must have one."""
        expansion = self._expansion
        found: dict[int, list[tuple[int, int]]] = {place: [] for place in places.tolist()}
        release = expansion.release[self._which]
        full = 2 ** self._targets.shape[1] - 2
        states = np.zeros((0, 3), dtype=np.int64)  # transfer, set, node
        if not len(places):
            return found
        for step in range(int(release[places].min()), int(expansion.deadline[self._which[places]].max())):
            begun = places[release[places] == step]
            fresh = np.stack((begun, np.full(len(begun), full), expansion.source[self._which[begun]]), axis=1)
            states = np.concatenate((states, fresh))
            states, arcs, waits = self._moves(step, states)
            for place, arc in zip(states[~waits, 0].tolist(), arcs[~waits].tolist(), strict=True):
                found[place].append((arc, step))
            states[~waits, 2] = expansion.network.arc_head[arcs[~waits]]
        return found

    def walk(self, place: int, moment: int, node: int, held: Bools) -> Iterator[tuple[int, int]]:
        """The cheapest legs from a node at a moment to the one target of ``place``; notes in ``held`` (moments, nodes) where they come."""
        expansion = self._expansion
        target, own = int(self._targets[place, 0]), expansion.own[self._which[place]]
        state = np.array([[place, 0, node]], dtype=np.int64)
        for step in range(moment, expansion.steps):
            if node == target:
                return
            state, arcs, waits = self._moves(step, state)
            if not waits[0]:
                yield int(arcs[0]), step
                node = int(expansion.network.arc_head[arcs[0]])
                state[0, 2] = node
            held[step + 1 :, node] |= own[node] | (np.arange(step + 1, expansion.steps + 1) == step + 1)

    def _moves(self, step: int, states: Ints) -> tuple[Ints, Ints, Bools]:
        """The states of one moment, split where that is cheapest and without those that are there; the arc each takes, or that it waits."""
        expansion, later = self._expansion, self.price[step + 1]
        while True:
            place, group, node = states.T
            alone = (group & (group + 1)) == 0  # one target is left
            states = states[~(alone & (self._target(place, group) == node))]
            place, group, node = states.T
            out = expansion.arcs_out[node]
            sent = later[place[:, None], group[:, None], expansion.network.arc_head[out]] + self._leg_price[step, out]
            sent[out < 0] = np.inf
            best = np.argmin(sent, axis=1)
            send, wait = sent[np.arange(len(best)), best], later[place, group, node] + self._wait_price[step, place, node]
            parted = self.price[step, place, group, node] < np.minimum(send, wait)
            if not parted.any():
                return states, out[np.arange(len(best)), best], wait < send
            halves = [self._halves(step, *state) for state in states[parted].tolist()]
            states = np.concatenate((states[~parted], np.array(halves, dtype=np.int64).reshape(-1, 3)))

    def _target(self, place: Ints, group: Ints) -> Ints:
        """The first target of each state's set."""
        lowest = (group + 1) & -(group + 1)
        nodes: Ints = self._targets[place, np.log2(lowest).astype(np.int64)]
        return nodes

    def _halves(self, step: int, place: int, group: int, node: int) -> list[list[int]]:
        prices = self.price[step, place, :, node]
        first, second = _parts(group)
        best = int(np.argmin(prices[first] + prices[second]))
        return [[place, int(first[best]), node], [place, int(second[best]), node]]


@cache
def _parts(group: int) -> tuple[Ints, Ints]:
    """All ways to part a set in two: positions of the two halves, each way once."""
    bits, lowest = group + 1, (group + 1) & -(group + 1)
    halves = [part for part in _subsets(bits) if part & lowest and part != bits]
    first = np.array(halves, dtype=np.int64)
    return first - 1, bits - first - 1


def _subsets(bits: int) -> Iterator[int]:
    part = bits
    while part:
        yield part
        part = (part - 1) & bits


@cache
def _splits(targets: int) -> tuple[_Splits, ...]:
    """The splits of all sets of two and more, in the order of their size."""
    found = []
    for size in range(2, targets + 1):
        whole = [bits - 1 for bits in range(1, 2**targets) if bits.bit_count() == size]
        parts = [_parts(group) for group in whole]
        starts = np.concatenate(([0], np.cumsum([len(first) for first, _ in parts])[:-1])).astype(np.int64)
        first, second = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        found.append(_Splits(np.array(whole, dtype=np.int64), starts, first, second))
    return tuple(found)


# ---------------------------------------------------------------- very many targets


def _large(expansion: Expansion, transfer: int, leg_price: Floats, nudged: Floats, wait_price: Floats, unit: float, *, quick: bool) -> Way:
    """A tree that grows by the target that is cheapest to reach from it; bounded by the exact tree of the targets that are dearest."""
    targets = expansion.targets[transfer]
    count = len(targets)
    which = np.full(count, transfer, dtype=np.int64)
    tables = _Tables(expansion, which, targets[:, None], nudged, wait_price)
    begin = int(expansion.release[transfer])
    alone = tables.price[begin, :, 0, expansion.source[transfer]]
    if np.isinf(alone).any():
        return Way(transfer, (), np.inf, np.inf)
    held = np.zeros((expansion.steps + 1, expansion.network.nodes), dtype=np.bool_)
    held[begin:, expansion.source[transfer]] = True
    legs: list[tuple[int, int]] = []
    left = list(range(count))
    while left:
        reach = [np.where(held, tables.price[:, one, 0, :], np.inf) for one in left]
        best = int(np.argmin([prices.min() for prices in reach]))
        moment, node = divmod(int(np.argmin(reach[best])), expansion.network.nodes)
        for arc, step in tables.walk(left.pop(best), moment, node, held):
            legs.append((arc, step))
    kept = expansion.needed(transfer, legs)
    few = targets[np.argsort(-alone, kind="stable")[: 1 if quick else BOUND_TARGETS]]
    bound = _Tables(expansion, which[:1], few[None, :], nudged, wait_price).price[begin, 0, -1, expansion.source[transfer]]
    least = float(bound) - 2.0 * NUDGE * unit * expansion.steps * len(few)
    return Way(transfer, kept, price_of(expansion, transfer, kept, leg_price, wait_price), least)
