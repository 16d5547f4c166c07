"""What proofs prove, against linear programs of scipy: no division is worth more than a proof says, whatever its prices are."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import linprog

from models.broken import Broken
from models.contract import Verdict
from models.fairshare.heuristic import heuristic
from models.fairshare.levels.scales import job_levels
from models.fairshare.levels.tenants import starting_rates
from models.fairshare.market import market_of
from models.fairshare.plans.division import division_of
from models.fairshare.proofs.prices import proof_of
from models.fairshare.proofs.schema import Bad, Piece, Price, Round, Worth
from models.fairshare.proofs.verify import hedged_speed, proved_slack
from models.fairshare.schema import Plan, Policy, Problem, Share
from models.fairshare.verify import verify
from models.program import Floats
from tests.models.fairshare_problems import BUDGETED, random_problem


@dataclass(frozen=True)
class Rows:
    """All columns of a problem written out: per column its gangs' use of everything. Independent of ``Division``."""

    units: list[tuple[int, int, int]]  # job, other job or -1, way
    speeds: list[Floats]  # of each point of the robust set: (jobs, columns), of one copy
    limits: Floats
    bounds: Floats


def rows_of(problem: Problem) -> Rows:
    market = market_of(problem)
    jobs, ways = market.jobs, market.ways
    units = [(job, -1, way) for way in range(ways.alone) for job in np.flatnonzero(jobs.workload == ways.first[way]).tolist()]
    for way in range(ways.alone, ways.count):
        firsts, seconds = (np.flatnonzero(jobs.workload == one[way]).tolist() for one in (ways.first, ways.second))
        for one, other in itertools.product(firsts, seconds):
            twin = ways.first[way] == ways.second[way]
            if (one != other or jobs.copies[one] > 1) and not (twin and one > other):
                units.append((one, other, way))
    places = market.accelerators.count
    limits = np.zeros((jobs.count * 2 + places * 2, len(units)))
    for column, (one, other, way) in enumerate(units):
        place, gpus = int(ways.accelerator[way]), float(ways.gpus[way])
        for job in (one, other):
            if job >= 0:
                limits[job, column] += 1.0
                paid = gpus * market.accelerators.usd_per_hour[place] * (1.0 if other < 0 else 0.5)
                limits[jobs.count + job, column] += paid / jobs.copies[job]
        limits[2 * jobs.count + place, column] = gpus
        limits[2 * jobs.count + places + place, column] = gpus if ways.packed[way] else 0.0
    bounds = np.concatenate((jobs.copies, np.minimum(jobs.budget, 1e9), market.accelerators.count_gpus, market.accelerators.packed_gpus))
    return Rows(units, [_speeds(problem, units, factor) for factor in robust_points(problem)], limits, bounds)


def _speeds(problem: Problem, units: list[tuple[int, int, int]], factor: Floats) -> Floats:
    market = market_of(problem)
    jobs, ways = market.jobs, market.ways
    found = np.zeros((jobs.count, len(units)))
    for column, (one, other, way) in enumerate(units):
        place = int(ways.accelerator[way])
        found[one, column] += ways.first_speed[way] * factor[jobs.workload[one], place] / jobs.copies[one]
        if other >= 0:
            found[other, column] += ways.second_speed[way] * factor[jobs.workload[other], place] / jobs.copies[other]
    return found


def robust_points(problem: Problem) -> list[Floats]:
    """Factors of speeds at every corner of the robust set, each (workloads, accelerators)."""
    market = market_of(problem)
    if market.budget is None:
        return list(market.factors)
    found = [np.ones(market.workloads.slow_factor.shape)]
    for order in itertools.permutations(range(market.accelerators.count)):
        slow = np.zeros(market.accelerators.count)
        for rank, place in enumerate(order):
            slow[place] = min(1.0, max(0.0, market.budget - rank))
        found.append(1.0 - slow * (1.0 - market.workloads.slow_factor))
    return found


def highest_level(problem: Problem, rising: list[int], floors: Floats) -> tuple[float, Floats]:
    """The level to which ``rising`` jobs can rise together while all others keep ``floors`` (jobs,), and the duals of the rows of speed."""
    market, rows = market_of(problem), rows_of(problem)
    levels = job_levels(Policy.max_min_fair, market.jobs)
    each = levels.need(1.0)
    matrix, right = [np.hstack((rows.limits, np.zeros((len(rows.limits), 1))))], [rows.bounds]
    for speeds in rows.speeds:
        column = np.where(np.isin(np.arange(market.jobs.count), rising), each, 0.0)
        matrix.append(np.hstack((-speeds, column[:, None])))
        right.append(-np.where(column > 0, 0.0, floors))
    cost = np.zeros(len(rows.units) + 1)
    cost[-1] = -1.0
    found = linprog(cost, A_ub=np.vstack(matrix), b_ub=np.concatenate(right), method="highs")
    assert found.status == 0, found.message
    return -found.fun, -found.ineqlin.marginals


def any_round(problem: Problem, rng: np.random.Generator, settled: tuple[str, ...], level: float) -> Round:
    """A round with prices that nobody thought about."""
    market = market_of(problem)
    pieces = [
        tuple(
            Piece(threshold_steps_per_s=float(rng.choice((0.0, 0.5, 2.0, 4.0))), slope=float(rng.random()))
            for _ in range(rng.integers(1, 4))
        )
        for _ in range(market.workloads.count + market.jobs.count)
    ]
    bad_ids = market.scenario_ids or market.accelerators.ids
    bad = tuple(Bad(id=name, weight=float(rng.random())) for name in bad_ids if rng.random() < 0.5)
    worths = [
        Worth(workload=name, pieces=pieces[place], time_price=float(rng.random() * rng.integers(0, 2)), bad=bad)
        for place, name in enumerate(market.workloads.ids)
        if rng.random() < 0.7
    ]
    worths += [
        Worth(job=name, pieces=pieces[-1 - place], budget_price=float(rng.random() * rng.integers(0, 2)), bad=bad)
        for place, name in enumerate(market.jobs.ids)
        if rng.random() < 0.6
    ]
    prices = tuple(
        Price(accelerator=name, price=float(rng.random()), packed_price=float(rng.random() * rng.integers(0, 2)))
        for name in market.accelerators.ids
    )
    return Round(level=level, settled=settled, prices=prices, worths=tuple(worths))


@pytest.mark.parametrize("seed", range(40))
def test_no_division_is_worth_more_than_any_proof_says(seed: int) -> None:
    """Maximise the worth with slopes at random points: its maximum is at most what a proof says, whatever its prices are."""
    problem = random_problem(seed, BUDGETED[seed % 3])
    market, rows, rng = market_of(problem), rows_of(problem), np.random.default_rng(seed)
    proof = proof_of(problem, any_round(problem, rng, (market.jobs.ids[0],), 0.0).model_copy(update={"priority": -1000}))
    assert not isinstance(proof, str)
    for _ in range(6):
        direction = rng.random(market.jobs.count) * market.jobs.copies
        found = linprog(-direction @ rows.speeds[0], A_ub=rows.limits, b_ub=rows.bounds, method="highs")
        speed = np.min([speeds @ found.x for speeds in rows.speeds], axis=0)
        assert market.jobs.copies @ proof.worth(proof.group, np.maximum(speed, 0.0))[0] <= proof.most * (1 + 1e-7) + 1e-7


@pytest.mark.parametrize("seed", range(50))
def test_the_slack_covers_what_a_linear_program_finds(seed: int) -> None:
    """Whatever a round's prices are, its settled jobs cannot rise together beyond the slack."""
    problem = random_problem(seed, Policy.max_min_fair)
    market, rng = market_of(problem), np.random.default_rng(seed)
    plan = heuristic(problem)
    assert plan is not None
    speed = division_of(problem, plan).judged
    levels = job_levels(problem.policy, market.jobs)
    own = np.flatnonzero(market.jobs.priority == market.jobs.classes[0])
    settled = [job for job in own.tolist() if rng.random() < 0.6] or own.tolist()[:1]
    level = float(levels.of(speed)[settled].min())
    one = any_round(problem, rng, tuple(market.jobs.ids[job] for job in settled), level)
    one = one.model_copy(update={"priority": market.jobs.classes[0]})
    verdict = verify(problem, plan.model_copy(update={"rounds": (one,)}))
    assert verdict.ok, verdict.violations
    floors = np.where(np.isin(np.arange(market.jobs.count), own), np.minimum(speed, levels.need(level)), 0.0)
    highest, _ = highest_level(problem, settled, floors)
    name = next(iter(name for name in verdict.objectives if name.startswith("fair_slack")))
    worst = max((highest - attained) / max(attained, 0.01) for attained in levels.of(speed)[settled].tolist())
    assert verdict.objectives[name] >= worst * (1 - 1e-6) - 1e-6
    assert verdict.metrics["rise_alone"] >= verdict.objectives[name] * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_the_duals_of_a_level_prove_it(seed: int) -> None:
    """The first level's linear program, with its duals as the proof: the jobs that hold it cannot rise."""
    problem = random_problem(seed, Policy.max_min_fair, plain=True)
    market, rows = market_of(problem), rows_of(problem)
    jobs = market.jobs
    highest, duals = highest_level(problem, list(range(jobs.count)), np.zeros(jobs.count))
    time, _, gpus, packed, slopes = np.split(
        duals, np.cumsum([jobs.count, jobs.count, market.accelerators.count, market.accelerators.count])
    )
    settled = tuple(name for name, slope in zip(jobs.ids, slopes.tolist(), strict=True) if slope > 1e-7)
    worths = tuple(
        Worth(job=name, pieces=(Piece(slope=slope / copies),), time_price=price)
        for name, slope, copies, price in zip(jobs.ids, slopes.tolist(), jobs.copies.tolist(), time.tolist(), strict=True)
    )
    prices = tuple(
        Price(accelerator=name, price=price, packed_price=more)
        for name, price, more in zip(market.accelerators.ids, gpus.tolist(), packed.tolist(), strict=True)
    )
    levels = job_levels(problem.policy, jobs)
    floors = levels.need(highest * (1 - 1e-9))
    found = linprog(
        np.ones(len(rows.units)),
        A_ub=np.vstack((rows.limits, -rows.speeds[0])),
        b_ub=np.concatenate((rows.bounds, -floors)),
        method="highs",
    )
    shares = tuple(
        Share(
            jobs=(jobs.ids[one],) if other < 0 else (jobs.ids[one], jobs.ids[other]),
            accelerator=market.accelerators.ids[int(market.ways.accelerator[way])],
            spread=bool(market.ways.spread[way]),
            gangs=max(0.0, gangs),
        )
        for (one, other, way), gangs in zip(rows.units, found.x.tolist(), strict=True)
    )
    rounds = (Round(level=highest * (1 - 1e-8), settled=settled, prices=prices, worths=worths),)
    verdict = verify(problem, Plan(shares=shares, rounds=rounds))
    assert verdict.ok, verdict.violations
    assert verdict.objectives["fair_share"] == pytest.approx(highest, rel=1e-6)
    again = verify(problem.model_copy(), Plan(shares=shares, rounds=rounds))
    assert again == verdict
    assert slack_of(problem, verdict, Plan(shares=shares, rounds=rounds), settled) <= 1e-5


def slack_of(problem: Problem, verdict: Verdict, plan: Plan, settled: tuple[str, ...]) -> float:
    """The largest slack among ``settled`` jobs."""
    jobs = market_of(problem).jobs
    slack = proved_slack(problem, plan, division_of(problem, plan).judged, Broken())
    assert slack.together.max() == pytest.approx(verdict.objectives["fair_slack"])
    return float(max(slack.together[jobs.at[name]] for name in settled))


def can_all_have(rows: Rows, speeds_needed: Floats) -> bool:
    """Whether some division gives every job its speed, at every point of the robust set."""
    matrix = np.vstack((rows.limits, *(-speeds for speeds in rows.speeds)))
    right = np.concatenate((rows.bounds, *(-speeds_needed for _ in rows.speeds)))
    return bool(linprog(np.zeros(len(rows.units)), A_ub=matrix, b_ub=right, method="highs").status == 0)


@pytest.mark.parametrize("seed", range(40))
def test_the_slack_covers_what_bisection_finds(seed: int) -> None:
    """The same for levels that are no line: makespans and ratios of finish times, by asking whether a level can be had."""
    problem = random_problem(seed, BUDGETED[1 + seed % 2])
    market, rng = market_of(problem), np.random.default_rng(seed)
    plan = heuristic(problem)
    assert plan is not None
    speed = division_of(problem, plan).judged
    levels, rows = job_levels(problem.policy, market.jobs), rows_of(problem)
    own = market.jobs.priority == market.jobs.classes[0]
    settled = [job for job in np.flatnonzero(own).tolist() if rng.random() < 0.6] or np.flatnonzero(own).tolist()[:1]
    level = float(levels.of(speed)[settled].min())
    one = any_round(problem, rng, tuple(market.jobs.ids[job] for job in settled), levels.told(level))
    verdict = verify(problem, plan.model_copy(update={"rounds": (one.model_copy(update={"priority": market.jobs.classes[0]}),)}))
    assert verdict.ok, verdict.violations
    floors = np.where(own, np.minimum(speed, levels.need(level)), 0.0)
    rising = np.isin(np.arange(market.jobs.count), settled)
    low, high = level, level * 64.0 + 1.0
    for _ in range(24):
        middle = (low + high) / 2.0
        needed = np.where(rising, levels.need(middle), floors)
        low, high = (middle, high) if np.isfinite(needed).all() and can_all_have(rows, needed * (1 - 1e-9)) else (low, middle)
    slack = next(value for name, value in verdict.objectives.items() if name.startswith("fair_slack"))
    attained = levels.of(speed)[settled]
    usual = np.maximum(attained, 0.01 * levels.of(market.jobs.equal)[settled])
    assert slack >= float(((low - attained) / usual).max()) * (1 - 1e-6) - 1e-6


@pytest.mark.parametrize("seed", range(40))
def test_the_slack_of_a_tenants_round_covers_what_a_linear_program_finds(seed: int) -> None:
    """From 0, every job rises at its tenant's rate; how far those that settle could still rise while the others are where they are."""
    problem = random_problem(seed, Policy.hierarchical, plain=True)
    market, rng, rows = market_of(problem), np.random.default_rng(seed), rows_of(problem)
    plan = heuristic(problem)
    assert plan is not None
    jobs, speed = market.jobs, division_of(problem, plan).judged
    steep = starting_rates(problem) * jobs.par
    rising = np.flatnonzero(steep > 0).tolist()
    level = float((speed[rising] / steep[rising]).min())
    settled = [job for job in rising if rng.random() < 0.6] or rising[:1]
    one = any_round(problem, rng, tuple(jobs.ids[job] for job in settled), level)
    verdict = verify(problem, plan.model_copy(update={"rounds": (one,)}))
    assert verdict.ok, verdict.violations
    low, high = level, level * 64.0 + 1.0
    for _ in range(24):
        middle = (low + high) / 2.0
        needed = steep * np.where(np.isin(np.arange(jobs.count), settled), middle, level)
        low, high = (middle, high) if can_all_have(rows, needed * (1 - 1e-9)) else (low, middle)
    worst = float(((steep * low - speed) / np.maximum(speed, 0.01 * jobs.equal))[settled].max())
    assert verdict.objectives["fair_slack"] >= worst * (1 - 1e-6) - 1e-6


@pytest.mark.parametrize("seed", range(40))
def test_the_best_worst_speed_is_that_of_a_linear_program(seed: int) -> None:
    """One job that spreads its time over three accelerators, of which as many are slow as the budget allows."""
    rng = np.random.default_rng(seed)
    speed, slow = rng.choice((1.0, 2.0, 3.0, 5.0), 3), rng.choice((0.2, 0.5, 0.9, 1.0), 3)
    budget = float(rng.choice((0.0, 0.5, 1.0, 1.7, 3.0)))
    rows = []
    for order in itertools.permutations(range(3)):
        part = np.zeros(3)
        part[list(order)] = np.clip(budget - np.arange(3), 0.0, 1.0)
        rows.append(np.append(-speed * (1.0 - part * (1.0 - slow)), 1.0))
    matrix = np.vstack((*rows, (1.0, 1.0, 1.0, 0.0)))
    found = linprog((0.0, 0.0, 0.0, -1.0), A_ub=matrix, b_ub=[0.0] * len(rows) + [1.0], method="highs")
    assert hedged_speed(speed[None, :], slow[None, :], budget)[0] == pytest.approx(-found.fun)
