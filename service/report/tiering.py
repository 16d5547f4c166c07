"""The drawing of a tiering plan: each tier before and after, what a full one is worth, and what moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from models.tiering.copies import Held, held_from, reading_of
from models.tiering.schema import Plan, Problem, Rule
from models.tiering.store import Store, store_of
from service.report.drawing import Drawing, Figure, Table
from service.report.wording import EXACT, count, number, percent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from models.program import Bools, Floats
    from models.vocabulary import Document
    from optimizer.result import GoalCertificate

MOST_ROWS = 60
_PROVES = {  # what a bound proves, and what it proves when the plan attains it
    "cost": (
        "No tiering costs less than {bound} USD; this one costs {objective}.",
        "This period costs {objective} USD, and no tiering costs less.",
    ),
    "access_time": (
        "No tiering keeps fewer than {bound} reads in flight on average; here there are {objective}.",
        "On average {objective} reads are in flight, and no tiering has fewer.",
    ),
    "moved_gib": (
        "No plan moves less than {bound} GiB; this one moves {objective}.",
        "This plan moves {objective} GiB, and none does with less.",
    ),
}


def sentence(goal: GoalCertificate, _metrics: dict[str, float]) -> str | None:
    """What the bound of a goal proves."""
    if goal.name not in _PROVES:
        return None
    told = _PROVES[goal.name][abs(goal.objective - goal.bound) <= EXACT * max(1.0, abs(goal.objective))]
    return told.format(bound=number(goal.bound), objective=number(goal.objective))


def draw(problem: Document, plan: Document, before: Document | None) -> Drawing:
    """Each tier before and after, and the moves; before is what the problem says of now, or the plan ``before``."""
    problem, plan = cast("Problem", problem), cast("Plan", plan)
    store = store_of(problem)
    held = reading_of(problem, plan).held
    now = store.currents
    old = held_from(store, now.object, now.tier, now.packed) if before is None else reading_of(problem, cast("Plan", before)).held
    new = old.copies_at(held.object, held.tier, store.tiers.count) < 0
    known = np.diff(old.starts) > 0
    moved = new & known[held.object]
    size = _sizes(store, held)
    figures = (
        Figure("Objects", f"{store.objects.count:,}", count(held.count, "copy").replace("copys", "copies")),
        Figure("Stored", f"{number(float(size.sum()))} GiB", f"on {count(store.tiers.count, 'tier')}"),
        Figure("Moved", f"{number(float(size[moved].sum()))} GiB", count(int(moved.sum()), "copy").replace("copys", "copies")),
        Figure("New", f"{number(float(size[new & ~moved].sum()))} GiB", "of objects that were nowhere before"),
    )
    tables = [_tiers(store, plan, held, size), *_moves(store, held, old, moved, size)]
    values = {"bars": _bars(store, held, old), "tables": tables, "started": bool(len(old.object))}
    return Drawing(figures=figures, template="tiering.html.j2", values=values)


def _sizes(store: Store, held: Held) -> Floats:
    """GiB of each copy, as stored."""
    whole = store.objects.size[held.object]
    return np.asarray(np.where(held.packed, whole * store.objects.share[held.object], whole))


def _used(store: Store, held: Held) -> Floats:
    return np.asarray(np.bincount(held.tier, weights=_sizes(store, held), minlength=store.tiers.count), dtype=np.float64)


def _bars(store: Store, held: Held, old: Held) -> list[dict[str, Any]]:
    """Each tier's use; a tier without limit is held against the most used of those."""
    after, earlier, capacity = _used(store, held), _used(store, old), store.tiers.capacity
    endless = np.isinf(capacity)
    most = max(float(after[endless].max(initial=0.0)), float(earlier[endless].max(initial=0.0)), 1e-9)
    scale = np.where(endless, most, np.maximum(capacity, 1e-9))
    return [
        {
            "name": name,
            "after": number(float(after[tier])),
            "capacity": "no limit" if endless[tier] else f"of {number(float(capacity[tier]))} GiB",
            "was": min(1.0, float(earlier[tier] / scale[tier])),
            "now": min(1.0, float(after[tier] / scale[tier])),
            "share": "" if endless[tier] else percent(float(after[tier] / scale[tier])),
        }
        for tier, name in enumerate(store.tiers.ids)
    ]


def _tiers(store: Store, plan: Plan, held: Held, size: Floats) -> Table:
    prices = {(price.rule, price.tier): price.price for price in plan.prices}
    copies = np.bincount(held.tier, minlength=store.tiers.count)
    gib = np.bincount(held.tier, weights=size, minlength=store.tiers.count)
    columns = ("tier", "copies", "GiB", "one more GiB is worth", "one more Gbit/s of reads is worth")
    rows = tuple(
        (
            name,
            f"{copies[tier]:,}",
            number(float(gib[tier])),
            _worth(prices.get((Rule.tier_capacity, name))),
            _worth(prices.get((Rule.read_bandwidth, name))),
        )
        for tier, name in enumerate(store.tiers.ids)
    )
    return Table("The tiers", columns, rows).without_empty()


def _worth(price: float | None) -> str:
    return f"{price:.4g}" if price else ""


def _moves(store: Store, held: Held, old: Held, moved: Bools, size: Floats) -> Iterator[Table]:
    order = np.flatnonzero(moved)
    order = order[np.argsort(-size[order], kind="stable")]
    rows = []
    for copy in order[:MOST_ROWS].tolist():
        thing = int(held.object[copy])
        origin = [store.tiers.ids[tier] for tier in old.tier[old.starts[thing] : old.starts[thing + 1]].tolist()]
        target = store.tiers.ids[held.tier[copy]] + (", compressed" if held.packed[copy] else "")
        rows.append((store.objects.ids[thing], ", ".join(origin), target, number(float(size[copy]))))
    if rows:
        yield Table("What moves, the largest first", ("object", "from", "to", "GiB"), tuple(rows), max(0, len(order) - len(rows)))
