"""Worths and their ranges, held against what really happens when a limit is moved."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import kind
from models.linear.examples import examples
from models.linear.formulation import build, start
from models.linear.schema import Columns, Entries, Plan, Problem, Rows
from models.program import LinearProgram
from optimizer import sensitivity as module
from optimizer.backend import ProgramStatus
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from optimizer.sensitivity import Sensitivity, Status, Worth, sensitivity
from optimizer.solve import solve
from tests.oracles.program import random_problem

LIMITS = Limits(time_limit_s=20.0, gap=0.0)
seeds = st.integers(min_value=0, max_value=10**6)


def solved(problem: Problem) -> Plan | None:
    plan = solve(problem, LIMITS, isolate=False).plan
    assert plan is None or isinstance(plan, Plan)
    return plan


def priced(problem: Problem) -> Sensitivity:
    return sensitivity(problem, solved(problem) or Plan(values=()), LIMITS)


def row_of(program: LinearProgram, worth: Worth) -> int:
    block = program.row_block(worth.rule)
    return block.start + list(block.ids).index(worth.ids)


def moved(program: LinearProgram, worth: Worth, by: float) -> float | None:
    """The optimum when the limit is moved; both sides of an equation move together. None when there is no optimum."""
    row = row_of(program, worth)
    lower, upper = program.row_lower.copy(), program.row_upper.copy()
    for side in (lower, upper):
        if abs(side[row] - worth.limit) <= 1e-9 * max(1.0, abs(worth.limit)):
            side[row] += by
    if lower[row] > upper[row]:
        return None
    result = HighsBackend().solve(replace(program, row_lower=lower, row_upper=upper), LIMITS)
    return result.objective if result.status is ProgramStatus.optimal else None


def check(program: LinearProgram, found: Worth) -> None:
    """Exact within the range; beyond it never better than the worth says (weak duality)."""
    before = HighsBackend().solve(program, LIMITS).objective
    assert before is not None
    for by in (0.5, 1.0, -0.5, -1.0):
        after = moved(program, found, by)
        if after is not None:
            gained = (after - before - found.worth * by) * (1.0 if program.maximise else -1.0)
            assert gained <= 1e-6 * max(1.0, abs(after))
    if found.worth == 0.0:
        assert found.range is None
        return
    if found.range is None:
        return
    for end in (found.range.low, found.range.high):
        room = float(np.clip(end - found.limit, -3.0, 3.0))
        for share in (0.5, 1.0):
            after = moved(program, found, share * room * 0.999)
            assert after is not None
            assert after == pytest.approx(before + found.worth * share * room * 0.999, rel=1e-6, abs=1e-6)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(seeds)
def test_worths_are_what_moving_the_limit_brings(seed: int) -> None:
    problem = random_problem(seed)
    plan = solved(problem)
    if plan is None:
        return
    found = sensitivity(problem, plan, LIMITS)
    program = build(problem, hasten=False)
    json.dumps(found.as_object(), allow_nan=False)
    held = {Status.proved: program, Status.relaxation: program.relaxed(), Status.fixed_integers: fixed(problem, plan)}
    mip = any(problem.columns.integer or ())
    for row in found.rows:
        assert (row.status is Status.proved) == (not mip)
        check(held[row.status], row)


def fixed(problem: Problem, plan: Plan) -> LinearProgram:
    program = build(problem, hasten=False)
    values = np.array(list(start(problem, plan)["value"].values()))
    return replace(
        program.relaxed(),
        column_lower=np.where(program.integer, values, program.column_lower),
        column_upper=np.where(program.integer, values, program.column_upper),
    )


def test_ranges_are_there_more_often_than_not() -> None:
    """The checks above mean something: most worths have a range, and many ranges have some width."""
    rows = [
        row for seed in range(80) if (plan := solved(random_problem(seed))) for row in sensitivity(random_problem(seed), plan, LIMITS).rows
    ]
    dear = [row for row in rows if row.worth]
    ranged = [row for row in dear if row.range is not None]
    wide = [row for row in ranged if row.range is not None and row.range.high - row.range.low > 0.1]
    assert len(dear) > 60
    assert len(ranged) > 0.9 * len(dear)
    assert len(wide) > 0.7 * len(ranged)


def test_all_that_binds_has_its_price() -> None:
    """The prices of the limits add up to the objective (strong duality), so none is missing."""
    problem = examples()["lp"]
    found = priced(problem)
    assert sum(row.worth * row.limit for row in found.rows) == pytest.approx(3456.0)
    assert [(row.rule, row.ids, row.worth) for row in found.rows] == [
        ("row", ("gpu_hours",), 2.5),
        ("bound", ("tune_hours",), 2.0),
        ("bound", ("serve_hours",), 2.0),
    ]
    assert found.message == ""
    first = found.as_object()["rows"][0]
    assert first | {"range": None} == {
        "rule": "row",
        "ids": ["gpu_hours"],
        "unit": "",
        "limit": 1200.0,
        "worth": 2.5,
        "range": None,
        "status": "proved",
        "text": "one more unit of this limit improves objective by 2.5, up to 1453.71, "
        "and down to 1152 each unit less worsens it by as much",
    }
    assert first["range"] == {"low": pytest.approx(1152.0), "high": pytest.approx(1453.714285714)}


def test_a_mixed_integer_program_tells_both_substitutes_and_says_so() -> None:
    found = priced(examples()["mip"])
    assert {row.status for row in found.rows} == {Status.fixed_integers, Status.relaxation}
    assert set(found.as_object()["meaning"]) == {"fixed_integers", "relaxation"}
    held = [(row.rule, row.ids) for row in found.rows if row.status is Status.fixed_integers]
    assert held == [("row", ("done_by_racks",))]  # the others have whole-number columns alone: nothing left to answer


@pytest.mark.parametrize("name", ["tiering", "flow"])
def test_units_are_told_in_whole_words(name: str) -> None:
    """A copy, not a copie; Gbit/s keep their s."""
    problem: Any = kind(name).part("schema").example()
    plan = solve(problem, LIMITS, isolate=False).plan
    assert plan is not None
    found = sensitivity(problem, plan, LIMITS)
    beginnings = {(row.unit, row.text.split(" of this limit")[0]) for row in found.rows if row.worth}
    assert beginnings
    assert beginnings <= {
        ("Gbit/s", "one more Gbit/s"),
        ("GiB", "one more GiB"),
        ("copies", "one more copy"),
        ("domains", "one more domain"),
        ("of its reads", "one more unit"),
    }


def test_a_limit_in_every_hour_is_told_once_where_it_is_worth_nothing() -> None:
    problem: Any = kind("flow").part("examples").examples()["transfers"]
    plan = solve(problem, LIMITS, isolate=False).plan
    assert plan is not None
    rows = sensitivity(problem, plan, LIMITS).rows
    for status in Status:
        idle = [(row.rule, row.ids) for row in rows if row.status is status and not row.worth]
        assert len(idle) == len(set(idle))


def test_placement_is_priced_in_its_own_units() -> None:
    problem: Any = kind("placement").part("schema").example()
    plan = solve(problem, LIMITS, isolate=False).plan
    assert plan is not None
    found = sensitivity(problem, plan, LIMITS)
    assert (found.goal, found.sense) == ("placed_value", "maximise")
    assert {row.rule for row in found.rows} <= set(kind("placement").rules)
    gpus = [row for row in found.rows if row.rule == "node_gpus" and row.worth]
    assert gpus
    assert {row.unit for row in gpus} == {"GPUs"}
    assert gpus[0].text.startswith("one more GPU of this limit improves placed_value by")
    assert [abs(row.worth) for row in found.rows] == sorted((abs(row.worth) for row in found.rows), reverse=True)


def test_a_range_that_ends_at_the_limit_is_not_called_exact() -> None:
    """Maximise x with x <= 1 and x + y <= 1, y at least 0: x <= 1 alone cannot be raised to any use."""
    problem = Problem(
        sense="maximise",  # type: ignore[arg-type]
        columns=Columns(names=("x", "y"), cost=(1.0, 0.0), upper=(1.0, None)),
        rows=Rows(names=("both",), upper=(1.0,)),
        entries=Entries(rows=(0, 0), columns=(0, 1), values=(1.0, 1.0)),
    )
    found = priced(problem)
    (dear,) = [row for row in found.rows if row.worth]
    assert dear.range is not None
    assert dear.range.high == pytest.approx(1.0)
    assert dear.worth == 1.0
    assert "by at most 1" in dear.text
    assert [row.text for row in found.rows if not row.worth] != []
    assert all(row.text == "moving this limit alone does not improve objective" for row in found.rows if not row.worth)


def test_a_range_without_end() -> None:
    problem = Problem(columns=Columns(names=("x",), cost=(2.0,), lower=(3.0,)))
    (row,) = priced(problem).rows
    assert row.range is not None
    assert (row.limit, row.worth, row.range.low, row.range.high) == (3.0, 2.0, -math.inf, math.inf)
    assert row.text.startswith("one more unit of this limit worsens objective by 2, without end")
    assert priced(problem).as_object()["rows"][0]["range"] == {"low": None, "high": None}


# ---------------------------------------------------------------- limits


def wide(columns: int) -> Problem:
    return Problem(columns=Columns(cost=tuple(float(place + 1) for place in range(columns)), lower=(1.0,) * columns))


def test_the_dearest_are_told_and_the_rest_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 10)
    found = priced(wide(25))
    assert ([row.worth for row in found.rows], found.left_out) == ([float(25 - place) for place in range(10)], 15)


def test_large_programs_have_no_ranges_and_larger_ones_no_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = solved(wide(5))
    assert plan is not None
    monkeypatch.setattr(module, "RANGED", 8)
    found = sensitivity(wide(5), plan, LIMITS)
    assert [(row.worth, row.range) for row in found.rows] == [(5.0, None), (4.0, None), (3.0, None), (2.0, None), (1.0, None)]
    assert found.message == "proved: ranges are computed up to 8 rows and columns together"
    assert found.rows[0].text == "one more unit of this limit worsens objective by 5, as long as the same limits bind"
    monkeypatch.setattr(module, "LARGEST_PROGRAM", 4)
    found = sensitivity(wide(5), plan, LIMITS)
    assert found.rows == ()
    assert found.message.startswith("the exact program has about 5 columns, more than the 4 that are priced")


def test_a_wrong_plan_has_no_prices() -> None:
    found = sensitivity(wide(2), Plan(values=(0.0, 0.0)), LIMITS)
    assert (found.rows, found.message.startswith("the plan breaks a rule")) == ((), True)


def test_cancelled_and_out_of_time() -> None:
    cancel = threading.Event()
    cancel.set()
    plan = solved(wide(2))
    assert plan is not None
    assert sensitivity(wide(2), plan, LIMITS, cancel).message == "proved: cancelled"


def test_a_program_without_limits_has_none_to_price() -> None:
    problem = Problem(columns=Columns(cost=(0.0,), lower=(None,)))
    found = sensitivity(problem, Plan(values=(0.0,)), LIMITS)
    assert (found.rows, found.left_out) == ((), 0)
