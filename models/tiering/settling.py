"""From every unit on its own best slot to a draft that keeps all limits: trim what is exceeded by least regret, then use what room is left.

Regret and its order are those of greedy methods for the generalised assignment problem (S. Martello, P. Toth, "Knapsack Problems", 1990).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints
    from models.tiering.draft import Draft, Limit

HEADROOM = 1e-9  # of a limit: what sums in another order may differ by
FILLINGS = 4


def settle(draft: Draft) -> bool:
    """Move units until all limits hold; False when some cannot. A limit that was trimmed is never loaded again: each is trimmed once."""
    closed: list[Limit] = []
    while True:
        excesses = [_excess(draft, limit) for limit in draft.limits]
        over = [
            (excess / max(limit.most, 1e-9), number)
            for number, (limit, excess) in enumerate(zip(draft.limits, excesses, strict=True))
            if excess > 0 and limit not in closed
        ]
        if not over:
            return not any(excesses)
        _, number = max(over)
        closed.append(draft.limits[number])
        if not _trim(draft, draft.limits[number], excesses[number], closed):
            return False


def _users(draft: Draft, limit: Limit) -> Ints:
    """The units that can load a limit where they stand."""
    return np.flatnonzero(draft.tier[draft.slot] == limit.tier) if limit.tier >= 0 else np.arange(len(draft.slot))


def used(draft: Draft, limit: Limit) -> float:
    """What all units together take of a limit."""
    users = _users(draft, limit)
    return float(limit.use(users, draft.slot[users]).sum())


def _excess(draft: Draft, limit: Limit) -> float:
    taken = used(draft, limit)
    slack = HEADROOM * max(1.0, abs(limit.most))
    return taken - limit.most if taken > limit.most + slack else 0.0


def _trim(draft: Draft, limit: Limit, excess: float, closed: list[Limit]) -> bool:
    """Move the units with the least regret for each unit of the limit that they free."""
    excess += HEADROOM * abs(limit.most)
    while excess > 0:
        units = _users(draft, limit)
        taken = limit.use(units, draft.slot[units])
        units, taken = units[taken > 0], taken[taken > 0]
        options = _elsewhere(draft, units, closed)
        frees = taken[:, None] - limit.use(units[:, None], np.arange(len(draft.tier)))
        density = np.where(frees > 0, (options - draft.score[units, draft.slot[units], None]) / np.where(frees > 0, frees, 1.0), np.inf)
        best = density.argmin(axis=1)
        at = np.arange(len(units))
        regret = density[at, best]
        order = np.argsort(regret, kind="stable")
        order = order[np.isfinite(regret[order])]
        order = _one_of_each(draft, units, order)
        if not len(order):
            return False
        freed = np.cumsum(frees[order, best[order]])
        last = int(np.searchsorted(freed, excess)) + 1
        chosen = order[:last]
        draft.slot[units[chosen]] = best[chosen]
        excess -= float(freed[min(last, len(freed)) - 1])
    return True


def _elsewhere(draft: Draft, units: Ints, closed: list[Limit]) -> Floats:
    """The scores of slots, +inf where a closed limit would be loaded more, or where another copy is; shape (n, slots)."""
    options = draft.score[units].copy()
    slots = np.arange(len(draft.tier))
    for limit in closed:
        if limit.tier >= 0:
            here = np.flatnonzero(draft.tier == limit.tier)
            now = limit.use(units, draft.slot[units])
            more = limit.use(units[:, None], here) > now[:, None]
            options[:, here] = np.where(more, np.inf, options[:, here])
        else:
            now = limit.use(units, draft.slot[units])
            options[limit.use(units[:, None], slots) > now[:, None]] = np.inf
    if draft.several:
        options[draft.crowded(units)] = np.inf
    return options


def _one_of_each(draft: Draft, units: Ints, order: Ints) -> Ints:
    """At most one unit of each object: two that move at once might meet."""
    if not draft.several:
        return order
    _, first = np.unique(draft.object[units[order]], return_index=True)
    return order[np.sort(first)]


def fill(draft: Draft, deadline: float) -> None:
    """Move units to better slots that have room, the largest gain for each GiB first."""
    every = np.arange(len(draft.slot))
    for _ in range(FILLINGS):
        if time.monotonic() > deadline:
            return
        room = np.array([limit.most - used(draft, limit) for limit in draft.limits])
        now = draft.score[every, draft.slot]
        units = np.flatnonzero(draft.score.min(axis=1) < now)
        if not len(units):
            return
        options = draft.score[units].copy()
        options[~_fits(draft, units, room)] = np.inf
        if draft.several:
            options[draft.crowded(units)] = np.inf
        best = options.argmin(axis=1)
        gain = now[units] - options[np.arange(len(units)), best]
        order = np.argsort(-gain / draft.store.objects.size[draft.object[units]], kind="stable")
        order = _one_of_each(draft, units, order[gain[order] > 0])
        chosen = order[_within(draft, units[order], best[order], room)]
        if not len(chosen):
            return
        draft.slot[units[chosen]] = best[chosen]


def _fits(draft: Draft, units: Ints, room: Floats) -> Bools:
    """Which slots would keep all limits if the unit alone moved there, shape (n, slots)."""
    fits = np.ones((len(units), len(draft.tier)), dtype=np.bool_)
    for limit, left in zip(draft.limits, room.tolist(), strict=True):
        here = np.flatnonzero(draft.tier == limit.tier) if limit.tier >= 0 else np.arange(len(draft.tier))
        more = limit.use(units[:, None], here)
        if len(here) > 1:  # else who is here already does not move here
            more = more - limit.use(units, draft.slot[units])[:, None]
        fits[:, here] &= (more <= max(left, 0.0)) | (more <= 0)
    return fits


def _within(draft: Draft, units: Ints, slots: Ints, room: Floats) -> Bools:
    """Which of the moves, in their order, keep all limits together; what moves free up is not counted."""
    fine = np.ones(len(units), dtype=np.bool_)
    for limit, left in zip(draft.limits, room.tolist(), strict=True):
        at = np.flatnonzero(draft.tier[slots] == limit.tier) if limit.tier >= 0 else np.arange(len(units))
        more = np.maximum(limit.use(units[at], slots[at]) - limit.use(units[at], draft.slot[units[at]]), 0.0)
        fine[at] &= (np.cumsum(np.where(fine[at], more, 0.0)) <= left) | (more == 0)
    return fine
