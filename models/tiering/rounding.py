"""From shares to whole objects: round the moves of a linear program, mend what then breaks a limit, and use what room is left."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.tiering.sifting import State

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints
    from models.tiering.options import Options
    from models.tiering.sifting import Moves

HEADROOM = 1e-9  # of a limit: what sums in another order may differ by, far below what ``verify`` allows
WHOLE = 1e-6
LEAST_GAIN = 1e-15  # of a limit: less is rounding
NO_STEP = -2
FEW = 1_500  # moves that are tried first


def applied(state: State, found: Moves, times: Ints) -> State:
    """The state after ``times[k]`` objects have made move k."""
    sets, server = state.sets.copy(), state.server.copy()
    made = np.repeat(np.flatnonzero(times > 0), times[times > 0])
    group = found.group[made]
    order = np.argsort(group, kind="stable")
    made, group = made[order], group[order]
    first = np.searchsorted(group, group)
    objects = found.members[found.starts[group] + np.arange(len(made)) - first]
    sets[objects], server[objects] = found.sets[made], found.server[made]
    return State(sets, server)


def whole(options: Options, totals: Floats, found: Moves, values: Floats) -> Ints:
    """Each value as a whole number of objects. The last object of a group with fractions goes where it exceeds limits least.

    Of choices that exceed nothing it takes that of the largest fraction. Groups that weigh most come first. ``totals`` are those of
    the state.
    """
    times = np.floor(values[: found.count] + WHOLE).astype(np.int64)
    fraction = values[: found.count] - times
    unit = np.maximum(np.abs(options.limits), 1e-9)
    used = totals + times @ found.taken
    split = np.flatnonzero(fraction > WHOLE)
    weight = (np.abs(found.taken[split]) / unit).max(axis=1) if len(split) else np.zeros(0)
    for group in dict.fromkeys(found.group[split[np.argsort(-weight, kind="stable")]].tolist()):
        mine = split[found.group[split] == group]
        parts = np.concatenate((fraction[mine], [1.0 - fraction[mine].sum()]))
        after = used + np.concatenate((found.taken[mine], np.zeros((1, len(used)))))
        excess = np.maximum((after - options.limits) / unit, 0.0).sum(axis=1)
        best = int(np.lexsort((-parts, np.round(excess, 12)))[0])
        if best < len(mine):
            times[mine[best]] += 1
            used = after[best]
    return times


def mended(options: Options, totals: Floats, prices: Floats, found: Moves, times: Ints, deadline: float) -> Ints | None:
    """Moves made or taken back until no row is exceeded, cheapest for each unit mended first; None when that does not succeed.

    ``totals`` are those of the state that the moves leave; all moves are judged at ``prices``.
    """
    ledger = _Ledger(options, totals, found, times)
    value = found.cost + found.taken @ prices
    while (over := ledger.over()).any():
        if time.monotonic() > deadline:
            return None
        step, gained = ledger.steps_against(over)
        useful = gained > 0
        if not useful.any():
            return None
        price = np.where(useful, (ledger.change(value, step) + LEAST_GAIN) / np.where(useful, gained, 1.0), np.inf)
        ledger.take(int(np.argmin(price)), step)
    return ledger.times


def filled(options: Options, totals: Floats, found: Moves, times: Ints, deadline: float, most: int = 500) -> Ints:
    """Further moves, made or taken back, that fit and lower the goal, the largest gain first."""
    ledger = _Ledger(options, totals, found, times)
    for _ in range(most):
        if time.monotonic() > deadline:
            break
        step = ledger.steps()
        gain = np.where(ledger.fits(step), ledger.change(found.cost, step), 0.0)
        best = int(np.argmin(gain)) if len(gain) else -1
        if best < 0 or gain[best] >= -1e-12 * options.worth / max(options.count, 1):
            break
        ledger.take(best, step)
    return ledger.times


def polished(options: Options, totals: Floats, prices: Floats, found: Moves, times: Ints, deadline: float, most: int = 500) -> Ints | None:
    """``mended``, then ``filled``: by the moves that cost least at ``prices`` where they suffice, else by all."""
    reduced = np.abs(found.cost + found.taken @ prices)
    if found.count > FEW:
        few = np.argpartition(reduced, FEW - 1)[:FEW]
        fixed = times.copy()
        fixed[few] = 0
        size = found.size - np.bincount(found.group, weights=fixed, minlength=len(found.size))
        part = replace(
            found,
            group=found.group[few],
            sets=found.sets[few],
            server=found.server[few],
            cost=found.cost[few],
            taken=found.taken[few],
            size=size,
        )
        base = totals + fixed @ found.taken
        mostly = mended(options, base, prices, part, times[few], deadline)
        if mostly is not None:
            fixed[few] = filled(options, base, part, mostly, deadline, most)
            return fixed
    whole_times = mended(options, totals, prices, found, times, deadline)
    return None if whole_times is None else filled(options, totals, found, whole_times, deadline, most)


class _Ledger:
    """Which moves are made, and what of the rows is taken. A step is a move made (from where the group stands), or exchanged for another.

    Step k < moves: one object of the group makes move k, instead of the move ``source[k]`` that it had made (-1: it had made none).
    Step moves + k: one object takes move k back.
    """

    def __init__(self, options: Options, totals: Floats, found: Moves, times: Ints) -> None:
        self._found, self.times = found, times.copy()
        self._unit = np.maximum(np.abs(options.limits), 1e-9)
        self._limit = options.limits + HEADROOM * self._unit
        self._used = totals + times @ found.taken

    def over(self) -> Floats:
        """By how much each row is exceeded, as a share of its limit."""
        excess = self._used - self._limit
        return np.where(excess > 0, excess / self._unit, 0.0)

    def steps(self) -> Ints:
        """The source of every step, shape (2 * moves,); NO_STEP where it cannot be taken."""
        found = self._found
        made = np.bincount(found.group, weights=self.times, minlength=len(found.size))
        rest = made < found.size
        latest = np.full(len(found.size), NO_STEP, dtype=np.int64)
        here = np.flatnonzero(self.times > 0)
        latest[found.group[here]] = here
        source = np.where(rest[found.group], -1, latest[found.group])
        source = np.where(source == np.arange(found.count), NO_STEP, source)
        return np.concatenate((source, np.where(self.times > 0, -1, NO_STEP)))

    def change(self, amounts: Floats, source: Ints) -> Floats:
        """How each step changes a sum over moves of ``amounts``, shape (moves,) or (moves, rows)."""
        count = self._found.count
        swapped = source[:count] >= 0
        made = amounts.copy()
        made[swapped] -= amounts[source[:count][swapped]]
        return np.concatenate((made, -amounts))

    def fits(self, source: Ints) -> Bools:
        """Which steps can be taken without exceeding a row more than now."""
        room = np.maximum(self._limit - self._used, 0.0)
        change = self.change(self._found.taken, source)
        fine: Bools = (source > NO_STEP) & (change <= room).all(axis=1)
        return fine

    def steps_against(self, over: Floats) -> tuple[Ints, Floats]:
        """All steps, and by how much each lowers the sum of ``over``; 0 for those that do not, or cannot be taken."""
        source = self.steps()
        after = (self._used - self._limit + self.change(self._found.taken, source)) / self._unit
        gained = over.sum() - np.maximum(after, 0.0).sum(axis=1)
        return source, np.where((source > NO_STEP) & (gained > LEAST_GAIN), gained, 0.0)

    def take(self, step: int, source: Ints) -> None:
        """Take one step."""
        count = self._found.count
        if step >= count:
            self.times[step - count] -= 1
            self._used = self._used - self._found.taken[step - count]
            return
        self.times[step] += 1
        self._used = self._used + self._found.taken[step]
        if source[step] >= 0:
            self.times[source[step]] -= 1
            self._used = self._used - self._found.taken[source[step]]
