"""Between a plan and the values of the exact program's columns, both ways: as arrays, and by name as the drivers have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.tiering.copies import NOBODY, Served, held_from, plan_from, reading_of, served_by
from models.tiering.formulation_cells import cells_of
from models.tiering.store import store_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.program import Floats
    from models.tiering.formulation_cells import Cells
    from models.tiering.schema import Plan, Problem, TierPrice

LEAST_SHARE = 1e-9  # less is what a solver leaves behind
HALF = 0.5


def extract(problem: Problem, values: Mapping[str, Mapping[tuple[Any, ...], float]]) -> Plan:
    """The plan that the values stand for; ``place`` is rounded, what is left out is 0."""
    cells = cells_of(problem)
    place, serve = values.get("place", {}), values.get("serve", {})
    placed = np.array([place.get(ids, 0.0) for ids in cells.cell_ids()], dtype=np.float64)
    served = np.array([serve.get(ids, 0.0) for ids in cells.serving_ids()], dtype=np.float64)
    return plan_of(problem, cells, placed, served)


def plan_of(problem: Problem, cells: Cells, place: Floats, serve: Floats, prices: tuple[TierPrice, ...] = ()) -> Plan:
    """The plan of values of shape (cells,) and (servings,)."""
    store = store_of(problem)
    chosen = np.flatnonzero(place > HALF)
    held = held_from(store, cells.object[chosen], cells.tier[chosen], cells.packed[chosen])
    used = np.flatnonzero((serve > LEAST_SHARE) & (place[cells.server] > HALF))
    if not len(used):
        return plan_from(problem, held, NOBODY, prices)
    read, server, share = cells.read[used], cells.server[used], serve[used]
    copy = held.copies_at(cells.object[server], cells.tier[server], store.tiers.count)
    total = np.bincount(read, weights=share, minlength=store.reads.count)
    return plan_from(problem, held, Served(read, copy, np.minimum(share / total[read], 1.0)), prices)


def start(problem: Problem, plan: Plan) -> dict[str, dict[tuple[Any, ...], float]]:
    """The values of all columns for a right plan, by name."""
    cells = cells_of(problem)
    store, (objects, domains) = cells.store, cells.spreads
    place, serve, spread = values_of(problem, cells, plan)
    names = [(store.objects.ids[o], store.tiers.domain_names[d]) for o, d in zip(objects.tolist(), domains.tolist(), strict=True)]
    return {
        "place": dict(zip(cells.cell_ids(), place.tolist(), strict=True)),
        "serve": dict(zip(cells.serving_ids(), serve.tolist(), strict=True)),
        "spread": dict(zip(names, spread.tolist(), strict=True)),
    }


def values_of(problem: Problem, cells: Cells, plan: Plan) -> tuple[Floats, Floats, Floats]:
    """The values of place, serve and spread for a right plan, in the order of ``cells``."""
    store, reading = cells.store, reading_of(problem, plan)
    held = reading.held
    copy = held.copies_at(cells.object, cells.tier, store.tiers.count)
    placed = (copy >= 0) & (held.packed[copy] == cells.packed) if held.count else np.zeros(len(cells.object), dtype=np.bool_)
    served = served_by(store, held, problem.goals, reading.told)
    keys, known = cells.read * max(held.count, 1) + copy[cells.server], served.read * max(held.count, 1) + served.copy
    distinct, number = np.unique(known, return_inverse=True)
    share = np.bincount(number, weights=served.share, minlength=len(distinct))
    at = np.minimum(np.searchsorted(distinct, keys), max(len(distinct) - 1, 0))
    found = placed[cells.server] & (distinct[at] == keys) if len(distinct) else np.zeros(len(keys), dtype=np.bool_)
    serve = np.where(found, share[at], 0.0) if len(distinct) else np.zeros(len(keys))
    objects, domains = cells.spreads
    width = len(store.tiers.domain_names)
    spread = np.isin(objects * width + domains, held.object * width + store.tiers.domain[held.tier])
    return placed.astype(np.float64), serve, spread.astype(np.float64)
