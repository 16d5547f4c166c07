"""Many problems in one process: every answer started from what is known must be the one that is found from scratch."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optimizer.study.executors.hot as hot_module
from models.catalogue import kind_of, kinds
from models.linear.examples import lp
from models.linear.schema import Columns, Entries, Problem, Rows
from models.linear.schema import Plan as LinearPlan
from optimizer import kept as kept_module
from optimizer.backend import ProgramResult, ProgramStatus
from optimizer.highs import HighsBackend, Options
from optimizer.kept import KeptPrograms
from optimizer.limits import Limits
from optimizer.live import LiveProgram
from optimizer.result import Outcome, Result, StopReason
from optimizer.solve import solve
from optimizer.study.executors.hot import HotSolver
from tests.models import fairshare_problems, flow_random, placement_problems, tiering_problems
from tests.optimizer.hot_chains import as_problem, programs
from tests.optimizer.hot_problems import chain
from tests.optimizer.oracle import random_program

if TYPE_CHECKING:
    from models.program import LinearProgram
    from models.vocabulary import Document

LIMITS = Limits(time_limit_s=20.0, gap=1e-9)
CLOSE = 1e-5  # a solver keeps sides to 1e-6, which costs multiply


def same_answer(one: ProgramResult, other: ProgramResult) -> None:
    """The same status and optimum, and a bound on each side that meets it."""
    assert one.status == other.status, (one, other)
    if other.objective is not None:
        assert one.objective == pytest.approx(other.objective, rel=CLOSE, abs=CLOSE)
        assert one.bound == pytest.approx(other.objective, rel=CLOSE, abs=CLOSE)


def same_result(hot: Result, cold: Result, gap: float = CLOSE) -> None:
    """The same outcome; what is proved on one side holds for the plan of the other."""
    assert (hot.outcome, hot.failure) == (cold.outcome, cold.failure), (hot, cold)
    if hot.certificate is None or cold.certificate is None:
        assert hot.certificate is cold.certificate
        return
    assert hot.certificate.verified
    one, other = hot.certificate.goals[0], cold.certificate.goals[0]
    sign = 1.0 if one.sense == "maximise" else -1.0
    slack = gap * max(1.0, abs(other.objective))
    assert sign * (one.objective - other.bound) <= slack
    assert sign * (other.objective - one.bound) <= slack
    if hot.outcome is Outcome.optimal:
        assert one.objective == pytest.approx(other.objective, rel=3 * gap, abs=3 * gap)


@settings(deadline=None, max_examples=120)
@given(seed=st.integers(0, 2**31), integers=st.integers(0, 3), continuous=st.integers(0, 4))
def test_programs_from_what_is_kept_have_the_answers_of_fresh_ones(seed: int, integers: int, continuous: int) -> None:
    """Linear and integer programs; numbers, structure, feasibility and boundedness change on the way."""
    kept = KeptPrograms()
    for program in programs(seed, 6, integers=integers, continuous=continuous + (integers == 0)):
        kept.begin()
        same_answer(kept.solver().solve(program, LIMITS), HighsBackend().solve(program, LIMITS))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31), off=st.booleans())
def test_a_live_program_becomes_another_of_its_structure(seed: int, off: bool) -> None:
    """Whatever the numbers, also from one with nothing solved yet; and it says no to another structure."""
    live: LiveProgram | None = None
    for program in programs(seed, 6, integers=0, continuous=4):
        if live is None or not live.become(program):
            live = LiveProgram(program, LIMITS)
        assert live.program is program
        found, fresh = live.solve(), HighsBackend().solve(program, LIMITS)
        if fresh.status is ProgramStatus.optimal:
            same_answer(found, fresh)
        else:
            assert found.values is None  # it may not know why: whoever keeps programs then asks from scratch
            assert found.status is not ProgramStatus.infeasible or fresh.status is ProgramStatus.infeasible
        if off:
            live.become(replace(program, cost=np.zeros(program.columns)))


def test_many_changed_coefficients_are_handed_over_at_once_and_keep_the_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of one by one and the way of all at once agree."""
    monkeypatch.setattr("optimizer.live.MOST_ENTRIES", 0)
    program = next(one for seed in range(20) if HighsBackend().solve(one := feasible(seed), LIMITS).status is ProgramStatus.optimal)
    live = LiveProgram(program, LIMITS)
    live.solve()
    other = replace(program, coefficients=program.coefficients * 1.25)
    assert live.become(other)
    assert live.hot
    same_answer(live.solve(), HighsBackend().solve(other, LIMITS))


def test_a_coefficient_too_small_for_the_solver_is_not_edited_in() -> None:
    """It is dropped as it would be from a fresh program."""
    program = feasible(3)
    live = LiveProgram(program, LIMITS)
    live.solve()
    tiny = np.where(np.arange(len(program.coefficients)) == 0, 1e-12, program.coefficients)
    other = replace(program, coefficients=tiny)
    assert live.become(other)
    assert live.solve().status == HighsBackend().solve(other, LIMITS).status


def feasible(seed: int) -> LinearProgram:
    return random_program(np.random.default_rng(seed), integers=0, continuous=4)


def test_changed_sides_are_solved_hot_and_a_new_structure_is_not() -> None:
    """The session counts what it did."""
    kept = KeptPrograms()
    base = transport(30, 1.0)
    for share in (1.0, 0.9, 1.1, 0.8):
        kept.begin()
        assert kept.solver().solve(transport(30, share), LIMITS).status is ProgramStatus.optimal
    assert (kept.hot, kept.cold) == (3, 1)
    kept.begin()
    kept.solver().solve(transport(31, 1.0), LIMITS)
    kept.solver().solve(base, LIMITS)
    assert (kept.hot, kept.cold) == (4, 2)
    kept.forget()
    kept.solver().solve(base, LIMITS)
    assert kept.cold == 3


def test_infeasible_is_said_from_scratch() -> None:
    """A hot start that finds no solution proves nothing by itself: the program is asked again."""
    kept = KeptPrograms()
    assert kept.solver().solve(transport(10, 1.0), LIMITS).status is ProgramStatus.optimal
    kept.begin()
    assert kept.solver().solve(transport(10, 0.01), LIMITS).status is ProgramStatus.infeasible
    assert (kept.hot, kept.cold) == (0, 2)
    kept.begin()
    assert kept.solver().solve(transport(10, 1.0), LIMITS).status is ProgramStatus.optimal


def test_without_crossover_the_second_solve_makes_the_basis() -> None:
    """An interior point is fastest once; whoever asks again and again wants a vertex."""
    kept, options = KeptPrograms(), Options(method="ipm", crossover=False)
    for share in (1.0, 0.9, 1.1, 1.05):
        kept.begin()
        program = transport(40, share)
        same_answer(kept.solver(options).solve(program, Limits(gap=1e-6)), HighsBackend().solve(program, LIMITS))
    assert (kept.hot, kept.cold) == (2, 2)


def test_only_so_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least lately used goes."""
    monkeypatch.setattr(kept_module, "MOST_PROGRAMS", 2)
    kept = KeptPrograms()
    for sources in (5, 6, 7, 5):
        kept.begin()
        kept.solver().solve(transport(sources, 1.0), LIMITS)
    assert (kept.hot, kept.cold) == (0, 4)
    monkeypatch.setattr(kept_module, "MOST_KEPT", 3)
    kept.begin()
    assert kept.solver().solve(transport(5, 1.0), LIMITS).status is ProgramStatus.optimal
    assert (kept.hot, kept.cold) == (0, 4)


def transport(sources: int, share: float) -> LinearProgram:
    """Each source sends one unit to three targets with room for ``share`` of what they need, and a dear fourth one without end."""
    rng = np.random.default_rng(sources)
    cost = np.concatenate((rng.uniform(1, 9, (sources, 3)), np.full((sources, 1), 20.0 * (share > 0.5))), axis=1)
    room = np.array([0.3, 0.4, 0.2, 0.0 if share < 0.5 else 1.0]) * sources * share
    column = np.arange(4 * sources).reshape(sources, 4)
    return replace(
        feasible(0),
        maximise=False,
        cost=cost.ravel(),
        column_lower=np.zeros(4 * sources),
        column_upper=np.full(4 * sources, np.inf),
        integer=np.zeros(4 * sources, dtype=np.bool_),
        row_lower=np.concatenate((np.ones(sources), np.full(4, -np.inf))),
        row_upper=np.concatenate((np.ones(sources), room)),
        starts=np.concatenate((np.arange(0, 4 * sources, 4), 4 * sources + np.arange(0, 5) * sources)),
        indices=np.concatenate((column.ravel(), column.T.ravel())),
        coefficients=np.ones(8 * sources),
        offset=0.0,
        row_blocks=(),
        column_blocks=(),
    )


def test_an_integer_program_is_asked_again_where_the_solver_stumbles_over_the_last_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS may end in an error while it completes a start that does not fit; without one it proves what it had to."""

    class Stumbling(HighsBackend):
        def solve(self, program: LinearProgram, limits: Limits, **given: Any) -> ProgramResult:
            if given.get("start") is not None:
                return ProgramResult(ProgramStatus.error, StopReason.crash, detail="it fell over a start")
            return super().solve(program, limits, **given)

    monkeypatch.setattr(kept_module, "HighsBackend", Stumbling)
    kept = KeptPrograms()
    for shift in (0.0, 1.0):
        program = replace(whole(), offset=shift)
        kept.begin()
        same_answer(kept.solver().solve(program, LIMITS), HighsBackend().solve(program, LIMITS))


def whole() -> LinearProgram:
    """An integer program with an optimum."""
    made = (random_program(np.random.default_rng(seed), integers=3, continuous=1) for seed in range(20))
    return next(one for one in made if HighsBackend().solve(one, LIMITS).status is ProgramStatus.optimal)


# ---------------------------------------------------------------- problems


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), integers=st.integers(0, 3), continuous=st.integers(1, 4))
def test_raw_programs_one_after_another(seed: int, integers: int, continuous: int) -> None:
    """The kind ``program``, linear and integer, with all outcomes."""
    hot: HotSolver | None = None
    for program in programs(seed, 4, integers=integers, continuous=continuous):
        problem = as_problem(program)
        hot = hot or HotSolver(problem, LIMITS)
        same_result(hot.solve(problem), solve(problem, LIMITS, isolate=False))


def random_bases(seed: int) -> dict[str, Document]:
    """A small problem of every kind."""
    return {
        "placement": placement_problems.tiny_problem(seed, ("place", "repack", "preempt")[seed % 3]),
        "tiering": tiering_problems.random_problem(seed),
        "fairshare": fairshare_problems.random_problem(seed),
        "flow": flow_random.problem(seed, ("min_cost", "max_throughput", "max_concurrent", "min_max_utilisation")[seed % 4]),
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["placement", "tiering", "fairshare", "flow"])
def test_random_problems_one_after_another(name: str, seed: int) -> None:
    """Numbers change, items go, now and then there is no plan left."""
    base = random_bases(seed)[name]
    hot = HotSolver(base, Limits(time_limit_s=10.0, gap=1e-6))
    for problem in chain(base, seed, 5):
        same_result(hot.solve(problem), solve(problem, hot.limits, isolate=False))


@pytest.mark.parametrize("name", sorted(kinds()))
def test_the_example_of_every_kind_again(name: str) -> None:
    """A second solve of the same problem has the same optimum; an example is a base like any other."""
    problem = kinds()[name].part("schema").example()
    limits = Limits(time_limit_s=10.0, gap=1e-4)
    hot = HotSolver(problem, limits)
    first, again, cold = hot.solve(problem), hot.solve(problem), solve(problem, limits, isolate=False)
    same_result(first, cold, gap=1e-4)
    same_result(again, cold, gap=1e-4)
    assert first.reasons == ()
    assert "not explained" not in first.message
    assert first.plan is not None
    assert kind_of(problem).verify(problem, first.plan).ok


def test_a_start_is_used_and_a_wrong_one_does_no_harm() -> None:
    """Of several plans the best that is right counts, of any start that is none nothing is heard."""
    program = Problem(
        columns=Columns(cost=(-3.0, -2.0, -4.0), upper=(5.0, 5.0, 5.0), integer=(True, True, True)),
        rows=Rows(upper=(7.0,)),
        entries=Entries(rows=(0, 0, 0), columns=(0, 1, 2), values=(2.0, 1.0, 3.0)),
    )
    hot = HotSolver(program, LIMITS)
    for start in (LinearPlan(values=(1.0, 5.0, 0.0)), LinearPlan(values=(9.0, 9.0, 9.0)), LinearPlan(values=(0.0,)), lp()):
        result = hot.solve(program, start=start)
        assert result.outcome is Outcome.optimal
        assert result.certificate is not None
        assert result.certificate.objective == pytest.approx(-13.0)


def test_a_search_that_fails_is_a_result_and_the_next_one_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was kept is dropped with it."""
    problem = lp()
    hot = HotSolver(problem, LIMITS)
    right = hot.solve(problem)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the search fell over")

    with monkeypatch.context() as patched:
        patched.setattr(hot_module, "search", broken)
        failed = hot.solve(problem.model_copy(update={"offset": 1.0}))
    assert failed.failure is not None
    assert "the search fell over" in failed.failure
    assert failed.certificate is None or failed.outcome is not Outcome.optimal
    same_result(hot.solve(problem), right)


def test_cancelled_before_it_began() -> None:
    """It says so, and hands out no more than it has."""
    cancel = threading.Event()
    cancel.set()
    problem = random_bases(1)["tiering"]
    result = HotSolver(problem, LIMITS).solve(problem, cancel=cancel)
    assert result.outcome is Outcome.optimal or result.stop_reason is StopReason.cancelled


def test_a_problem_of_another_kind_is_refused() -> None:
    """It is no variant of the base."""
    with pytest.raises(ValueError, match="a problem of the kind tiering, and the base is of the kind program"):
        HotSolver(lp(), LIMITS).solve(random_bases(1)["tiering"])


def test_limits_of_one_solve() -> None:
    """A seed or a gap of its own."""
    problem = lp()
    hot = HotSolver(problem, LIMITS)
    result = hot.solve(problem, limits=Limits(time_limit_s=5.0, seed=7))
    assert result.certificate is not None
    assert result.certificate.seed == 7
