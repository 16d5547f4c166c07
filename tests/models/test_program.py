"""The kind ``program``: what is refused, what ``verify`` finds, and that solving agrees with enumeration."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.contract import ContradictionError, Sense
from models.linear.checks import LARGEST, warnings
from models.linear.examples import examples
from models.linear.explain import subjects
from models.linear.formulation import build, priced
from models.linear.heuristic import heuristic, simple_bounds
from models.linear.schema import Columns, Entries, Plan, Problem, Rows
from models.linear.verify import verify
from optimizer.backend import ProgramStatus
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from optimizer.result import Outcome, Result, StopReason
from optimizer.solve import solve
from tests.oracles.program import enumerated, random_problem

QUICK = settings(max_examples=120, deadline=None, derandomize=True, database=None)
seeds = st.integers(min_value=0, max_value=10**6)


LIMITS = Limits(time_limit_s=20.0, gap=1e-5)  # HiGHS's own tolerances leave a gap of up to 1e-6


def solved(problem: Problem, **fields: Any) -> Result:
    return solve(problem, LIMITS, isolate=False, **fields)


def shop(**fields: Any) -> Problem:
    """Minimise 2x + 3y with x + y >= 4 and x <= 3: 9 at (3, 1)."""
    parts: dict[str, Any] = {
        "columns": Columns(names=("x", "y"), cost=(2.0, 3.0), upper=(3.0, None)),
        "rows": Rows(names=("need", "most"), lower=(4.0, None), upper=(None, 20.0)),
        "entries": Entries(rows=(0, 0, 1), columns=(0, 1, 1), values=(1.0, 1.0, 2.0)),
    }
    return Problem(**(parts | fields))


# ---------------------------------------------------------------- what is refused

COLUMNS: dict[str, Any] = {"cost": [1.0, 2.0]}
ROWS: dict[str, Any] = {"lower": [1.0], "upper": [None]}
ENTRIES: dict[str, Any] = {"rows": [0], "columns": [1], "values": [1.0]}


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("columns", {"cost": []}, ["too_short"]),
        ("columns", {"names": ["a"]}, ["/columns/names: has 1 items, expected 2"]),
        ("columns", {"lower": [0.0]}, ["/columns/lower: has 1 items"]),
        ("columns", {"upper": [0.0, 1.0, 2.0]}, ["/columns/upper: has 3 items", "make the lists of columns equally long"]),
        ("columns", {"integer": [True]}, ["/columns/integer: has 1 items"]),
        ("columns", {"names": ["a", "a"]}, ["/columns/names/1: the name 'a' is already that of item 0"]),
        ("columns", {"names": ["a", ""]}, ["string_too_short"]),
        ("columns", {"cost": [1.0, math.nan]}, ["finite_number"]),
        ("columns", {"cost": [1.0, 1e16]}, ["/columns/cost/1: 1e+16 is beyond 1e+15"]),
        ("columns", {"lower": [-1e16, None]}, ["/columns/lower/0", "write null"]),
        ("columns", {"lower": [3.0, None], "upper": [2.0, None]}, ["/columns/lower/0: 3 is more than the upper limit 2"]),
        ("columns", {"upper": [-1.0, None]}, ["/columns/lower/0: 0 is more than the upper limit -1"]),
        ("rows", {"upper": [None, None]}, ["/rows/upper: has 2 items, expected 1"]),
        ("rows", {"upper": [0.5]}, ["/rows/lower/0: 1 is more than the upper limit 0.5"]),
        ("rows", {"names": ["r"], "upper": [math.inf]}, ["finite_number"]),
        ("rows", {"upper": [1e300]}, ["/rows/upper/0: 1e+300 is beyond"]),
        ("entries", {"rows": [0, 0]}, ["/entries/rows: has 2 items, expected 1"]),
        ("entries", {"rows": [1]}, ["/entries/rows/0: there is no row 1; the last one is 0"]),
        ("entries", {"columns": [2]}, ["/entries/columns/0: there is no column 2; the last one is 1"]),
        ("entries", {"columns": [-1]}, ["greater_than_equal"]),
        ("entries", {"values": [1e16]}, ["/entries/values/0: 1e+16 is beyond"]),
        ("entries", {"values": [1e-9]}, ["/entries/values/0: 1e-09 is so small"]),
        (
            "entries",
            {"rows": [0, 0, 0], "columns": [1, 0, 1], "values": [1.0, 2.0, 3.0]},
            ["/entries/values/2: row 0 and column 1 have an entry already, item 0; add them up"],
        ),
    ],
)
def test_what_contradicts_itself_is_refused(part: str, change: dict[str, Any], words: list[str]) -> None:
    document: dict[str, Any] = {"columns": dict(COLUMNS), "rows": dict(ROWS), "entries": dict(ENTRIES)}
    Problem.model_validate(document)
    document[part] = document[part] | change
    with pytest.raises(ValidationError) as refused:
        Problem.model_validate(document)
    told = str(refused.value)
    assert [word for word in words if word not in told] == []


def test_a_contradiction_keeps_its_places_and_codes() -> None:
    with pytest.raises(ValidationError) as refused:
        Problem.model_validate({"columns": COLUMNS | {"names": ["a", "a"]}, "rows": ROWS, "entries": ENTRIES | {"columns": [2]}})
    kept = refused.value.errors()[0]["ctx"]["error"]
    assert isinstance(kept, ContradictionError)
    found = [(mistake.pointer, mistake.code) for mistake in kept.mistakes]
    assert found == [("/columns/names/1", "duplicate_name"), ("/entries/columns/0", "unknown_index")]
    assert str(pickle.loads(pickle.dumps(kept))) == str(kept)  # noqa: S301  (our own: it may cross from one process to another)


def test_entries_without_rows_are_refused() -> None:
    with pytest.raises(ValidationError, match="there is no row 0; there is none"):
        Problem.model_validate({"columns": COLUMNS, "entries": ENTRIES})


def test_limits_of_numbers_are_taken() -> None:
    problem = Problem(
        columns=Columns(cost=(LARGEST,), upper=(LARGEST,)),
        rows=Rows(upper=(LARGEST,)),
        entries=Entries(rows=(0,), columns=(0,), values=(1.1e-9,)),
    )
    assert solved(problem).outcome is Outcome.optimal


@pytest.mark.parametrize(
    ("problem", "pointer", "code"),
    [
        (shop(columns=Columns(cost=(0.0, 0.0))), "/columns/cost", "no_objective"),
        (shop(rows=Rows(lower=(1.0, 2.0)), entries=Entries(rows=(0,), columns=(0,), values=(1.0,))), "/rows/lower/1", "empty_row"),
        (
            shop(columns=Columns(cost=(1.0, 1.0), lower=(0.2, 0.0), upper=(0.8, None), integer=(True, True))),
            "/columns/integer/0",
            "no_whole_number",
        ),
        (shop(entries=Entries(rows=(0, 1), columns=(0, 1), values=(1e-6, 1e6))), "/entries/values", "wide_range"),
    ],
)
def test_what_is_odd_is_told(problem: Problem, pointer: str, code: str) -> None:
    assert (pointer, code) in [(warning.pointer, warning.code) for warning in warnings(problem)]


def test_nothing_is_odd_about_the_examples() -> None:
    assert [warnings(problem) for problem in examples().values()] == [(), ()]


# ---------------------------------------------------------------- verify


@pytest.mark.parametrize(
    ("values", "rule", "ids", "amount"),
    [
        ((2.0, 1.0), "row", ("need",), 1.0),
        ((0.0, 11.0), "row", ("most",), 2.0),
        ((3.5, 1.0), "bound", ("x",), 0.5),
        ((-1.0, 5.0), "bound", ("x",), 1.0),
        ((3.0,), "bound", (), 1.0),
    ],
)
def test_a_broken_rule_is_found(values: tuple[float, ...], rule: str, ids: tuple[str, ...], amount: float) -> None:
    verdict = verify(shop(), Plan(values=values))
    assert [(one.rule, one.ids) for one in verdict.violations] == [(rule, ids)]
    assert verdict.largest_violation == pytest.approx(amount)
    assert not verdict.ok


def test_fractions_of_integers_are_found() -> None:
    problem = shop(columns=Columns(names=("x", "y"), cost=(2.0, 3.0), integer=(False, True)))
    verdict = verify(problem, Plan(values=(2.5, 1.5)))
    assert [(one.rule, one.ids, one.amount) for one in verdict.violations] == [("integrality", ("y",), 0.5)]
    assert verify(problem, Plan(values=(2.5, 2.0))).ok


def test_tolerances_are_relative_to_the_side() -> None:
    problem = shop(
        rows=Rows(names=("need", "most"), lower=(4e6, None), upper=(None, None)), columns=Columns(names=("x", "y"), cost=(1.0, 1.0))
    )
    assert verify(problem, Plan(values=(4e6 - 3.0, 0.0))).ok
    assert not verify(problem, Plan(values=(4e6 - 5.0, 0.0))).ok
    assert verify(shop(), Plan(values=(3.0, 1.0 - 3e-6))).ok
    assert not verify(shop(), Plan(values=(3.0, 1.0 - 5e-6))).ok


BEST = Plan(values=(3.0, 1.0), row_duals=(3.0, 0.0), reduced_costs=(-1.0, 0.0))


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({}, set()),
        ({"values": (1.0, 3.0)}, {"strong_duality"}),  # feasible and not best
        ({"row_duals": (2.0, 0.0), "reduced_costs": (0.0, 1.0)}, {"strong_duality"}),  # a bound, not a proof: y is above its lower one
        ({"reduced_costs": (-1.0, 0.5)}, {"reduced_cost"}),
        ({"row_duals": (3.0, 0.5), "reduced_costs": (-1.0, -1.0)}, {"dual_sign"}),
        ({"row_duals": (-3.0, 0.0), "reduced_costs": (5.0, 6.0)}, {"dual_sign", "strong_duality"}),
        ({"row_duals": (3.0,)}, {"strong_duality"}),
        ({"reduced_costs": None}, {"strong_duality"}),
    ],
)
def test_prices_must_prove_the_plan(change: dict[str, Any], rules: set[str]) -> None:
    verdict = verify(shop(), BEST.model_copy(update=change))
    assert {one.rule for one in verdict.violations} == rules
    assert verdict.objectives == {"objective": 2 * verdict_values(change)[0] + 3 * verdict_values(change)[1]}


def verdict_values(change: dict[str, Any]) -> tuple[float, ...]:
    values: tuple[float, ...] = change.get("values", BEST.values)
    return values


def test_prices_of_a_mixed_integer_program_prove_nothing() -> None:
    problem = shop(columns=Columns(names=("x", "y"), cost=(2.0, 3.0), upper=(3.0, None), integer=(True, False)))
    assert [one.message for one in verify(problem, BEST).violations] == ["the prices prove nothing: the program has integer columns"]


def test_only_so_many_violations_are_told_and_all_are_counted() -> None:
    problem = Problem(columns=Columns(cost=(1.0,) * 500))
    verdict = verify(problem, Plan(values=(-1.0,) * 500))
    assert (len(verdict.violations), verdict.violation_count) == (100, 500)


# ---------------------------------------------------------------- solving


@QUICK
@given(seeds)
def test_solving_agrees_with_enumeration(seed: int) -> None:
    problem = random_problem(seed)
    expected, result = enumerated(problem), solved(problem)
    assert result.failure is None
    assert result.outcome == expected.status, (seed, result.message)
    assert result.stop_reason is StopReason.gap
    if expected.objective is None:
        assert result.plan is None
        assert (result.conflict is not None) == (expected.status == "infeasible")
        assert ("no limit" in result.message) == (expected.status == "unbounded")
        return
    assert result.certificate is not None
    assert result.certificate.objective == pytest.approx(expected.objective, abs=1e-3)  # the gap
    assert isinstance(result.plan, Plan)
    verdict = verify(problem, result.plan)
    assert verdict.ok
    mip = any(problem.columns.integer or ())
    assert (result.plan.row_duals is None, result.plan.reduced_costs is None) == (mip, mip)
    if not mip:
        assert verdict.metrics["dual_objective"] == pytest.approx(expected.objective, abs=1e-5)
        assert verdict.metrics["complementarity"] <= 1e-5


@QUICK
@given(seeds)
def test_the_heuristic_is_feasible_and_its_bounds_hold(seed: int) -> None:
    problem, expected = random_problem(seed), enumerated(random_problem(seed))
    plan = heuristic(problem)
    if plan is not None:
        assert verify(problem, plan).ok
        assert expected.status != "infeasible"
    for bound in simple_bounds(problem).values():
        assert expected.objective is None or (bound - expected.objective) * (1 if problem.sense is Sense.maximise else -1) >= -1e-9


@QUICK
@given(seeds)
def test_bounds_as_rows_change_nothing(seed: int) -> None:
    problem = random_problem(seed)
    one, other = (HighsBackend().solve(build(problem, hasten=hasten), Limits(gap=0.0)) for hasten in (True, False))
    assert one.status is other.status
    assert other.objective == (None if one.objective is None else pytest.approx(one.objective, abs=1e-5))


@QUICK
@given(seeds)
def test_a_conflict_cannot_be_made_smaller(seed: int) -> None:
    problem = random_problem(seed)
    result = solved(problem)
    if result.outcome is not Outcome.infeasible:
        return
    assert result.conflict is not None
    assert result.conflict.status == "proved"
    named = {(rule, ids[0]) for rule, ids in result.conflict.rules}
    assert status_of(only(problem, named)) is ProgramStatus.infeasible
    for one in named:
        assert status_of(only(problem, named - {one})) in (ProgramStatus.optimal, ProgramStatus.unbounded)
    assert result.conflict.repairs


def status_of(problem: Problem) -> ProgramStatus:
    return HighsBackend().solve(build(problem), Limits(time_limit_s=20.0)).status


def only(problem: Problem, named: set[tuple[str, str]]) -> Problem:
    """The problem with the named rows and bounds alone, and the yes-or-no columns, which cannot be named."""
    columns, rows = problem.columns, problem.rows
    boxes = zip(columns.names or (), columns.integer or (), columns.lower or (), columns.upper or (), strict=True)
    kept = [("bound", name) in named or (whole and (low, high) == (0.0, 1.0)) for name, whole, low, high in boxes]
    stays = [("row", name) in named for name in rows.names or ()]

    def sides(part: Columns | Rows, keep: list[bool]) -> dict[str, tuple[float | None, ...]]:
        pairs = {side: zip(keep, getattr(part, side), strict=True) for side in ("lower", "upper")}
        return {side: tuple(value if here else None for here, value in pair) for side, pair in pairs.items()}

    return problem.model_copy(
        update={"columns": columns.model_copy(update=sides(columns, kept)), "rows": rows.model_copy(update=sides(rows, stays))}
    )


@QUICK
@given(seeds, st.floats(min_value=0.25, max_value=8.0))
def test_scaling_costs_scales_the_objective(seed: int, factor: float) -> None:
    problem = random_problem(seed)
    scaled = problem.model_copy(
        update={
            "offset": problem.offset * factor,
            "columns": problem.columns.model_copy(update={"cost": tuple(factor * cost for cost in problem.columns.cost)}),
        }
    )
    before, after = solved(problem), solved(scaled)
    assert before.outcome is after.outcome
    if before.certificate is not None and after.certificate is not None:
        assert after.certificate.objective == pytest.approx(factor * before.certificate.objective, rel=1e-4, abs=1e-4)


def test_permuting_names_and_entries_changes_nothing() -> None:
    problem = examples()["mip"]
    order = np.random.default_rng(0).permutation(len(problem.entries.values)).tolist()
    shuffled = Entries(
        rows=tuple(problem.entries.rows[place] for place in order),
        columns=tuple(problem.entries.columns[place] for place in order),
        values=tuple(problem.entries.values[place] for place in order),
    )
    assert solved(problem.model_copy(update={"entries": shuffled})).plan == solved(problem).plan


def test_a_changed_copy_is_another_problem() -> None:
    problem = shop()
    assert verify(problem, BEST).objectives == {"objective": 9.0}
    dearer = problem.model_copy(update={"columns": problem.columns.model_copy(update={"cost": (20.0, 30.0)})})
    assert verify(dearer, Plan(values=BEST.values)).objectives == {"objective": 90.0}
    assert verify(problem, BEST).objectives == {"objective": 9.0}


def test_a_start_is_taken_and_prices_replace_an_equal_plan() -> None:
    result = solved(shop(), warm_start=Plan(values=BEST.values))
    assert result.plan == BEST
    assert solved(shop()).plan == BEST


def test_wrong_prices_are_left_out() -> None:
    plan = Plan(values=BEST.values)
    assert priced(shop(), plan, np.array([3.0, 0.0]), np.zeros(2)) == BEST
    assert priced(shop(), plan, np.array([3.0, 0.7]), np.zeros(2)) == BEST  # a price of a side that is not there is noise
    assert priced(shop(), plan, np.array([2.0, 0.0]), np.zeros(2)) == plan


def test_names_may_be_left_out() -> None:
    problem = Problem(
        columns=Columns(cost=(1.0, 1.0)), rows=Rows(lower=(2.0,)), entries=Entries(rows=(0, 0), columns=(0, 1), values=(1.0, 1.0))
    )
    result = solved(problem)
    assert result.certificate is not None
    assert result.certificate.objective == 2.0
    assert {reason.ids for reason in result.reasons if reason.code == "binding"} >= {("r0",)}
    assert subjects(problem, Plan(values=(1.0, 1.0))) == ("r0", "x0", "x1")


def test_many_columns() -> None:
    """Ten thousand columns in ten groups, each with a budget: the best of each group takes it all."""
    rng = np.random.default_rng(0)
    width, groups = 10_000, 10
    cost = rng.uniform(1.0, 2.0, width)
    at = np.arange(width) % groups
    problem = Problem(
        sense=Sense.maximise,
        columns=Columns(cost=tuple(cost.tolist())),
        rows=Rows(upper=(5.0,) * groups),
        entries=Entries(rows=tuple(at.tolist()), columns=tuple(range(width)), values=(1.0,) * width),
    )
    result = solved(problem)
    assert result.certificate is not None
    assert result.certificate.objective == pytest.approx(5.0 * sum(cost[at == group].max() for group in range(groups)))
    assert isinstance(result.plan, Plan)
    assert result.plan.row_duals == pytest.approx([cost[at == group].max() for group in range(groups)])


# ---------------------------------------------------------------- unbounded and infeasible


def test_an_unbounded_goal_is_told_with_its_direction() -> None:
    columns = Columns(names=("x", "y"), cost=(-1.0, -1.0), integer=(True, False))
    problem = shop(
        columns=columns,
        rows=Rows(names=("same",), lower=(0.0,), upper=(0.0,)),
        entries=Entries(rows=(0, 0), columns=(0, 1), values=(1.0, -1.0)),
    )
    result = solved(problem)
    assert (result.outcome, result.stop_reason, result.plan, result.failure) == (Outcome.unbounded, StopReason.gap, None, None)
    assert result.message == (
        "the goal objective falls by 2 with each step of value[x] +1, value[y] +1, and no limit ever stops these steps"
    )


def test_infeasible_is_not_called_unbounded() -> None:
    columns = Columns(names=("x", "y", "free"), cost=(0.0, 0.0, -1.0), upper=(1.0, 1.0, None))
    problem = shop(columns=columns, rows=Rows(names=("need", "most"), lower=(4.0, None), upper=(None, 20.0)))
    result = solved(problem)
    assert result.outcome is Outcome.infeasible
    assert result.conflict is not None
    assert set(result.conflict.rules) == {("row", ("need",)), ("bound", ("x",)), ("bound", ("y",))}
    assert result.conflict.repairs == ("row 'need': lower the lower limit from 4 by 2",)
