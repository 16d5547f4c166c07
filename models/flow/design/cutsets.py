"""Cut-set inequalities of a design: whatever is built, what leaves a set of nodes must fit through the links that leave it.

For a set S of nodes, the capacity added on the links of its cut comes to at least ``b``, the demand that must cross less what is
there already. Counts of modules are whole, so that this may be rounded: divided by ``q``, with ``f`` the fraction of ``b / q`` (1
where it is whole), every capacity ``a`` counts ``G(a) = floor(a / q) + min(1, frac(a / q) / f)`` towards ``ceil(b / q)`` (mixed-integer
rounding). Sources: Magnanti, Mirchandani, Vachani, "Modeling and Solving the Two-Facility Capacitated Network Loading Problem", 1995;
Bienstock and Günlük, "Capacitated Network Design - Polyhedral Structure and Computation", 1996; Raack, Koster, Orlowski, Wessäly, "On
Cut-Based Inequalities for Capacitated Network Design Polyhedra", 2011, from whom the shrinking of the network before the search is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from models.conversation import NewRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.flow.design.works import Works
    from models.program import Bools, Floats, Ints

MOST_ENUMERATED = 15  # nodes: with so many every set is looked at
SHRUNK_TO = 11  # larger networks are shrunk to so many
MOST_DIVISORS = 12
LEAST_VIOLATION = 1e-4
SMALLEST_NEED = 1e-5  # of a cut's demand: less counts as nothing missing
UNSEEN = 3e-6  # relative: loads may exceed capacities by 1e-6, also on every link of a cut
NOTHING = 1e-9  # a count below it is noise of the solver
BATCH = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """Inequalities ``capacity of crossing links >= demand``; ``inside`` (cuts, nodes), ``crossing`` (cuts, links), ``demand`` (cuts,)."""

    inside: Bools
    crossing: Bools
    demand: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Inequality:
    """``coefficient`` (modules,) times counts is at least ``least``; ``violation`` is relative to the length of the coefficients."""

    coefficient: Floats
    least: float
    violation: float


def sides(nodes: int, label: Ints | None = None) -> Bools:
    """All ways to part the nodes in two, as masks of one side, (sets, nodes); nodes of the same ``label`` stay together.

    One of each two sides that complete each other is left out.
    """
    groups = np.arange(nodes) if label is None else np.unique(label, return_inverse=True)[1]
    count = int(groups.max(initial=-1)) + 1
    number = np.arange(1, max(1, 2 ** max(0, count - 1)), dtype=np.int64)
    return (number[:, None] >> np.arange(count)[None, :] & 1).astype(np.bool_)[:, groups]


def cuts_of(works: Works, masks: Bools, dead: Bools | None = None) -> Cuts:
    """The inequalities of sets of nodes, (sets, nodes), and of their complements, while the links ``dead`` fail."""
    network, traffic = works.network, works.traffic
    matrix = np.zeros((network.nodes, network.nodes))
    np.add.at(matrix, (traffic.source, traffic.target), traffic.size)
    inside, outside = masks.astype(np.float64), (~masks).astype(np.float64)
    leaving = np.einsum("sv,sv->s", inside @ matrix, outside)
    entering = np.einsum("sv,sv->s", outside @ matrix, inside)
    tail, head = masks[:, network.link_tail], masks[:, network.link_head]
    if len(network.channel_link) == network.links < network.arcs == 2 * network.links:  # every link is shared
        sets, crossing, demand = masks, tail ^ head, leaving + entering
    else:
        both = network.backward_arc >= 0
        crossing = np.concatenate((tail & ~head | both & (head & ~tail), head & ~tail | both & (tail & ~head)))
        sets, demand = np.concatenate((masks, ~masks)), np.concatenate((leaving, entering))
    alive = crossing if dead is None else crossing & ~dead
    told = (demand > 0) & ~(alive & np.isinf(network.link_capacity)).any(axis=1)
    return Cuts(sets[told], alive[told], demand[told])


def cut_needs(works: Works, masks: Bools) -> tuple[Bools, Floats]:
    """What crosses sets of nodes, (sets, nodes), where no link is directed: the links, (sets, links), and what they lack, (sets,).

    A link without a limit leaves nothing to be wanted: then the lack is 0.
    """
    network, traffic = works.network, works.traffic
    matrix = np.zeros((network.nodes, network.nodes))
    np.add.at(matrix, (traffic.source, traffic.target), traffic.size)
    inside = masks.astype(np.float64)
    leaving = np.einsum("sv,sv->s", inside @ matrix, 1.0 - inside)
    entering = np.einsum("sv,sv->s", (1.0 - inside) @ matrix, inside)
    crossing = masks[:, network.link_tail] ^ masks[:, network.link_head]
    # Where both ways share everything both are held together; else each way must be held on its own.
    demand = leaving + entering if len(network.channel_link) == network.links else np.maximum(leaving, entering)
    endless = np.isinf(network.link_capacity)
    known = crossing.astype(np.float64) @ np.where(endless, 0.0, network.link_capacity)
    return crossing, np.where((crossing & endless).any(axis=1), 0.0, demand - known)


def violated(works: Works, cuts: Cuts, counts: Floats, most: int) -> list[Inequality]:
    """The most violated rounded inequalities at fractional ``counts``, (modules,), at most one for each cut."""
    network = works.network
    sizes, size_of = np.unique(works.module_capacity, return_inverse=True)
    known = np.where(np.isinf(network.link_capacity), 0.0, network.link_capacity)
    missing = cuts.demand - (cuts.crossing * known).sum(axis=1)
    needed = missing > SMALLEST_NEED * np.maximum(1.0, cuts.demand)
    crossing, missing = cuts.crossing[needed], missing[needed]
    by_link = np.zeros((network.links, len(sizes)))
    np.add.at(by_link, (works.module_link, size_of), counts)
    best = np.full(len(missing), LEAST_VIOLATION)
    way = np.full(len(missing), -1)
    ways = divisions(works)
    for begin in range(0, len(missing), BATCH):
        part = slice(begin, begin + BATCH)
        here = crossing[part].astype(np.float64)
        across, offers = here @ by_link, here @ (by_link_offers(works, size_of, len(sizes)))
        for number, division in enumerate(ways):
            coefficient, least = rounded(sizes, missing[part], division)
            lacking = (least - (coefficient * across).sum(axis=1)) / np.sqrt((coefficient**2 * offers).sum(axis=1) + 1e-12)
            better = lacking > best[part]
            best[part] = np.where(better, lacking, best[part])
            way[part] = np.where(better, number, way[part])
    found = np.flatnonzero(way >= 0)
    chosen = found[np.argsort(-best[found], kind="stable")][:most]
    told: list[Inequality] = []
    for one in chosen.tolist():
        coefficient, least = rounded(sizes, missing[one : one + 1], ways[way[one]])
        scale = float(least[0]) or 1.0
        inside = crossing[one][works.module_link]
        told.append(Inequality(np.where(inside, coefficient[0][size_of] / scale, 0.0), 1.0, float(best[one])))
    return told


def by_link_offers(works: Works, size_of: Ints, sizes: int) -> Floats:
    """How many useful modules of each size every link offers, (links, sizes)."""
    offers = np.zeros((works.network.links, sizes))
    np.add.at(offers, (works.module_link[works.useful], size_of[works.useful]), 1.0)
    return offers


def rounded(sizes: Floats, missing: Floats, division: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Coefficients of module sizes, (cuts, sizes), and the least sum, (cuts,), after rounding by one divisor after another.

    A divisor of 0 stands for all that is missing: then a module either counts in full or for its part of it.
    """
    least = missing.copy()
    coefficient = np.minimum(sizes[None, :], least[:, None])
    for divisor in division:
        by = np.full(len(least), divisor) if divisor else least
        whole, fraction = divided(least, by)
        parts = coefficient / by[:, None]
        floor = np.floor(parts + 1e-9)
        rest = np.maximum(parts - floor, 0.0)
        # Multiplied by what is left over at the division, so that further divisors mean Gbit/s again.
        scale = by * fraction
        least = scale * whole
        coefficient = np.minimum(scale[:, None] * (floor + np.minimum(1.0, rest / fraction[:, None])), least[:, None])
    return coefficient, least


def divided(least: Floats, divisor: Floats | float) -> tuple[Floats, Floats]:
    """How many whole times a divisor is needed, and the fraction of the last; less than the verifier sees counts as nothing."""
    share = least / divisor
    whole = np.ceil(share * (1.0 - UNSEEN) - 1e-9)
    return whole, np.clip(share - (whole - 1.0), 1e-9, 1.0)


def divisions(works: Works) -> list[tuple[float, ...]]:
    """The sequences of divisors that are tried: the commonest sizes, one after another while there are few of them."""
    sizes, often = np.unique(works.module_capacity[works.useful], return_counts=True)
    common = [float(size) for size in sizes[np.argsort(-often, kind="stable")][:MOST_DIVISORS]]
    longest = next(length for length in (3, 2, 1) if len(common) <= (3, 6, MOST_DIVISORS)[3 - length])
    return [(0.0,), *(order for length in range(1, longest + 1) for order in permutations(common, length))]


def shrunk(works: Works, slack: Floats, rng: np.random.Generator, groups: int = SHRUNK_TO) -> Ints:
    """Labels of nodes, (nodes,), with the links of the largest ``slack``, (links,), contracted: what is full stays apart."""
    label = np.arange(works.network.nodes)
    order = np.argsort(-slack * rng.uniform(0.5, 1.5, len(slack)), kind="stable")
    for link in order.tolist():
        first, second = label[works.network.link_tail[link]], label[works.network.link_head[link]]
        if first != second:
            label[label == second] = first
            if len(np.unique(label)) <= groups:
                break
    return label


def candidate_sides(works: Works, slack: Floats, rng: np.random.Generator) -> Iterator[Bools]:
    """Masks to look at: all for a small network, else those of several shrunk ones."""
    nodes = works.network.nodes
    if nodes <= MOST_ENUMERATED:
        yield sides(nodes)
        return
    yield np.eye(nodes, dtype=np.bool_)
    yield np.unique(np.eye(nodes, dtype=np.bool_)[works.network.link_tail] | np.eye(nodes, dtype=np.bool_)[works.network.link_head], axis=0)
    for _ in range(4):
        yield sides(nodes, shrunk(works, slack, rng))


def as_rows(inequalities: list[Inequality], first: int = 0) -> NewRows:
    """Inequalities as rows of a program whose modules' columns begin at ``first``."""
    filled = [np.flatnonzero(one.coefficient) for one in inequalities]
    return NewRows(
        lower=np.array([one.least for one in inequalities]),
        upper=np.full(len(inequalities), np.inf),
        starts=np.cumsum([0, *(len(one) for one in filled)]).astype(np.int64),
        indices=np.concatenate([np.zeros(0, dtype=np.int64), *(one + first for one in filled)]),
        values=np.concatenate([np.zeros(0), *(one.coefficient[at] for one, at in zip(inequalities, filled, strict=True))]),
    )
