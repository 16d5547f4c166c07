"""Small problems to start from: they are printed by ``quartermaster example fairshare NAME``."""

from __future__ import annotations

from models.fairshare.schema import (
    Accelerator,
    Factor,
    Job,
    PairSpeed,
    Policy,
    Problem,
    Robust,
    Scenario,
    Speed,
    Tenant,
    Workload,
)


def examples() -> dict[str, Problem]:
    """Every example by name; the first is the usual one."""
    return {"cluster": cluster(), "tenants": tenants(), "deadlines": deadlines(), "robust": robust()}


def cluster() -> Problem:
    """Three sorts of jobs on two sorts of GPU, with pairs that share a GPU."""
    return Problem(
        accelerators=_accelerators(),
        workloads=_workloads(),
        pairs=(
            PairSpeed(accelerator="h200", first="vision", second="ranking", first_steps_per_s=16.0, second_steps_per_s=18.0),
            PairSpeed(accelerator="l4", first="ranking", second="ranking", first_steps_per_s=13.0, second_steps_per_s=13.0),
        ),
        jobs=(
            Job(id="chat", workload="language", weight=2.0, remaining_steps=400_000.0),
            Job(id="code", workload="language", remaining_steps=100_000.0),
            Job(id="photos", workload="vision", count=4, remaining_steps=300_000.0),
            Job(id="clicks", workload="ranking", count=5, remaining_steps=500_000.0),
        ),
    )


def tenants() -> Problem:
    """Two tenants, one of whom works its jobs off one after another, and a job of nobody's."""
    return Problem(
        policy=Policy.hierarchical,
        now_s=3600.0,
        accelerators=_accelerators(),
        workloads=_workloads(),
        tenants=(Tenant(id="research", weight=2.0), Tenant(id="product", weight=3.0, within="fifo")),
        jobs=(
            Job(id="pretrain", workload="language", tenant="research", weight=3.0),
            Job(id="ablation", workload="vision", tenant="research", count=4),
            Job(id="nightly", workload="ranking", tenant="product", count=6, arrival_s=600.0),
            Job(id="hotfix", workload="ranking", tenant="product", arrival_s=3000.0),
            Job(id="demo", workload="vision"),
        ),
    )


def deadlines() -> Problem:
    """Work that is due at different times, at the least cost; a job without a deadline keeps half of its equal split."""
    return Problem(
        policy=Policy.least_cost,
        accelerators=_accelerators(),
        workloads=_workloads(),
        jobs=(
            Job(id="chat", workload="language", remaining_steps=200_000.0, deadline_s=36_000.0),
            Job(id="photos", workload="vision", count=2, remaining_steps=400_000.0, deadline_s=43_200.0),
            Job(id="clicks", workload="ranking", count=3, remaining_steps=500_000.0, deadline_s=36_000.0, budget_usd_per_hour=2.0),
            Job(id="study", workload="vision"),
        ),
        least_share=0.5,
    )


def robust() -> Problem:
    """The shortest makespan when predicted speeds may fail: the worst of three ways in which they turn out."""
    return Problem(
        policy=Policy.makespan,
        accelerators=_accelerators(),
        workloads=_workloads(),
        jobs=(
            Job(id="chat", workload="language", remaining_steps=100_000.0),
            Job(id="photos", workload="vision", count=3, remaining_steps=300_000.0),
            Job(id="clicks", workload="ranking", count=4, remaining_steps=500_000.0),
        ),
        robust=Robust(
            scenarios=(
                Scenario(id="as predicted"),
                Scenario(id="hot summer", factors=(Factor(accelerator="h200", factor=0.8),)),
                Scenario(id="slow input", factors=(Factor(workload="vision", factor=0.7),)),
            )
        ),
    )


def _accelerators() -> tuple[Accelerator, ...]:
    return (Accelerator(id="h200", count=4, usd_per_hour=4.0), Accelerator(id="l4", count=8, usd_per_hour=0.8, packed_gpus=4))


def _workloads() -> tuple[Workload, ...]:
    on_h200, on_l4 = Speed(accelerator="h200", steps_per_s=8.0), Speed(accelerator="l4", steps_per_s=1.0, spread_steps_per_s=0.6)
    return (
        Workload(id="language", gpus=2, speeds=(on_h200, on_l4)),
        Workload(id="vision", speeds=(Speed(accelerator="h200", steps_per_s=20.0), Speed(accelerator="l4", steps_per_s=8.0))),
        Workload(id="ranking", speeds=(Speed(accelerator="h200", steps_per_s=30.0), Speed(accelerator="l4", steps_per_s=20.0))),
    )
