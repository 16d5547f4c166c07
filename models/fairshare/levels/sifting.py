"""The gauge of very many classes that are alike in nothing, by the prices of a few GPUs: a decomposition in place of one large program.

At given prices of GPUs every class by itself does what it needs at least cost: at most two ways, beside each other on the lower hull of its
speeds and costs. GPUs are used unevenly then; prices move by Newton's method until what is left of that is a matter of single classes.
Of those that are about to do something else a small program takes the best mixture of what they may do; its duals are the last prices
(G. B. Dantzig, P. Wolfe, "Decomposition principle for linear programs", 1960). What all classes cost at any prices bounds the shortfall
from below, so the last prices are a proof; and prices of a problem that is much alike, as a plan carries them, are where a search begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.conversation import Solve
from models.fairshare.columns.rows import Prices
from models.fairshare.columns.thresholds import needed
from models.fairshare.levels.gauge import FEW, ROUNDING, Gauged
from models.fairshare.levels.responses import Table, alike_in_nothing
from models.program_builder import ProductIds, ProgramBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from models.conversation import Solved, Step
    from models.fairshare.columns.classes import Classes
    from models.fairshare.levels.responses import Response
    from models.fairshare.schema import Plan
    from models.program import Floats, Ints, LinearProgram

FEWEST_CLASSES = 1000  # fewer are one program in no time
MOST_ROUNDS = 30
MOST_NEWTON = 12
EVEN = 2.0  # classes of the average size: what GPUs may be used unevenly before the small program takes over
STEP = 0.03  # relative: of a price, to see what it changes
LONGEST = 0.4  # in logarithms: the most that a price moves at once
MARGIN = 4.0  # times what prices may be wrong: classes that would do something else within it have a choice in the program
LEAST_MARGIN, MOST_MARGIN = 5e-4, 1.0
MANY = 0.03  # of the classes: if more would do what is not in the program, it is of too few
WIDER = 4.0
LOOKS = 3  # at what needs cost, to guess the first level
CLOSE = 1e-13  # of the GPUs: shortfall and proof that differ by no more are equal
FAINT = 1e-9  # the part of the cluster's worth that every accelerator has to begin with


def sifts(classes: Classes) -> bool:
    """Whether these are classes for which this is the faster way: very many, each with columns of its own and nothing to limit but GPUs."""
    return classes.count >= FEWEST_CLASSES and alike_in_nothing(classes)


def prices_in(classes: Classes, plan: Plan | None) -> Floats:
    """What all GPUs of each accelerator are worth of all GPUs, by the prices or the first proof of a plan that has any; else by speeds."""
    accelerators, ways = classes.market.accelerators, classes.market.ways
    for prices in (plan.prices, *(one.prices for one in plan.rounds)) if plan is not None else ():
        told = np.zeros(accelerators.count)
        for price in prices:
            if price.accelerator in accelerators.at:
                told[accelerators.at[price.accelerator]] = price.price
        if (told * accelerators.count_gpus).sum() > 0.0:
            return _normal(told * accelerators.count_gpus)
    place, speed = ways.accelerator[classes.entry_way], classes.entry_speed / classes.unit[classes.entry_class]
    usual = np.bincount(place, weights=speed / ways.gpus[classes.entry_way], minlength=accelerators.count)
    return _normal(usual * accelerators.count_gpus)


@dataclass(eq=False)
class Sifting:
    """The same questions, and the same answers, as ``gauge.Gauge``, for classes of which ``sifts`` is true.

    ``worth`` (accelerators,), sum 1, is what all GPUs of each are worth, where the search begins and, later, where it has come to.
    """

    classes: Classes
    worth: Floats
    last: tuple[Floats, Gauged] | None = None
    slopes: Floats | None = None  # how the use of each accelerator (rows) changes with the logarithm of each price

    def likely(self, path: Callable[[float], Floats], guess: float, most: float) -> float:
        """About the level up to which GPUs last at the prices of the beginning; ``path`` tells the speeds (jobs,) that a level needs."""
        for _ in range(LOOKS):
            value, _ = self._ways.used(self.worth, self._mean(self._need(path(guess))))
            guess = min(guess / value, most) if value > 0.0 else most
        return guess

    def of_needs(self, speeds: Floats) -> Generator[Step, Solved, Gauged | None]:
        """The least shortfall at which every job can have its speed, shape (jobs,); None when the solver found no answer."""
        if self.last is not None and np.array_equal(self.last[0], speeds):
            return self.last[1]
        table, need = self._ways, self._need(speeds)
        mean = self._mean(need)
        margin = min(max(MARGIN * self._even_out(table, mean), LEAST_MARGIN), MOST_MARGIN)
        codes = self._choices(table, mean, margin)
        for _ in range(MOST_ROUNDS):
            mixture = Mixture(table, mean, codes)
            found = yield Solve(mixture.program, method="simplex")
            if found.values is None or found.row_duals is None:
                return None
            before, self.worth = self.worth, _normal(np.maximum(-found.row_duals[: len(self.worth)], 0.0) * table.gpus)
            response = table.response(self.worth, mean)
            values, shortfall = mixture.values(found.values)
            new = table.code(response)
            unknown = int((~mixture.known(new)).sum())
            if not unknown or shortfall - (float(response.cost.sum()) - 1.0) <= CLOSE:
                gauged = self._gauged(table, need, response, values, shortfall)
                self.last = speeds.copy(), gauged
                return gauged
            if unknown > MANY * table.classes and margin < MOST_MARGIN:  # too few had a choice, and prices went astray
                self.worth, margin = before, min(WIDER * margin, MOST_MARGIN)
                codes = [*codes, *self._choices(table, mean, margin)]
            else:
                codes = [*codes, new]
        return None

    @cached_property
    def _ways(self) -> Table:
        return Table.of(self.classes)

    def _need(self, speeds: Floats) -> Floats:
        return needed(self.classes, speeds, np.arange(self.classes.count), np.zeros(self.classes.count))

    def _mean(self, need: Floats) -> Floats:
        return np.minimum(need / self.classes.size, self.classes.top)

    def _choices(self, table: Table, mean: Floats, margin: float) -> list[Ints]:
        """What every class does, and what it would rather do if prices were a little different."""
        code, second = table.code(table.response(self.worth, mean)), table.seconds(self.worth, mean, margin)
        return [code, np.where(second >= 0, second, code)]

    def _even_out(self, table: Table, mean: Floats) -> float:
        """Newton's method on the logarithms of prices, until no accelerator is used more than others but by a few classes.

        What all needs cost is concave in the prices, and it must grow with every step. Returns by about how much prices may be wrong.
        """
        few = float((table.gangs * table.copies).max(initial=0.0) / table.gpus[table.gpus > 0.0].min())
        value, used = table.used(self.worth, mean)
        for _ in range(MOST_NEWTON):
            uneven = np.where(self.worth > FAINT, used - value, np.maximum(used - value, 0.0))
            largest, fresh = float(np.abs(uneven).max()), self.slopes is None
            if largest <= EVEN * few * max(1.0, abs(value)):
                break
            if self.slopes is None:
                self.slopes = np.stack([(table.used(self._pushed(at), mean)[1] - used) / STEP for at in range(len(used))], axis=1)
            newton = -np.linalg.lstsq(self.slopes, uneven, rcond=1e-6)[0]
            for step in (newton, *((0.25 * newton, 0.2 * uneven / largest, 0.05 * uneven / largest) if fresh else ())):
                bounded = np.clip(step, -LONGEST, LONGEST)
                trial = _normal(np.maximum(self.worth, FAINT) * np.exp(bounded))
                new_value, new_used = table.used(trial, mean)
                if new_value > value:
                    break
            else:
                if fresh:
                    break
                self.slopes = None
                continue
            self.slopes = self.slopes + np.outer(new_used - used - self.slopes @ bounded, bounded) / max(float(bounded @ bounded), 1e-300)
            self.worth, value, used = trial, new_value, new_used
        uneven = np.where(self.worth > FAINT, used - value, 0.0)
        elastic = 1.0 if self.slopes is None else max(float(np.median(np.abs(np.diag(self.slopes)))), 1.0)
        return float(np.abs(uneven).max()) / elastic

    def _pushed(self, at: int) -> Floats:
        worth = np.maximum(self.worth, FAINT)
        worth[at] *= np.exp(STEP)
        return _normal(worth)

    def _gauged(self, table: Table, need: Floats, response: Response, values: Floats, shortfall: float) -> Gauged:
        """The answer, with time prices that cover every way whatever rounding did."""
        classes = self.classes
        price = np.where(table.gpus > 0.0, self.worth / np.where(table.gpus > 0.0, table.gpus, 1.0), 0.0)
        slope = response.worth
        time = table.time_price(price, slope)
        paid, idle = slope * need, time * classes.size
        bound = float((paid - idle).sum()) - float(price @ table.gpus)
        noise = ROUNDING * (FEW + classes.most_members) * (float((paid + idle).sum()) + 1.0)
        none = np.zeros(classes.count)
        return Gauged(
            shortfall=shortfall,
            bound=bound,
            floor=bound - noise,
            values=values,
            prices=Prices(price, np.zeros(len(price)), time, none),
            of=np.arange(classes.count),
            at=none,
            scenario=np.zeros(classes.count, dtype=np.int64),
            slope=slope,
            sides=need,
            sizes=need,
            loss=None,
        )


class Mixture:
    """The small program: of the classes that may do several things, in which proportions; the others do what they do.

    ``codes`` are what classes do, each (classes,); see ``responses.Table.code``.
    """

    def __init__(self, table: Table, mean: Floats, codes: list[Ints]) -> None:
        self._table, self._mean = table, mean
        every, most = np.stack(codes), table.most_codes
        self._free = np.flatnonzero((every != every[0]).any(axis=0))
        fixed = np.ones(table.classes, dtype=np.bool_)
        fixed[self._free] = False
        self._fixed, self._fixed_code = np.flatnonzero(fixed), every[0][fixed]
        self._keys = np.unique((self._free[None, :] * most + every[:, self._free]).ravel())
        self._of, self._code = self._keys // most, self._keys % most
        self._given = np.sort(self._fixed * most + self._fixed_code)

    def known(self, code: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which classes have this among what they may do, shape (classes,)."""
        keys = np.arange(len(code)) * self._table.most_codes + code
        return np.isin(keys, self._keys) | np.isin(keys, self._given)

    @cached_property
    def _used(self) -> Floats:
        """GPUs of each accelerator that the others use."""
        place, gpus = self._table.uses(self._fixed, self._fixed_code, self._mean)
        return np.bincount(place.ravel(), weights=gpus.ravel(), minlength=len(self._table.gpus)).astype(np.float64)

    @cached_property
    def program(self) -> LinearProgram:
        """The least shortfall; its first rows are GPUs."""
        table, count = self._table, len(self._of)
        builder, accelerators = ProgramBuilder(maximise=False), len(table.gpus)
        builder.add_columns("mixed", ProductIds(range(count)))
        builder.add_columns("shortfall", [()], cost=float(table.gpus.sum()), lower=-1.0)
        place, gpus = table.uses(self._of, self._code, self._mean)
        column = np.arange(count)
        builder.add_rows(
            "accelerator_capacity",
            ProductIds(range(accelerators)),
            upper=table.gpus - self._used,
            row_index=np.concatenate((place[0], place[1], np.arange(accelerators))),
            column_index=np.concatenate((column, column, np.full(accelerators, count))),
            coefficient=np.concatenate((gpus[0], gpus[1], -table.gpus)),
        )
        builder.add_rows(
            "whole",
            ProductIds(range(len(self._free))),
            lower=1.0,
            upper=1.0,
            row_index=np.searchsorted(self._free, self._of),
            column_index=column,
        )
        return builder.build()

    def values(self, mixed: Floats) -> tuple[Floats, float]:
        """The columns of the classes, and the shortfall that they have."""
        table = self._table
        part = np.maximum(mixed[:-1], 0.0)
        part /= np.bincount(np.searchsorted(self._free, self._of), weights=part, minlength=len(self._free))[
            np.searchsorted(self._free, self._of)
        ]
        of, code = np.concatenate((self._fixed, self._of)), np.concatenate((self._fixed_code, self._code))
        weight = np.concatenate((np.ones(len(self._fixed)), part))
        values = table.amounts(of, code, self._mean, weight)
        used = table.gpus_of(values)
        there = table.gpus > 0.0
        return values, float((used[there] / table.gpus[there]).max(initial=0.0)) - 1.0


def _normal(worth: Floats) -> Floats:
    total = float(worth.sum())
    found: Floats = worth / total if total > 0.0 else np.full(len(worth), 1.0 / max(1, len(worth)))
    return found
