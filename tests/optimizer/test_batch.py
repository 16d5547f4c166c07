"""Batches of linear programs: against HiGHS and scipy, on what no first-order method can answer, and on what it must not claim."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.program import LinearProgram
from models.program_builder import ProgramBuilder
from optimizer.backend import FEASIBILITY_TOLERANCE, ProgramStatus, UnsupportedProgram
from optimizer.batch import BatchAnswer, Engines, Start, TorchMissingError, solve_batch
from optimizer.batch.shapes import Shape
from optimizer.bounds import dual_bound
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from tests.optimizer.oracle import dense, from_dense

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats

torch = pytest.importorskip("torch")

CPU = Engines(device="cpu")
ALONE = Engines(device="cpu", polish=False)
TOLERANCE = 1e-4


def solved(programs: Sequence[LinearProgram], engines: Engines = CPU, **options: Any) -> list[BatchAnswer]:
    """The answers, after what holds of every answer was checked."""
    answers = solve_batch(programs, engines=engines, **options)
    assert len(answers) == len(programs)
    for program, answer in zip(programs, answers, strict=True):
        checked(program, answer, options.get("tolerance", TOLERANCE))
    return answers


def checked(program: LinearProgram, answer: BatchAnswer, tolerance: float) -> None:
    """Values are feasible, the bound is that of the duals, and no claim contradicts HiGHS."""
    truth = HighsBackend().solve(program, Limits())
    assert (answer.values is not None) == (answer.status in (ProgramStatus.optimal, ProgramStatus.feasible))
    if answer.values is not None:
        assert answer.objective == program.objective(answer.values)
        assert answer.primal_infeasibility == program.relative_violation(answer.values) <= FEASIBILITY_TOLERANCE
        assert truth.objective is not None or truth.status is ProgramStatus.unbounded
    elif answer.status is not ProgramStatus.no_solution:
        assert answer.status is truth.status
    if answer.bound is not None and truth.objective is not None:
        beyond = truth.objective - answer.bound if program.maximise else answer.bound - truth.objective
        assert beyond <= 2e-6 * max(1.0, abs(truth.objective))
    if answer.by == "first order" and answer.bound is not None and answer.row_duals is not None and answer.bound != answer.objective:
        assert answer.bound == pytest.approx(dual_bound(program, answer.row_duals), rel=1e-12, abs=1e-12)
    if answer.status is ProgramStatus.optimal:
        assert answer.objective == pytest.approx(truth.objective, rel=2 * tolerance, abs=2e-6)
        assert answer.gap is not None
        assert answer.gap <= max(tolerance, 2e-6)


def packing(rng: np.random.Generator, rows: int = 12, columns: int = 30) -> LinearProgram:
    """Most worth within capacities: 0 is feasible, and every column is limited by some row."""
    matrix = rng.uniform(0.5, 2.0, (rows, columns)) * (rng.random((rows, columns)) < 0.4)
    matrix[rng.integers(rows, size=columns), np.arange(columns)] = 1.0
    sides = np.full(rows, -np.inf), rng.uniform(1.0, 5.0, rows)
    return from_dense(matrix, sides, _free(columns, lower=0.0), rng.uniform(1.0, 3.0, columns), _fractional(columns), maximise=True)


def variants(program: LinearProgram, count: int, rng: np.random.Generator) -> list[LinearProgram]:
    """The program with other capacities and costs."""
    return [
        replace(program, row_upper=program.row_upper * rng.uniform(0.5, 1.5, program.rows), cost=program.cost * rng.uniform(0.8, 1.2))
        for _ in range(count)
    ]


def _free(columns: int, lower: float = -np.inf, upper: float = np.inf) -> tuple[Floats, Floats]:
    return np.full(columns, lower), np.full(columns, upper)


def _fractional(columns: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.zeros(columns, dtype=np.bool_)


@st.composite
def batches(draw: st.DrawFn) -> list[LinearProgram]:
    """Small programs of one shape, with equality rows, ranges, free and fixed columns, feasible or not, bounded or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    pattern = rng.random((rows, columns)) < 0.6
    own = draw(st.booleans())
    matrix = rng.integers(1, 5, (rows, columns)) * rng.choice([-1, 1], (rows, columns)) * pattern
    found = []
    for _ in range(draw(st.integers(1, 5))):
        numbers = matrix * rng.integers(1, 3, matrix.shape) if own else matrix
        inside = rng.integers(-2, 4, columns)
        lower = np.where(rng.random(columns) < 0.8, np.minimum(inside, 0), -np.inf)
        upper = np.where(rng.random(columns) < 0.6, inside + rng.integers(0, 4, columns), np.inf)
        activity = numbers @ inside + (rng.integers(-6, 6, rows) if draw(st.booleans()) else 0)
        kind = rng.integers(0, 4, rows)
        row_lower = np.where(kind == 0, -np.inf, activity - np.where(kind == 1, 2, 0))
        row_upper = np.where(kind == 2, np.inf, activity + np.where(kind == 1, 2, 0))
        cost = rng.integers(-4, 5, columns).astype(np.float64)
        sides, box = (row_lower.astype(np.float64), row_upper.astype(np.float64)), (lower.astype(np.float64), upper.astype(np.float64))
        found.append(
            from_dense(numbers.astype(np.float64), sides, box, cost, _fractional(columns), maximise=draw(st.booleans()), offset=3.0)
        )
    return found


@given(batches())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_batches_have_the_answers_of_highs(programs: list[LinearProgram]) -> None:
    few = Engines(device="cpu", most_iterations=400)
    for program, answer in zip(programs, solved(programs, few), strict=True):
        truth = HighsBackend().solve(program, Limits())
        assert answer.status is truth.status
        if truth.objective is not None:
            assert answer.objective == pytest.approx(truth.objective, rel=2e-4, abs=1e-5)


@given(batches(), st.integers(1, 300))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_method_stopped_early_claims_nothing_false(programs: list[LinearProgram], iterations: int) -> None:
    for answer in solved(programs, replace(ALONE, most_iterations=iterations)):
        assert answer.by == "first order" or answer.values is None
        assert answer.status not in (ProgramStatus.infeasible, ProgramStatus.unbounded)


def test_the_first_order_method_itself_solves_what_suits_it() -> None:
    rng = np.random.default_rng(1)
    programs = variants(packing(rng), 40, rng)
    answers = solved(programs, ALONE, seconds=100.0)
    assert all(answer.status is ProgramStatus.optimal for answer in answers)
    assert {answer.by for answer in answers} == {"first order"}
    assert max(answer.primal_infeasibility or 0.0 for answer in answers) <= 1e-9


def test_scipy_agrees() -> None:
    from scipy.optimize import linprog

    rng = np.random.default_rng(2)
    programs = variants(packing(rng), 5, rng)
    for program, answer in zip(programs, solved(programs, ALONE), strict=True):
        found = linprog(-program.cost, A_ub=dense(program), b_ub=program.row_upper)
        assert answer.objective == pytest.approx(-found.fun, rel=1e-4)
        assert answer.bound is not None
        assert answer.bound >= -found.fun * (1.0 - 1e-9)


def test_matrices_of_their_own() -> None:
    rng = np.random.default_rng(3)
    first = packing(rng)
    programs = [replace(one, coefficients=one.coefficients * rng.uniform(0.5, 2.0, len(one.indices))) for one in variants(first, 9, rng)]
    assert not Shape(programs).common
    answers = solved(programs, ALONE, seconds=100.0)
    assert {answer.status for answer in answers} == {ProgramStatus.optimal}
    assert Shape([first, first]).common


def test_equality_rows_are_met() -> None:
    """Transport: what leaves each source and reaches each sink is fixed."""
    rng = np.random.default_rng(4)
    sources, sinks = 4, 5
    matrix = np.vstack([np.kron(np.eye(sources), np.ones(sinks)), np.kron(np.ones(sources), np.eye(sinks))])
    programs = []
    for _ in range(6):
        amount = rng.uniform(1.0, 3.0, (sources, sinks))
        sides = np.concatenate([amount.sum(1), amount.sum(0)])
        cost = rng.uniform(1.0, 9.0, sources * sinks)
        programs.append(from_dense(matrix, (sides, sides), _free(len(cost), lower=0.0), cost, _fractional(len(cost))))
    answers = solved(programs)
    assert {answer.status for answer in answers} == {ProgramStatus.optimal}
    assert any(answer.by == "first order" for answer in answers)


def test_tighter_tolerances() -> None:
    rng = np.random.default_rng(5)
    programs = variants(packing(rng), 3, rng)
    for answer in solved(programs, ALONE, tolerance=1e-6, seconds=100.0):
        assert answer.status is ProgramStatus.optimal
        assert answer.gap is not None
        assert answer.gap <= 1e-6


# ---------------------------------------------------------------- what is not for a first-order method


def one_row(cost: float, lower: float, upper: float, *, row_upper: float = np.inf) -> LinearProgram:
    """Minimise ``cost x`` with ``lower <= x <= upper`` and ``0 <= x + y <= row_upper``, y from 0 to 1."""
    box = np.array([lower, 0.0]), np.array([upper, 1.0])
    return from_dense(np.ones((1, 2)), (np.zeros(1), np.array([row_upper])), box, np.array([cost, 1.0]), _fractional(2))


def test_infeasible_and_unbounded_programs_beside_others() -> None:
    programs = [
        one_row(1.0, 0.0, 5.0),
        one_row(-1.0, 0.0, np.inf),  # unbounded
        one_row(1.0, 3.0, 5.0, row_upper=2.0),  # infeasible
        one_row(-1.0, 0.0, np.inf, row_upper=4.0),
        one_row(0.0, -np.inf, np.inf),
        one_row(1.0, 2.0, 2.0),
        one_row(1.0, -np.inf, np.inf),
    ]
    answers = solved(programs, Engines(device="cpu", most_iterations=500))
    optimal, unbounded, infeasible = ProgramStatus.optimal, ProgramStatus.unbounded, ProgramStatus.infeasible
    assert [answer.status for answer in answers] == [optimal, unbounded, infeasible, optimal, optimal, optimal, optimal]
    assert [answer.by for answer in answers[1:3]] == ["highs", "highs"]
    assert answers[1].detail
    assert answers[2].detail


def test_hopeless_programs_are_given_up_early() -> None:
    """Two rows that exclude each other, and a ray: seen long before the iterations are spent."""
    matrix = np.array([[1.0, 2.0], [1.0, 2.0]])
    nowhere = from_dense(
        matrix, (np.array([-np.inf, 4.0]), np.array([3.0, np.inf])), _free(2, lower=0.0), np.array([1.0, 1.0]), _fractional(2)
    )
    endless = from_dense(
        np.array([[1.0, -1.0], [1.0, -2.0]]),
        (np.full(2, -np.inf), np.array([3.0, 4.0])),
        _free(2, lower=0.0),
        np.array([-1.0, 0.0]),
        _fractional(2),
    )
    for answer, status in zip(solved([nowhere, endless]), (ProgramStatus.infeasible, ProgramStatus.unbounded), strict=True):
        assert (answer.status, answer.by) == (status, "highs")
        assert answer.iterations <= 5_000


def test_a_large_batch_does_not_depend_on_its_pilots() -> None:
    """The first, the middle and the last program say how to begin: here two of them have no feasible point."""
    rng = np.random.default_rng(15)
    programs = variants(packing(rng), 33, rng)
    for place in (0, 16):
        least = np.where(np.arange(12) == 3, 50.0, -np.inf)
        programs[place] = replace(programs[place], row_lower=least, row_upper=np.maximum(least, programs[place].row_upper))
        programs[place] = replace(programs[place], column_upper=np.ones(30))
    statuses = [answer.status for answer in solved(programs, seconds=100.0)]
    assert [place for place, status in enumerate(statuses) if status is ProgramStatus.infeasible] == [0, 16]
    assert statuses.count(ProgramStatus.optimal) == 31


def test_no_programs() -> None:
    assert solve_batch([]) == []


def test_programs_without_rows_columns_or_entries() -> None:
    nothing = np.zeros(0)
    none = np.zeros(0, dtype=np.int64)
    box = _free(2, lower=-1.0, upper=1.0)
    no_rows = from_dense(np.zeros((0, 2)), (nothing, nothing), box, np.array([1.0, -1.0]), _fractional(2))
    no_entries = from_dense(np.zeros((1, 2)), (np.zeros(1), np.ones(1)), box, np.array([1.0, -1.0]), _fractional(2))
    impossible = from_dense(np.zeros((1, 2)), (np.ones(1), np.ones(1)), box, np.array([1.0, -1.0]), _fractional(2))
    no_columns = LinearProgram(
        False, nothing, nothing, nothing, _fractional(0), np.zeros(1), np.ones(1), np.zeros(2, np.int64), none, nothing
    )
    answers = solved([no_rows, no_entries, impossible, no_columns])
    assert [answer.objective for answer in answers] == [-2.0, -2.0, None, 0.0]
    assert answers[2].status is ProgramStatus.infeasible


def test_one_program_and_programs_of_several_shapes() -> None:
    rng = np.random.default_rng(6)
    small, large = packing(rng, 5, 8), packing(rng, 9, 20)
    assert solved([small])[0].status is ProgramStatus.optimal
    mixed = [small, large, *variants(small, 2, rng), *variants(large, 2, rng)]
    answers = solved(mixed)
    assert [len(answer.values) for answer in answers if answer.values is not None] == [8, 20, 8, 8, 20, 20]


def test_an_objective_of_nothing() -> None:
    rng = np.random.default_rng(7)
    program = packing(rng)
    answer = solved([replace(program, cost=np.zeros(program.columns))])[0]
    assert (answer.status, answer.objective) == (ProgramStatus.optimal, 0.0)


def test_what_is_left_over_goes_to_highs_and_says_so() -> None:
    rng = np.random.default_rng(8)
    programs = variants(packing(rng), 4, rng)
    for answer in solved(programs, Engines(device="cpu", most_iterations=1)):
        assert (answer.status, answer.by) == (ProgramStatus.optimal, "highs")
        assert "the first-order method" in answer.detail


def test_no_time_is_no_lie() -> None:
    rng = np.random.default_rng(9)
    for answer in solved(variants(packing(rng), 40, rng), seconds=1e-6):
        assert answer.status in (ProgramStatus.feasible, ProgramStatus.no_solution, ProgramStatus.optimal)


def test_a_start_at_the_optimum_ends_at_once() -> None:
    rng = np.random.default_rng(10)
    programs = variants(packing(rng), 3, rng)
    known = [HighsBackend().solve(program, Limits()) for program in programs]
    starts = [Start(one.values, one.row_duals) for one in known if one.values is not None and one.row_duals is not None]
    assert len(starts) == len(programs)
    hot, cold = solved(programs, ALONE, starts=starts), solved(programs, ALONE)
    assert sum(one.iterations for one in hot) < sum(one.iterations for one in cold)


def test_the_same_batch_has_the_same_answers() -> None:
    rng = np.random.default_rng(11)
    programs = variants(packing(rng), 40, rng)
    first, second = (solve_batch(programs, engines=ALONE, seconds=100.0) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.iterations == other.iterations
        assert one.values is not None
        assert other.values is not None
        assert one.values.tobytes() == other.values.tobytes()


# ---------------------------------------------------------------- refusals


def test_integer_columns_are_refused_by_name() -> None:
    builder = ProgramBuilder(maximise=True)
    builder.add_columns("racks", [("north",)], cost=1.0, upper=4.0, integer=True)
    with pytest.raises(UnsupportedProgram, match=r"program 0 has integer columns \(racks\[north\]\).*relaxed"):
        solve_batch([builder.build()], engines=CPU)


def test_bad_input_is_refused() -> None:
    program = packing(np.random.default_rng(12))
    for tolerance in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="tolerance"):
            solve_batch([program], tolerance=tolerance, engines=CPU)
    with pytest.raises(ValueError, match="1 starts for 2 programs"):
        solve_batch([program, program], starts=[None], engines=CPU)
    with pytest.raises(ValueError, match="start 0 has the shapes"):
        solve_batch([program], starts=[Start(np.zeros(1), np.zeros(program.rows))], engines=CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no GPU"):
        solve_batch([], engines=Engines(device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_has_the_same_answers() -> None:
    rng = np.random.default_rng(13)
    programs = variants(packing(rng), 40, rng)
    for one in solved(programs, Engines(device="cuda", polish=False), seconds=100.0):
        assert one.status is ProgramStatus.optimal


def test_without_torch_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "optimizer.batch.iteration", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(TorchMissingError, match=r"quartermaster\[torch\]"):
        solve_batch([packing(np.random.default_rng(14))])
