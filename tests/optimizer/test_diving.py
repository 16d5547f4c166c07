"""Diving: from a fractional cutting plan to a whole one, round by round."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from models.contract import RowEdits
from models.program import Floats, LinearProgram
from optimizer.columns import Generated, generate
from optimizer.diving import dive
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from tests.optimizer.cutting_stock import Cutting, Stock, random_stock

LIMITS = Limits(time_limit_s=20)


class Sawmill:
    """Each round cuts the whole part of the relaxation; once that is nothing, a small program says what one more roll gives."""

    def __init__(self, cutting: Cutting) -> None:
        self.cutting = cutting
        self.left = list(cutting.stock.demand)
        self.rolls: list[tuple[int, ...]] = []
        self.unanswered = 0

    def programs(self, values: Floats, row_duals: Floats) -> Sequence[LinearProgram]:
        for pattern, number in zip(self.cutting.patterns, np.floor(values + 1e-6).astype(int), strict=True):
            for _ in range(number):
                self._cut(pattern)
        return [self._one_roll(row_duals)] * 2 if any(self.left) else []

    def take(self, answers: Sequence[Floats | None]) -> RowEdits | None:
        for answer in answers:
            if answer is None:
                self.unanswered += 1
            else:
                self._cut(tuple(np.round(answer).astype(int).tolist()))
        rows = np.arange(len(self.left))
        return RowEdits(rows, np.array(self.left, dtype=np.float64), np.full(len(rows), np.inf))

    def _cut(self, pattern: tuple[int, ...]) -> None:
        if any(map(min, pattern, self.left)):
            self.rolls.append(pattern)
            self.left = [max(0, left - cut) for left, cut in zip(self.left, pattern, strict=True)]

    def _one_roll(self, row_duals: Floats) -> LinearProgram:
        """The knapsack over what is still wanted, as a program."""
        count, stock = len(self.left), self.cutting.stock
        return LinearProgram(
            maximise=True,
            cost=np.maximum(row_duals, 1e-3),
            column_lower=np.zeros(count),
            column_upper=np.array(self.left, dtype=np.float64),
            integer=np.ones(count, dtype=np.bool_),
            row_lower=np.array([-np.inf]),
            row_upper=np.array([float(stock.length)]),
            starts=np.array([0, count]),
            indices=np.arange(count),
            coefficients=np.array(stock.widths, dtype=np.float64),
        )


def relaxed(stock: Stock) -> tuple[Sawmill, Generated]:
    cutting = Cutting(stock, most=sum(stock.demand))
    found = generate(cutting, LIMITS)
    assert found.complete
    return Sawmill(cutting), found


def delivered(mill: Sawmill) -> bool:
    stock = mill.cutting.stock
    fits = all(sum(map(int.__mul__, roll, stock.widths)) <= stock.length for roll in mill.rolls)
    return fits and all(sum(roll[place] for roll in mill.rolls) >= count for place, count in enumerate(stock.demand))


@pytest.mark.parametrize("seed", range(8))
def test_a_dive_ends_with_a_plan_near_its_bound(seed: int) -> None:
    stock = random_stock(np.random.default_rng(seed))
    mill, found = relaxed(stock)
    rounds = dive(mill, found.live, LIMITS)
    assert rounds >= 1
    assert not any(mill.left)
    assert delivered(mill)
    assert math.ceil(found.bound - 1e-6) <= len(mill.rolls) <= math.ceil(found.bound) + len(stock.widths)


def test_threads_change_nothing() -> None:
    stock = random_stock(np.random.default_rng(0))
    plans = []
    for threads in (1, 2):
        mill, found = relaxed(stock)
        dive(mill, found.live, Limits(time_limit_s=20, threads=threads))
        plans.append(mill.rolls)
    assert plans[0] == plans[1]


def test_what_is_fixed_when_time_runs_out_stays_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    mill, found = relaxed(Stock(100, (45, 36, 31, 14), (97, 610, 395, 211)))
    work = HighsBackend.solve

    def slow(*arguments: object, **named: object) -> object:
        time.sleep(0.2)
        return work(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(HighsBackend, "solve", slow)
    began = time.monotonic()
    assert dive(mill, found.live, Limits(time_limit_s=0.1)) == 1
    assert time.monotonic() - began < 5
    assert len(mill.rolls) > 400


def test_cancelled_at_once_nothing_is_fixed() -> None:
    mill, found = relaxed(random_stock(np.random.default_rng(1)))
    cancel = threading.Event()
    cancel.set()
    assert dive(mill, found.live, LIMITS, cancel=cancel) == 0
    assert mill.rolls == []


def test_a_part_without_an_answer_is_told() -> None:
    class Hopeless(Sawmill):
        def programs(self, values: Floats, row_duals: Floats) -> Sequence[LinearProgram]:
            del values, row_duals
            none = np.zeros(0)
            empty = np.zeros(0, dtype=np.int64)
            impossible = LinearProgram(
                maximise=False,
                cost=none,
                column_lower=none,
                column_upper=none,
                integer=np.zeros(0, dtype=np.bool_),
                row_lower=np.ones(1),
                row_upper=np.ones(1),
                starts=np.array([0, 0]),
                indices=empty,
                coefficients=none,
            )
            return [impossible]

        def take(self, answers: Sequence[Floats | None]) -> RowEdits | None:
            super().take(answers)
            return None

    mill, found = relaxed(random_stock(np.random.default_rng(2)))
    hopeless = Hopeless(mill.cutting)
    assert dive(hopeless, found.live, LIMITS) == 1
    assert hopeless.unanswered == 1


def test_a_relaxation_that_became_infeasible_ends_the_dive() -> None:
    class Impossible(Sawmill):
        def take(self, answers: Sequence[Floats | None]) -> RowEdits | None:
            del answers
            return RowEdits(np.array([0]), np.array([-2.0]), np.array([-1.0]))

    mill, found = relaxed(random_stock(np.random.default_rng(3)))
    assert dive(Impossible(mill.cutting), found.live, LIMITS) == 1
