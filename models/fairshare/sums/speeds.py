"""The largest sum of speeds, or of their logarithms: a master program over classes, and planes of what each class's time is worth.

Every answer of the master is a division that can be dealt out, worth what ``inner`` makes of it; the master itself bounds all. Planes
are made at its answer and half way from the best division known, which keeps the search from swinging (W. Ben-Ameur, J. Neto,
"Acceleration of cutting-plane and column generation algorithms", 2007).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.conversation import Again, NewRows, Solve
from models.fairshare.columns.robust import judged
from models.fairshare.columns.rows import Prices, prices_of, rank_of, shared, upper_bounds
from models.fairshare.columns.thresholds import broken, entries_above, needed
from models.fairshare.sums.inner import Inner, best_logarithms, best_sum
from models.fairshare.sums.starving import starving
from models.program_builder import ProductIds

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Solved, Step
    from models.fairshare.columns.classes import Classes
    from models.fairshare.columns.rows import Layout
    from models.program import Bools, Floats, Ints
    from models.program_builder import ProgramBuilder

KEPT = 1e-13  # relative: by how much what a more important class attained may give way to rounding
KEEPS = 1e-7  # the same, of a division that is looked at, where solvers have left more; in units of the heaviest class, too
BROKEN = 1e-10  # by how much a plane must be broken to be added
MOST_IDLE = 6  # passes without any gain: what is left is rounding
MOST_PASSES = 400
MULTIPLES = 2.0 ** np.arange(-4, 7)  # shares, at which logarithms have planes from the start
CLOSE = 1e-7  # relative gap that is worth no more passes, and never less than what solvers can tell
Row = tuple["Ints", "Floats", float]  # columns, coefficients, upper side
TANGENT_STEP = 3.0  # tangents at small shares go down by as much, in logarithms
STEEP = 1e9  # no plane is steeper
STEEPEST = 1e12  # no row is: solvers refuse what is much more
LARGEST_LOGARITHM = 1e3  # of shares that numbers can tell


def _empty() -> Floats:
    return np.zeros(0)


@dataclass(slots=True, eq=False)
class Best:
    """The best sum of one priority: its value and bound in the unit of the goal, columns, the jobs' speeds and prices.

    ``refuted``: no division gives what is needed. ``starved``: a job can have nothing of what more important ones leave, so that the
    mean is 0 whatever the others of its priority have, who have something.
    """

    value: float = -np.inf
    bound: float = np.inf
    values: Floats = field(default_factory=_empty)
    speeds: Floats = field(default_factory=_empty)
    prices: Prices = field(default_factory=lambda: Prices(_empty(), _empty(), _empty(), _empty()))
    refuted: bool = False
    starved: bool = False


@dataclass(slots=True, eq=False)
class Sums:
    """The master. ``rank``, ``weight`` (the sum of copies times worth, of speeds at the largest one): (classes,). ``worth``: (jobs,).

    A class has its value per ``weight``, which counts as ``part`` of the heaviest class of its rank: so all numbers are of like size,
    whatever the weights are. Classes that can have nothing (``starved``) are left out.
    """

    classes: Classes
    worth: Floats
    name: str
    logarithms: bool
    rank: Ints
    weight: Floats
    starved: Bools
    value_at: int = 0  # the first column of values
    sure_at: int = 0  # the first column of sure speeds, in shares of the whole class
    layout: Layout | None = None
    center: Floats | None = None

    @property
    def part(self) -> Floats:
        """What a class's value counts, in units of the heaviest class of its rank, shape (classes,)."""
        found: Floats = self.weight / self.heaviest[self.rank]
        return found

    @property
    def heaviest(self) -> Floats:
        """The weight of the heaviest class of each rank, shape (ranks,)."""
        found = np.zeros(int(self.rank.max(initial=0)) + 1)
        np.maximum.at(found, self.rank, self.weight)
        return found

    def told(self, total: float, now: int) -> float:
        """A sum of values of one rank in the unit of the goal."""
        if not self.logarithms:
            return total * float(self.heaviest[now])
        return float(np.exp(min(total / max(float(self.part[self.counts(now)].sum()), 1e-300), 700.0)))

    def counts(self, now: int) -> Bools:
        """The classes whose sum is maximised, shape (classes,)."""
        found: Bools = (self.rank == now) & ~self.starved
        return found

    def program(self, attained: list[float], fixed: Floats) -> Solve:
        """The master with the planes it begins with."""
        classes, now = self.classes, len(attained)
        builder, self.layout = shared(classes, maximise=True, idle=self.starved)
        sure = judged(builder, classes, upper_bounds(classes))
        of, _, row, column, coefficient = sure.need_rows()
        unit = self._par() * classes.size
        every = ProductIds(range(classes.count))
        kept = np.where(self.rank < now, needed(classes, fixed, np.arange(classes.count), np.zeros(classes.count)), 0.0) / unit
        lower = kept * (1.0 - KEPT) if self.logarithms else 0.0
        # Twice what can be: bounds that never bind. A single scenario may make all speeds larger.
        top = 2.0 * max(1.0, float(classes.market.factors.max())) * classes.top
        self.sure_at = builder.add_columns("sure", every, lower=lower, upper=top / self._par()).start
        most = LARGEST_LOGARITHM if self.logarithms else top * classes.size * self._top_value() / self.weight
        cost = np.where(self.counts(now), self.part, 0.0)
        self.value_at = builder.add_columns("value", every, cost=cost, lower=-LARGEST_LOGARITHM, upper=most).start
        rows = np.arange(len(of))
        builder.add_rows(
            "has",
            ProductIds(range(len(of))),
            lower=0.0,
            row_index=np.concatenate((row, rows)),
            column_index=np.concatenate((column, self.sure_at + of)),
            coefficient=np.concatenate((coefficient / unit[of][row], -np.ones(len(of)))),
        )
        self._planes(builder)
        if attained and not self.logarithms:
            older = np.flatnonzero(self.rank < now)
            builder.add_rows(
                "attained",
                ProductIds(range(now)),
                lower=np.array(attained) / self.heaviest[:now] * (1.0 - KEPT),
                row_index=self.rank[older],
                column_index=self.value_at + older,
                coefficient=self.part[older],
            )
        return Solve(builder.build(), keep=self.name)

    def _par(self) -> Floats:
        jobs = self.classes.market.jobs
        return np.array([jobs.par[members[0]] for members in self.classes.members])

    def _top_value(self) -> Floats:
        """The largest worth of a job of each class."""
        return np.array([self.worth[members].max() for members in self.classes.members])

    def _planes(self, builder: ProgramBuilder) -> None:
        """A class is worth at most its whole speed at the best worth; logarithms have tangents, which Jensen's inequality allows."""
        count = self.classes.count
        at = MULTIPLES if self.logarithms else np.ones(1)
        value = np.tile(np.arange(count), len(at))
        if self.logarithms:
            point = np.repeat(at, count)
            slope, side = 1.0 / point, np.log(point) - 1.0 + self._spread()[value]
        else:
            slope, side = (self.classes.size * self._par() * self._top_value() / self.weight)[value], np.zeros(count)
        rows = np.arange(len(value))
        builder.add_rows(
            "plane",
            ProductIds(range(len(value))),
            upper=side,
            row_index=np.concatenate((rows, rows)),
            column_index=np.concatenate((self.value_at + value, self.sure_at + value)),
            coefficient=np.concatenate((np.ones(len(value)), -slope)),
        )

    def _spread(self) -> Floats:
        """What unlike weights add: ``sum c w ln T / W <= ln(sum c T / n) + sum c w ln(w n / W) / W``, shape (classes,)."""
        found = np.zeros(self.classes.count)
        copies = self.classes.market.jobs.copies
        for k, members in enumerate(self.classes.members):
            weights = copies[members] * self.worth[members]
            found[k] = float(weights @ np.log(self.worth[members] * self.classes.size[k] / weights.sum())) / self.weight[k]
        return found

    def inner(self, k: int, amounts: Floats, sure: Floats) -> Inner | None:
        """What a class makes of ``amounts`` (entries of all classes) or, where its jobs are alike, of its sure speed."""
        classes, members = self.classes, self.classes.members[k]
        copies, worth, par = classes.market.jobs.copies[members], self.worth[members], classes.market.jobs.par[members[0]]
        if classes.mixed[k] and np.ptp(worth) > 0.0:
            entries = slice(classes.starts[k], classes.starts[k + 1])
            have = amounts[entries], classes.entry_speed[entries], copies, worth / self.weight[k]
            return best_logarithms(*have, par) if self.logarithms else best_sum(*have)
        share = float(sure[k])
        speeds = np.full(len(members), share * par)
        if not self.logarithms:
            gain = par / float(classes.unit[k])
            return Inner(share * gain, speeds, 0.0, np.array([gain]))
        if share <= 0.0:
            return None
        return Inner(float(np.log(share)), speeds, float(np.log(share)) - 1.0, np.array([1.0 / share]))

    def least_share(self, k: int, values: Floats) -> float:
        """The smallest share at which a tangent is worth while, of what the master takes the class's value for."""
        return float(np.exp(min(values[self.value_at + k] - self._spread()[k], 0.0) - TANGENT_STEP))

    def tangent(self, k: int, share: float) -> Row:
        """The row that a class's logarithms keep below their tangent at a share that is the same for all."""
        side = float(np.log(share)) - 1.0 + float(self._spread()[k])
        return np.array([self.sure_at + k, self.value_at + k]), np.array([-1.0 / share, 1.0]), side

    def plane(self, k: int, inner: Inner) -> Row:
        """Columns, coefficients and upper side of the row ``value_k - gain Y <= constant``."""
        classes = self.classes
        if (
            classes.mixed[k]
            and len(inner.gain) == classes.starts[k + 1] - classes.starts[k]
            and np.ptp(self.worth[classes.members[k]]) > 0.0
        ):
            entries = slice(classes.starts[k], classes.starts[k + 1])
            merged = np.bincount(classes.entry_column[entries], weights=classes.entry_part[entries] * inner.gain)
            at = np.flatnonzero(merged)
            return np.append(at, self.value_at + k), np.append(-merged[at], 1.0), inner.constant
        return np.array([self.sure_at + k, self.value_at + k]), np.array([-inner.gain[0], 1.0]), inner.constant


def largest(
    classes: Classes, worth: Floats, attained: list[float], fixed: Floats, gap: float, name: str, *, logarithms: bool
) -> Generator[Step, Solved, Best | None]:
    """The largest sum of ``worth`` (jobs,) times speed, or of weighted logarithms, of the first priority with nothing ``attained``.

    More important jobs keep their sum, or where logarithms count, which fix the best speeds, their speeds ``fixed`` (jobs,). Within
    ``gap`` of the best. Where a job can have nothing the mean of logarithms' weights is 0, and the others share what there is. None when a
    program found no answer at all.
    """
    jobs, now, rank = classes.market.jobs, len(attained), rank_of(classes)
    unit = 1.0 if logarithms else classes.unit
    weight = unit * np.array([float((jobs.copies * worth)[members].sum()) for members in classes.members])
    starved = np.zeros(classes.count, dtype=np.bool_)
    if logarithms:
        found = yield from starving(classes, rank, now, fixed, f"{name} starving")
        if found is None:
            return None
        starved = found
    sums = Sums(classes, worth, name, logarithms, rank, weight, starved)
    best = yield from _searched(sums, attained, fixed, max(CLOSE, min(0.1 * gap, 1e-5)))
    if starved[(rank == now) & (classes.top > 0.0)].any():
        best.value, best.bound, best.starved = 0.0, 0.0, bool(sums.counts(now).any())
    return best if len(best.values) else None


def _searched(sums: Sums, attained: list[float], fixed: Floats, close: float) -> Generator[Step, Solved, Best]:
    """Planes until plan and bound are ``close``; without values where no division was found."""
    best, now, idle = Best(), len(attained), 0
    again: Solve | Again = sums.program(attained, fixed)
    for _ in range(MOST_PASSES):
        found = yield again
        if found.status != "optimal" or found.values is None or found.row_duals is None or found.bound is None:
            break
        before = best.bound, best.value
        best.bound = min(best.bound, sums.told(found.bound, now))
        rows = _older_rows(sums, found.values, fixed, now)
        for values in _points(sums, found.values) if not rows else ():
            rows += _visited(sums, values, fixed, attained, best, found)
        idle = idle + 1 if (best.bound, best.value) == before else 0
        if best.bound - best.value <= close * abs(best.bound) or not rows or idle >= MOST_IDLE:
            break
        rows = [row for row in rows if float(np.abs(row[1]).max(initial=0.0)) <= STEEPEST]  # fewer rows bound less, and are right
        if not rows:
            break
        again = Again(sums.name, new_rows=_rows(rows))
    return best


def _points(sums: Sums, values: Floats) -> list[Floats]:
    """Where planes are made: the master's answer, and half way to it from the best division so far."""
    return [values] if sums.center is None else [0.5 * (values + sums.center), values]


def _older_rows(sums: Sums, values: Floats, fixed: Floats, now: int) -> list[Row]:
    """Threshold rows that more important jobs need for their ``fixed`` speeds, where logarithms count."""
    if not sums.logarithms or not now:
        return []
    classes = sums.classes
    needs = np.where((classes.of >= 0) & (sums.rank[classes.of] < now), fixed * (1.0 - KEPT), 0.0)
    of, at = broken(classes, classes.amounts(values[: classes.columns]), needs, KEPT)
    starts, columns, coefficients = entries_above(classes, of, at)
    sides = needed(classes, needs, of, at) / classes.unit[of]
    return [
        (columns[begin:end], -coefficients[begin:end], -side)
        for begin, end, side in zip(starts[:-1].tolist(), starts[1:].tolist(), sides.tolist(), strict=True)
    ]


def _visited(sums: Sums, values: Floats, fixed: Floats, attained: list[float], best: Best, found: Solved) -> list[Row]:
    """Planes at a division that are broken by the master's answer; notes the division where it is the best."""
    assert found.values is not None  # noqa: S101  (the caller looked)
    assert found.row_duals is not None  # noqa: S101
    assert sums.layout is not None  # noqa: S101
    classes, now, part = sums.classes, len(attained), sums.part
    amounts = classes.amounts(values[: classes.columns])
    sure = np.maximum(values[sums.sure_at : sums.sure_at + classes.count], 0.0)
    speeds, rows = fixed.copy(), []
    totals = np.zeros(now + 1)
    for k in np.flatnonzero(sums.counts(now) | ((sums.rank < now) & (not sums.logarithms))).tolist():
        inner = sums.inner(k, amounts, sure)
        if sums.logarithms and sure[k] < (least := sums.least_share(k, found.values)):
            rows.append(sums.tangent(k, least))  # at its own share it would be too steep for solvers
        if inner is None:
            totals[sums.rank[k]] = -np.inf
            continue
        speeds[classes.members[k]] = inner.speeds
        totals[sums.rank[k]] += part[k] * inner.value
        columns, coefficients, side = sums.plane(k, inner)
        over = float(coefficients @ found.values[columns]) - side
        if float(np.abs(coefficients).max()) <= STEEP and over > BROKEN * max(1.0, abs(inner.value)):
            rows.append((columns, coefficients, side))
    older = np.array(attained) / sums.heaviest[:now]
    kept = sums.logarithms or bool((totals[:now] >= older - KEEPS * np.maximum(1.0, older)).all())
    value = sums.told(float(totals[now]), now)
    if kept and value > best.value:
        steep = value / float(sums.part[sums.counts(now)].sum() or 1.0) if sums.logarithms else float(sums.heaviest[now])
        best.value, best.values, best.speeds = value, values[: classes.columns].copy(), speeds
        best.prices = prices_of(classes, sums.layout, found.row_duals, steep)
        sums.center = values.copy()
    return rows


def _rows(rows: list[Row]) -> NewRows:
    return NewRows(
        lower=np.full(len(rows), -np.inf),
        upper=np.array([side for _, _, side in rows]),
        starts=np.concatenate(([0], np.cumsum([len(columns) for columns, _, _ in rows]))).astype(np.int64),
        indices=np.concatenate([columns for columns, _, _ in rows]),
        values=np.concatenate([coefficients for _, coefficients, _ in rows]),
    )
