"""The words that explanations of a placement share: amounts, names, lists."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from models.placement.schema import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.placement.schema import Job

MOST_NAMES = 6  # names in one sentence; `ids` may hold more
MOST_IDS = 20  # ids of one reason

_UNITS: dict[Rule, str] = {
    Rule.node_cpu: "cores",
    Rule.node_memory: "GiB",
    Rule.node_gpus: "GPUs",
    Rule.gpu_share: "GPUs",
    Rule.gpu_memory: "GiB",
    Rule.gang: "workers",
    Rule.accepted_model: "workers",
    Rule.node_selector: "workers",
    Rule.drained: "workers",
    Rule.reserved: "workers",
    Rule.tenant_quota: "GPUs",
    Rule.colocation: "workers",
    Rule.spread: "workers",
    Rule.anti_affinity: "jobs",
    Rule.running_stays: "jobs",
    Rule.evictable: "jobs",
    Rule.move_budget: "jobs",
    Rule.eviction_budget: "jobs",
    Rule.power_cap: "kW",
    Rule.must_place: "jobs",
}


def rule_units() -> dict[str, str]:
    """The unit in which each rule's excess is told."""
    return {rule.value: unit for rule, unit in _UNITS.items()}


def amount(value: float) -> str:
    """A quantity: ``1,213``, ``0.5``; never more digits than matter."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.6g}"


def at_least(value: float) -> str:
    """As ``amount``, rounded up at the third decimal: what is told to be enough must be enough."""
    return amount(math.ceil(value * 1000 - 0.01) / 1000)


def many(count: float, noun: str) -> str:
    """``1 node``, ``12 nodes``."""
    return f"{amount(count)} {noun}" if count == 1 else f"{amount(count)} {noun}s"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``; of many only the first few."""
    if len(names) > MOST_NAMES:
        return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES:,} more"
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def gpus_of_worker(job: Job) -> str:
    """What one worker wants of GPUs: ``8 free GPUs``, ``a free share of 0.5 on one GPU``."""
    size = job.gpus_per_worker
    if size >= 1:
        return f"{amount(size)} free GPU{'s' if size > 1 else ''}"
    memory = f" with {amount(job.gpu_memory_gib)} GiB free" if job.gpu_memory_gib else ""
    return f"a free share of {amount(size)} on one GPU{memory}"


def workers_wanted(job: Job) -> str:
    """``8 workers``, or ``at least 2 of 8 workers``."""
    fewest = job.workers_min or job.workers
    return many(job.workers, "worker") if fewest == job.workers else f"at least {fewest} of {many(job.workers, 'worker')}"
