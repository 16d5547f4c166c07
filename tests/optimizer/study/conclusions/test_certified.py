"""What must hold: a certified comparison never claims a difference that is false.

Pairs of problems whose optima are known by enumeration, solved under every sort of early stop and with answers made worse than they
were, and pairs of numbers chosen to be nasty. Whatever is called certain is compared with the truth, in fractions where there are any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from models.catalogue import kind_of
from models.vocabulary import Document
from optimizer.limits import Limits
from optimizer.result import GoalCertificate, relative_gap
from optimizer.solve import solve
from optimizer.study.conclusions.differences import Difference, Finding, difference
from optimizer.study.conclusions.gates import SLACK, Judged, Standing, judged
from optimizer.study.rows import Answered, Row
from optimizer.study.schema import Gate
from tests.models.placement_problems import tiny_problem
from tests.optimizer.oracle import from_dense
from tests.optimizer.study.tables import answered, certificate, infeasible, row
from tests.oracles import placement
from tests.oracles.program import enumerated, problem_of, random_problem

Truth = Fraction | None  # the optimum; None: there is no plan


def check(found: Difference, a: Truth, b: Truth) -> None:
    """Every claim that a difference makes, against the optima."""
    nobody = {Finding.a_infeasible: (True, False), Finding.b_infeasible: (False, True), Finding.both_infeasible: (True, True)}
    if found.finding in nobody:
        told = nobody[found.finding]
        assert not told[0] or a is None
        assert not told[1] or b is None
    if a is None or b is None:
        assert found.absolute is None
        assert found.finding not in {Finding.better, Finding.worse, Finding.equal_within}
        return
    if found.absolute is not None:
        assert found.absolute.low <= b - a <= found.absolute.high
    if found.relative is not None:
        assert a != 0
        assert found.relative.low <= (b - a) / abs(a) <= found.relative.high
    ahead = b - a if found.sense == "maximise" else a - b
    if found.finding is Finding.better:
        assert ahead > 0
    elif found.finding is Finding.worse:
        assert ahead < 0
    elif found.finding is Finding.equal_within:
        assert abs(ahead) <= Fraction(found.tolerance) * max(Fraction(1), abs(a))


def check_gate(one: Judged, gate: Gate, a: Fraction, b: Truth) -> None:
    """A gate that is called passed or failed, against the optima: ``a`` of the baseline, ``b`` of the scenario."""
    if b is None:
        assert one.standing is not Standing.passed
        return
    limit, from_above = {
        "at_least": (Fraction(gate.at_least or 0), False),
        "at_most": (Fraction(gate.at_most or 0), True),
        "fall_at_most": (a - Fraction(gate.fall_at_most or 0) * abs(a), False),
        "rise_at_most": (a + Fraction(gate.rise_at_most or 0) * abs(a), True),
    }[one.condition]
    spare = limit - b if from_above else b - limit
    slack = Fraction(SLACK) * max(Fraction(1), abs(limit))
    assert one.standing is not Standing.passed or spare >= -slack * (1 + Fraction(1, 10**9))
    assert one.standing is not Standing.failed or spare < -slack * (1 - Fraction(1, 10**9))


# ---------------------------------------------------------------- numbers


SIZES = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 1e-9, -1e-300, 5e-324, 1e12, -1e12, 1e300, -1e300, 1e308, 0.1, 1 / 3, 1e-4]),
    st.floats(-1e3, 1e3),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e308, max_value=1e308),
)
SHARES = st.one_of(st.sampled_from([0.0, 0.0, 1e-12, 1e-7, 1e-4, 0.5, 2.0]), st.floats(0, 3))


@st.composite
def certificates(draw: st.DrawFn, optimum: float, sense: str) -> GoalCertificate:
    """A valid plan and bound around the optimum: each as bad as it likes, and each beyond it by what ``verify`` lets pass."""
    sign = 1.0 if sense == "maximise" else -1.0
    size = max(1.0, abs(optimum))
    objective = optimum + sign * size * (draw(st.floats(-1e-6, 1e-6)) - draw(SHARES))
    bound = optimum + sign * size * (draw(st.floats(-1e-6, 1e-6)) + draw(SHARES))
    if draw(st.booleans()) and draw(st.booleans()):
        bound = sign * math.inf
    bound = max(bound, objective) if sign > 0 else min(bound, objective)
    assume(math.isfinite(objective) and (math.isfinite(bound) or bound == sign * math.inf))
    return certificate(objective, bound, sense=sense)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), a=SIZES, b=SIZES, near=st.booleans(), sense=st.sampled_from(["maximise", "minimise"]))
def test_no_claim_about_two_numbers_is_false(data: st.DataObject, a: float, b: float, near: bool, sense: str) -> None:
    if near:
        b = a * (1 + data.draw(st.sampled_from([0.0, 1e-9, 1e-6, -1e-5, 1e-4, 0.03])))
        assume(math.isfinite(b))
    first = answered(row(data.draw(certificates(a, sense)), key="a"), "A", baseline=True)
    second = answered(row(data.draw(certificates(b, sense)), key="b"), "B")
    tolerance = data.draw(st.sampled_from([0.0, 1e-5, 1e-4, 0.01]))
    check(difference(first, second, "value", tolerance=tolerance), Fraction(a), Fraction(b))
    check(difference(second, first, "value", tolerance=tolerance), Fraction(b), Fraction(a))
    share, limit = data.draw(SHARES), data.draw(st.one_of(st.just(a), st.just(b), SIZES))
    gates = (Gate(metric="value", fall_at_most=share, at_least=limit), Gate(metric="value", rise_at_most=share, at_most=limit))
    for gate in gates:
        for one in judged((gate,), (first, second)):
            check_gate(one, gate, Fraction(a), Fraction(b) if one.scenario == "B-0" else Fraction(a))


Vectors = list[tuple[float, ...]]


def lexicographic(plans: Vectors, senses: Sequence[str]) -> tuple[float, ...]:
    signs = [1.0 if sense == "maximise" else -1.0 for sense in senses]
    return max(plans, key=lambda plan: tuple(sign * value for sign, value in zip(signs, plan, strict=True)))


def honest(plans: Vectors, chosen: tuple[float, ...], senses: Sequence[str], loosened: Sequence[float], names: Sequence[str]) -> Row:
    """The row of a search that ended with ``chosen``: each bound is the best among plans no worse before, and looser by a share."""
    goals = []
    allowed = plans
    for place, (sense, loose) in enumerate(zip(senses, loosened, strict=True)):
        sign = 1.0 if sense == "maximise" else -1.0
        best = max(sign * plan[place] for plan in allowed)
        goals.append(certificate(chosen[place], sign * (best + loose * max(1.0, abs(best))), names[place], sense))
        # A float computation of "at least as good" forgives a hair, as contract.Goal.better does.
        allowed = [plan for plan in allowed if sign * plan[place] >= sign * chosen[place] - 1e-9 * max(1.0, abs(chosen[place]))]
    return row(*goals, key=repr((plans, chosen, loosened)))


PLANS = st.lists(
    st.tuples(st.integers(-3, 3).map(float), st.integers(-50, 50).map(float), st.integers(-2, 9).map(float)), min_size=1, max_size=5
)


@settings(max_examples=250, deadline=None)
@given(
    plans=st.tuples(PLANS, PLANS),
    senses=st.tuples(*[st.sampled_from(["maximise", "minimise"])] * 3),
    loose=st.tuples(*[st.tuples(*[SHARES] * 3)] * 2),
    data=st.data(),
)
@example(  # the first goal is open: the plan in hand is better on the second than the best of all
    plans=([(1.0, 9.0, 0.0), (2.0, 0.0, 0.0)], [(1.0, 5.0, 0.0)]), senses=("maximise",) * 3, loose=((0.0,) * 3, (0.0,) * 3), data=None
)
@example(  # the best of all is worse on the second goal than the plan in hand, and better on the third than the bound of that
    plans=([(1.0, 9.0, 0.0), (2.0, 0.0, 7.0)], [(1.0, 5.0, 0.0)]), senses=("maximise",) * 3, loose=((0.0,) * 3, (0.0,) * 3), data=None
)
def test_no_claim_about_a_later_goal_is_false(
    plans: tuple[Vectors, Vectors],
    senses: tuple[str, str, str],
    loose: tuple[tuple[float, ...], tuple[float, ...]],
    data: st.DataObject | None,
) -> None:
    names = ("first", "second", "third")
    rows, optima = [], []
    for mine, loosened in zip(plans, loose, strict=True):
        chosen = mine[0] if data is None else data.draw(st.sampled_from(mine))
        rows.append(honest(mine, chosen, senses, loosened, names))
        optima.append(lexicographic(mine, senses))
    first, second = answered(rows[0], "A", baseline=True), answered(rows[1], "B")
    for place, name in enumerate(names):
        a, b = Fraction(optima[0][place]), Fraction(optima[1][place])
        check(difference(first, second, name), a, b)
        gate = Gate(metric=name, fall_at_most=0.1, rise_at_most=0.1)
        for one in judged((gate,), (first, second)):
            check_gate(one, gate, a, b)


# ---------------------------------------------------------------- solved problems


def early(rng: np.random.Generator) -> Limits:
    """Limits under which a search stops at once, early, or at the end."""
    seconds = float(rng.choice([1e-3, 20.0], p=[0.1, 0.9]))
    return Limits(time_limit_s=seconds, gap=float(rng.choice([0.0, 0.0, 1e-4, 0.01, 0.05, 0.3])))


def solved(problem: Document, limits: Limits, key: str) -> Row:
    result = solve(problem, limits, isolate=False)
    assert result.failure is None, result.failure
    return Row.of(key, result)


def worsened(given: Row, rng: np.random.Generator) -> Row:
    """A row that knows less of its last goal: a looser bound."""
    if not given.goals or rng.random() < 0.5:
        return given
    last = given.goals[-1]
    sign = 1.0 if last.sense == "maximise" else -1.0
    bound = last.bound + sign * float(rng.exponential()) * max(1.0, abs(last.objective)) * float(rng.choice([1e-6, 1e-3, 1.0]))
    return replace(given, goals=(*given.goals[:-1], replace(last, bound=bound, gap=relative_gap(last.objective, bound))))


def knapsack(rng: np.random.Generator, like: np.ndarray | None = None) -> tuple[Document, Fraction, np.ndarray]:
    """Up to 12 whole things within three limits: the problem, its optimum by trying everything, and its data, for another like it."""
    count = int(rng.integers(4, 13)) if like is None else like.shape[1]
    data = rng.integers(1, 40, (4, count)).astype(float) if like is None else like.copy()
    data[0, int(rng.integers(count))] += float(rng.integers(0, 3))
    room = np.floor(data[1:].sum(axis=1) * rng.uniform(0.2, 0.7))
    whole = np.ones(count, dtype=bool)
    sides = (np.full(3, -np.inf), room)
    program = from_dense(data[1:], sides, (np.zeros(count), np.ones(count)), data[0], whole, maximise=True)
    points = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    fits = (points @ data[1:].T <= room).all(axis=1)
    return problem_of(program), Fraction(float((points[fits] @ data[0]).max())), data


def claims(pairs: Sequence[tuple[Answered, Answered, str, Truth, Truth]]) -> dict[Finding, int]:
    """Checks every pair both ways, and a gate; how often each finding was made."""
    made: dict[Finding, int] = {}
    for first, second, goal, a, b in pairs:
        for one, other, x, y in ((first, second, a, b), (second, first, b, a)):
            found = difference(one, other, goal)
            check(found, x, y)
            made[found.finding] = made.get(found.finding, 0) + 1
        if a is not None:
            gate = Gate(metric=goal, fall_at_most=0.02, rise_at_most=0.02)
            base = Answered(replace(first.scenario, is_baseline=True), first.row)
            for one_gate in judged((gate,), (base, second)):
                check_gate(one_gate, gate, a, b)
    return made


def test_pairs_of_knapsacks_stopped_early() -> None:
    rng = np.random.default_rng(1)
    pairs = []
    for number in range(120):
        problem, optimum, data = knapsack(rng)
        other, other_optimum, _ = knapsack(rng, data)
        first = worsened(solved(problem, early(rng), f"a{number}"), rng)
        second = worsened(solved(other, early(rng), f"b{number}"), rng)
        pairs.append((answered(first, f"A{number}"), answered(second, f"B{number}"), "objective", optimum, other_optimum))
    made = claims(pairs)
    assert min(made.get(one, 0) for one in (Finding.better, Finding.worse, Finding.not_distinguishable)) >= 30


def test_pairs_of_mixed_programs_of_every_sort() -> None:
    rng = np.random.default_rng(2)
    truths: list[tuple[Answered, Truth, str]] = []
    for seed in range(320):
        problem = random_problem(seed)
        best = enumerated(problem)
        if best.status == "unbounded":
            continue
        made = answered(worsened(solved(problem, early(rng), f"r{seed}"), rng), f"R{seed}")
        # The oracle is itself exact to rounding only; its data is in halves and tenths.
        optimum = None if best.objective is None else Fraction(best.objective).limit_denominator(10**7)
        truths.append((made, optimum, problem.sense.value))
    pairs = [
        (first, second, "objective", a, b)
        for (first, a, sense), (second, b, other) in zip(truths[::2], truths[1::2], strict=False)
        if sense == other
    ]
    made_findings = claims(pairs)
    assert made_findings[Finding.better] >= 30
    assert sum(count for one, count in made_findings.items() if "infeasible" in one.value) >= 5
    assert len(pairs) >= 50


def test_pairs_of_small_placements_in_every_goal() -> None:
    rng = np.random.default_rng(3)
    known = []
    for seed in range(90):
        problem = tiny_problem(seed, "place")
        best = placement.best(problem)
        result = solved(problem, early(rng), f"p{seed}")
        known.append((answered(worsened(result, rng), f"P{seed}"), best, tuple(goal.name for goal in kind_of(problem).goals(problem))))
    pairs = []
    for number, (first, a, goals) in enumerate(known):
        for second, b, others in known[number + 1 : number + 5]:
            for place, goal in enumerate(goals):
                if goal in others and others.index(goal) == place:
                    truth = tuple(None if best is None else Fraction(best.values[place]) for best in (a, b))
                    pairs.append((first, second, goal, truth[0], truth[1]))
    made = claims(pairs)
    assert len(pairs) >= 200
    assert made[Finding.better] >= 150


@pytest.mark.parametrize("seed", range(6))
def test_any_plan_of_a_small_placement_with_honest_bounds(seed: int) -> None:
    """Later goals with the trade-offs that real problems have: every plan may be the one in hand."""
    rng = np.random.default_rng([4, seed])
    made = []
    for number in (2 * seed, 2 * seed + 1):
        problem = tiny_problem(number, "place")
        goals = kind_of(problem).goals(problem)
        vectors = [tuple(verdict.objectives[goal.name] for goal in goals) for _, verdict in placement.plans(problem)]
        made.append((vectors, [goal.sense.value for goal in goals], [goal.name for goal in goals]))
    for _ in range(40):
        rows, optima = [], []
        for vectors, senses, names in made:
            chosen = vectors[int(rng.integers(len(vectors)))]
            loose = [float(rng.choice([0.0, 0.0, 0.0, 0.1])) for _ in senses]
            rows.append(honest(vectors, chosen, senses, loose, names))
            optima.append(dict(zip(names, lexicographic(vectors, senses), strict=True)))
        shared = [name for name in made[0][2] if name in made[1][2]]
        for name in shared:
            found = difference(answered(rows[0], "A"), answered(rows[1], "B"), name)
            check(found, Fraction(optima[0][name]), Fraction(optima[1][name]))


def test_a_scenario_without_plans_is_told_from_one_that_has_them() -> None:
    nothing, some = answered(infeasible(), "A"), answered(row(certificate(1.0, 2.0)), "B")
    check(difference(nothing, some, "value"), None, Fraction(1))
    check(difference(some, nothing, "value"), Fraction(1), None)
    check(difference(nothing, answered(infeasible("other"), "B"), "value"), None, None)
