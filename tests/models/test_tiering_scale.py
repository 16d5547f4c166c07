"""The search by prices: its bounds and plans against the exact program and brute force, its pieces against plain loops."""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import numpy as np
import pytest

from benchmarks.objects import objects
from models.conversation import Impossible, Offered, Proved, Solve, Solved
from models.tiering import scale
from models.tiering.options import Options, options_of, plain
from models.tiering.prices import priced
from models.tiering.rounding import applied, filled, mended
from models.tiering.schema import Copies, GoalName, Migration, Object, ObjectTable, Plan, Problem, Tier
from models.tiering.sifting import State, moves, sample
from models.tiering.store import store_of
from models.tiering.verify import verify
from optimizer.highs import HighsBackend
from optimizer.highs import Options as HighsOptions
from optimizer.limits import Limits
from optimizer.solve import solve
from tests.models.tiering_problems import exact, random_problem


@pytest.fixture(autouse=True)
def _prices_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small problems too go by prices here: the exact program has tests of its own."""
    monkeypatch.setattr(scale, "EXACT_COLUMNS", 0)


class Talked:
    """What a conversation said: whether it proved that there is no plan, its bounds, its plans' goals."""

    def __init__(self, problem: Problem, gap: float = 1e-6, seconds: float = 5.0, plan: Plan | None = None) -> None:
        self.impossible = False
        self.bounds: dict[str, float] = {}
        self.values: tuple[float, ...] | None = None
        self.plan: Plan | None = None
        steps = scale.converse(problem, plan, 0, seconds, gap)
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                return
            answer = self._answer(problem, step)
            if self.impossible:
                return

    def _answer(self, problem: Problem, step: Any) -> Any:
        match step:
            case Solve():
                backend = HighsBackend(HighsOptions(method="choose", crossover=step.crossover))
                found = backend.solve(step.program, Limits(time_limit_s=5, gap=step.gap or 1e-6), start=step.start)
                return Solved(found.status.value, found.values, found.objective, found.bound, found.row_duals, found.reduced_costs)
            case Proved():
                self.bounds[step.goal] = max(step.bound, self.bounds.get(step.goal, -np.inf))
                return False
            case Offered():
                verdict = verify(problem, step.plan)
                assert verdict.ok, verdict.violations
                self.plan, self.values = step.plan, tuple(verdict.objectives[goal.value] for goal in problem.goals)
                return True
            case Impossible():
                self.impossible = True
                return None
        raise AssertionError(step)


def plain_problem(seed: int) -> Problem:
    """A random small problem without readers and caches."""
    problem = random_problem(seed)
    ones = tuple(one.model_copy(update={"copies_max": None}) for one in problem.objects)
    return problem.model_copy(update={"objects": ones, "readers": (), "site_links": ()})


@pytest.mark.parametrize("seed", [seed for seed in range(90) if plain(store_of(plain_problem(seed)))])
def test_bounds_and_plans_enclose_the_exact_optimum(seed: int) -> None:
    problem = plain_problem(seed)
    truth, talked = exact(problem), Talked(problem)
    if truth is None:
        assert talked.values is None
        return
    assert not talked.impossible
    first = problem.goals[0].value
    optimum = truth[1][0]
    slack = 1e-6 * max(1.0, abs(optimum))
    assert talked.bounds[first] <= optimum + slack
    if talked.values is not None:
        assert talked.values[0] >= optimum - slack


@pytest.mark.parametrize("seed", range(2))
def test_every_goals_bound_holds_for_the_plan(seed: int) -> None:
    problem = objects(1_000, 5, seed, (GoalName.cost, GoalName.access_time, GoalName.moved_gib))
    talked = Talked(problem, gap=1e-3, seconds=1.0)
    assert talked.values is not None
    for goal, value in zip(problem.goals, talked.values, strict=True):
        assert talked.bounds[goal.value] <= value * (1 + 1e-6)
    assert talked.bounds["cost"] >= talked.values[0] * (1 - 0.02)


def test_a_known_plan_that_is_worse_in_one_goal_holds_nothing_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """All on the slow tier is dearest in time and moves nothing: no bound of a later goal may rest on its moving nothing."""
    monkeypatch.setattr(scale, "EXACT_COLUMNS", 0)
    objects_now = tuple(
        Object.model_validate(
            {"id": f"o{at}", "size_gib": 1 + at % 5, "read_gbps": 0.1, "reads_per_s": at % 7, "current": [{"tier": "slow"}]}
        )
        for at in range(40)
    )
    goals = (GoalName.access_time, GoalName.moved_gib, GoalName.cost)
    slow = Tier(id="slow", capacity_gib=None, latency_ms=10, stream_gbps=1)
    problem = Problem(goals=goals, tiers=(slow, Tier(id="fast", capacity_gib=60, usd_per_gib_month=1.0)), objects=objects_now)
    names = tuple(one.id for one in objects_now)
    stays = Plan(copies=Copies(object=names, tier=("slow",) * len(names)))
    alone, told = Talked(problem), Talked(problem, plan=stays)
    assert alone.values is not None
    assert told.values is not None
    for goal, value in zip(goals, told.values, strict=True):
        assert told.bounds.get(goal.value, 0.0) <= value * (1 + 1e-6)
    assert told.bounds == pytest.approx(alone.bounds)


def test_where_prices_lead_to_no_plan_the_exact_program_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three halves of the room, two of which fit: prices alone cannot tell that two tiers do not hold three."""
    monkeypatch.setattr(scale, "EXACT_COLUMNS", 0)
    tiers = tuple(Tier(id=name, capacity_gib=15) for name in ("a", "b"))
    three = tuple(Object(id=f"o{at}", size_gib=10) for at in range(3))
    result = solve(Problem(tiers=tiers, objects=three), Limits(time_limit_s=20), isolate=False)
    assert result.outcome.value == "infeasible"
    assert result.conflict is not None
    assert {name for name, _ in result.conflict.rules} >= {"tier_capacity"}


def brute_option(options: Options, at: int, prices: np.ndarray[Any, Any]) -> float:
    """The best option of one object by trying every set of slots and every server."""
    copies, reads = options.keep[:, at].copy(), options.serve[:, at].copy()
    for use in options.uses:
        (reads if use.served else copies)[use.slot] += prices[use.row] * use.amount[at]
    best = np.inf
    for chosen in product((False, True), repeat=options.slots):
        slots = np.flatnonzero(chosen)
        if len(slots) != options.replicas[at] or len({int(options.domain[slot]) for slot in slots}) != len(slots):
            continue
        best = min(best, copies[slots].sum() + reads[slots].min())
    return float(best)


@pytest.mark.parametrize("seed", range(6))
def test_the_closed_form_is_the_best_of_all_options(seed: int) -> None:
    problem = objects(60, 8 if seed % 2 else 5, seed)
    problem = problem.model_copy(update={"tiers": tuple(_in_hall(tier) for tier in problem.tiers[:5])}) if seed % 2 == 0 else problem
    options = options_of(problem, GoalName.cost) if seed % 2 == 0 else _without_packing(problem)
    prices = np.random.default_rng(seed).random(len(options.rows)) * np.array(
        [0.02 if row.rule == "tier_capacity" else 1.0 for row in options.rows]
    )
    found = priced(options, prices)
    for at in range(options.count):
        assert found.value[at] == pytest.approx(brute_option(options, at, prices), rel=1e-9, abs=1e-12)
    state_value = options.goal(found.sets, found.server) + prices @ (options.totals(found.sets, found.server) - options.limits)
    assert found.bound == pytest.approx(state_value, rel=1e-9)


def _in_hall(tier: Tier) -> Tier:
    return tier.model_copy(update={"failure_domain": "hall"}) if tier.id in {"ssd", "hdd"} else tier


def _without_packing(problem: Problem) -> Options:
    table = problem.object_table
    assert table is not None
    return options_of(problem.model_copy(update={"object_table": table.model_copy(update={"compressed_share": None})}), GoalName.cost)


def test_every_price_gives_a_bound_below_the_optimum() -> None:
    problem = objects(60, 5, 3)
    truth = exact(problem)
    assert truth is not None
    options = options_of(problem, GoalName.cost)
    rng = np.random.default_rng(0)
    for _ in range(50):
        prices = rng.exponential(1.0, len(options.rows)) * rng.choice([0.0, 1e-3, 0.1, 10.0], len(options.rows))
        assert priced(options, prices).bound <= truth[1][0] * (1 + 1e-9)
        assert priced(options.loosened(0.01, 1), prices).bound <= truth[1][0] * (1 + 1e-9)


def test_objects_that_are_alike_lose_nothing() -> None:
    tiers = (
        Tier(id="fast", capacity_gib=10.5, latency_ms=1, usd_per_gib_month=0.02),
        Tier(id="slow", capacity_gib=None, latency_ms=1, usd_per_gib_month=0.10),
    )
    table = ObjectTable(size_gib=(1.0,) * 30)
    problem = Problem(tiers=tiers, object_table=table)
    talked = Talked(problem)
    truth = exact(problem)
    assert truth is not None
    assert talked.values == pytest.approx(truth[1])  # ten of them fit; half an object does not


def test_no_room_at_all_is_proved() -> None:
    tiers = (Tier(id="a", capacity_gib=10.0, usd_per_gib_month=0.02), Tier(id="b", capacity_gib=10.0, usd_per_gib_month=0.1))
    problem = Problem(tiers=tiers, object_table=ObjectTable(size_gib=(1.0,) * 25))
    assert Talked(problem).impossible


@pytest.mark.parametrize("shut", [{"capacity_gib": 0.0}, {"read_gbps": 0.0}, {"write_gbps": 0.0}])
def test_a_tier_without_room_is_a_tier_that_is_not_used(shut: dict[str, float]) -> None:
    problem = objects(120, 5, 0)
    tiers = tuple(tier.model_copy(update=shut) if tier.id == "s3-ia" else tier for tier in problem.tiers)
    changed = problem.model_copy(update={"tiers": tiers})
    talked, truth = Talked(changed, 1e-3, 2.0), exact(changed)
    assert (talked.values is None) == (truth is None)
    if truth is not None and talked.values is not None:
        assert talked.bounds["cost"] <= truth[1][0] * (1 + 1e-6)
        assert talked.values[0] <= truth[1][0] * 1.01


def test_nothing_may_move() -> None:
    problem = objects(120, 5, 2)
    still = problem.model_copy(update={"migration": Migration(gib=0.0)})
    talked, truth = Talked(still, 1e-3, 2.0), exact(still)
    assert (talked.values is None) == (truth is None)
    if truth is not None and talked.values is not None:
        assert talked.bounds["cost"] <= truth[1][0] * (1 + 1e-6)
        assert talked.values[0] <= truth[1][0] * 1.01


def test_more_capacity_never_worsens_the_bound() -> None:
    problem = objects(2_000, 5, 1)
    known = None
    for factor in (0.6, 1.0, 1.6):
        tiers = tuple(
            tier.model_copy(update={"capacity_gib": tier.capacity_gib * factor}) if tier.id == "hdd" and tier.capacity_gib else tier
            for tier in problem.tiers
        )
        talked = Talked(problem.model_copy(update={"tiers": tiers}), gap=1e-3)
        assert talked.values is not None
        if known is not None:
            assert talked.bounds["cost"] <= known * (1 + 1e-6)
        known = talked.values[0]


def test_names_do_not_matter() -> None:
    problem = objects(3_000, 5, 2)
    table = problem.object_table
    assert table is not None
    named = problem.model_copy(update={"object_table": table.model_copy(update={"id": tuple(f"x{k:05d}" for k in range(3_000))})})
    assert Talked(problem, 1e-3).values == Talked(named, 1e-3).values


def test_through_the_one_way_with_its_certificate() -> None:
    problem = objects(6_000, 5, 0)
    assert scale.by_prices(problem)
    result = solve(problem, Limits(time_limit_s=20, gap=5e-3), isolate=False)
    assert result.certificate is not None
    assert result.certificate.goals[0].gap <= 5e-3
    assert result.certificate.goals[0].method == scale.METHOD
    assert {price.tier for price in result.plan.prices} <= {tier.id for tier in problem.tiers}  # type: ignore[union-attr]


def test_small_problems_and_readers_take_the_exact_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(scale.by_prices(random_problem(seed)) for seed in range(10) if random_problem(seed).readers)
    monkeypatch.undo()
    assert not scale.by_prices(objects(100, 5, 0))
    assert not any(scale.by_prices(random_problem(seed)) for seed in range(10))


# ---------------------------------------------------------------- the pieces


def tight() -> tuple[Options, State, Any]:
    problem = Problem(
        tiers=(
            Tier(id="good", capacity_gib=10.0, usd_per_gib_month=0.01),
            Tier(id="dear", capacity_gib=None, usd_per_gib_month=0.05),
        ),
        objects=tuple(Object(id=f"o{k}", size_gib=float(size)) for k, size in enumerate((6, 5, 4, 3))),
    )
    options = options_of(problem, GoalName.cost)
    at = priced(options, np.zeros(1))
    state = State(at.sets, at.server)
    return options, state, moves(options, state, at.prices, np.arange(4), np.full(4, 1e9))


def test_mending_takes_out_what_does_not_fit_and_filling_uses_the_room() -> None:
    options, state, found = tight()
    totals = options.totals(state.sets, state.server)
    assert totals[0] == 18.0
    deadline = time.monotonic() + 5
    times = mended(options, totals, np.zeros(1), found, np.zeros(found.count, dtype=np.int64), deadline)
    assert times is not None
    fitting = applied(state, found, times)
    assert options.totals(fitting.sets, fitting.server)[0] <= 10.0
    better = applied(state, found, filled(options, totals, found, times, deadline))
    assert options.totals(better.sets, better.server)[0] <= 10.0
    assert options.goal(better.sets, better.server) <= options.goal(fitting.sets, fitting.server)


def test_mending_gives_up_where_nothing_helps() -> None:
    options, state, found = tight()
    stuck = options.with_limit(0, -1.0)
    assert (
        mended(stuck, options.totals(state.sets, state.server), np.zeros(1), found, np.zeros(found.count, dtype=np.int64), np.inf) is None
    )


def test_samples_stand_for_all() -> None:
    rng = np.random.default_rng(0)
    importance = rng.lognormal(0, 2, 20_000)
    sums = []
    for _ in range(40):
        taken, weights = sample(importance, 1_000, rng)
        assert len(np.unique(taken)) == len(taken)
        assert (weights >= 1.0).all()
        sums.append(float((weights * importance[taken]).sum()) / float(importance.sum()))
    assert np.mean(sums) == pytest.approx(1.0, abs=0.02)


def test_likeness_tells_apart_what_differs() -> None:
    problem = Problem(
        tiers=(Tier(id="a", capacity_gib=3.0, usd_per_gib_month=0.1), Tier(id="b", capacity_gib=None, usd_per_gib_month=0.2)),
        objects=(Object(id="x", size_gib=1.0), Object(id="y", size_gib=2.0), Object(id="z", size_gib=1.0)),
    )
    like = options_of(problem, GoalName.cost).likeness(np.arange(3))
    assert like[0] == like[2] != like[1]
