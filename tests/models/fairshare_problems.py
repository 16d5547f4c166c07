"""Small problems of sharing GPU time for tests: random ones with a seed, and some that are solved by hand."""

from __future__ import annotations

import random

from models.fairshare.proofs.schema import Piece, Price, Round, Worth
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
    Speed,
    Tenant,
    Workload,
)

POLICIES = tuple(Policy)
BUDGETED = (Policy.max_min_fair, Policy.finish_time_fair, Policy.makespan)


def random_problem(seed: int, policy: Policy | None = None, *, plain: bool = False) -> Problem:
    """A small problem in which everything occurs now and then; ``plain`` leaves out priorities, robustness, budgets and packing."""
    draw = random.Random(seed)
    chosen = policy if policy is not None else draw.choice(POLICIES)
    accelerators = tuple(_accelerator(draw, number, plain=plain) for number in range(draw.randint(1, 3)))
    workloads = tuple(_workload(draw, number, accelerators) for number in range(draw.randint(1, 3)))
    tenants = tuple(
        Tenant(id=f"t{number}", weight=draw.choice((1.0, 2.0, 0.5)), within=draw.choice(("fair", "fifo")))
        for number in range(draw.randint(1, 2) if chosen == "hierarchical" else 0)
    )
    several = not plain and draw.random() < 0.25
    return Problem(
        policy=chosen,
        now_s=100.0,
        accelerators=accelerators,
        workloads=workloads,
        pairs=_pairs(draw, accelerators, workloads),
        tenants=tenants,
        jobs=tuple(_job(draw, number, (chosen, plain, several), workloads, tenants) for number in range(draw.randint(1, 4))),
        share_gpus=draw.random() < 0.9,
        least_share=draw.choice((0.0, 0.3, 0.8)) if chosen == "least_cost" else 0.0,
        robust=None if plain else _robust(draw, chosen, accelerators, workloads),
    )


def _accelerator(draw: random.Random, number: int, *, plain: bool) -> Accelerator:
    count = draw.choice((2, 3, 4, 8))
    packed = None if plain else draw.choice((None, None, None, 2, 0))
    return Accelerator(id=f"a{number}", count=count, usd_per_hour=draw.choice((0.5, 1.0, 3.0)), packed_gpus=packed)


def _workload(draw: random.Random, number: int, accelerators: tuple[Accelerator, ...]) -> Workload:
    gpus = draw.choice((1, 1, 1, 2))
    on = draw.sample(accelerators, draw.randint(1, len(accelerators)))
    speeds = []
    for accelerator in on:
        speed = draw.choice((1.0, 2.0, 5.0, 7.5))
        spread = speed * draw.choice((0.5, 0.8)) if gpus > 1 and (accelerator.packed_gpus is not None or draw.random() < 0.5) else None
        slow = speed * draw.choice((0.4, 0.9)) if draw.random() < 0.6 else None
        speeds.append(Speed(accelerator=accelerator.id, steps_per_s=speed, slow_steps_per_s=slow, spread_steps_per_s=spread))
    return Workload(id=f"w{number}", gpus=gpus, speeds=tuple(speeds))


def _pairs(draw: random.Random, accelerators: tuple[Accelerator, ...], workloads: tuple[Workload, ...]) -> tuple[PairSpeed, ...]:
    found = []
    for accelerator in accelerators:
        for place, first in enumerate(workloads):
            for second in workloads[place:]:
                speeds = [{one.accelerator: one.steps_per_s for one in each.speeds}.get(accelerator.id) for each in (first, second)]
                if first.gpus != second.gpus or None in speeds or draw.random() < 0.5:
                    continue
                parts = [speed * draw.choice((0.4, 0.6, 0.9)) for speed in speeds if speed is not None]
                if first is second:
                    parts[1] = parts[0]
                found.append(
                    PairSpeed(
                        accelerator=accelerator.id,
                        first=first.id,
                        second=second.id,
                        first_steps_per_s=parts[0],
                        second_steps_per_s=parts[1],
                    )
                )
    return tuple(found)


def _job(
    draw: random.Random,
    number: int,
    setting: tuple[Policy, bool, bool],
    workloads: tuple[Workload, ...],
    tenants: tuple[Tenant, ...],
) -> Job:
    policy, plain, several = setting
    remaining = draw.choice((100.0, 400.0, 1500.0))
    due = policy == "least_cost" and draw.random() < 0.6
    return Job(
        id=f"j{number}",
        workload=draw.choice(workloads).id,
        count=draw.choice((1, 1, 1, 2, 3)),
        weight=draw.choice((1.0, 1.0, 2.0, 0.7)),
        tenant=draw.choice((None, *(tenant.id for tenant in tenants))),
        priority=draw.choice((0, 5)) if several else 0,
        remaining_steps=remaining,
        total_steps=remaining * draw.choice((1.0, 1.5)),
        arrival_s=draw.choice((0.0, 60.0, 100.0)),
        deadline_s=100.0 + remaining * draw.choice((1.5, 4.0)) if due else None,
        budget_usd_per_hour=None if plain else draw.choice((None, None, None, 1.5)),
    )


def _robust(draw: random.Random, policy: Policy, accelerators: tuple[Accelerator, ...], workloads: tuple[Workload, ...]) -> Robust | None:
    if draw.random() < 0.7:
        return None
    slow = any(one.slow_steps_per_s is not None and one.slow_steps_per_s < one.steps_per_s for each in workloads for one in each.speeds)
    if policy in BUDGETED and slow and draw.random() < 0.5:
        return Robust(budget=draw.choice((0.5, 1.0, 2.0)))
    if policy in (Policy.proportional_fair, Policy.hierarchical):
        return None
    return Robust(
        scenarios=(
            Scenario(id="usual"),
            Scenario(id="bad", factors=(Factor(accelerator=accelerators[0].id, factor=0.5), Factor(workload=workloads[0].id, factor=0.9))),
        )
    )


# ---------------------------------------------------------------- by hand


def two_by_two(policy: Policy = Policy.max_min_fair) -> Problem:
    """Two jobs on two GPUs: a runs at 4 and 1 steps/s, b at 3 and 2. Equal split gives both 2.5."""
    return Problem(
        policy=policy,
        accelerators=(Accelerator(id="fast", count=1, usd_per_hour=3.0), Accelerator(id="slow", count=1, usd_per_hour=1.0)),
        workloads=(
            Workload(id="a", speeds=(Speed(accelerator="fast", steps_per_s=4.0), Speed(accelerator="slow", steps_per_s=1.0))),
            Workload(id="b", speeds=(Speed(accelerator="fast", steps_per_s=3.0), Speed(accelerator="slow", steps_per_s=2.0))),
        ),
        jobs=(Job(id="a", workload="a", remaining_steps=300.0), Job(id="b", workload="b", remaining_steps=200.0)),
    )


def halves(part: float = 0.5) -> Plan:
    """``part`` of the fast GPU to a, the rest to b, and the slow one the other way round."""
    parts = (("a", "fast", part), ("b", "fast", 1.0 - part), ("a", "slow", 1.0 - part), ("b", "slow", part))
    return Plan(shares=tuple(Share(jobs=(job,), accelerator=place, gangs=gangs) for job, place, gangs in parts if gangs > 0.0))


def proved_halves(level: float = 1.0) -> Plan:
    """``halves`` with the duals of its level: w = (0.1, 0.3), y = (0.3, 0), z = (0.1, 0.6); they prove 0.3 + 0.1 + 0.6 = 1."""
    proof = Round(
        level=level,
        settled=("a", "b"),
        prices=(Price(accelerator="fast", price=0.3),),
        worths=(
            Worth(job="a", pieces=(Piece(slope=0.1),), time_price=0.1),
            Worth(job="b", pieces=(Piece(slope=0.3),), time_price=0.6),
        ),
    )
    return halves().model_copy(update={"rounds": (proof,)})
