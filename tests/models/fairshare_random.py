"""Random small problems of sharing GPU time, the same for the same seed, and how tests solve them."""

from __future__ import annotations

import random
from typing import Any

from models.fairshare.plans.division import division_of
from models.fairshare.schema import Plan, Problem
from optimizer.limits import Limits
from optimizer.result import Result
from optimizer.solve import solve

FASTEST = 20.0
LARGEST, SMALLEST = 1e8, 5e-3
LIMITS = Limits(time_limit_s=20, gap=1e-7)


def solved(given: Problem) -> Result:
    """The answer, found in this process."""
    return solve(given, LIMITS, isolate=False)


def plan_of(result: Result) -> Plan:
    """The plan that there must be."""
    assert isinstance(result.plan, Plan), result.failure or result.message
    return result.plan


def goals_of(given: Problem) -> dict[str, float]:
    """The value of each goal at the optimum, where it was proved; nothing where no division exists."""
    result = solved(given)
    assert result.failure is None, result.failure
    if result.plan is None:
        assert result.outcome == "infeasible", result.message
        return {}
    assert result.verdict is not None
    assert result.outcome == "optimal", result.certificate
    return result.verdict.objectives


def tame(goals: dict[str, float]) -> dict[str, float]:
    """Goals as they can be compared: those of who gets nothing but rounding are large (times), or small (a mean of logarithms), at will."""
    return {name: 0.0 if name.startswith("geometric_mean") and value < SMALLEST else min(value, LARGEST) for name, value in goals.items()}


def shares(given: Problem) -> list[float]:
    """What each job gets of its equal split."""
    division = division_of(given, plan_of(solved(given)))
    found: list[float] = (division.judged / division.market.jobs.equal).tolist()
    return found


def changed(given: Problem, **parts: Any) -> Problem:
    """The problem with other parts, checked anew."""
    return Problem.model_validate({**given.model_dump(mode="json"), **parts})


def problem(seed: int, policy: str, *, classes: int = 1, robust: str = "", sizes: tuple[int, int] = (3, 4)) -> Problem:
    """A problem with up to ``sizes`` accelerators and jobs; ``robust`` is '', 'budget' or 'scenarios'.

    Speeds have few digits and are not all different, so that ties and degenerate corners occur.
    """
    rng = random.Random(f"{seed} {policy} {classes} {robust}")
    accelerators = [_accelerator(rng, place) for place in range(rng.randint(1, sizes[0]))]
    workloads = [_workload(rng, place, accelerators, slow=robust == "budget") for place in range(rng.randint(1, 3))]
    tenants = [{"id": f"t{place}", "weight": rng.choice([1.0, 2.0, 0.5]), "within": rng.choice(["fair", "fifo"])} for place in range(2)]
    jobs = [_job(rng, place, workloads, tenants if policy == "hierarchical" else [], classes) for place in range(rng.randint(1, sizes[1]))]
    made: dict[str, Any] = {
        "policy": policy,
        "now_s": 3600.0,
        "accelerators": accelerators,
        "workloads": workloads,
        "pairs": _pairs(rng, accelerators, workloads),
        "tenants": tenants,
        "jobs": jobs,
    }
    if policy == "least_cost":
        made["least_share"] = rng.choice([0.0, 0.25, 0.5])
    else:
        for job in jobs:
            job.pop("deadline_s", None)
    if robust:
        made["robust"] = (
            {"budget": rng.choice([0.0, 1.0, 2.0, 0.5, 1.5])} if robust == "budget" else _scenarios(rng, accelerators, workloads)
        )
    return Problem.model_validate(made)


def _accelerator(rng: random.Random, place: int) -> dict[str, Any]:
    count = rng.randint(2, 6)
    made: dict[str, Any] = {"id": f"a{place}", "count": count, "usd_per_hour": rng.choice([0.5, 1.0, 2.5, 4.0])}
    if rng.random() < 0.2:
        made["packed_gpus"] = rng.randint(2, count)
    return made


def _workload(rng: random.Random, place: int, accelerators: list[dict[str, Any]], *, slow: bool) -> dict[str, Any]:
    gpus = rng.choice([1, 1, 1, 2])
    listed = [one for number, one in enumerate(accelerators) if number == place % len(accelerators) or rng.random() < 0.7]
    speeds = []
    for number, one in enumerate(listed):
        speed: dict[str, Any] = {"accelerator": one["id"], "steps_per_s": rng.choice([1.0, 2.0, 4.0, 5.5, 9.0, FASTEST])}
        if gpus > 1 and rng.random() < 0.5:
            speed["spread_steps_per_s"] = speed["steps_per_s"] * rng.choice([0.5, 0.8, 1.0])
        if slow and (number == 0 or rng.random() < 0.8):
            speed["slow_steps_per_s"] = speed["steps_per_s"] * rng.choice([0.4, 0.7, 0.9])
        speeds.append(speed)
    return {"id": f"w{place}", "gpus": gpus, "speeds": speeds}


def _pairs(rng: random.Random, accelerators: list[dict[str, Any]], workloads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for place, first in enumerate(workloads):
        for second in workloads[place:]:
            for one in accelerators:
                alone = [each["steps_per_s"] for own in (first, second) for each in own["speeds"] if each["accelerator"] == one["id"]]
                if first["gpus"] != second["gpus"] or len(alone) < 2 or rng.random() < 0.5:
                    continue
                kept = [rng.choice([0.4, 0.6, 0.75, 0.9]) for _ in range(2)]
                made = {"accelerator": one["id"], "first": first["id"], "second": second["id"], "first_steps_per_s": alone[0] * kept[0]}
                found.append(made | {"second_steps_per_s": alone[1] * kept[0 if first is second else 1]})
    return found


def _job(rng: random.Random, place: int, workloads: list[dict[str, Any]], tenants: list[dict[str, Any]], classes: int) -> dict[str, Any]:
    total = rng.choice([1e4, 4e4, 2.5e5])
    made: dict[str, Any] = {
        "id": f"j{place}",
        "workload": rng.choice(workloads)["id"],
        "count": rng.choice([1, 1, 2, 3]),
        "weight": rng.choice([1.0, 1.0, 2.0, 0.5]),
        "priority": rng.randrange(classes),
        "total_steps": total,
        "remaining_steps": total * rng.choice([0.1, 0.5, 1.0]),
        "arrival_s": rng.choice([3600.0, 0.0, -7200.0]),
    }
    if rng.random() < 0.15:
        made["budget_usd_per_hour"] = rng.choice([0.3, 1.0, 2.0])
    if rng.random() < 0.4:
        made["deadline_s"] = 3600.0 + rng.choice([2e4, 6e4, 2e5])
    if tenants and rng.random() < 0.8:
        made["tenant"] = rng.choice(tenants)["id"]
    return made


def _scenarios(rng: random.Random, accelerators: list[dict[str, Any]], workloads: list[dict[str, Any]]) -> dict[str, Any]:
    def factor() -> dict[str, Any]:
        return {
            "workload": rng.choice([None, rng.choice(workloads)["id"]]),
            "accelerator": rng.choice([None, rng.choice(accelerators)["id"]]),
            "factor": rng.choice([0.3, 0.6, 0.8, 1.1]),
        }

    return {"scenarios": [{"id": f"s{number}", "factors": [factor() for _ in range(rng.randint(0, 2))]} for number in range(3)]}
