"""Nodes of a network that cannot be told apart, found by colour refinement.

The coarsest equitable partition that keeps certain nodes by themselves: two nodes of one class have equally many arcs of each kind
to and from each class. Found by refining until nothing splits any more (McKay, "Practical graph isomorphism", 1981). Averaging
over such classes keeps every linear program's optimum (Grohe, Kersting, Mladenov and Selman, "Dimension Reduction via Colour
Refinement", ESA 2014).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints

LEAST_SHRINK = 0.7  # classes to nodes: with more of them the quotient would not be worth its bundles


def kinds(*columns: Floats | Ints | Bools) -> Ints:
    """A number for each different row of the columns, shape (rows,)."""
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        _, place = np.unique(column, return_inverse=True)
        _, code = np.unique(code * (int(place.max(initial=0)) + 1) + place, return_inverse=True)
    return code.astype(np.int64)


def refined(nodes: int, tail: Ints, head: Ints, kind: Ints, own: Ints) -> Ints | None:
    """The class of each node, shape (nodes,), when nodes ``own`` are each a class; None as soon as it is clear that little would shrink.

    ``kind`` (arcs,) numbers what an arc is; arcs of different kinds are never exchanged.
    """
    colour = np.zeros(nodes, dtype=np.int64)
    colour[own] = 1 + np.arange(len(own))
    most = int(LEAST_SHRINK * nodes)
    count = len(np.unique(colour))
    kinds_of = int(kind.max(initial=0)) + 1
    node = np.concatenate((tail, head))
    other = np.concatenate((head, tail))
    way = np.concatenate((kind, kind + kinds_of))
    while count <= most:
        _, colour = np.unique(colour, return_inverse=True)
        seen = way * count + colour[other]
        order = np.lexsort((seen, node))
        ends = np.searchsorted(node[order], np.arange(nodes + 1))
        sorted_seen = seen[order]
        names: dict[tuple[int, bytes], int] = {}
        fresh = [
            names.setdefault((mine, sorted_seen[ends[at] : ends[at + 1]].tobytes()), len(names)) for at, mine in enumerate(colour.tolist())
        ]
        if len(names) == count:
            return colour.astype(np.int64)
        colour, count = np.array(fresh, dtype=np.int64), len(names)
    return None
