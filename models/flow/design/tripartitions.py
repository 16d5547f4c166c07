"""Three-part inequalities of a design: three cut-set inequalities together leave half a unit, which is rounded up.

For a partition into parts A, B, C the rounded cut-set inequalities of A, of B and of C, each with whole right-hand sides, add up to twice
the links between the parts. Half of the sum has the right-hand side ``(k_A + k_B + k_C) / 2``; where this is not whole, mixed-integer
rounding makes it so, and a link's factor ``a`` becomes ``floor(a) + min(1, 2 frac(a))``. Sources: Magnanti, Mirchandani, Vachani, "Modeling
and Solving the Two-Facility Capacitated Network Loading Problem", 1995; Agarwal, "K-Partition-Based Facets of the Network Design
Problem", 2006.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from models.flow.design.cutsets import LEAST_VIOLATION, SMALLEST_NEED, Inequality, cut_needs, divided, divisions, rounded, shrunk

if TYPE_CHECKING:
    from models.flow.design.works import Works
    from models.program import Bools, Floats, Ints

MOST_PARTED = 10  # nodes, or groups of them, that are parted in three in every way
MOST_WAYS = 8
NOTHING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class _Rounded:
    """Cut-set inequalities of all sets of groups: each size's factor, (sets, sizes), whole sides, (sets,), what crosses, (sets, sizes)."""

    factor: Floats
    side: Floats
    across: Floats


def violated_tripartitions(works: Works, counts: Floats, slack: Floats, rng: np.random.Generator, most: int) -> list[Inequality]:
    """The most violated at fractional counts, (modules,); none where a link is directed, because the two sides of a cut differ then."""
    network = works.network
    if (network.backward_arc < 0).any() or network.nodes < 3:  # noqa: PLR2004 - three parts
        return []
    labels = np.arange(network.nodes) if network.nodes <= MOST_PARTED else shrunk(works, slack, rng, MOST_PARTED)
    groups = np.unique(labels, return_inverse=True)[1]
    parted = three_parts(int(groups.max()) + 1)
    number = np.arange(2 ** (int(groups.max()) + 1), dtype=np.int64)
    masks = (number[:, None] >> np.arange(int(groups.max()) + 1)[None, :] & 1).astype(np.bool_)[:, groups]
    found: list[Inequality] = []
    for division in divisions(works)[1 : 1 + MOST_WAYS]:
        found += _violated(works, counts, masks, parted, division, most)
    return sorted(found, key=lambda one: -one.violation)[:most]


def _violated(works: Works, counts: Floats, masks: Bools, parted: Ints, division: tuple[float, ...], most: int) -> list[Inequality]:
    network = works.network
    sizes, size_of = np.unique(works.module_capacity, return_inverse=True)
    crossing, missing = cut_needs(works, masks)
    by_link = np.zeros((network.links, len(sizes)))
    np.add.at(by_link, (works.module_link, size_of), counts)
    coefficient, least = rounded(sizes, np.maximum(missing, NOTHING), division)
    scale = _scale(np.maximum(missing, NOTHING), division)
    needed = missing > SMALLEST_NEED * max(1.0, float(missing.max(initial=0.0)))
    every = _Rounded(
        np.where(needed[:, None], coefficient / scale[:, None], 0.0), np.where(needed, np.round(least / scale), 0.0), crossing @ by_link
    )
    first, second, third = parted.T
    sides = every.side[first] + every.side[second] + every.side[third]
    odd = sides % 2 == 1
    between = [
        (every.across[one] + every.across[two] - every.across[rest]) / 2
        for one, two, rest in ((first, second, third), (first, third, second), (second, third, first))
    ]
    factors = [_halved(every.factor[one] + every.factor[two]) for one, two in ((first, second), (first, third), (second, third))]
    total = sum((factor * link).sum(axis=1) for factor, link in zip(factors, between, strict=True))
    whole = np.ceil(sides / 2)
    lacking = np.where(odd, (whole - total) / np.maximum(whole, 1.0), 0.0)
    chosen = np.argsort(-lacking, kind="stable")[:most]
    told: list[Inequality] = []
    for one in chosen[lacking[chosen] > LEAST_VIOLATION].tolist():
        part = np.where(masks[first[one]], 0, np.where(masks[second[one]], 1, 2))
        ends = np.sort(np.stack((part[network.link_tail], part[network.link_head])), axis=0)
        pair = np.where(ends[0] == ends[1], -1, ends.sum(axis=0) - 1)  # 0: first and second, 1: first and third, 2: second and third
        table = np.stack([*(factor[one] for factor in factors), np.zeros(len(sizes))])
        told.append(Inequality(table[pair[works.module_link], size_of] / whole[one], 1.0, float(lacking[one])))
    return told


def _halved(doubled: Floats) -> Floats:
    """Half of the factors, rounded for a side that ends in a half."""
    half = doubled / 2
    floor = np.floor(half + 1e-9)
    return np.asarray(floor + np.minimum(1.0, 2.0 * np.maximum(half - floor, 0.0)))


def _scale(missing: Floats, division: tuple[float, ...]) -> Floats:
    """What ``rounded`` multiplies the last rounding with, so that it is whole without it."""
    least, scale = missing.copy(), np.ones(len(missing))
    for divisor in division:
        whole, fraction = divided(least, divisor)
        scale = divisor * fraction
        least = scale * whole
    return scale


@lru_cache(maxsize=4)
def three_parts(groups: int) -> Ints:
    """All ways to part groups in three, as the numbers (bit masks) of the parts, shape (ways, 3); group 0 is in the first."""
    if groups < 3:  # noqa: PLR2004 - three parts
        return np.zeros((0, 3), dtype=np.int64)
    part = np.array(list(product(range(3), repeat=groups - 1)), dtype=np.int64)
    weight = 2 ** np.arange(1, groups, dtype=np.int64)
    second, third = ((part == one) @ weight for one in (1, 2))
    first = 2**groups - 1 - second - third
    # The two other parts are alike: the one with the smaller number comes first.
    kept = (second > 0) & (third > 0) & (second < third)
    return np.stack((first[kept], second[kept], third[kept]), axis=1)
