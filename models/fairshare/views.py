"""A plan as other people want to see it: plain documents of dictionaries and lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.fairshare.leases.book import LeaseBook, Terms
from models.fairshare.leases.targets import TooManyCopiesError, targets_of
from models.fairshare.plans.division import division_of

if TYPE_CHECKING:
    from models.fairshare.leases.book import Lease
    from models.fairshare.schema import Plan, Problem
    from models.program import Floats

ROUNDS = 20  # that a view tells
MOST_CELLS = 20_000  # units beyond which leases would take too long for a page


def leases(problem: Problem, plan: Plan) -> dict[str, Any]:
    """Which GPUs each job has in the next rounds, with the usual terms; and how far each job then is from its share.

    GPUs are told as [node, GPU of that node]. Jobs with several copies are called ``id#1``, ``id#2``, ... A plan of too many units has no
    rounds here, and ``note`` says so.
    """
    terms = Terms()
    head: dict[str, Any] = {"round_s": terms.round_s, "slots_per_round": terms.slots, "begin_s": problem.now_s}
    try:
        targets = targets_of(problem, plan)
    except TooManyCopiesError as error:
        return head | {"rounds": [], "note": str(error)}
    if targets.count > MOST_CELLS:
        return head | {"rounds": [], "note": f"the plan has {targets.count:,} units, and leases are shown for at most {MOST_CELLS:,}"}
    book = LeaseBook(targets, terms, problem.now_s)
    per_node = {one.id: one.gpus_per_node for one in problem.accelerators}
    rounds = [
        {
            "round": found.number,
            "slots": [
                {"begin_s": slot.begin_s, "seconds": slot.seconds, "leases": [_lease(one, per_node) for one in slot.leases]}
                for slot in found.slots
            ],
        }
        for found in (book.next_round() for _ in range(ROUNDS))
    ]
    received = {
        name: {"planned_s": standing.planned_s, "received_s": standing.received_s, "restarts_s": standing.lost_s}
        for name, standing in book.standing.items()
    }
    return head | {"rounds": rounds, "jobs": received, "note": ""}


def _lease(lease: Lease, per_node: dict[str, int]) -> dict[str, Any]:
    return {
        "jobs": list(lease.jobs),
        "accelerator": lease.accelerator,
        "gpus": [list(divmod(gpu, per_node[lease.accelerator])) for gpu in lease.gpus],
        "starts": lease.starts,
    }


def shares(problem: Problem, plan: Plan) -> dict[str, Any]:
    """Speed, GPUs and money of each job, each tenant and each accelerator, beside what equal split would give.

    ``counted_steps_per_s`` is the speed that the policy counts: the worst where the problem is robust, else the usual one.
    """
    division = division_of(problem, plan)
    market = division.market
    names, copies, gpus, judged = market.jobs, market.jobs.copies, division.gpu_time, division.judged
    jobs = {
        name: {
            "steps_per_s": float(division.speed[place]),
            "counted_steps_per_s": float(judged[place]),
            "equal_split_steps_per_s": float(names.equal[place]),
            "gpus": _by_accelerator(market.accelerators.ids, gpus[place]),
            "usd_per_hour": float(division.spending[place]),
        }
        for place, name in enumerate(names.ids)
    }
    tenants = {
        tenant.id: {
            "jobs": int(copies[names.tenant == place].sum()),
            "gpus": _by_accelerator(market.accelerators.ids, (gpus * copies[:, None])[names.tenant == place].sum(axis=0)),
            "usd_per_hour": float((division.spending * copies)[names.tenant == place].sum()),
        }
        for place, tenant in enumerate(problem.tenants)
    }
    prices = {price.accelerator: price.price + price.packed_price for price in plan.prices}
    accelerators = {
        name: {
            "gpus": float(market.accelerators.count_gpus[place]),
            "used": float(division.gpus_used[place]),
            "one_more_is_worth": prices.get(name),
        }
        for place, name in enumerate(market.accelerators.ids)
    }
    return {"jobs": jobs, "tenants": tenants, "accelerators": accelerators}


def _by_accelerator(names: tuple[str, ...], gpus: Floats) -> dict[str, float]:
    """What is more than nothing."""
    return {names[place]: float(gpus[place]) for place in np.flatnonzero(gpus > 0).tolist()}


VIEWS = {"leases": leases, "shares": shares}
