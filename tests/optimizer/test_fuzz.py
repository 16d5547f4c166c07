"""Every solver against enumeration, on random programs of every kind. Holds the pinned versions: see DESIGN section 4."""

import numpy as np
import pytest

from models.program import LinearProgram
from optimizer.backend import Backend, ProgramResult, ProgramStatus
from optimizer.bounds import dual_bound, implied_box
from optimizer.cpsat import CpSatBackend
from optimizer.highs import HighsBackend, Options
from optimizer.limits import Limits
from tests.optimizer.oracle import Truth, dense, random_program, truth

LIMITS = Limits(time_limit_s=20.0, gap=0.0)
SOLVERS = [
    HighsBackend(),
    HighsBackend(Options(method="simplex", presolve=False)),
    HighsBackend(Options(method="ipm")),
    HighsBackend(Options(method="ipm", crossover=False)),
]


def agree(backend: Backend, program: LinearProgram, expected: Truth) -> ProgramResult:
    result = backend.solve(program, LIMITS)
    assert result.status == expected.status, (result, expected, program)
    if expected.objective is None:
        assert result.values is None
        assert result.objective is None
        return result
    assert result.values is not None
    assert result.objective == pytest.approx(expected.objective, abs=2e-6, rel=2e-6)
    assert result.bound == pytest.approx(expected.objective, abs=2e-6, rel=2e-6)
    activity = dense(program) @ result.values
    assert (activity >= program.row_lower - 1e-5).all()
    assert (activity <= program.row_upper + 1e-5).all()
    return result


def check_linear(seed: int) -> str:
    rng = np.random.default_rng([1, seed])
    program = random_program(rng, integers=0, continuous=int(rng.integers(1, 4)))
    expected = truth(program)
    for backend in SOLVERS:
        agree(backend, program, expected)
    return expected.status


def check_mixed(seed: int) -> str:
    rng = np.random.default_rng([2, seed])
    program = random_program(rng, integers=int(rng.integers(1, 4)), continuous=int(rng.integers(1, 3)))
    expected = truth(program)
    agree(HighsBackend(), program, expected)
    return expected.status


def check_integer(seed: int, *, cpsat: bool) -> str:
    rng = np.random.default_rng([3, seed])
    program = random_program(rng, integers=int(rng.integers(1, 7)), continuous=0)
    expected = truth(program)
    result = agree(HighsBackend(), program, expected)
    assert result.largest_violation in (None, 0.0)
    if cpsat:
        agree(CpSatBackend(), program, expected)
    if expected.objective is not None:
        lower, upper = implied_box(program)
        assert result.values is not None
        assert ((lower <= result.values) & (result.values <= upper)).all()
        beyond = dual_bound(program, rng.normal(size=program.rows) * 3) - expected.objective
        assert (beyond if not program.maximise else -beyond) <= 1e-9
    return expected.status


def test_linear_programs() -> None:
    seen = [check_linear(seed) for seed in range(600)]
    assert {status: seen.count(status) > 10 for status in ("optimal", "infeasible", "unbounded")} == dict.fromkeys(seen, True)


def test_mixed_programs() -> None:
    seen = [check_mixed(seed) for seed in range(1500)]
    assert {status: seen.count(status) > 5 for status in ("optimal", "infeasible", "unbounded")} == dict.fromkeys(seen, True)


def test_integer_programs() -> None:
    seen = [check_integer(seed, cpsat=seed % 3 == 0) for seed in range(1500)]
    assert {status: seen.count(status) > 10 for status in ("optimal", "infeasible")} == dict.fromkeys(seen, True)


@pytest.mark.long
@pytest.mark.parametrize("hundred", range(40))
def test_many_more(hundred: int) -> None:
    for seed in range(1000 + 100 * hundred, 1100 + 100 * hundred):
        check_linear(seed)
        check_mixed(seed)
        check_integer(seed, cpsat=True)


def test_statuses_are_those_of_the_oracle() -> None:
    assert {"optimal", "infeasible", "unbounded"} <= set(ProgramStatus)
