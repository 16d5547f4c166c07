"""How fast no collective can be: lower bounds on the time of moving its data over a fabric, whatever the algorithm.

Each argument looks at a set X of nodes that holds a of the n GPUs and counts the data that must cross its border. The data of
different GPUs is independent, so what a side must learn of the other has to be sent to it. With S the size of a GPU's buffer:

all_reduce      S enters X and S leaves it: inside and outside must each learn the sum of the other side.
all_gather      S(n-a)/n enters: the parts of those outside; S a/n leaves: the parts of those inside.
reduce_scatter  S a/n enters: what those outside add to the a parts that end inside; S(n-a)/n leaves likewise.
all_to_all      S a(n-a)/n crosses each way: each of the a GPUs has S/n for each of the n-a others.

What crosses, over the capacity of the links that cross that way, is a time that no algorithm can beat. This holds also where
switches add and copy. For an all-reduce where they do neither there is more: see ``_gossip``. And no GPU can know of
another's data before one message could travel between the two that are farthest apart.

Sources: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009; for the number of
messages in one-way gossip: Harary and Schwenk, "The communication problem on graphs and digraphs", 1974.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from models.fabric_routing import EvenRouting
from models.fabrics import NO_DOMAIN, chosen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from models.fabrics import Fabric
    from models.program import Floats, Ints

GBIT_PER_GIB = 8.589934592


class Collective(StrEnum):
    """What n GPUs do together; S is the size of the buffer that each has in full at the start or at the end.

    ``all_reduce``: each begins with S and ends with the sum of all. ``reduce_scatter``: each begins with S and ends with its nth of the
    sum. ``all_gather``: each begins with its nth and ends with all S. ``all_to_all``: each begins with S and sends an nth to everyone.
    """

    all_reduce = "all_reduce"
    reduce_scatter = "reduce_scatter"
    all_gather = "all_gather"
    all_to_all = "all_to_all"


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A time that no algorithm beats, and why: ``argument`` is a sentence."""

    seconds: float
    argument: str


@dataclass(frozen=True, slots=True)
class _Cuts:
    """Sets of nodes with GPUs on both sides: how many of the GPUs are inside, and Gbit/s inwards and outwards; shape (cuts,)."""

    inside: Ints
    inward: Floats
    outward: Floats
    name: str


def cut_lower_bound(fabric: Fabric, gpus: Iterable[str], size_gib: float, kind: Collective | str, *, in_network: bool = False) -> float:
    """Seconds that the collective takes at least: ``lower_bound`` without the reason."""
    return lower_bound(fabric, gpus, size_gib, kind, in_network=in_network).seconds


def lower_bound(fabric: Fabric, gpus: Iterable[str], size_gib: float, kind: Collective | str, *, in_network: bool = False) -> LowerBound:
    """The best of the bounds above, over cuts around each GPU, each domain of the fabric, and each row of neighbouring ones.

    ``in_network``: switches may add and copy data. Raises ValueError for unknown, repeated or disconnected GPUs and a negative size.
    """
    at, gbit, asked = request(fabric, gpus, size_gib, kind)
    if len(at) < 2:  # noqa: PLR2004  (one GPU has nobody to talk to)
        return LowerBound(0.0, "one GPU has all it needs")
    routing = EvenRouting(fabric, at)
    refuse_cut_off(routing)
    best = LowerBound(_farthest(routing), "a message between the two GPUs that are farthest apart")
    for cuts in _all_cuts(fabric, at):
        for need, capacity, way in zip(
            _needs(asked, cuts.inside, len(at), gbit), (cuts.inward, cuts.outward), ("into", "out of"), strict=True
        ):
            seconds = need / capacity
            place = int(seconds.argmax())
            if seconds[place] > best.seconds:
                text = f"{need[place]:.6g} Gbit must go {way} {cuts.name} with {cuts.inside[place]} of the {len(at)} GPUs"
                best = LowerBound(float(seconds[place]), f"{text}, at {capacity[place]:.6g} Gbit/s")
    if asked is Collective.all_reduce and not in_network:
        best = max(best, *_gossip(fabric, at, gbit), key=lambda one: one.seconds)
    return best


def request(fabric: Fabric, gpus: Iterable[str], size_gib: float, kind: Collective | str) -> tuple[Ints, float, Collective]:
    """Positions of the GPUs, the size in Gbit, and the kind of collective. Raises ValueError."""
    if not 0 <= size_gib < float("inf"):
        raise ValueError(f"size_gib must be 0 or more and finite, not {size_gib:g}")
    at = chosen(fabric, gpus)
    if not len(at):
        raise ValueError("a collective needs at least one GPU")
    return at, size_gib * GBIT_PER_GIB, Collective(kind)


def refuse_cut_off(routing: EvenRouting) -> None:
    """Raises ValueError when two of the GPUs have no path between them."""
    if not routing.reaches():
        first, second = (routing.fabric.node_ids[place] for place in routing.cut_off())
        raise ValueError(f"there is no path from '{first}' to '{second}' over links with capacity")


def _farthest(routing: EvenRouting) -> float:
    number = np.arange(len(routing.targets))
    return float(max(routing.latency_s(number, np.full_like(number, target)).max() for target in number))


def _needs(kind: Collective, inside: Ints, gpus: int, gbit: float) -> tuple[Floats, Floats]:
    """Gbit that must enter and leave a set with so many of the GPUs: see the module."""
    part = inside / gpus
    match kind:
        case Collective.all_reduce:
            return np.full(len(inside), gbit), np.full(len(inside), gbit)
        case Collective.all_gather:
            return gbit * (1 - part), gbit * part
        case Collective.reduce_scatter:
            return gbit * part, gbit * (1 - part)
        case Collective.all_to_all:
            return gbit * part * (gpus - inside), gbit * part * (gpus - inside)


def _levels(fabric: Fabric, at: Ints) -> Iterator[tuple[str, Ints]]:
    """The number of the set in which each node stands, level by level; NO_DOMAIN for none."""
    alone = np.full(fabric.nodes, NO_DOMAIN, dtype=np.int64)
    alone[at] = np.arange(len(at))
    yield "gpu", alone
    yield from fabric.domains.items()


def _all_cuts(fabric: Fabric, at: Ints) -> Iterator[_Cuts]:
    for level, numbers in _levels(fabric, at):
        sets = int(numbers.max()) + 1
        members = np.bincount(numbers[at][numbers[at] >= 0], minlength=sets)
        tail, head, gbps = _arcs(fabric, numbers)
        yield from _divided(_Cuts(members, _into(head, tail, gbps, sets), _into(tail, head, gbps, sets), f"a {level}"), len(at))
        # Rows of neighbours: sets 0 to j. An arc crosses between the numbers of its ends; nodes of no set come last.
        first, last = (np.where(end < 0, sets, end) for end in (tail, head))
        row = _Cuts(np.cumsum(members), _crossing(last, first, gbps, sets), _crossing(first, last, gbps, sets), f"the first {level} sets")
        yield from _divided(row, len(at))


def _divided(cuts: _Cuts, gpus: int) -> Iterator[_Cuts]:
    """Those of the cuts that have GPUs on both sides."""
    good = (cuts.inside > 0) & (cuts.inside < gpus)
    if good.any():
        yield _Cuts(cuts.inside[good], cuts.inward[good], cuts.outward[good], cuts.name)


def _arcs(fabric: Fabric, numbers: Ints) -> tuple[Ints, Ints, Floats]:
    """For each way of each link the sets of its ends, and its Gbit/s."""
    source, target = numbers[fabric.link_source], numbers[fabric.link_target]
    gbps = np.concatenate((fabric.capacity_gbps, fabric.back_gbps))
    return np.concatenate((source, target)), np.concatenate((target, source)), gbps


def _into(end: Ints, start: Ints, gbps: Floats, sets: int) -> Floats:
    """Gbit/s of the arcs that end in each set and start outside it."""
    crosses = (end != start) & (end >= 0)
    found: Floats = np.bincount(end[crosses], gbps[crosses], sets).astype(np.float64)
    return found


def _crossing(start: Ints, end: Ints, gbps: Floats, sets: int) -> Floats:
    """For each j the Gbit/s of arcs with ``start`` <= j < ``end``; an arc without limit makes it inf."""
    found = []
    for amount in (np.where(np.isinf(gbps), 0.0, gbps), np.isinf(gbps).astype(np.float64)):
        rising = start < end
        steps = np.bincount(start[rising], amount[rising], sets + 1) - np.bincount(end[rising], amount[rising], sets + 1)
        found.append(np.cumsum(steps)[:sets])
    # Differences of sums may leave a crumb of rounding behind: a capacity that is too large keeps the bound valid.
    finite = found[0] + 1e-12 * np.where(np.isinf(gbps), 0.0, gbps).sum()
    return np.where(found[1] > 0, np.inf, finite)


def _gossip(fabric: Fabric, at: Ints, gbit: float) -> Iterator[LowerBound]:
    """All-reduce where only GPUs add and copy: m disjoint sets with GPUs receive, and send, at least 2(m-1)S between them.

    Take one element and let each message about it carry one value, as in any algorithm that does not code elements together. A set
    that hears of all others has done so through at least m-1 messages; and knowing all is passed on by further ones: to tell everyone
    everything in one-way messages takes 2m-2 of them (gossip), whatever happens inside the sets. Messages at the same moment may be put
    one after the other, which only adds to what is known. So all elements need 2(m-1)S in all, and the sets together take in no more
    than the sum of their inward capacities; for m = n GPUs of equal capacity this is the well-known 2(n-1)/n S for each.
    """
    for level, numbers in _levels(fabric, at):
        own = numbers[at]
        if (own < 0).any() or len(np.unique(own)) < 2:  # noqa: PLR2004  (two sets at least)
            continue
        sets = np.unique(own)
        tail, head, gbps = _arcs(fabric, numbers)
        for end, way in ((head, "receive"), (tail, "send")):
            capacity = float(gbps[(tail != head) & np.isin(end, sets)].sum())
            need = 2 * (len(sets) - 1) * gbit
            text = f"the {len(sets)} {level} sets {way} {need:.6g} Gbit between them, at {capacity:.6g} Gbit/s in all"
            yield LowerBound(need / capacity, text)
