"""The linear program over the objects that are near a tie; all others keep what the prices give them.

At good prices most objects prefer one option by far. So the program over all options is solved by **sifting**: every object stands at its
best option, and only moves to options nearly as good are columns; its row duals are the next prices, at which all objects are priced again.
(Bixby, Gregory, Lustig, Marsten, Shanno, "Very large-scale linear programming: a case study in combining interior point and simplex
methods", 1992.) Objects that are alike are one column with a larger upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.program import LinearProgram, row_starts
from models.tiering.prices import LEAST_PRICE, charged

if TYPE_CHECKING:
    from models.program import Floats, Ints
    from models.tiering.options import Options
    from models.tiering.prices import Charged


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """One option for every object: bits of slots and the slot that serves, each shape (objects,)."""

    sets: Ints
    server: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """Ways to leave a state.

    Group g has ``size[g]`` objects that are alike and stand alike: ``members`` from ``starts[g]`` to ``starts[g + 1]``. Move k takes one
    object of ``group[k]`` to the option (``sets[k]``, ``server[k]``), which adds ``cost[k]`` to the goal and ``taken[k]``, of shape
    (rows,), to the rows.
    """

    group: Ints
    sets: Ints
    server: Ints
    cost: Floats
    taken: Floats
    size: Floats
    members: Ints
    starts: Ints

    @property
    def count(self) -> int:
        """How many columns."""
        return len(self.group)


def moves(options: Options, state: State, prices: Floats, objects: Ints, share: Floats, weights: Floats | None = None) -> Moves:
    """The moves of some objects from where they stand to options that may become their best when each price changes by their ``share``.

    ``share`` is as ``Priced.closeness`` and has its shape; ``weights``, shape of ``objects``, is how many objects each stands for.
    """
    objects, size, members, starts = _groups(options, state, objects, weights)
    found = charged(options, prices, objects)
    group, sets, server = _near(found, share[objects], 2 * LEAST_PRICE * options.reach[objects])
    stands = (sets == state.sets[objects[group]]) & (server == state.server[objects[group]])
    group, sets, server = group[~stands], sets[~stands], server[~stands]
    at = objects[group]
    cost_now, taken_now = weighed(options, objects, state.sets[objects], state.server[objects])
    cost, taken = weighed(options, at, sets, server)
    return Moves(group, sets, server, cost - cost_now[group], taken - taken_now[group], size, members, starts)


def _groups(options: Options, state: State, objects: Ints, weights: Floats | None) -> tuple[Ints, Floats, Ints, Ints]:
    """One object of each group, the sizes, and all members by group."""
    like = options.likeness(objects)
    keys = np.stack((like, state.sets[objects], state.server[objects]))
    order = np.lexsort(keys[::-1])
    keys = keys[:, order]
    new = np.concatenate(([True], (keys[:, 1:] != keys[:, :-1]).any(axis=0))) if len(order) else np.zeros(0, dtype=np.bool_)
    first = np.flatnonzero(new)
    starts = np.concatenate((first, [len(order)])).astype(np.int64)
    members = objects[order]
    size = np.diff(starts).astype(np.float64) if weights is None else np.add.reduceat(weights[order], first) if len(first) else np.zeros(0)
    return members[first], size, members, starts


def _near(found: Charged, share: Floats, least_paid: Floats) -> tuple[Ints, Ints, Ints]:
    """Object, set and server of each option that may become the object's best."""
    best = np.argmin(found.value, axis=0)
    across = np.arange(len(best))
    least = found.value[best, across]
    with np.errstate(invalid="ignore"):
        width = share * (found.paid + found.paid[best, across] + least_paid)
    parts = []
    for value, sets in ((found.value, found.sets), (found.other, found.other_sets)):
        if value is not None and sets is not None:
            slot, at = np.nonzero((value <= least + width) & np.isfinite(value))
            parts.append((at, sets[slot, at], slot))
    at, sets, slot = (np.concatenate(pair) for pair in zip(*parts, strict=True))
    order = np.lexsort((slot, sets, at))
    at, sets, slot = at[order], sets[order], slot[order]
    new = np.ones(len(at), dtype=np.bool_)
    new[1:] = (at[1:] != at[:-1]) | (sets[1:] != sets[:-1]) | (slot[1:] != slot[:-1])
    return at[new], sets[new], slot[new]


def weighed(options: Options, objects: Ints, sets: Ints, server: Ints) -> tuple[Floats, Floats]:
    """What options add to the goal, shape (options,), and to the rows, (options, rows)."""
    cost = options.serve[server, objects].copy()
    inside = [(sets >> slot & 1).astype(bool) for slot in range(options.slots)]
    for slot in range(options.slots):
        cost[inside[slot]] += options.keep[slot, objects[inside[slot]]]
    taken = np.zeros((len(objects), len(options.rows)))
    for use in options.uses:
        chosen = server == use.slot if use.served else inside[use.slot]
        taken[chosen, use.row] += use.amount[objects[chosen]]
    return cost, taken


# ---------------------------------------------------------------- the program


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """Between what prices the rows' prices are sought, each shape (rows,)."""

    least: Floats
    most: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """A program over moves, and how to read its duals.

    The columns are the moves; then, where there is a box, the excess over each row, bought at the highest price, and the room in it that is
    sold at the lowest.
    """

    program: LinearProgram
    price_unit: Floats  # (rows,): a dual of 1 is this price
    money: float  # an objective of 1 is this much of the goal


def program(options: Options, base: float, totals: Floats, found: Moves, *, box: Box | None, integer: bool = False) -> Scaled:
    """The best moves from a state with goal ``base`` and ``totals`` (rows,).

    Rows are divided by their limits and money by the mean object's: solvers know absolute tolerances only. A group with one move
    needs no row.
    """
    rows, columns = len(options.rows), found.count
    unit = np.maximum(np.abs(options.limits), np.maximum(1e-3 * np.abs(totals), 1e-9))
    money = options.worth / max(options.count, 1)
    per_group = np.bincount(found.group, minlength=len(found.size))
    shared = np.flatnonzero(per_group > 1)
    row_of_group = np.full(len(found.size), -1, dtype=np.int64)
    row_of_group[shared] = rows + np.arange(len(shared))
    row, column = np.nonzero(found.taken.T)
    value = found.taken[column, row] / unit[row]
    inside = np.flatnonzero(row_of_group[found.group] >= 0)
    traded = 0 if box is None else 2 * rows
    prices = np.zeros(0) if box is None else np.concatenate((box.most * unit, -box.least * unit))
    entry_row = np.concatenate((row, np.arange(traded) % rows, row_of_group[found.group[inside]]))
    entry_column = np.concatenate((column, columns + np.arange(traded), inside))
    entry = np.concatenate((value, np.repeat((-1.0, 1.0), traded // 2), np.ones(len(inside))))
    order = np.argsort(entry_row, kind="stable")
    made = LinearProgram(
        maximise=False,
        cost=np.concatenate((found.cost, prices)) / money,
        column_lower=np.zeros(columns + traded),
        column_upper=np.concatenate((found.size[found.group], np.full(traded, np.inf))),
        integer=np.arange(columns + traded) < (columns if integer else 0),
        row_lower=np.full(rows + len(shared), -np.inf),
        row_upper=np.concatenate(((options.limits - totals) / unit, found.size[shared])),
        starts=row_starts(entry_row, rows + len(shared)),
        indices=entry_column[order],
        coefficients=entry[order],
        offset=base / money,
    )
    return Scaled(made, money / unit, money)


def prices_of(scaled: Scaled, row_duals: Floats) -> Floats:
    """The rows' prices, at least 0, from the duals of a minimisation under upper limits."""
    rows = len(scaled.price_unit)
    found: Floats = np.maximum(-row_duals[:rows], 0.0) * scaled.price_unit
    return found


# ---------------------------------------------------------------- samples


def sample(importance: Floats, wanted: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """About ``wanted`` objects and how often each counts: half by ``importance``, half evenly; the most important are taken for sure.

    Systematic sampling: every object's chance is known, and one over it is its weight.
    """
    count = len(importance)
    chance = np.minimum(1.0, wanted * (0.5 / count + 0.5 * importance / max(float(importance.sum()), 1e-300)))
    order = np.argsort(importance, kind="stable")
    steps = np.floor(np.cumsum(chance[order]) + rng.random())
    taken = order[np.diff(steps, prepend=0.0) > 0]
    return np.sort(taken), 1.0 / chance[np.sort(taken)]
