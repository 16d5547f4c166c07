"""What HiGHS really does (DESIGN section 4), and that our use of it holds up."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import highspy
import numpy as np
import pytest

from models.program import LinearProgram
from models.program_builder import ProductIds, ProgramBuilder
from optimizer.backend import ProgramProgress, ProgramStatus, SolverError, accepted
from optimizer.highs import Engine, HighsBackend, Options, Watch, solved
from optimizer.limits import Deadline, Limits
from optimizer.live import LiveProgram
from optimizer.result import StopReason
from tests.optimizer.oracle import dense, random_program, truth


def knapsacks(items: int, rows: int) -> LinearProgram:
    """Correlated knapsacks: hard to close, so that a large one is still running when it is stopped."""
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 100, (rows, items))
    builder = ProgramBuilder(maximise=True)
    builder.add_columns("take", ProductIds(range(items)), cost=rng.integers(1, 20, items) + weights.mean(axis=0), upper=1.0, integer=True)
    row, column = np.arange(rows)[:, None], np.arange(items)[None, :]
    side = weights.sum(axis=1) // 2
    builder.add_rows("weight", ProductIds(range(rows)), upper=side, row_index=row, column_index=column, coefficient=weights)
    return builder.build()


def diet() -> LinearProgram:
    builder = ProgramBuilder()
    builder.add_columns("eat", [("a",), ("b",)], cost=[2.0, 3.0])
    builder.add_rows(
        "need", [("x",), ("y",)], lower=[4.0, 6.0], row_index=[0, 0, 1, 1], column_index=[0, 1, 0, 1], coefficient=[1, 1, 1, 3]
    )
    return builder.build()


def test_the_pinned_version_shares_a_process_with_ortools() -> None:
    from ortools.linear_solver import pywraplp

    assert pywraplp.Solver.CreateSolver("SCIP") is not None
    assert HighsBackend().name == "highs 1.12.0"
    assert HighsBackend().solve(diet(), Limits()).objective == pytest.approx(9.0)


def test_unknown_options_and_solvers_are_errors_not_defaults() -> None:
    engine = Engine()
    for name, value in (("solver", "no_such"), ("solver", "hipo"), ("no_such_option", 1), ("mip_rel_gap", -1.0)):
        with pytest.raises(SolverError, match=name):
            engine.set_option(name, value)


def test_a_refused_call_names_itself() -> None:
    with pytest.raises(SolverError, match="kError to changeColCost"):
        Engine().call("changeColCost", 7, 1.0)


def test_an_lp_method_does_not_touch_a_mip() -> None:
    program = knapsacks(15, 3)
    for method in (Options(method="simplex"), Options(method="ipm", crossover=False)):
        assert HighsBackend(method).solve(program, Limits(gap=0.0)).objective == pytest.approx(truth(program).objective)


def test_fractional_bounds_of_integer_columns() -> None:
    builder = ProgramBuilder(maximise=True, offset=-1.0)
    builder.add_columns("x", [()], cost=3.0, lower=-2.5, upper=0.5, integer=True)
    builder.add_rows("r", [()], lower=-4.0, row_index=0, column_index=0, coefficient=2.0)
    result = HighsBackend().solve(builder.build(), Limits())
    assert (result.status, result.objective, result.bound) == (ProgramStatus.optimal, -1.0, -1.0)
    live = LiveProgram(builder.build(), Limits())
    live.change_column_bounds(0, -2.5, 1.5)
    assert live.solve().bound == 2.0


def test_a_set_event_stops_a_running_mip_and_keeps_its_plan() -> None:
    cancel = threading.Event()
    seen: list[ProgramProgress] = []
    timer = threading.Timer(0.5, cancel.set)
    timer.start()
    result = HighsBackend().solve(knapsacks(100, 20), Limits(time_limit_s=60.0, gap=0.0), on_progress=seen.append, cancel=cancel)
    timer.join()
    assert result.stop_reason is StopReason.cancelled
    assert result.status is ProgramStatus.feasible
    assert result.seconds < 20.0
    assert result.objective == max(one.incumbent for one in seen if one.incumbent is not None)
    assert result.bound is not None
    assert result.objective is not None
    assert result.objective <= result.bound


def test_a_set_event_stops_simplex_and_interior_point() -> None:
    rng = np.random.default_rng(1)
    rows, columns = np.arange(700)[:, None], np.arange(900)[None, :]
    builder = ProgramBuilder()
    builder.add_columns("x", ProductIds(range(900)), cost=rng.random(900) + 0.1)
    builder.add_rows(
        "r", ProductIds(range(700)), lower=rng.random(700), row_index=rows, column_index=columns, coefficient=rng.random((700, 900))
    )
    program = builder.build()
    cancel = threading.Event()
    for method in (Options(method="simplex", presolve=False), Options(method="ipm")):
        cancel.clear()
        timer = threading.Timer(0.05, cancel.set)
        timer.start()
        result = HighsBackend(method).solve(program, Limits(), cancel=cancel)
        timer.join()
        assert result.stop_reason is StopReason.cancelled
        assert result.row_duals is None or result.status is not ProgramStatus.optimal


def test_an_event_set_before_returns_the_start() -> None:
    cancel = threading.Event()
    cancel.set()
    program = knapsacks(10, 2)
    result = HighsBackend().solve(program, Limits(), start=np.zeros(10), cancel=cancel)
    assert (result.status, result.stop_reason, result.objective) == (ProgramStatus.feasible, StopReason.cancelled, 0.0)
    assert HighsBackend().solve(program, Limits(), cancel=cancel).status is ProgramStatus.no_solution


def test_a_start_makes_a_short_limit_safe() -> None:
    program = knapsacks(3000, 60)
    start = np.zeros(3000)
    room = program.row_upper.copy()
    weights = dense(program)
    for item in range(3000):
        if (weights[:, item] <= room).all():
            start[item] = 1.0
            room -= weights[:, item]
    begun = time.monotonic()
    result = HighsBackend().solve(program, Limits(time_limit_s=0.2, gap=0.0), start=start)
    assert time.monotonic() - begun < 15.0
    assert result.stop_reason is StopReason.deadline
    assert result.objective is not None
    assert result.objective >= program.objective(start)


def test_a_partial_start_is_completed() -> None:
    program = knapsacks(20, 2)
    start = np.full(20, np.nan)
    start[:3] = 1.0
    result = HighsBackend().solve(program, Limits(gap=0.0), start=start)
    assert result.status is ProgramStatus.optimal
    with pytest.raises(ValueError, match="start has shape"):
        HighsBackend().solve(program, Limits(), start=np.zeros(3))


def test_a_progress_callback_that_raises_ends_the_solve_and_is_heard() -> None:
    def fail(_: ProgramProgress) -> None:
        raise RuntimeError("no more")

    program = knapsacks(22, 3)
    with pytest.raises(RuntimeError, match="no more"):
        HighsBackend().solve(program, Limits(), on_progress=fail)
    live = LiveProgram(program, Limits())
    with pytest.raises(RuntimeError, match="no more"):
        live.solve(on_progress=fail)
    assert live.solve().status is ProgramStatus.optimal


def test_raising_into_highs_itself_leaves_the_object_unusable() -> None:
    def fail(_: object) -> None:
        raise RuntimeError("boom")

    engine = Engine()
    engine.load(knapsacks(22, 3))
    highs = engine._highs  # noqa: SLF001 - the fact is about this object
    highs.cbMipImprovingSolution.subscribe(fail)
    with pytest.raises(RuntimeError, match="boom"):
        highs.run()
    highs.cbMipImprovingSolution.unsubscribe(fail)
    assert highs.run() == highspy.HighsStatus.kError


@pytest.mark.parametrize("heard", [True, False])
def test_output_flag_off_silences_the_mip_callbacks(heard: bool) -> None:
    engine = Engine()
    engine.load(knapsacks(22, 3))
    engine.set_option("output_flag", heard)
    calls: list[object] = []
    engine._highs.cbMipLogging.subscribe(calls.append)  # noqa: SLF001 - the fact is about this object
    engine.call("run", warning_is_fine=True)
    assert bool(calls) is heard


def test_progress_improves_and_bounds_hold() -> None:
    program = knapsacks(60, 10)
    seen: list[ProgramProgress] = []
    result = HighsBackend().solve(program, Limits(time_limit_s=2.0), start=np.zeros(60), on_progress=seen.append)
    found = [one for one in seen if one.values is not None]
    assert found[0].incumbent == 0.0
    incumbents = [one.incumbent for one in found if one.incumbent is not None]
    assert incumbents == sorted(set(incumbents))
    for one in found:
        assert one.values is not None
        assert program.objective(one.values) == one.incumbent
        assert program.largest_violation(one.values) == 0.0
    bounds = [one.bound for one in seen if one.bound is not None]
    assert bounds
    assert result.objective is not None
    assert min(bounds) >= result.objective - 1e-6
    assert [one.seconds for one in seen] == sorted(one.seconds for one in seen)


def test_the_same_seed_gives_the_same_plan() -> None:
    program = knapsacks(25, 4)
    one, other = (HighsBackend().solve(program, Limits(seed=7)) for _ in range(2))
    assert one.values is not None
    assert other.values is not None
    assert one.values.tolist() == other.values.tolist()
    assert one.nodes == other.nodes


def test_threads_may_change_between_solves() -> None:
    program = knapsacks(20, 3)
    for threads in (1, 2, 1, 3):
        assert HighsBackend().solve(program, Limits(threads=threads)).status is ProgramStatus.optimal


def test_highs_itself_refuses_another_number_of_threads() -> None:
    HighsBackend().solve(diet(), Limits(threads=1))
    engine = Engine()
    engine.load(diet())
    engine.set_option("threads", 2)
    with pytest.raises(SolverError, match="run"):
        engine.call("run")


def test_solves_with_different_threads_at_the_same_time() -> None:
    results: list[tuple[int, ProgramStatus]] = []

    def work(threads: int) -> None:
        for _ in range(3):
            results.append((threads, HighsBackend().solve(knapsacks(15, 3), Limits(threads=threads)).status))
            threads = 3 - threads

    workers = [threading.Thread(target=work, args=(threads,)) for threads in (1, 2, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [status for _, status in results] == [ProgramStatus.optimal] * 9


def test_a_solve_leaves_other_threads_running() -> None:
    stop, beats = threading.Event(), [0]

    def beat() -> None:
        while not stop.wait(0.01):
            beats[0] += 1

    worker = threading.Thread(target=beat)
    worker.start()
    HighsBackend().solve(knapsacks(200, 40), Limits(time_limit_s=1.0, gap=0.0))
    stop.set()
    worker.join()
    assert beats[0] > 20  # about 100 when the GIL is free, a few when run() holds it


class Claims(Engine):
    """A solver that says and returns what it is told to."""

    def __init__(self, word: str, values: list[float], duals: list[float]) -> None:
        super().__init__()
        self._word, self._answer = word, SimpleNamespace(col_value=values, value_valid=True, row_dual=duals, dual_valid=True)

    def run(self, limits: Limits, deadline: Deadline, watch: Watch) -> str:
        del limits, deadline, watch
        return self._word

    def get(self, name: str) -> object:
        return self._answer if name == "getSolution" else super().get(name)


@pytest.mark.parametrize(
    ("word", "values", "duals", "status"),
    [
        ("kOptimal", [3.0, 1.0], [1.5, 0.5], ProgramStatus.optimal),
        ("kOptimal", [0.0, 0.0], [1.5, 0.5], ProgramStatus.error),  # the plan of zeros a first-order solver once called optimal
        ("kOptimal", [float("nan"), 1.0], [1.5, 0.5], ProgramStatus.error),
        ("kOptimal", [3.0, 1.0], [0.0, 0.0], ProgramStatus.feasible),  # optimal, but nothing proves it
        ("kTimeLimit", [4.0, 1.0], [1.5, 0.5], ProgramStatus.feasible),
        ("kTimeLimit", [0.0, 1.0], [1.5, 0.5], ProgramStatus.no_solution),
        ("kUnknown", [4.0, 1.0], [1.5, 0.5], ProgramStatus.error),
        ("kUnknown", [3.0, 1.0], [1.5, 0.5], ProgramStatus.optimal),  # proved by us
        ("kSolveError", [3.0, 1.0], [1.5, 0.5], ProgramStatus.error),
        ("kSomethingNew", [3.0, 1.0], [1.5, 0.5], ProgramStatus.error),
    ],
)
def test_a_status_word_alone_proves_nothing(word: str, values: list[float], duals: list[float], status: ProgramStatus) -> None:
    program = diet()
    result = solved(Claims(word, values, duals), program, Limits(), Deadline.after(1.0), Watch(program, None, None, None))
    assert result.status is status
    assert (result.values is None) == (status not in (ProgramStatus.optimal, ProgramStatus.feasible))
    assert (result.objective is None) == (result.values is None)


def test_infeasible_is_not_believed_against_a_feasible_start() -> None:
    program = diet()
    known = accepted(program, np.array([4.0, 4.0]))
    result = solved(Claims("kInfeasible", [], []), program, Limits(), Deadline.after(1.0), Watch(program, known, None, None))
    assert (result.status, result.stop_reason, result.objective) == (ProgramStatus.feasible, StopReason.crash, 20.0)


def spoilt_by_presolve() -> LinearProgram:
    """An infeasible program for which presolve finds a plan that breaks a bound (fuzz seed 3181)."""
    builder = ProgramBuilder()
    builder.add_columns("x", ProductIds(range(5)), cost=[4, 2, 2, -5, -3], lower=[1, 0, -3, -3, -2], upper=[4, 2, -1, 0, 1], integer=True)
    row, column = [0, 0, 0, 1, 1, 1], [1, 2, 3, 0, 1, 2]
    builder.add_rows(
        "r",
        ProductIds(range(2)),
        lower=[-np.inf, -8],
        upper=[np.inf, -8],
        row_index=row,
        column_index=column,
        coefficient=[4, 5, -5, -4, 4, 3],
    )
    return builder.build()


def test_a_crash_is_tried_again_without_presolve(capfd: pytest.CaptureFixture[str]) -> None:
    program = spoilt_by_presolve()
    assert truth(program).status == "infeasible"
    assert HighsBackend().solve(program, Limits()).status is ProgramStatus.infeasible
    crashed = LiveProgram(program, Limits()).solve()
    assert (crashed.status, crashed.stop_reason, crashed.values) == (ProgramStatus.error, StopReason.crash, None)
    assert "tmpSolver.run()" in capfd.readouterr().out  # so nothing that is parsed may share a solver's stdout


@pytest.mark.parametrize("maximise", [True, False])
def test_an_interior_point_without_crossover_settles_what_highs_leaves_open(maximise: bool) -> None:
    program = replace(diet(), maximise=maximise)
    engine = Engine()
    engine.configure(Options(method="ipm", crossover=False), Limits(), mip=False)
    one_column = ProgramBuilder(maximise=True)
    one_column.add_columns("x", [()], cost=-4.0, upper=3.0)
    engine.load(one_column.build())
    assert engine.run(Limits(), Deadline.after(5.0), Watch(one_column.build(), None, None, None)) == "kUnknown"
    backend = HighsBackend(Options(method="ipm", crossover=False))
    assert backend.solve(one_column.build(), Limits()).objective == 0.0
    assert backend.solve(program, Limits()).status is (ProgramStatus.unbounded if maximise else ProgramStatus.optimal)


def test_row_duals_are_what_one_more_unit_is_worth() -> None:
    checked = 0
    for seed in range(60):
        program = random_program(np.random.default_rng([9, seed]), integers=0, continuous=3)
        result = HighsBackend(Options(method="simplex")).solve(program, Limits())
        if result.row_duals is None or result.status is not ProgramStatus.optimal or not program.rows:
            continue
        assert result.reduced_costs is not None
        np.testing.assert_allclose(result.reduced_costs, program.cost - dense(program).T @ result.row_duals)
        row, step = int(np.argmax(np.abs(result.row_duals))), 1e-3
        shift = step * (np.arange(program.rows) == row)
        after, before = (
            HighsBackend().solve(replace(program, row_lower=program.row_lower + by, row_upper=program.row_upper + by), Limits()).objective
            for by in (shift, -shift)
        )
        if after is None or before is None or result.objective is None:
            continue
        slopes = sorted(((after - result.objective) / step, (result.objective - before) / step))
        assert slopes[0] - 1e-4 <= result.row_duals[row] <= slopes[1] + 1e-4
        checked += 1
    assert checked > 20


def test_the_log_goes_where_it_is_asked_to(tmp_path: Path) -> None:
    HighsBackend(Options(log_path=tmp_path / "highs.log")).solve(knapsacks(20, 3), Limits())
    assert "Solving report" in (tmp_path / "highs.log").read_text()
