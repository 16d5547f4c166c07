"""What ``verify`` says of a division: by hand, against linear programs of scipy, and that it notices every broken rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import linprog

from models.contract import ContradictionError
from models.fairshare.heuristic import heuristic
from models.fairshare.market import market_of
from models.fairshare.plans.division import division_of
from models.fairshare.plans.envy import envious_jobs
from models.fairshare.plans.equal_split import equal_division
from models.fairshare.proofs.schema import Piece, Price, Round, SlopeTable, Worth
from models.fairshare.schema import (
    Accelerator,
    Factor,
    Job,
    PairSpeed,
    Plan,
    Policy,
    Problem,
    Robust,
    Scenario,
    Share,
    ShareTable,
    Speed,
    Tenant,
    Workload,
)
from models.fairshare.verify import verify
from tests.models.fairshare_problems import halves, proved_halves, random_problem, two_by_two


def objectives(problem: Problem, plan: Plan) -> dict[str, float]:
    verdict = verify(problem, plan)
    assert verdict.ok, verdict.violations
    return verdict.objectives


def broken(problem: Problem, plan: Plan) -> set[str]:
    return {violation.rule for violation in verify(problem, plan).violations}


def share(job: str, place: str, gangs: float, *, beside: str | None = None, spread: bool = False) -> Share:
    return Share(jobs=(job,) if beside is None else (job, beside), accelerator=place, gangs=gangs, spread=spread)


# ---------------------------------------------------------------- values by hand


def test_max_min_by_hand() -> None:
    """Both get 4/2 + 1/2 = 3/2 + 2/2 = 2.5, their speed under equal split; the duals prove that both cannot have more."""
    values = objectives(two_by_two(), proved_halves())
    assert values["fair_share"] == pytest.approx(1.0)
    assert values["fair_slack"] == pytest.approx(0.0, abs=1e-12)


def test_without_a_proof_the_slack_is_that_of_a_cluster_of_ones_own() -> None:
    """Alone, a could run at 4 and b at 3 steps/s, both have 2.5."""
    assert objectives(two_by_two(), halves())["fair_slack"] == pytest.approx(4.0 / 2.5 - 1.0)


def test_makespan_by_hand() -> None:
    """a: 300 / 2.5 = 120 s, b: 200 / 2.5 = 80 s. With x of the fast GPU to a, 300 (3 - x) = 200 (1 + 3 x) at x = 7/9: 90 s."""
    problem = two_by_two(Policy.makespan)
    assert objectives(problem, halves())["makespan"] == pytest.approx(120.0)
    best = halves(7.0 / 9.0)
    proof = Round(  # the same prices as of max_min_fair, as both jobs again have both GPUs
        level=90.0,
        settled=("a", "b"),
        prices=(Price(accelerator="fast", price=0.3),),
        worths=(
            Worth(job="a", pieces=(Piece(slope=0.1),), time_price=0.1),
            Worth(job="b", pieces=(Piece(slope=0.3),), time_price=0.6),
        ),
    )
    values = objectives(problem, best.model_copy(update={"rounds": (proof,)}))
    assert values["makespan"] == pytest.approx(90.0)
    assert values["fair_slack"] == pytest.approx(0.0, abs=1e-9)


def test_finish_time_by_hand() -> None:
    """Job a has been there for 60 s, so that its ratio at 2.5 steps/s is (60 + 120) / (450 / 2.5 = 180) = 1; b's is 80 / 80."""
    problem = two_by_two(Policy.finish_time_fair)
    jobs = (problem.jobs[0].model_copy(update={"arrival_s": -60.0, "total_steps": 450.0}), problem.jobs[1])
    problem = Problem.model_validate(problem.model_copy(update={"jobs": jobs}).model_dump())
    values = objectives(problem, proved_halves())
    assert values["finish_time_ratio"] == pytest.approx(1.0)
    assert values["fair_slack"] == pytest.approx(0.0, abs=1e-9)
    assert objectives(problem, halves(0.0))["finish_time_ratio"] == pytest.approx((60.0 + 300.0 / 1.0) / 180.0)


def test_who_gets_nothing_never_ends() -> None:
    problem = two_by_two(Policy.makespan)
    assert objectives(problem, Plan())["makespan"] == 1e12
    assert objectives(two_by_two(Policy.finish_time_fair), Plan())["finish_time_ratio"] == 1e12
    assert objectives(two_by_two(Policy.proportional_fair), Plan())["geometric_mean"] == 0.0


def test_nash_by_hand() -> None:
    """(1 + 3x)(3 - x) is largest at x = 4/3, so at x = 1: speeds 4 and 2, shares 1.6 and 0.8."""
    problem = two_by_two(Policy.proportional_fair)
    assert objectives(problem, halves(1.0))["geometric_mean"] == pytest.approx(math.sqrt(1.6 * 0.8))
    assert objectives(problem, halves(0.9))["geometric_mean"] < math.sqrt(1.6 * 0.8)


def test_throughput_and_cost_by_hand() -> None:
    """At full speed a has 4 and b 3; the fast GPU costs 3, the slow one 1 USD/h."""
    assert objectives(two_by_two(Policy.throughput), halves(1.0))["throughput"] == pytest.approx(4 / 4 + 2 / 3)
    assert objectives(two_by_two(Policy.least_cost), halves(1.0))["cost"] == pytest.approx(4.0)
    assert objectives(two_by_two(Policy.least_cost), Plan(shares=(share("a", "fast", 0.5),)))["cost"] == pytest.approx(1.5)


def paired() -> Problem:
    """Two jobs of one workload and one of another on one GPU, which any two may share."""
    return Problem(
        accelerators=(Accelerator(id="gpu", count=1, usd_per_hour=2.0),),
        workloads=(
            Workload(id="u", speeds=(Speed(accelerator="gpu", steps_per_s=10.0),)),
            Workload(id="v", speeds=(Speed(accelerator="gpu", steps_per_s=20.0),)),
        ),
        pairs=(
            PairSpeed(accelerator="gpu", first="u", second="u", first_steps_per_s=6.0, second_steps_per_s=6.0),
            PairSpeed(accelerator="gpu", first="v", second="u", first_steps_per_s=12.0, second_steps_per_s=7.0),
        ),
        jobs=(Job(id="u", workload="u", count=2), Job(id="v", workload="v")),
    )


def test_pairs_by_hand() -> None:
    """Twins for half of the time, u beside v for the rest: each u gets (2 x 6/2 + 7/2) / 2, v gets 6; equal split a third of a share."""
    plan = Plan(shares=(share("u", "gpu", 0.5, beside="u"), share("u", "gpu", 0.5, beside="v")))
    division = division_of(paired(), plan)
    assert division.speed.tolist() == pytest.approx([4.75, 6.0])
    assert division.time.tolist() == pytest.approx([1.5, 0.5])
    assert division.gpus_used.tolist() == pytest.approx([1.0])
    assert division.spending.tolist() == pytest.approx([0.75, 0.5])  # USD/h of one copy: 2 x 0.75 GPUs / 2 copies, and 2 x 0.25
    assert objectives(paired(), plan)["fair_share"] == pytest.approx(0.9 / 3)


def test_a_table_says_the_same() -> None:
    table = ShareTable(first=("u", "v"), second=("u", "u"), accelerator=("gpu", "gpu"), gangs=(0.5, 0.5))
    plan = Plan(shares=(share("u", "gpu", 0.5, beside="u"), share("u", "gpu", 0.5, beside="v")))
    assert verify(paired(), Plan(share_table=table)) == verify(paired(), plan)


def test_priorities_have_goals_of_their_own() -> None:
    problem = two_by_two()
    jobs = (problem.jobs[0].model_copy(update={"priority": 7}), problem.jobs[1])
    problem = Problem.model_validate(problem.model_copy(update={"jobs": jobs}).model_dump())
    values = objectives(problem, halves(1.0))
    assert list(values) == ["fair_share[7]", "fair_slack[7]", "fair_share[0]", "fair_slack[0]"]
    assert (values["fair_share[7]"], values["fair_slack[7]"], values["fair_share[0]"]) == pytest.approx((1.6, 0.0, 0.8))


def test_a_lower_class_is_proved_with_the_higher_one_at_what_it_has() -> None:
    """Job b can have no more than the slow GPU, 2 steps/s, while a keeps the fast one."""
    problem = two_by_two()
    jobs = (problem.jobs[0].model_copy(update={"priority": 7}), problem.jobs[1])
    problem = Problem.model_validate(problem.model_copy(update={"jobs": jobs}).model_dump())
    worths = (  # fast: 4 w_a = y + z_a, 3 w_b = y + z_b; slow: w_a = z_a, 2 w_b = z_b with w_b = 1: y = 1, w_a = 1/3
        Worth(job="a", pieces=(Piece(slope=1 / 3),), time_price=1 / 3),
        Worth(job="b", pieces=(Piece(slope=1.0),), time_price=2.0),
    )
    proof = Round(level=0.8, settled=("b",), prices=(Price(accelerator="fast", price=1.0),), worths=worths)
    values = objectives(problem, halves(1.0).model_copy(update={"rounds": (proof,)}))
    assert values["fair_slack[0]"] == pytest.approx(0.0, abs=1e-9)


def test_thresholds_prove_a_class_of_unlike_jobs() -> None:
    """Three jobs of one workload on GPUs of 4, 2 and 1 steps/s. The two that weigh much share the better two, the third has the slow one.

    Each has 7/3 steps/s under equal split. Above 1 step/s there are 3 + 1 to share, so the two have 6 together; then the third has 1.
    """
    places = {"fast": 4.0, "middle": 2.0, "slow": 1.0}
    problem = Problem(
        accelerators=tuple(Accelerator(id=name, count=1) for name in places),
        workloads=(Workload(id="u", speeds=tuple(Speed(accelerator=name, steps_per_s=speed) for name, speed in places.items())),),
        jobs=(Job(id="a", workload="u", weight=3.0), Job(id="b", workload="u", weight=2.5), Job(id="c", workload="u", weight=0.2)),
    )
    level = 6.0 / (5.5 * 7 / 3)
    part = (3.0 * 7 / 3 * level - 2.0) / 2.0  # of the fast one for a
    plan = Plan(
        shares=(
            share("a", "fast", part),
            share("a", "middle", 1.0 - part),
            share("b", "fast", 1.0 - part),
            share("b", "middle", part),
            share("c", "slow", 1.0),
        ),
        rounds=(
            Round(
                level=level,
                settled=("a", "b"),
                prices=(Price(accelerator="fast", price=3.0), Price(accelerator="middle", price=1.0)),
                worths=(Worth(workload="u", pieces=(Piece(threshold_steps_per_s=1.0, slope=1.0),)),),
            ),
            Round(
                level=1.0 / (0.2 * 7 / 3),
                settled=("c",),
                prices=(Price(accelerator="fast", price=3.0), Price(accelerator="middle", price=1.0)),
                worths=(Worth(workload="u", pieces=(Piece(slope=1.0),)),),  # verify finds the time price of 1 by itself
            ),
        ),
    )
    values = objectives(problem, plan)
    assert values["fair_share"] == pytest.approx(level)
    assert values["fair_slack"] == pytest.approx(0.0, abs=1e-9)
    assert verify(problem, plan.model_copy(update={"rounds": plan.rounds[:1]})).objectives["fair_slack"] == pytest.approx(3.0)


def test_robust_by_hand() -> None:
    """With a budget of 1/2, a loses half of the larger loss: 0.5 x max(0.5 x 4 x 0.5, 0.5 x 1 x 0.1)."""
    problem = two_by_two()
    slow = Workload(
        id="a",
        speeds=(
            Speed(accelerator="fast", steps_per_s=4.0, slow_steps_per_s=2.0),
            Speed(accelerator="slow", steps_per_s=1.0, slow_steps_per_s=0.9),
        ),
    )
    content = problem.model_copy(update={"workloads": (slow, problem.workloads[1]), "robust": Robust(budget=0.5)})
    problem = Problem.model_validate(content.model_dump())
    assert division_of(problem, halves()).judged.tolist() == pytest.approx([2.5 - 0.5 * 1.0, 2.5])
    assert objectives(problem, halves())["fair_share"] == pytest.approx(0.8)


def test_the_worst_scenario_counts() -> None:
    problem = two_by_two(Policy.throughput)
    scenarios = (
        Scenario(id="heat", factors=(Factor(accelerator="fast", factor=0.5),)),
        Scenario(id="bug", factors=(Factor(workload="b", factor=0.5), Factor(accelerator="slow", factor=0.5))),
    )
    problem = Problem.model_validate(problem.model_copy(update={"robust": Robust(scenarios=scenarios)}).model_dump())
    assert objectives(problem, halves(1.0))["throughput"] == pytest.approx(min(2 / 4 + 2 / 3, 4 / 4 + 0.5 / 3))


def test_hierarchical_by_hand() -> None:
    """One GPU, 12 steps/s for all. Tenant t weighs 2 and has two jobs in a queue, the job alone weighs 1; a share of 1 is 12."""
    problem = Problem(
        policy=Policy.hierarchical,
        accelerators=(Accelerator(id="gpu", count=1),),
        workloads=(Workload(id="u", speeds=(Speed(accelerator="gpu", steps_per_s=12.0),)),),
        tenants=(Tenant(id="t", weight=2.0, within="fifo"),),
        jobs=(
            Job(id="late", workload="u", tenant="t", arrival_s=-1.0),
            Job(id="early", workload="u", tenant="t", arrival_s=-2.0),
            Job(id="alone", workload="u"),
        ),
    )
    plan = Plan(shares=(share("early", "gpu", 2 / 3), share("alone", "gpu", 1 / 3)))
    level = 8.0 / (2.0 * 12.0)
    proof = Round(
        level=level,
        settled=("early", "alone"),
        prices=(Price(accelerator="gpu", price=12.0),),
        worths=tuple(Worth(job=job.id, pieces=(Piece(slope=1.0),)) for job in problem.jobs),
    )
    later = proof.model_copy(update={"settled": ("late",)})
    values = objectives(problem, plan.model_copy(update={"rounds": (proof, later)}))
    assert values["fair_share"] == pytest.approx(1.0 / 3.0)
    assert values["fair_slack"] == pytest.approx(0.0, abs=1e-9)


def test_equal_split_is_the_baseline() -> None:
    verdict = verify(two_by_two(), halves(1.0))
    assert verdict.metrics["equal_split_fair_share"] == 1.0
    assert verdict.metrics["below_equal_split"] == 1.0
    assert verdict.metrics["smallest_share"] == pytest.approx(0.8)
    assert verify(two_by_two(Policy.makespan), halves()).metrics["equal_split_makespan"] == pytest.approx(120.0)
    assert verify(two_by_two(Policy.least_cost), Plan()).metrics["equal_split_cost"] == pytest.approx(4.0)


# ---------------------------------------------------------------- every rule is noticed


def strict() -> Problem:
    """Gangs of two GPUs on blocks for one gang, a budget and a deadline."""
    speeds = (Speed(accelerator="gpu", steps_per_s=4.0, spread_steps_per_s=3.0),)
    return Problem(
        policy=Policy.least_cost,
        accelerators=(Accelerator(id="gpu", count=6, packed_gpus=2, usd_per_hour=1.0), Accelerator(id="other", count=4)),
        workloads=(Workload(id="u", gpus=2, speeds=speeds),),
        jobs=(
            Job(id="due", workload="u", remaining_steps=300.0, deadline_s=100.0),
            Job(id="poor", workload="u", budget_usd_per_hour=1.0),
            Job(id="rest", workload="u"),
        ),
        least_share=0.5,
    )


def good() -> tuple[Share, ...]:
    return (
        share("due", "gpu", 1.0, spread=True),
        share("poor", "gpu", 0.5),
        share("rest", "gpu", 0.5),
        share("rest", "gpu", 0.5, spread=True),
    )


def test_a_right_plan_breaks_nothing() -> None:
    assert verify(strict(), Plan(shares=good())).ok


@pytest.mark.parametrize(
    ("rule", "shares"),
    [
        ("job_time", (*good(), share("due", "gpu", 0.1, spread=True))),
        ("accelerator_capacity", (*good()[:2], share("rest", "gpu", 2.0, spread=True))),
        ("packed_capacity", (*good(), share("due", "gpu", 0.3))),
        ("job_budget", (*good(), share("poor", "gpu", 0.01))),
        ("deadline", (share("due", "gpu", 0.9, spread=True), *good()[1:])),
        ("least_share", (good()[0], share("poor", "gpu", 0.4), *good()[2:])),
        ("runnable", (*good(), share("due", "other", 0.0))),
        ("runnable", (*good(), share("nobody", "gpu", 0.0))),
        ("runnable", (*good(), share("due", "nothing", 0.0))),
        ("runnable", (*good(), share("due", "gpu", 0.0, beside="rest"))),
    ],
)
def test_a_broken_rule_is_named(rule: str, shares: tuple[Share, ...]) -> None:
    assert rule in broken(strict(), Plan(shares=shares))


def test_a_job_makes_no_pair_with_itself() -> None:
    assert verify(paired(), Plan(shares=(share("u", "gpu", 1.0, beside="u"),))).ok
    problem = paired().model_copy(update={"jobs": (Job(id="u", workload="u"), Job(id="v", workload="v"))})
    assert broken(Problem.model_validate(problem.model_dump()), Plan(shares=(share("u", "gpu", 0.1, beside="u"),))) == {"runnable"}


@pytest.mark.parametrize(
    "change",
    [
        {"level": 1.01},
        {"priority": 3},
        {"settled": ("a", "a")},
        {"settled": ()},
        {"settled": ("nobody",)},
        {"prices": (Price(accelerator="nothing", price=1.0),)},
        {"worths": (Worth(job="nobody", pieces=(Piece(slope=1.0),)),)},
        {"worths": (Worth(workload="nobody", pieces=(Piece(slope=1.0),)),)},
        {"worths": (Worth(job="a", pieces=(Piece(slope=1.0),)),) * 2},
        {"slopes": SlopeTable(job=("nobody",), slope=(1.0,))},
    ],
)
def test_a_malformed_proof_is_refused(change: dict[str, object]) -> None:
    plan = proved_halves()
    assert broken(two_by_two(), plan.model_copy(update={"rounds": (plan.rounds[0].model_copy(update=change),)})) == {"fairness_proof"}


def test_plans_that_say_things_twice_are_refused() -> None:
    table = ShareTable(first=("a",), accelerator=("fast",), gangs=(0.5,))
    with pytest.raises(ValueError, match="keep one of the two"):
        Plan(shares=halves().shares, share_table=table)
    with pytest.raises(ValueError, match="equally long"):
        Plan(share_table=ShareTable(first=("a",), accelerator=("fast", "slow"), gangs=(0.5,)))
    with pytest.raises(ValueError, match="exactly one") as refused:
        Plan(rounds=(Round(level=1.0, settled=("a",), worths=(Worth(pieces=(Piece(slope=1.0),)),)),))
    assert isinstance(refused.value.errors()[0]["ctx"]["error"], ContradictionError)  # type: ignore[attr-defined]


# ---------------------------------------------------------------- envy


@pytest.mark.parametrize("seed", range(40))
def test_envy_against_a_linear_program(seed: int) -> None:
    problem = random_problem(seed, Policy.throughput)
    plan = heuristic(problem)
    assert plan is not None
    division = division_of(problem, plan)
    market, jobs = division.market, division.market.jobs
    for job in range(jobs.count):
        best = 0.0
        for other in range(jobs.count):
            scale = jobs.weight[job] / jobs.weight[other] / market.workloads.gpus[jobs.workload[job]]
            speed = market.workloads.usual[jobs.workload[job]]
            rows = np.vstack((np.eye(len(speed)), np.ones(len(speed))))
            limits = np.append(division.gpu_time[other] * scale, 1.0)
            best = max(best, -linprog(-speed, A_ub=rows, b_ub=limits, method="highs").fun)
        gain = best - division.speed[job]
        if abs(gain - 1e-6 * division.speed[job]) > 1e-7:  # not a matter of rounding
            assert bool(envious_jobs(division)[job]) == (gain > 1e-6 * division.speed[job])


@pytest.mark.parametrize("seed", range(30))
def test_nobody_envies_under_equal_split_of_one_gpu_jobs(seed: int) -> None:
    problem = random_problem(seed, Policy.proportional_fair, plain=True)
    alike = tuple(one.model_copy(update={"gpus": 1}) for one in problem.workloads)
    jobs = tuple(one.model_copy(update={"weight": 1.0}) for one in problem.jobs)
    content = problem.model_copy(update={"workloads": alike, "jobs": jobs, "pairs": ()}).model_dump()
    for workload in content["workloads"]:
        for speed in workload["speeds"]:
            speed["spread_steps_per_s"] = None
    problem = Problem.model_validate(content)
    everywhere = bool((market_of(problem).workloads.usual > 0).all())
    if everywhere:
        division = equal_division(problem)
        full = division.time >= division.market.jobs.copies * (1 - 1e-9)
        assert not envious_jobs(division)[~full].any()
