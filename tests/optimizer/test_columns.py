"""Column generation against the whole program written down: the same optimum, and a bound that holds in every round."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.contract import NewColumns
from models.program import Floats, LinearProgram
from models.program_builder import ProductIds, ProgramBuilder
from optimizer.backend import ProgramResult, ProgramStatus
from optimizer.bounds import usable_duals
from optimizer.columns import generate
from optimizer.highs import HighsBackend
from optimizer.incumbents import Spent
from optimizer.limits import Limits
from optimizer.live import LiveProgram
from optimizer.result import StopReason
from tests.optimizer.cutting_stock import Cutting, Stock, random_stock
from tests.optimizer.toy_kind.scale import Relaxation
from tests.optimizer.toy_kind.schema import hard

LIMITS = Limits(time_limit_s=20)
GILMORE = Stock(100, (45, 36, 31, 14), (97, 610, 395, 211))  # V. Chvátal, Linear Programming (1983), ch. 13: 452.25 rolls


def optimum(program: LinearProgram) -> float:
    found = HighsBackend().solve(program, LIMITS)
    assert found.status is ProgramStatus.optimal
    assert found.objective is not None
    return found.objective


def rolls(stock: Stock) -> int:
    """No more than these are needed: one width to a roll."""
    return sum(-(-count // (stock.length // width)) for count, width in zip(stock.demand, stock.widths, strict=True))


def cutting(stock: Stock) -> Cutting:
    return Cutting(stock, rolls(stock))


def test_a_case_from_a_book() -> None:
    heard: list[float] = []
    spent: list[Spent] = []
    found = generate(cutting(GILMORE), LIMITS, on_bound=heard.append, on_spent=spent.append)
    assert found.complete
    assert found.objective == pytest.approx(452.25)
    assert found.bound == pytest.approx(452.25)
    assert heard[-1] == found.bound
    assert {one.phase for one in spent} == {"build", "hand_over"}
    assert found.values is not None
    assert len(found.values) == found.live.program.columns
    assert found.live.program.objective(found.values) == pytest.approx(452.25)


@pytest.mark.parametrize("seed", range(12))
def test_the_optimum_is_that_of_the_whole_program(seed: int) -> None:
    stock = random_stock(np.random.default_rng(seed))
    whole = optimum(stock.program(stock.patterns()))
    heard: list[float] = []
    found = generate(cutting(stock), LIMITS, on_bound=heard.append)
    assert found.complete
    assert found.objective == pytest.approx(whole, rel=1e-7)
    # Every bound that was told holds for the whole program, and each is tighter than the one before.
    assert heard
    assert all(bound <= whole * (1 + 1e-9) for bound in heard)
    assert heard == sorted(set(heard))


@pytest.mark.parametrize("seed", range(6))
def test_a_maximising_program_with_many_columns_a_round(seed: int) -> None:
    problem = hard(3, 9, seed)
    problem = problem.model_copy(update={"bags": tuple(bag.model_copy(update={"capacity_g": 900}) for bag in problem.bags)})
    source = Relaxation(problem)
    heard: list[float] = []
    found = generate(source, LIMITS, on_bound=heard.append)
    assert found.complete
    assert found.objective is not None
    whole = optimum(every_content(problem))
    assert found.objective == pytest.approx(whole)
    assert all(bound >= whole * (1 - 1e-9) for bound in heard)
    assert heard == sorted(set(heard), reverse=True)


def every_content(problem: Any) -> LinearProgram:
    """All contents of all bags as columns."""
    things, bags = problem.things, problem.bags
    sets = [[place for place in range(len(things)) if mask >> place & 1] for mask in range(1, 2 ** len(things))]
    columns = [(bag, one) for bag in range(len(bags)) for one in sets if sum(things[k].weight_g for k in one) <= bags[bag].capacity_g]
    builder = ProgramBuilder(maximise=True)
    builder.add_columns("hold", ProductIds(range(len(columns))), cost=[sum(things[k].worth_usd for k in one) for _, one in columns])
    entries = [(row, column) for column, (bag, one) in enumerate(columns) for row in (*one, len(things) + bag)]
    rows, at = np.array(entries).T
    builder.add_rows("once", ProductIds(range(len(things) + len(bags))), upper=1.0, row_index=rows, column_index=at)
    return builder.build()


def test_stopped_after_any_round_the_bound_holds() -> None:
    whole = optimum(GILMORE.program(GILMORE.patterns()))

    class Tired(Cutting):
        def price(self, row_duals: Floats) -> NewColumns:
            found = super().price(row_duals)
            if self.priced >= stop_at:
                cancel.set()
            return found

    for stop_at in range(1, 6):
        cancel = threading.Event()
        found = generate(Tired(GILMORE, rolls(GILMORE)), LIMITS, cancel=cancel)
        assert found.rounds <= stop_at
        assert found.values is not None
        assert found.objective is not None
        assert -np.inf < found.bound <= whole * (1 + 1e-9)
        assert found.objective >= whole * (1 - 1e-9)


def test_a_deadline_keeps_what_the_last_round_gave() -> None:
    class Slow(Cutting):
        def price(self, row_duals: Floats) -> NewColumns:
            time.sleep(0.1)
            return super().price(row_duals)

    began = time.monotonic()
    found = generate(Slow(GILMORE, rolls(GILMORE)), Limits(time_limit_s=0.15))
    assert time.monotonic() - began < 5
    assert not found.complete
    assert 1 <= found.rounds <= 2
    assert found.values is not None
    assert np.isfinite(found.bound)


def test_cancelled_before_the_first_round_nothing_is_known() -> None:
    cancel = threading.Event()
    cancel.set()
    found = generate(cutting(GILMORE), LIMITS, cancel=cancel)
    assert (found.values, found.row_duals, found.objective, found.rounds, found.complete) == (None, None, None, 0, False)
    assert found.bound == -np.inf


def test_an_infeasible_master_claims_nothing() -> None:
    class Impossible(Cutting):
        def master(self) -> LinearProgram:
            return replace(super().master(), column_upper=np.ones(len(self.stock.widths)))

    told: list[float] = []
    found = generate(Impossible(GILMORE, rolls(GILMORE)), LIMITS, on_bound=told.append)
    assert (found.values, found.objective, found.complete, told) == (None, None, False, [])
    assert found.bound == -np.inf


def test_an_unbounded_master_claims_nothing() -> None:
    class Unbounded(Cutting):
        def master(self) -> LinearProgram:
            return replace(super().master(), maximise=True)

        def price(self, row_duals: Floats) -> NewColumns:
            return replace(super().price(row_duals), excess=0.0)

    found = generate(Unbounded(GILMORE, rolls(GILMORE)), LIMITS)
    assert not found.complete
    assert found.bound == np.inf


def test_a_source_that_is_never_content_ends() -> None:
    class Stubborn(Cutting):
        """Adds the same useless column for ever, and admits an excess that never ends."""

        def price(self, row_duals: Floats) -> NewColumns:
            del row_duals
            one = np.ones(1)
            return NewColumns(10 * one, 0 * one, one, np.array([0, 1]), np.array([0]), one, excess=1.0)

    found = generate(Stubborn(Stock(10, (5,), (3,)), 3), LIMITS)
    assert not found.complete
    assert found.objective == pytest.approx(1.5)
    assert found.bound == pytest.approx(0.5)


def test_interrupted_duals_of_the_wrong_sign_give_a_valid_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Duals of a solve cut short may have any sign: the excess is priced with the very duals of the bound."""
    told: list[float] = []
    seen: list[Floats] = []

    def interrupted(*_: Any, **__: Any) -> ProgramResult:
        duals = np.array([0.5, -5.0, np.nan, 0.1])
        return ProgramResult(ProgramStatus.feasible, StopReason.deadline, row_duals=duals, objective=500.0)

    class Watched(Cutting):
        def price(self, row_duals: Floats) -> NewColumns:
            seen.append(row_duals)
            return super().price(row_duals)

    monkeypatch.setattr(LiveProgram, "solve", interrupted)
    found = generate(Watched(GILMORE, rolls(GILMORE)), LIMITS, on_bound=told.append)
    assert seen[0].tolist() == [0.5, 0.0, 0.0, 0.1]
    assert found.bound == pytest.approx(69.6)  # 97 x 0.5 + 211 x 0.1
    assert told == [found.bound]
    assert found.values is None


def test_duals_are_usable_on_the_sides_that_exist() -> None:
    program = GILMORE.program(GILMORE.patterns()[:4])
    assert usable_duals(program, np.array([1.0, -1.0, np.inf, 0.0])).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert usable_duals(replace(program, maximise=True), np.array([1.0, -1.0, np.inf, 0.0])).tolist() == [0.0, -1.0, 0.0, 0.0]
