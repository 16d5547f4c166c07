"""A plan as other people want to see it: plain documents of dictionaries and lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.tiering import money
from models.tiering.stand import Stand

if TYPE_CHECKING:
    from models.tiering.schema import Plan, Problem


def moves(problem: Problem, plan: Plan) -> dict[str, Any]:
    """What to do in this period, the largest first: copies to make, with sizes and costs, and copies to delete after that."""
    stand = Stand(problem, plan)
    store, held = stand.store, stand.held
    made = np.flatnonzero(~money.stays(store, held.object, held.tier, held.packed))
    at = held.object[made], held.tier[made], held.packed[made]
    gib, usd = money.stored_gib(store, at[0], at[2]), money.arrival_usd(store, *at, stand.source)
    origin: dict[int, list[str]] = {}
    for object_, tier in zip(store.currents.object.tolist(), store.currents.tier.tolist(), strict=True):
        origin.setdefault(object_, []).append(store.tiers.ids[tier])
    make = [
        {
            "object": store.objects.ids[int(held.object[copy])],
            "from": origin.get(int(held.object[copy]), []),
            "to": store.tiers.ids[int(held.tier[copy])],
            "compressed": bool(held.packed[copy]),
            "gib": float(gib[number]),
            "usd": float(usd[number]),
        }
        for number, copy in ((number, int(made[number])) for number in np.argsort(-gib, kind="stable").tolist())
    ]
    delete = [
        {
            "object": store.objects.ids[int(store.currents.object[k])],
            "tier": store.tiers.ids[int(store.currents.tier[k])],
            "compressed": bool(store.currents.packed[k]),
            "usd": float(stand.leaving[k]),
        }
        for k in stand.left.tolist()
    ]
    return {"make": make, "delete": delete}


def places(problem: Problem, plan: Plan) -> dict[str, Any]:
    """Each object's tiers, in the order of the problem."""
    stand = Stand(problem, plan)
    store, held = stand.store, stand.held
    return {
        name: [{"tier": store.tiers.ids[int(held.tier[copy])], "compressed": bool(held.packed[copy])} for copy in stand.copies_of(place)]
        for place, name in enumerate(store.objects.ids)
    }


VIEWS = {"moves": moves, "places": places}
