"""One suite that every backend passes: primal, dual, complementarity, bounds, limits, starts, cancelling."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from models.program import Floats, LinearProgram
from models.program_builder import ProductIds, ProgramBuilder
from optimizer.backend import Backend, OnProgress, ProgramProgress, ProgramResult, ProgramStatus, UnsupportedProgram
from optimizer.cpsat import CpSatBackend
from optimizer.highs import HighsBackend, Options
from optimizer.limits import Limits
from optimizer.live import LiveProgram
from optimizer.networkflow import NetworkFlowBackend
from optimizer.result import StopReason
from tests.optimizer.oracle import dense, from_dense

EXACT = Limits(time_limit_s=20.0, gap=0.0)
INF = np.inf


class LiveBackend:
    """A live program behind the protocol, so that it passes the same suite."""

    @property
    def name(self) -> str:
        return "live"

    def solve(
        self,
        program: LinearProgram,
        limits: Limits,
        *,
        start: Floats | None = None,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> ProgramResult:
        live = LiveProgram(program, limits)
        live.solve()
        return live.solve(start=start, on_progress=on_progress, cancel=cancel)


BACKENDS: dict[str, Backend] = {
    "highs": HighsBackend(),
    "highs-simplex": HighsBackend(Options(method="simplex", presolve=False)),
    "highs-ipm": HighsBackend(Options(method="ipm")),
    "highs-ipm-no-crossover": HighsBackend(Options(method="ipm", crossover=False)),
    "highs-flow-presolve": HighsBackend(Options(presolve_rule_off=1024)),
    "live": LiveBackend(),
    "cpsat": CpSatBackend(),
    "networkflow": NetworkFlowBackend(),
}


def program(
    matrix: list[list[float]],
    rows: tuple[list[float], list[float]],
    columns: tuple[list[float], list[float]],
    cost: list[float],
    *,
    integer: bool = False,
    maximise: bool = False,
    offset: float = 0.0,
) -> LinearProgram:
    return from_dense(
        np.array(matrix, dtype=np.float64).reshape(len(rows[0]), len(cost)),
        (np.array(rows[0], dtype=np.float64), np.array(rows[1], dtype=np.float64)),
        (np.array(columns[0], dtype=np.float64), np.array(columns[1], dtype=np.float64)),
        np.array(cost, dtype=np.float64),
        np.full(len(cost), integer),
        maximise=maximise,
        offset=offset,
    )


def assignment(size: int, seed: int, *, integer: bool) -> LinearProgram:
    """Each worker does one task: a program every backend can take, except CP-SAT when continuous."""
    builder = ProgramBuilder(offset=10.0)
    cost = np.random.default_rng(seed).integers(-20, 50, size * size) / 4
    builder.add_columns("do", ProductIds(range(size), range(size)), cost=cost, upper=1.0, integer=integer)
    at = np.arange(size * size).reshape(size, size)
    every = np.arange(size)[:, None]
    builder.add_rows("worker", ProductIds(range(size)), lower=1.0, upper=1.0, row_index=every, column_index=at)
    builder.add_rows("task", ProductIds(range(size)), lower=-1.0, upper=-1.0, row_index=every, column_index=at.T, coefficient=-1.0)
    return builder.build()


# name: (program, status, objective). A backend that cannot take one says so; which, the last test pins.
CASES: dict[str, tuple[LinearProgram, str, float | None]] = {
    "min cover": (program([[1, 1], [1, 3]], ([4, 6], [INF, INF]), ([0, 0], [INF, INF]), [2, 3]), "optimal", 9.0),
    "max pack": (program([[1, 2]], ([-INF], [4]), ([0, 0], [INF, 1]), [1, 3], maximise=True, offset=7), "optimal", 12.0),
    "ranged and free": (program([[1, -1]], ([-2], [3]), ([-INF, 1], [INF, 5]), [1, 1]), "optimal", 0.0),
    "fixed column": (program([[1, 1]], ([3], [3]), ([2, 0], [2, 9]), [5, 1]), "optimal", 11.0),
    "no rows": (program([], ([], []), ([-1, 0], [4, 6]), [2, -1]), "optimal", -8.0),
    "no columns": (program([[], []], ([-1, 0], [1, INF]), ([], []), [], offset=3), "optimal", 3.0),
    "no columns, impossible": (program([[]], ([1], [INF]), ([], []), []), "infeasible", None),
    "row without entries": (program([[0, 0], [1, 1]], ([-1, 2], [0, INF]), ([0, 0], [5, 5]), [1, 2]), "optimal", 2.0),
    "impossible row": (program([[0, 0]], ([1], [2]), ([0, 0], [5, 5]), [1, 2]), "infeasible", None),
    "free row": (program([[1, 1]], ([-INF], [INF]), ([1, 1], [5, 5]), [1, 2]), "optimal", 3.0),
    "infeasible": (program([[1, 1]], ([11], [INF]), ([0, 0], [5, 5]), [1, 2]), "infeasible", None),
    "unbounded": (program([[1, -1]], ([0], [0]), ([0, 0], [INF, INF]), [-1, -1]), "unbounded", None),
    "knapsack": (program([[5, 4, 3]], ([-INF], [7]), ([0] * 3, [1] * 3), [4, 3, 2.5], integer=True, maximise=True), "optimal", 5.5),
    "integer infeasible": (program([[2, 2]], ([3], [3]), ([0, 0], [9, 9]), [1, 1], integer=True), "infeasible", None),
    "integer unbounded": (program([[2, -1]], ([0], [0]), ([0, 0], [INF, INF]), [1, -1], integer=True), "unbounded", None),
    "integer tenths": (program([[0.1, 0.3]], ([0.7], [INF]), ([0, 0], [9, 9]), [0.01, 0.02], integer=True), "optimal", 0.05),
    "integer, implied bounds": (
        program([[3, 2]], ([-INF], [12]), ([0, 0], [INF, INF]), [5, 3], integer=True, maximise=True),
        "optimal",
        20.0,
    ),
    "fractional box": (program([[1, 1]], ([1], [9]), ([0.5, -1.5], [3.5, 2.5]), [1, 1], integer=True), "optimal", 1.0),
    "empty box": (program([[1]], ([-9], [9]), ([0.25], [0.75]), [1], integer=True), "infeasible", None),
    "transport": (
        program([[1, 1, 0], [-1, 0, 1], [0, -1, -1]], ([4, 0, -4], [4, 0, -4]), ([0] * 3, [3, 3, INF]), [1, 5, 1]),
        "optimal",
        11.0,
    ),
    "flow from outside": (program([[1, -1]], ([2], [2]), ([0, 0], [5, INF]), [-3, 1], maximise=True), "optimal", -6.0),
    "flow infeasible": (program([[1, 0], [-1, 1]], ([4, 0], [4, 0]), ([0, 0], [3, 9]), [1, 1]), "infeasible", None),
    "assignment": (assignment(6, 1, integer=False), "optimal", None),
    "assignment, integer": (assignment(6, 1, integer=True), "optimal", None),
}


def check(one: LinearProgram, result: ProgramResult) -> None:
    """Primal feasibility; and for an LP dual feasibility, complementarity and strong duality, from the written-out matrix."""
    assert result.values is not None
    assert result.bound is not None
    assert result.objective is not None
    matrix = dense(one)
    activity = matrix @ result.values
    for body, lower, upper in ((activity, one.row_lower, one.row_upper), (result.values, one.column_lower, one.column_upper)):
        assert (body >= lower - 1e-6).all()
        assert (body <= upper + 1e-6).all()
    assert (result.values[one.integer] == np.round(result.values[one.integer])).all()
    assert result.objective == pytest.approx(float(one.cost @ result.values) + one.offset, abs=1e-9)
    sign = -1.0 if one.maximise else 1.0
    assert sign * result.bound <= sign * result.objective
    assert result.bound == pytest.approx(result.objective, abs=1e-6, rel=1e-6)
    if result.row_duals is None or result.reduced_costs is None:
        assert one.is_mip
        return
    np.testing.assert_allclose(result.reduced_costs, one.cost - matrix.T @ result.row_duals, atol=1e-9)
    for price, body, lower, upper in (
        (sign * result.row_duals, activity, one.row_lower, one.row_upper),
        (sign * result.reduced_costs, result.values, one.column_lower, one.column_upper),
    ):
        assert (np.abs(body - lower)[price > 1e-5] <= 1e-5).all()
        assert (np.abs(body - upper)[price < -1e-5] <= 1e-5).all()


def takes(backend: str, case: str) -> bool:
    one = CASES[case][0]
    if backend == "cpsat":
        return one.columns == 0 or (bool(one.integer.all()) and case != "integer unbounded")
    if backend == "networkflow":
        return case in {
            "no columns",
            "no columns, impossible",
            "no rows",
            "fixed column",
            "transport",
            "flow from outside",
            "flow infeasible",
            "assignment",
            "assignment, integer",
        }
    return True


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_on_every_case(backend: str, case: str) -> None:
    one, status, objective = CASES[case]
    solver = BACKENDS[backend]
    if not takes(backend, case):
        with pytest.raises(UnsupportedProgram):
            solver.solve(one, EXACT)
        return
    result = solver.solve(one, EXACT)
    allowed = {status, "infeasible_or_unbounded"} if backend == "live" and status in ("infeasible", "unbounded") else {status}
    assert result.status in allowed
    assert result.stop_reason is StopReason.gap
    if status != "optimal":
        assert result.values is None
        assert result.objective is None
        return
    check(one, result)
    if objective is not None:
        assert result.objective == pytest.approx(objective)
    assert result.detail


@pytest.mark.parametrize("seed", range(10))
def test_all_backends_agree_on_assignments(seed: int) -> None:
    results = {name: solver.solve(assignment(8, seed, integer=True), EXACT) for name, solver in BACKENDS.items()}
    objectives = {name: result.objective for name, result in results.items()}
    assert objectives == {name: pytest.approx(objectives["highs"]) for name in BACKENDS}
    for result in results.values():
        check(assignment(8, seed, integer=True), result)


def hard() -> LinearProgram:
    """Market splitting: each of several sums of weights must be exactly half. Not solvable in a minute."""
    weights = np.random.default_rng(3).integers(0, 100, (6, 50))
    builder = ProgramBuilder()
    builder.add_columns("take", ProductIds(range(50)), upper=1.0, integer=True)
    builder.add_columns("miss", ProductIds(range(6), ("over", "under")), cost=1.0, upper=5000.0, integer=True)
    rows = np.arange(6)[:, None]
    entries = np.concatenate((weights, np.ones((6, 1)), -np.ones((6, 1))), axis=1)
    columns = np.concatenate((np.tile(np.arange(50), (6, 1)), 50 + 2 * rows, 51 + 2 * rows), axis=1)
    half = weights.sum(axis=1) // 2
    builder.add_rows("half", ProductIds(range(6)), lower=half, upper=half, row_index=rows, column_index=columns, coefficient=entries)
    return builder.build()


def easy_start(one: LinearProgram) -> Floats:
    start = np.zeros(one.columns)
    start[51::2] = 0.0
    start[50::2] = one.row_lower
    return start


@pytest.mark.parametrize("backend", ["highs", "cpsat"])
def test_mip_deadline_keeps_the_best_plan(backend: str) -> None:
    one = hard()
    result = BACKENDS[backend].solve(one, Limits(time_limit_s=0.5), start=easy_start(one))
    assert (result.status, result.stop_reason) == (ProgramStatus.feasible, StopReason.deadline)
    assert result.objective is not None
    assert result.bound is not None
    assert result.objective <= one.objective(easy_start(one))
    assert 0.0 <= result.bound <= result.objective
    assert result.seconds < 10.0


@pytest.mark.parametrize("backend", ["highs", "cpsat"])
def test_mip_cancel_from_another_thread(backend: str) -> None:
    cancel = threading.Event()
    timer = threading.Timer(0.4, cancel.set)
    timer.start()
    result = BACKENDS[backend].solve(hard(), Limits(time_limit_s=60.0), cancel=cancel)
    timer.join()
    assert result.stop_reason is StopReason.cancelled
    assert result.seconds < 15.0


@pytest.mark.parametrize("backend", ["highs", "cpsat", "networkflow"])
def test_progress_reports_checked_values(backend: str) -> None:
    one = assignment(8, 3, integer=True)
    seen: list[ProgramProgress] = []
    result = BACKENDS[backend].solve(one, EXACT, on_progress=seen.append)
    found = [progress for progress in seen if progress.values is not None]
    assert found
    assert found[-1].incumbent == result.objective
    for progress in found:
        assert progress.values is not None
        assert one.objective(progress.values) == progress.incumbent


@pytest.mark.parametrize("backend", ["highs", "live", "cpsat", "networkflow"])
def test_what_a_progress_callback_raises_is_raised(backend: str) -> None:
    def fail(_: ProgramProgress) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        BACKENDS[backend].solve(assignment(8, 3, integer=True), EXACT, on_progress=fail)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_start_of_the_wrong_shape(backend: str) -> None:
    with pytest.raises(ValueError, match="start has shape"):
        BACKENDS[backend].solve(assignment(3, 0, integer=True), EXACT, start=np.zeros(2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_infeasible_start_does_no_harm(backend: str) -> None:
    one = assignment(5, 4, integer=True)
    check(one, BACKENDS[backend].solve(one, EXACT, start=np.ones(25)))
    check(one, BACKENDS[backend].solve(one, EXACT, start=np.full(25, np.nan)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_names_carry_versions(backend: str) -> None:
    assert backend == "live" or any(letter.isdigit() for letter in BACKENDS[backend].name)


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (program([[1]], ([0], [1]), ([0], [1]), [1]), "column 0 is not integer"),
        (program([[1]], ([0], [INF]), ([0], [INF]), [1], integer=True), "column 0 has no finite bounds"),
        (program([[np.pi]], ([0], [9]), ([0], [1]), [1], integer=True), "coefficients"),
        (program([[1]], ([0], [9]), ([0], [1]), [np.pi], integer=True), "costs"),
        (program([[1e6]], ([0], [INF]), ([0], [1e15]), [1], integer=True), "overflow"),
    ],
)
def test_cpsat_says_what_it_cannot_take(one: LinearProgram, message: str) -> None:
    with pytest.raises(UnsupportedProgram, match=message):
        CpSatBackend().solve(one, EXACT)


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (program([[1]], ([0], [1]), ([0], [1]), [1]), "row 0 is not an equality"),
        (program([[2]], ([0], [0]), ([0], [1]), [1]), "coefficient"),
        (program([[1], [1]], ([0, 0], [0, 0]), ([0], [1]), [1]), "column 0 leaves or enters"),
        (program([[1]], ([0], [0]), ([-INF], [1]), [1]), "no lower bound"),
        (program([[1]], ([0.5], [0.5]), ([0], [1]), [1]), "not a whole number"),
        (program([[1]], ([0], [0]), ([0], [1]), [np.pi]), "costs"),
        (program([[1, -1]], ([0], [0]), ([0, 0], [INF, INF]), [-1, 0]), "unbounded"),
    ],
)
def test_networkflow_says_what_it_cannot_take(one: LinearProgram, message: str) -> None:
    with pytest.raises(UnsupportedProgram, match=message):
        NetworkFlowBackend().solve(one, EXACT)


@pytest.mark.parametrize("seed", range(25))
def test_random_networks_against_highs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes, arcs = 12, 40
    tail = rng.integers(0, nodes, arcs)
    head = (tail + rng.integers(1, nodes, arcs)) % nodes
    supply = rng.integers(-3, 4, nodes)
    supply[-1] -= supply.sum()
    builder = ProgramBuilder(maximise=bool(seed % 2), offset=0.25)
    lower = rng.integers(0, 2, arcs)
    builder.add_columns(
        "send", ProductIds(range(arcs)), cost=rng.integers(-4, 9, arcs) / 2, lower=lower, upper=lower + rng.integers(1, 9, arcs)
    )
    every = np.concatenate((tail, head))
    builder.add_rows(
        "balance",
        ProductIds(range(nodes)),
        lower=supply,
        upper=supply,
        row_index=every,
        column_index=np.tile(np.arange(arcs), 2),
        coefficient=np.repeat([1.0, -1.0], arcs),
    )
    one = builder.build()
    ours, theirs = NetworkFlowBackend().solve(one, EXACT), HighsBackend().solve(one, EXACT)
    assert ours.status is theirs.status
    if ours.status is ProgramStatus.optimal:
        check(one, ours)
        assert ours.objective == pytest.approx(theirs.objective)
