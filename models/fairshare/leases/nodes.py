"""Which GPUs each lease of a slot gets: whole gangs on nodes, and where they were before as far as that goes.

GPUs of an accelerator are numbered through; those of node ``k`` are ``k * gpus_per_node`` onwards, and the last node may be smaller. Gangs
are seated by size, the largest first. Where sizes divide each other and the node's size (1, 2, 4, 8), and nodes are whole, any such order
seats every choice that counts alone allow: before a size is seated, what is free on each node is a multiple of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Bools, Ints


@dataclass(frozen=True, slots=True)
class Seat:
    """A gang that wants GPUs: how many, whether they may stand anywhere, and which it had (none: it had none here)."""

    gpus: int
    spread: bool
    had: tuple[int, ...] = ()


def seated(wishes: Sequence[Seat], count: int, per_node: int) -> list[tuple[int, ...]]:
    """The GPUs of each gang, in the order of ``wishes``; together they must want no more than ``count``.

    A gang stays where it was if those GPUs are free (and whole, unless it is spread). One that finds no node (sizes that do not divide each
    other) gets GPUs of several.
    """
    free = np.ones(count, dtype=bool)
    wanted = np.zeros(count, dtype=np.int64)  # gangs not seated yet that were on this GPU
    for wish in wishes:
        wanted[list(wish.had)] += 1
    found: list[tuple[int, ...]] = [()] * len(wishes)
    for number in sorted(range(len(wishes)), key=lambda k: (wishes[k].spread, -wishes[k].gpus, not wishes[k].had, k)):
        wish = wishes[number]
        had = np.array(wish.had, dtype=np.int64)
        wanted[had] -= 1
        stays = len(had) == wish.gpus and bool(free[had].all()) and (wish.spread or _whole(had, per_node))
        gpus = had if stays else _chosen(wish, free, wanted, per_node)
        free[gpus] = False
        found[number] = tuple(gpus.tolist())
    return found


def _whole(gpus: Ints, per_node: int) -> bool:
    """Whether a gang stands on as few nodes as it can."""
    return len(np.unique(gpus // per_node)) == -(-len(gpus) // per_node)


def _chosen(wish: Seat, free: Bools, wanted: Ints, per_node: int) -> Ints:
    """Free GPUs for one gang: of whole nodes first, then of the node that disturbs fewest others and has least room to spare."""
    parts: list[Ints] = []
    left = wish.gpus
    if not wish.spread:
        open_, node = free.copy(), np.arange(len(free)) // per_node
        while left > 0:
            part = min(left, per_node)
            room = np.bincount(node[open_], minlength=int(node[-1]) + 1)
            disturbed = np.bincount(node[open_], weights=wanted[open_], minlength=len(room))
            fit = np.flatnonzero(room >= part)
            if not len(fit):
                break
            best = int(fit[np.lexsort((room[fit], disturbed[fit]))[0]])
            here = np.flatnonzero(open_ & (node == best))
            parts.append(here[np.argsort(wanted[here], kind="stable")][:part])
            open_[node == best] = False
            left -= part
    if left > 0:
        anywhere = np.flatnonzero(free)
        return anywhere[np.argsort(wanted[anywhere], kind="stable")][: wish.gpus]
    return np.concatenate(parts)
