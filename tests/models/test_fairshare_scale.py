"""Symmetry in fairshare: the threshold condition, dealing out, what a class's time is worth, and searches on larger instances."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from models.fairshare.columns.dealing import matched, matched_within, windows
from models.fairshare.columns.dealt_twice import traded
from models.fairshare.columns.thresholds import excess
from models.fairshare.schema import Plan, Problem
from models.fairshare.sums.inner import best_logarithms, best_sum
from models.fairshare.verify import verify
from optimizer.limits import Limits
from optimizer.result import Outcome, Result
from optimizer.solve import solve

Vector = np.ndarray[Any, np.dtype[np.float64]]
TIMES = st.lists(st.tuples(st.sampled_from([0.1, 0.5, 1.0, 1.7, 3.0]), st.sampled_from([1.0, 2.0, 2.5, 4.0, 7.0])), min_size=1, max_size=5)
NEEDS = st.lists(st.tuples(st.sampled_from([1.0, 2.0]), st.sampled_from([0.0, 0.3, 1.0, 2.0, 2.2, 3.5, 6.0, 7.0])), min_size=1, max_size=5)


def gets(amounts: Vector, pace: Vector, copies: Vector, needs: Vector) -> bool:
    """Whether every job can have its speed: a linear program with a column for each job and unit."""
    jobs, units = len(copies), len(amounts)
    rows, sides = [], []
    for job in range(jobs):
        mine = np.zeros((jobs, units))
        mine[job] = 1.0
        rows += [mine.ravel(), -(mine * pace).ravel()]
        sides += [copies[job], -copies[job] * needs[job]]
    for unit in range(units):
        mine = np.zeros((jobs, units))
        mine[:, unit] = 1.0
        rows.append(mine.ravel())
        sides.append(amounts[unit])
    return bool(linprog(np.zeros(jobs * units), A_ub=np.array(rows), b_ub=np.array(sides)).status == 0)


@settings(max_examples=150, deadline=None)
@given(TIMES, NEEDS)
def test_the_threshold_condition_is_exact(times: list[tuple[float, float]], wanted: list[tuple[float, float]]) -> None:
    amounts, pace = np.array(times).T
    copies, needs = np.array(wanted).T
    thresholds = np.concatenate(([0.0], pace))
    room = excess(pace, amounts, thresholds) - excess(needs, copies, thresholds)
    if abs(float(room.min())) < 1e-6 and float(room.min()) < 0.0:
        return  # on the edge, where a solver's tolerance decides
    assert (float(room.min()) >= -1e-12) == gets(amounts, pace, copies, needs)


@settings(max_examples=200, deadline=None)
@given(TIMES, NEEDS, st.floats(0.5, 1.0), st.randoms(use_true_random=False))
def test_dealing_out_gives_everyone_what_is_needed(
    times: list[tuple[float, float]], wanted: list[tuple[float, float]], part: float, rng: random.Random
) -> None:
    amounts, pace = np.array(times).T
    copies, needs = np.array(wanted).T
    thresholds = np.concatenate(([0.0], pace))
    if needs.max() <= 0.0:
        return
    low, high = 0.0, 20.0
    for _ in range(60):  # the largest multiple of the needs that meets the condition
        middle = 0.5 * (low + high)
        fits = (excess(pace, amounts, thresholds) >= excess(middle * needs, copies, thresholds)).all()
        low, high = (middle, high) if fits else (low, middle)
    needs = needs * low * rng.choice([1.0, part])
    order = list(range(len(copies)))
    rng.shuffle(order)
    pieces = windows(amounts, pace, order, copies[order].tolist(), needs[order].tolist())
    speed, time, used = np.zeros(len(copies)), np.zeros(len(copies)), np.zeros(len(amounts))
    for job, unit, spent in pieces:
        assert spent > 0.0
        speed[job] += spent * pace[unit] / copies[job]
        time[job] += spent
        used[unit] += spent
    assert (speed >= needs - 1e-7 * max(1.0, float(needs.max()))).all()
    assert (time <= copies + 1e-9).all()
    assert (used <= amounts + 1e-9).all()
    assert len(pieces) <= 2 * len(copies) + len(amounts)


@settings(max_examples=100, deadline=None)
@given(TIMES, NEEDS)
def test_company_that_nobody_needs_is_kept(times: list[tuple[float, float]], wanted: list[tuple[float, float]]) -> None:
    amounts, pace = np.array(times).T
    copies = np.array([one for one, _ in wanted])
    whole = np.ones(len(amounts), dtype=np.bool_)
    pieces = windows(amounts, pace, list(range(len(copies))), copies.tolist(), [0.0] * len(copies), whole)
    time = np.zeros(len(copies))
    for job, _, spent in pieces:
        time[job] += spent
    assert (time <= copies + 1e-9).all()
    assert time.sum() == pytest.approx(min(float(amounts.sum()), float(copies.sum())))


def test_pairs_are_matched_without_loss() -> None:
    found = matched([(0, 0.5), (1, 1.0)], [(5, 0.25), (6, 1.25)])
    assert found == [(0, 5, 0.25), (0, 6, 0.25), (1, 6, 1.0)]
    single = np.ones(3, dtype=np.int64)
    pairs, lost = matched_within([(0, 0.6), (1, 0.9), (2, 0.5)], single)
    assert lost == 0.0
    assert all(one != other for one, other, _ in pairs)
    assert sum(time for _, _, time in pairs) == pytest.approx(1.0)
    pairs, lost = matched_within([(0, 1.0), (1, 0.5)], single)
    assert lost == pytest.approx(0.25)  # job 0 has more than half: a part of it finds no partner
    pairs, lost = matched_within([(0, 2.0)], np.zeros(1, dtype=np.int64))
    assert pairs == [(0, 0, 1.0)]


@settings(max_examples=60, deadline=None)
@given(TIMES, st.lists(st.tuples(st.sampled_from([1.0, 2.0]), st.sampled_from([0.5, 1.0, 1.5, 3.0])), min_size=1, max_size=4))
def test_what_time_is_worth(times: list[tuple[float, float]], jobs: list[tuple[float, float]]) -> None:
    amounts, pace = np.array(times).T
    copies, worth = np.array(jobs).T
    count, units = len(copies), len(amounts)
    upper = np.vstack((np.kron(np.eye(count), np.ones(units)), np.kron(np.ones(count), np.eye(units))))
    sides = np.concatenate((copies, amounts))
    gain = np.outer(worth, pace).ravel()
    best = -linprog(-gain, A_ub=upper, b_ub=sides).fun
    inner = best_sum(amounts, pace, copies, worth)
    assert inner.value == pytest.approx(best, abs=1e-7)
    assert float(copies @ (worth * inner.speeds)) == pytest.approx(best, abs=1e-7)
    assert inner.constant + float(inner.gain @ amounts) == pytest.approx(best, abs=1e-7)

    def bad(values: Vector) -> float:
        speeds = (values.reshape(count, units) @ pace) / copies
        return -float((copies * worth) @ np.log(np.maximum(speeds, 1e-9)))

    start = np.minimum(np.tile(amounts, count) / count, np.repeat(copies, units) / units).ravel() * 0.9
    found = minimize(
        bad,
        start,
        method="SLSQP",
        bounds=[(0.0, None)] * len(start),
        constraints={"type": "ineq", "fun": lambda values: sides - upper @ values},
        options={"maxiter": 300, "ftol": 1e-12},
    )
    logarithms = best_logarithms(amounts, pace, copies, worth, 1.0)
    assert logarithms is not None
    assert logarithms.value >= -float(found.fun) - 1e-6 * max(1.0, abs(found.fun))  # scipy's own constraints are as loose
    thresholds = np.concatenate(([0.0], pace))
    short = excess(logarithms.speeds, copies, thresholds) - excess(pace, amounts, thresholds)
    assert float(short.max()) <= 1e-9 * max(1.0, float((copies * logarithms.speeds).sum()))
    other = np.array([0.7, 1.3, 0.2, 2.0, 1.0])[:units] * amounts
    elsewhere = best_logarithms(other, pace, copies, worth, 1.0)
    assert elsewhere is not None
    assert elsewhere.value <= logarithms.constant + float(logarithms.gain @ other) + 1e-9


def mix(seed: int, jobs: int, policy: str, *, twins: bool = False) -> Problem:
    """Unlike jobs of few workloads on three types of GPU, with pairs; ``twins``: all jobs of a workload are alike."""
    rng = random.Random(f"{seed} {jobs}")
    places = ("k80", "p100", "v100")
    base = [rng.uniform(1.0, 50.0) for _ in range(4)]
    ratio = [[1.0, rng.uniform(1.5, 4.0), rng.uniform(3.0, 10.0)] for _ in base]
    pairs = []
    for one in range(4):
        for other in range(one, 4):
            for place, name in enumerate(places):
                kept = rng.uniform(0.4, 0.8), rng.uniform(0.4, 0.8)
                first = base[one] * ratio[one][place] * kept[0]
                second = first if one == other else base[other] * ratio[other][place] * kept[1]
                pairs.append(
                    {
                        "accelerator": name,
                        "first": f"w{one}",
                        "second": f"w{other}",
                        "first_steps_per_s": first,
                        "second_steps_per_s": second,
                    }
                )
    unlike = [1.0 if twins else rng.uniform(1.0, 5.0) for _ in range(jobs)]
    given = {
        "policy": policy,
        "now_s": 1e4,
        "accelerators": [{"id": name, "count": max(1, jobs // 5), "usd_per_hour": 1.0 + place} for place, name in enumerate(places)],
        "workloads": [
            {"id": f"w{one}", "speeds": [{"accelerator": n, "steps_per_s": base[one] * ratio[one][p]} for p, n in enumerate(places)]}
            for one in range(4)
        ],
        "pairs": pairs,
        "job_table": {
            "workload": [f"w{one % 4}" for one in range(jobs)],
            "weight": unlike,
            "remaining_steps": [base[one % 4] * 1e4 * unlike[one] for one in range(jobs)],
            "arrival_s": [0.0 if twins else rng.uniform(0.0, 1e4) for _ in range(jobs)],
        },
    }
    if policy == "least_cost":
        given["least_share"] = 0.3
        given["job_table"]["deadline_s"] = [1e4 + 2.5e5 if one % 2 else None for one in range(jobs)]  # type: ignore[index]
    return Problem.model_validate(given)


def answered(problem: Problem) -> Result:
    result = solve(problem, Limits(time_limit_s=60, gap=1e-6, threads=1), isolate=False)
    assert result.failure is None, result.failure
    assert isinstance(result.plan, Plan)
    assert verify(problem, result.plan).ok
    assert result.outcome is Outcome.optimal, result.certificate
    return result


POLICIES = ("max_min_fair", "finish_time_fair", "makespan", "throughput", "least_cost", "proportional_fair", "hierarchical")


@pytest.mark.parametrize("policy", POLICIES)
def test_unlike_jobs_are_solved_to_the_end(policy: str) -> None:
    result = answered(mix(1, 120, policy))
    assert result.certificate is not None
    assert all(goal.gap <= 1e-6 for goal in result.certificate.goals)


def least_level(problem: Problem) -> float:
    """The largest smallest share by a program with a column for each job and way, pairs of jobs as sums over workloads."""
    from models.fairshare.market import market_of

    market = market_of(problem)
    ways, jobs = market.ways, market.jobs
    columns: list[tuple[int, int]] = []  # way, job or -1 (the pair itself)
    for way in range(ways.count):
        if ways.second[way] < 0:
            columns += [(way, job) for job in np.flatnonzero(jobs.workload == ways.first[way]).tolist()]
        else:
            columns.append((way, -1))
            both = jobs.workload == ways.first[way]
            both |= jobs.workload == ways.second[way]
            columns += [(way, job) for job in np.flatnonzero(both).tolist()]
    size, places = len(columns) + 1, market.accelerators.count
    upper = np.zeros((places + 2 * jobs.count, size))
    equal: list[Vector] = []
    links: dict[tuple[int, int], Vector] = {}
    for at, (way, job) in enumerate(columns):
        if ways.second[way] < 0 or job < 0:
            upper[ways.accelerator[way], at] = ways.gpus[way]
        if job < 0:
            continue
        upper[places + job, at] = 1.0
        workload = int(jobs.workload[job])
        speed = ways.first_speed[way] if workload == ways.first[way] else ways.second_speed[way]
        upper[places + jobs.count + job, at] = -speed
        if ways.second[way] >= 0:
            links.setdefault((way, workload), np.zeros(size))[at] = 1.0
    for at, (way, job) in enumerate(columns):
        if job < 0:
            twins = ways.first[way] == ways.second[way]
            for workload in {int(ways.first[way]), int(ways.second[way])}:
                links[way, workload][at] = -2.0 if twins else -1.0
    equal = list(links.values())
    upper[places + jobs.count :, -1] = jobs.weight * jobs.par
    sides = np.concatenate((market.accelerators.count_gpus, np.ones(jobs.count), np.zeros(jobs.count)))
    cost = np.zeros(size)
    cost[-1] = -1.0
    found = linprog(cost, A_ub=upper, b_ub=sides, A_eq=np.array(equal).reshape(-1, size), b_eq=np.zeros(len(equal)))
    return -float(found.fun)


@pytest.mark.parametrize("twins", [False, True])
def test_classes_lose_nothing(*, twins: bool) -> None:
    problem = mix(2, 24, "max_min_fair", twins=twins)
    result = answered(problem)
    assert result.verdict is not None
    assert result.verdict.objectives["fair_share"] == pytest.approx(least_level(problem), rel=1e-6)
    assert result.verdict.objectives["fair_slack"] <= 1e-6


def test_no_symmetry_at_all() -> None:
    rng = random.Random(5)
    jobs = 300
    problem = Problem.model_validate(
        {
            "accelerators": [{"id": f"a{place}", "count": jobs // 12} for place in range(6)],
            "workload_table": {
                "id": [f"w{one}" for one in range(jobs)],
                "speeds": [{"accelerator": f"a{place}", "steps_per_s": [rng.uniform(1.0, 9.0) for _ in range(jobs)]} for place in range(6)],
            },
            "job_table": {"workload": [f"w{one}" for one in range(jobs)], "weight": [rng.uniform(1.0, 4.0) for _ in range(jobs)]},
        }
    )
    result = answered(problem)
    assert result.verdict is not None
    assert result.verdict.objectives["fair_share"] == pytest.approx(least_level(problem), rel=1e-6)


def test_the_published_instance() -> None:
    from benchmarks.fairshare import PUBLISHED, counted, pop

    for problem in (pop(), counted()):
        result = answered(problem)
        assert result.verdict is not None
        assert result.verdict.objectives["fair_share"] == pytest.approx(PUBLISHED, abs=1e-6)
        assert result.verdict.objectives["fair_slack"] <= 1e-6


def test_a_trade_leaves_speeds_as_they_are() -> None:
    pace, paired = np.array([4.0, 3.0, 1.0]), np.array([False, True, False])
    pieces = [(0, 1, 0.8), (0, 2, 0.2), (1, 0, 0.4), (1, 2, 0.5), (2, 2, 1.0)]
    copies = dict.fromkeys(range(3), 1.0)
    made = traded(pieces, paired, pace, copies)
    speed, time, used = np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3))
    for row, some in enumerate((pieces, made)):
        for job, unit, spent in some:
            speed[row, job] += spent * pace[unit]
            time[row, job] += spent
            used[row, unit] += spent
    assert speed[1] == pytest.approx(speed[0])
    assert (time[1] <= 1.0 + 1e-9).all()
    assert (used[1] <= used[0] + 1e-9).all()
    assert max(spent for _, unit, spent in made if unit == 1) == pytest.approx(0.4)


@pytest.mark.parametrize("policy", ["max_min_fair", "hierarchical"])
def test_bounds_and_plans_come_before_the_last_level(policy: str) -> None:
    from models.conversation import Offered, Proved
    from models.fairshare.scale import converse
    from optimizer.conversation import Solvers
    from optimizer.limits import Deadline

    problem = mix(3, 60, policy)
    limits = Limits(time_limit_s=60, threads=1)
    solvers = Solvers(limits, Deadline.after(60), None)
    steps, answer, seen = converse(problem, None, 0, 60.0, 1e-6), None, []
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            break
        answer = None
        if isinstance(step, Proved | Offered):
            seen.append(step)
        else:
            answer = solvers.solve(step) if type(step).__name__ == "Solve" else solvers.again(step)  # type: ignore[arg-type]
    plans = [step for step in seen if isinstance(step, Offered)]
    plans = [*(step for step in plans if step.phase == "first level"), plans[-1]]
    bounds = [step.bound for step in seen if isinstance(step, Proved) and step.goal == "fair_share"]
    first, last = (verify(problem, step.plan).objectives["fair_share"] for step in (plans[0], plans[-1]))
    assert first == pytest.approx(last, rel=1e-7)
    assert min(bounds) == pytest.approx(last, rel=1e-7)
