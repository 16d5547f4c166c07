"""Why GPU time is shared as it is, what one more GPU is worth, and what is in conflict when nothing fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from models.fairshare import explain as words
from models.fairshare import formulation
from models.fairshare.examples import examples
from models.fairshare.goals import goals
from models.fairshare.market import market_of
from models.fairshare.plans.division import division_of
from models.fairshare.proofs.worth import gpu_worth, stands
from models.fairshare.schema import Accelerator, Job, Plan, Policy, Problem, Rule, Share, Speed, Tenant, Workload
from optimizer.compile import compile_model
from optimizer.diagnose import diagnose
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from tests.models.fairshare_random import changed, plan_of, problem, solved
from tests.oracles.fairshare import Infeasible, Oracle

if TYPE_CHECKING:
    from models.contract import Reason
    from optimizer.result import Conflict

HOUR = 3600.0
CODES = {"why_not", "would_place", "displaces", "binding", "moved", "evicted", "summary"}


def pool(policy: str = "max_min_fair", **parts: Any) -> Problem:
    """Two fast and two slow GPUs; 'quick' gains four times from the fast ones, 'calm' nothing."""
    return Problem.model_validate(
        {
            "policy": policy,
            "accelerators": [{"id": "fast", "count": 2, "usd_per_hour": 3.0}, {"id": "slow", "count": 2, "usd_per_hour": 1.0}],
            "workloads": [
                {"id": "quick", "speeds": [{"accelerator": "fast", "steps_per_s": 8.0}, {"accelerator": "slow", "steps_per_s": 2.0}]},
                {"id": "calm", "speeds": [{"accelerator": "fast", "steps_per_s": 5.0}, {"accelerator": "slow", "steps_per_s": 5.0}]},
            ],
            "jobs": [{"id": "q", "workload": "quick", "count": 3}, {"id": "c", "workload": "calm", "count": 3}],
            **parts,
        }
    )


def told(given: Problem, plan: Plan, subject: str | None = None) -> tuple[Reason, ...]:
    found = words.explain(given, plan, subject)
    known = {*words.subjects(given, plan)}
    citable = {rule.value for rule in Rule} | {goal.name for goal in goals(given)}
    for one in found:
        assert one.code in CODES
        assert one.rule in citable
        assert set(one.ids) <= known
        assert one.subject in {*known, ""}
        assert one.text.endswith(".")
    return found


def texts(given: Problem, subject: str | None = None) -> str:
    return " ".join(one.text for one in told(given, plan_of(solved(given)), subject))


def test_the_summary_tells_the_goals_and_who_is_below_equal_split() -> None:
    text = texts(pool())
    assert "The plan attains fair_share" in text
    assert "(equal split: 0.666667)" in text
    assert "of 4 GPUs are in use; of 6 jobs 0 get less than under equal split" in text


def test_one_more_gpu_is_worth_at_most_what_a_program_says() -> None:
    """Against the program with one more GPU, and equal splits as they were."""
    given = pool()
    plan = plan_of(solved(given))
    worth = gpu_worth(given, plan)
    assert worth is not None
    level = Oracle(given).answer().goals["fair_share"]
    for place, name in enumerate(market_of(given).accelerators.ids):
        oracle = Oracle(given)
        more = [(sums, value + (1.0 if number == place else 0.0)) for number, (sums, value) in enumerate(oracle.limits)]
        oracle.limits = more
        gained = oracle.answer().goals["fair_share"] - level
        assert gained <= worth[place] + 1e-6
        text = texts(given, name)
        assert "One more " in text
        assert "of 'fast' are in use" in text or name == "slow"
    assert worth.max() > 0.0


@pytest.mark.parametrize("policy", ["max_min_fair", "makespan", "finish_time_fair", "hierarchical"])
@pytest.mark.parametrize("seed", range(4))
def test_no_gpu_is_worth_more_than_it_is_said_to_be(policy: str, seed: int) -> None:
    given = problem(seed + 900, policy)
    result = solved(given)
    plan = plan_of(result)
    told(given, plan)
    worth = gpu_worth(given, plan)
    if worth is None:
        return
    first = goals(given)[0]
    best = Oracle(given).answer().goals[first.name]
    accelerators = market_of(given).accelerators
    for place in range(accelerators.count):
        oracle = Oracle(given)
        on = [number for number, (sums, value) in enumerate(oracle.limits) if _is_capacity(oracle, sums, place)]
        oracle.limits = [(sums, value + (1.0 if number in on else 0.0)) for number, (sums, value) in enumerate(oracle.limits)]
        gained = abs(oracle.answer().goals[first.name] - best)
        assert gained <= worth[place] + 1e-6 * max(1.0, best)


def _is_capacity(oracle: Oracle, sums: Any, place: int) -> bool:
    """Whether a limit of the oracle is of GPUs, or packed GPUs, of an accelerator: it names gangs there only, each by its GPUs."""
    named = [column for column, factor in zip(oracle.columns, sums, strict=True) if factor]
    gpus = all(factor == column.gpus for column, factor in zip(oracle.columns, sums, strict=True) if factor)
    first = next(number for number, (limit, _) in enumerate(oracle.limits) if limit is sums)
    rows_of_accelerators = sum(1 + (one.packed_gpus is not None) for one in oracle.problem.accelerators)
    return first < rows_of_accelerators and bool(named) and gpus and all(column.accelerator == place for column in named)


def test_a_job_hears_where_it_runs_and_what_keeps_it_there() -> None:
    given = pool("throughput")
    plan = Plan(shares=(Share(jobs=("q",), accelerator="fast", gangs=2.0), Share(jobs=("c",), accelerator="slow", gangs=2.0)))
    found = told(given, plan, "q")
    assert any("steps/s" in one.text and "on 0.6667 GPUs of 'fast'" in one.text for one in found)
    assert any("No GPU is left of 'fast', 'slow', where it can run." in one.text for one in found)
    given = pool("throughput", jobs=[{"id": "q", "workload": "quick"}, {"id": "c", "workload": "calm", "count": 5}])
    plan = Plan(shares=(Share(jobs=("q",), accelerator="fast", gangs=1.0), Share(jobs=("c",), accelerator="slow", gangs=2.0)))
    found = told(given, plan, "q")
    assert any("steps/s" in one.text and "under equal split" in one.text for one in found)
    assert any(one.rule == Rule.job_time and "nothing could give it more" in one.text and one.status == "proved" for one in found)


def test_who_would_lose_is_proved() -> None:
    given = pool()
    plan = plan_of(solved(given))
    jobs = market_of(given).jobs
    firm = stands(given, plan, division_of(given, plan).judged)
    for name in jobs.ids:
        losers = [one for one in told(given, plan, name) if one.code == "displaces"]
        for one in losers:
            assert one.status == ("proved" if firm[jobs.at[name]] else "heuristic")
            assert name in one.ids
    assert any(one.code == "displaces" for name in jobs.ids for one in told(given, plan, name))


def test_a_spent_budget_is_told() -> None:
    given = pool("throughput", jobs=[{"id": "q", "workload": "quick", "budget_usd_per_hour": 0.5}, {"id": "c", "workload": "calm"}])
    plan = Plan(shares=(Share(jobs=("q",), accelerator="fast", gangs=1 / 6), Share(jobs=("c",), accelerator="slow", gangs=1.0)))
    found = told(given, plan, "q")
    assert any(one.rule == Rule.job_budget and "spends all of its budget, 0.5 USD per hour" in one.text for one in found)
    assert any(one.code == "why_not" and "73.3% less than under equal split" in one.text for one in found)


def test_deadlines_at_risk_are_told_by_how_much() -> None:
    jobs = [
        {"id": "q", "workload": "quick", "remaining_steps": 8 * HOUR, "deadline_s": 2 * HOUR},
        {"id": "c", "workload": "calm", "remaining_steps": 5 * HOUR, "deadline_s": HOUR / 2},
    ]
    given = pool("throughput", jobs=jobs)
    plan = Plan(shares=(Share(jobs=("q",), accelerator="fast", gangs=1.0), Share(jobs=("c",), accelerator="slow", gangs=1.0)))
    early, late = (next(one for one in told(given, plan, name) if one.rule == Rule.deadline) for name in "qc")
    assert early.text == "At this speed it is done in 1 h, 1 h before its deadline."
    assert late.text.startswith("At this speed it is done 1800 s too late: its deadline is in 1800 s and needs 10 steps/s.")
    assert late.text.endswith("The policy throughput keeps no deadlines.")
    nothing = Plan(shares=(Share(jobs=("q",), accelerator="fast", gangs=1.0),))
    assert any("done never" in one.text for one in told(given, nothing, "c"))
    assert any(one.rule == Rule.deadline and one.code == "why_not" for one in told(given, nothing))


def test_tenants_are_subjects() -> None:
    given = pool(
        "hierarchical",
        tenants=[{"id": "lab", "within": "fifo"}, {"id": "none"}],
        jobs=[{"id": "q", "workload": "quick", "count": 3, "tenant": "lab"}, {"id": "c", "workload": "calm", "tenant": "lab"}],
    )
    plan = plan_of(solved(given))
    (found,) = told(given, plan, "lab")
    assert found.text.startswith("Its 4 jobs hold ")
    assert found.text.endswith("They are served one after another.")
    assert told(given, plan, "none")[0].text == "It has no jobs here."


def test_a_plan_that_breaks_a_rule_is_not_explained() -> None:
    (found,) = words.explain(pool(), Plan(shares=(Share(jobs=("q",), accelerator="fast", gangs=2.5),)))
    assert found.rule == Rule.accelerator_capacity
    assert "2.5 GPUs of 'fast' are in use, and there are 2" in found.text


def test_who_is_unknown_is_refused() -> None:
    with pytest.raises(KeyError, match="'nobody' is no accelerator, job or tenant of this problem"):
        words.explain(pool(), Plan(), "nobody")


def test_jobs_with_the_same_reasons_are_grouped() -> None:
    jobs = [{"id": name, "workload": workload} for name, workload in (("q1", "quick"), ("q2", "quick"), ("c", "calm"))]
    given = pool("throughput", jobs=jobs)
    assert words.alike(given, Plan()) == (("q1", "q2"), ("c",))


def test_every_example_is_explained() -> None:
    for given in examples().values():
        plan = plan_of(solved(given))
        told(given, plan)
        for subject in words.subjects(given, plan):
            assert told(given, plan, subject)


# ---------------------------------------------------------------- conflicts


def conflict(given: Problem) -> Conflict | None:
    """As ``optimizer.strategy`` asks for it."""
    program = compile_model(formulation.build(given, hasten=False)).program
    rules = {rule.value for rule in Rule}
    return diagnose(
        program,
        HighsBackend(),
        Limits(time_limit_s=10),
        units=words.rule_units(),
        keep=frozenset(block.name for block in program.row_blocks if block.name not in rules),
        firm=words.FIRM_RULES,
        cut=words.CUT_COLUMNS,
        wording=lambda one: words.repair_in(given, one.name, one.ids, one.amount, too_few=one.too_few),
    )


def due(count: int = 2, **parts: Any) -> Problem:
    return Problem(
        policy=Policy.least_cost,
        accelerators=(Accelerator(id="v100", count=count, usd_per_hour=2.0),),
        workloads=(Workload(id="w", speeds=(Speed(accelerator="v100", steps_per_s=1.0),)),),
        **parts,
    )


def test_too_many_deadlines_for_the_gpus() -> None:
    """Four jobs of an hour's work within the hour need four GPUs; a deadline an hour later frees as much."""
    given = due(jobs=tuple(Job(id=f"j{place}", workload="w", remaining_steps=HOUR, deadline_s=HOUR) for place in range(4)))
    found = conflict(given)
    assert found is not None
    assert found.status == "proved"
    assert {rule for rule, _ in found.rules} == {"accelerator_capacity", "deadline"}
    assert len(found.rules) == 4  # the GPUs and three of the jobs
    assert found.repairs in {
        ("accelerator 'v100': 2 more GPUs, it has 2 (2 are missing on average)",),
        *(
            (f"job 'j{one}': no deadline, it gets nothing otherwise", f"job 'j{other}': no deadline, it gets nothing otherwise")
            for one in range(4)
            for other in range(one + 1, 4)
        ),
    }


def test_a_deadline_too_soon_for_one_job() -> None:
    """Firm: no job has more than all of its time, so it is the deadline that moves, from 1 h to 4 h."""
    given = due(jobs=(Job(id="j7", workload="w", remaining_steps=4 * HOUR, deadline_s=HOUR),), count=8)
    found = conflict(given)
    assert found is not None
    assert found.rules == (("job_time", ("j7",)), ("deadline", ("j7",)))
    assert found.repairs == ("job 'j7': a deadline 3 h later",)


def test_a_least_share_that_a_budget_cannot_pay() -> None:
    given = due(least_share=1.0, jobs=(Job(id="rich", workload="w"), Job(id="poor", workload="w", budget_usd_per_hour=0.5)))
    found = conflict(given)
    assert found is not None
    assert set(found.rules) == {("job_budget", ("poor",)), ("least_share", ("poor",))}
    assert found.repairs in {
        ("job 'poor': raise its budget from 0.5 by 1.5 USD/h",),
        ("least_share: at most 0.25 in place of 1, for job 'poor'",),
    }


def test_a_solve_tells_the_conflict() -> None:
    given = due(jobs=(Job(id="j7", workload="w", remaining_steps=4 * HOUR, deadline_s=HOUR),))
    result = solved(given)
    assert result.outcome == "infeasible"
    assert result.conflict is not None
    assert result.conflict.repairs == ("job 'j7': a deadline 3 h later",)


@pytest.mark.parametrize("seed", range(60))
def test_repairs_that_say_later_or_more_make_it_possible(seed: int) -> None:
    """What a repair says is done, and a division exists."""
    given = problem(seed, "least_cost", robust="scenarios" if seed % 2 else "")
    found = conflict(given)
    if found is None:
        Oracle(given).answer()
        return
    assert found.status == "proved"
    with pytest.raises(Infeasible):
        Oracle(given).answer()
    jobs = [job.model_dump(mode="json") for job in given.jobs]
    accelerators = [one.model_dump(mode="json") for one in given.accelerators]
    least = given.least_share
    for repair in found.repairs:
        name = repair.split("'")[1]
        job = next((one for one in jobs if one["id"] == name), {})
        if "no deadline" in repair:
            job["deadline_s"] = job["deadline_s"] + 1e9
        elif "a deadline" in repair:
            amount, unit = repair.split("a deadline ")[1].split()[:2]
            job["deadline_s"] += float(amount) * {"s": 1.0, "h": HOUR, "days": 24 * HOUR}[unit]
        elif "budget" in repair:
            job["budget_usd_per_hour"] += float(repair.split(" by ")[1].split()[0])
        elif "least_share" in repair:
            least = min(least, float(repair.split("at most ")[1].split()[0]))
        else:
            one = next(one for one in accelerators if one["id"] == name)
            one["count"] += int(repair.split(": ")[1].split()[0])
    Oracle(changed(given, jobs=jobs, accelerators=accelerators, least_share=least)).answer()


def test_repairs_in_words() -> None:
    given = pool("least_cost", jobs=[{"id": "q", "workload": "quick", "remaining_steps": 100.0, "deadline_s": 100.0}])
    assert words.repair_text("accelerator_capacity", ("fast",), 1.5) == "accelerator 'fast': 1.5 more GPUs"
    assert words.repair_text("goal_floor", (), 1.5) == "goal_floor: 1.5 short"
    assert (
        words.repair_in(given, "packed_capacity", ("fast",), 1.5, too_few=False)
        == "accelerator 'fast': 2 more GPUs in whole blocks, where 2 stand so"
    )
    assert words.repair_in(given, "deadline", ("q",), 0.5, too_few=True) == "job 'q': a deadline 100 s later"
    assert words.repair_in(given, "job_time", ("q",), 0.5, too_few=False) == "job 'q': it would have to run 0.5 gangs more than there are"
    assert set(words.rule_units()) == {rule.value for rule in Rule}


def test_tenants_need_no_policy() -> None:
    given = pool(tenants=[Tenant(id="lab").model_dump()], jobs=[{"id": "q", "workload": "quick", "tenant": "lab"}])
    assert told(given, Plan(), "lab")
