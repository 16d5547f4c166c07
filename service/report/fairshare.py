"""The drawing of a plan of shares: who gets how much beside equal split, how full accelerators are, levels, and the first leases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from models.fairshare.leases.book import LeaseBook, Terms
from models.fairshare.leases.targets import TooManyCopiesError, targets_of
from models.fairshare.plans.division import division_of
from models.fairshare.schema import Plan, Policy, Problem
from service.report.drawing import Drawing, Figure, Table
from service.report.wording import EXACT, count, number, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.fairshare.leases.book import Slot
    from models.fairshare.plans.division import Division
    from models.program import Floats
    from models.vocabulary import Document
    from optimizer.result import GoalCertificate

MOST_ROWS = 60
MOST_BARS = 30
MOST_LANES = 64  # GPUs whose leases are drawn
MOST_UNITS = 3_000  # of a plan whose leases are worked out for the page
LEASE_ROUNDS = 20
COLOURS = 12  # of the palette
NEAR = 1e-6  # a share this little below equal split is not below it
WIDTH, HEIGHT, LEFT, FOOT = 1160, 260, 64, 34

_PROVES = {  # what a bound proves, and what it proves when the plan attains it
    "fair_share": (
        "No division gives every job a share above {bound} for its weight; here every job has {objective} at least.",
        "Every job has a share of at least {objective} for its weight, and no division gives all of them more.",
    ),
    "first_share": (  # some tenants' jobs wait, or weights are below 1
        "No division gives every job that rises first a share above {bound} for its weight; here each of them has {objective} at least.",
        "Every job that rises first has a share of at least {objective} for its weight, and no division gives all of them more.",
    ),
    "makespan": (
        "No division finishes all jobs before {bound} s; this one does after {objective} s.",
        "All jobs are done after {objective} s, and no division is faster.",
    ),
    "finish_time_ratio": (
        "No division keeps every job's finish below {bound} times its finish on equal split; here the worst has {objective}.",
        "No job finishes later than {objective} times its finish on equal split, and no division does better for all.",
    ),
    "throughput": (
        "No division does the work of more than {bound} jobs at full speed; this one does that of {objective}.",
        "The cluster does the work of {objective} jobs at full speed, and no division does more.",
    ),
    "cost": (
        "No division keeps the deadlines for less than {bound} USD per hour; this one costs {objective}.",
        "This division costs {objective} USD per hour, and none that keeps the deadlines costs less.",
    ),
    "geometric_mean": (
        "No division has a mean share above {bound}; this one has {objective}.",
        "The geometric mean of all shares is {objective}, and no division has a larger one.",
    ),
}
_LEVELS = {
    Policy.max_min_fair: "share for its weight",
    Policy.makespan: "seconds until done",
    Policy.finish_time_fair: "times the finish on equal split",
    Policy.hierarchical: "how far those still rising have risen, for their weight",
}
_WORTH = {
    Policy.makespan: " s",
    Policy.least_cost: " USD/h",
    Policy.throughput: " jobs at full speed",
}  # unit of what one more GPU is worth


def sentence(goal: GoalCertificate, metrics: dict[str, float]) -> str | None:
    """What the bound of a goal proves; None where the page says it as well."""
    name, _, level = goal.name.partition("[")
    if name == "fair_slack":
        if goal.objective <= EXACT:
            return "No job's level can rise without a poorer job losing."
        return f"No job's level can rise by more than {percent(goal.objective)} without a poorer job losing."
    if name not in _PROVES:
        return None
    if name == "fair_share" and metrics.get("smallest_share", 0.0) < (1 - NEAR) * goal.objective:
        name = "first_share"
    told = _PROVES[name][abs(goal.objective - goal.bound) <= EXACT * max(1.0, abs(goal.objective))]
    of_class = f" This is about priority {level.rstrip(']')}." if level else ""
    return told.format(bound=number(goal.bound, 4), objective=number(goal.objective, 4)) + of_class


def draw(problem: Document, plan: Document, _before: Document | None) -> Drawing:
    """Jobs beside equal split, accelerators, the rounds of water-filling, and who has which GPU in the first rounds."""
    problem, plan = cast("Problem", problem), cast("Plan", plan)
    division = division_of(problem, plan)
    ratio = _ratio(division)
    bars = _jobs(division, ratio)
    values = {
        "jobs": bars[:MOST_BARS],
        "more": max(0, len(bars) - MOST_BARS),
        "robust": problem.robust is not None,
        "accelerators": _accelerators(problem, division, plan),
        "worth": any(price.price + price.packed_price > 0 for price in plan.prices),
        "levels": _levels(problem, plan, division),
        "timeline": _timeline(problem, plan),
        "tables": [table for table in (_tenants(problem, division, ratio), _table(division, ratio)) if table.rows],
    }
    return Drawing(figures=tuple(_figures(division, ratio)), template="fairshare.html.j2", values=values)


def _ratio(division: Division) -> Floats:
    """Each job's speed beside that of equal split, shape (jobs,): as a robust problem counts it. Rounded, so that equals stay in order."""
    return np.round(division.judged / division.market.jobs.equal, 9)


def _figures(division: Division, ratio: Floats) -> Iterator[Figure]:
    market = division.market
    copies, gpus = market.jobs.copies, float(market.accelerators.count_gpus.sum())
    below = int(copies[ratio < 1 - NEAR].sum())
    yield Figure("Jobs", f"{int(copies.sum()):,}", f"of {count(market.workloads.count, 'workload')}")
    yield Figure("Poorest job", f"{number(float(ratio.min()))} x", "its speed on equal split")
    yield Figure("Below equal split", f"{below:,}", "nobody loses by sharing" if not below else "less than with equal parts")
    yield Figure("GPUs busy", number(float(division.gpus_used.sum())), f"of {gpus:,.0f}")
    cost = float(division.spending @ copies)
    if cost > 0:
        yield Figure("Cost", number(cost), "USD per hour of the GPUs in use")


def _jobs(division: Division, ratio: Floats) -> list[dict[str, Any]]:
    """The poorest first; jobs of one workload that get the same are one bar. The scale ends at twice equal split or at the richest."""
    market = division.market
    alike: dict[tuple[float, int], list[int]] = {}
    for job in np.argsort(ratio, kind="stable").tolist():
        alike.setdefault((round(float(ratio[job]), 4), int(market.jobs.workload[job])), []).append(job)
    scale = max(2.0, float(ratio.max()))
    bars = []
    for (_, workload), jobs in sorted(alike.items()):
        copies, first = int(market.jobs.copies[jobs].sum()), jobs[0]
        bars.append(
            {
                "name": market.workloads.ids[workload] if len(jobs) > 1 else market.jobs.ids[first],
                "speed": f"{number(float(division.judged[first]))} steps/s" + (f", {copies:,} jobs" if copies > 1 else ""),
                "share": float(ratio[first]) / scale,
                "equal": 1.0 / scale,
                "ratio": f"{number(float(ratio[first]))} x",
            }
        )
    return bars


def _accelerators(problem: Problem, division: Division, plan: Plan) -> list[dict[str, Any]]:
    accelerators, used = division.market.accelerators, division.gpus_used
    unit = _WORTH.get(problem.policy, "")
    prices = {price.accelerator: price.price + price.packed_price for price in plan.prices}
    return [
        {
            "name": name,
            "used": f"{number(float(used[place]))} of {accelerators.count_gpus[place]:,.0f} GPUs",
            "share": float(min(1.0, used[place] / accelerators.count_gpus[place])) if accelerators.count_gpus[place] else 0.0,
            "worth": f"one more: {prices[name]:.4g}{unit}" if prices.get(name) else "",
        }
        for place, name in enumerate(accelerators.ids)
    ]


# ---------------------------------------------------------------- levels


def _levels(problem: Problem, plan: Plan, division: Division) -> dict[str, Any] | None:
    """The rounds as a staircase over the jobs that each settles; None with fewer than two rounds."""
    if len(plan.rounds) < 2 or problem.policy not in _LEVELS:  # noqa: PLR2004  (one step is no staircase)
        return None
    at, copies = division.market.jobs.at, division.market.jobs.copies
    sizes = [sum(float(copies[at[name]]) for name in one.settled if name in at) for one in plan.rounds]
    levels = [one.level for one in plan.rounds]
    top = max(*[level for level in levels if level < 1e12], 1e-12) if any(level < 1e12 for level in levels) else 1.0  # noqa: PLR2004
    total = max(sum(sizes), 1.0)
    steps: list[dict[str, Any]] = []
    done = 0.0
    for size, level, one in zip(sizes, levels, plan.rounds, strict=True):
        x, width = LEFT + (WIDTH - LEFT) * done / total, (WIDTH - LEFT) * size / total
        height = (HEIGHT - FOOT - 10) * min(1.0, level / top)
        what = f"{count(int(size), 'job')} settled at {number(level, 4)}" + (f", priority {one.priority}" if one.priority else "")
        steps.append(
            {"x": round(x, 2), "width": round(max(width, 1.0), 2), "y": round(HEIGHT - FOOT - height, 2), "height": round(height, 2)}
        )
        steps[-1]["title"] = what
        done += size
    return {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "floor": HEIGHT - FOOT,
        "steps": steps, "top": number(top), "unit": _LEVELS[problem.policy], "rounds": len(steps), "jobs": f"{int(total):,}",
    }  # fmt: skip


# ---------------------------------------------------------------- leases


def _timeline(problem: Problem, plan: Plan) -> dict[str, Any] | None:
    """The first GPUs of each accelerator, slot by slot; None for a plan of too many units."""
    try:
        targets = targets_of(problem, plan)
    except TooManyCopiesError:
        return None
    if not 0 < targets.count <= MOST_UNITS:
        return None
    terms = Terms()
    book = LeaseBook(targets, terms, problem.now_s)
    slots = [slot for _ in range(LEASE_ROUNDS) for slot in book.next_round().slots]
    colour = {name: place % COLOURS for place, name in enumerate(targets.jobs)}
    room = dict(zip(targets.accelerators, targets.room.tolist(), strict=True))
    most = max(1, MOST_LANES // max(1, len(room)))
    lanes = [lane for name, gpus in room.items() for lane in _lanes(name, min(gpus, most), slots, colour)]
    hidden = sum(max(0, gpus - most) for gpus in room.values())
    return {"lanes": lanes, "rounds": LEASE_ROUNDS, "slots": terms.slots, "round_s": number(terms.round_s), "hidden": hidden}


def _lanes(accelerator: str, gpus: int, slots: list[Slot], colour: dict[str, int]) -> Iterator[dict[str, Any]]:
    """One lane for each GPU: in each slot the colours of the jobs that have it, and in words."""
    held = [{gpu: lease for lease in slot.leases if lease.accelerator == accelerator for gpu in lease.gpus} for slot in slots]
    for gpu in range(gpus):
        cells = []
        for number_, leases in enumerate(held):
            lease = leases.get(gpu)
            jobs = lease.jobs if lease is not None else ()
            who = " and ".join(jobs) + (" (starts)" if lease is not None and lease.starts else "") if jobs else "free"
            cells.append(
                {"first": colour[jobs[0]] if jobs else -1, "last": colour[jobs[-1]] if jobs else -1, "title": f"slot {number_}: {who}"}
            )
        yield {"name": f"{accelerator} {gpu}", "cells": cells}


# ---------------------------------------------------------------- tables


def _tenants(problem: Problem, division: Division, ratio: Floats) -> Table:
    names = division.market.jobs
    rows = []
    for place, tenant in enumerate(problem.tenants):
        own = names.tenant == place
        if own.any():
            gpus = float((division.gpu_time[own].sum(axis=1) * names.copies[own]).sum())
            poorest = number(float(ratio[own].min()))
            rows.append((tenant.id, number(tenant.weight), f"{int(names.copies[own].sum()):,}", number(gpus), f"{poorest} x"))
    return Table("Tenants", ("tenant", "weight", "jobs", "GPUs", "poorest beside equal split"), tuple(rows))


def _table(division: Division, ratio: Floats) -> Table:
    market = division.market
    gpus = division.gpu_time
    columns = ("job", "workload", "steps/s", "beside equal split", *(f"GPUs of {name}" for name in market.accelerators.ids))
    rows = tuple(
        (
            market.jobs.ids[job],
            market.workloads.ids[int(market.jobs.workload[job])],
            number(float(division.judged[job])),
            f"{number(float(ratio[job]))} x",
            *(number(float(held)) if held > 0 else "" for held in gpus[job]),
        )
        for job in np.argsort(ratio, kind="stable")[:MOST_ROWS].tolist()
    )
    return Table("Jobs, the poorest first; GPUs of one job on average", columns, rows, max(0, market.jobs.count - len(rows)))
