"""The rows of the exact program, one function for each group of rules. README.md has the formulas, under the same names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from models.tiering import access
from models.tiering.formulation_cells import COMPRESSED, PLAIN
from models.tiering.schema import GoalName, Rule
from models.tiering.store import OWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.program import Bools, Floats, Ints
    from models.tiering.formulation_cells import Cells
    from models.tiering.schema import Problem


Terms: TypeAlias = "Floats | tuple[Ints, Floats]"  # coefficients of all columns of a family, or positions and coefficients


Entries: TypeAlias = "tuple[Ints, Ints, float]"  # rows of a block, positions in a family, and the coefficient of all of them

FLOOR_SLACK = 1e-9  # relative: what contract.Goal.better forgives
FLOOR_SCALE = 10.0  # size of a floor's row; with 1,000 and more, a value that an earlier goal owes to tolerances is out of reach


class Rows(Protocol):
    """What rules are written to."""

    def row(
        self,
        name: str,
        ids: Sequence[str],
        *,
        place: Terms | None = None,
        serve: Terms | None = None,
        spread: Terms | None = None,
        lower: float | None = None,
        upper: float | None = None,
    ) -> None:
        """State ``lower <= terms <= upper``."""
        ...

    def block(
        self,
        name: str,
        ids: Sequence[Sequence[str]],
        *,
        place: Entries | None = None,
        serve: Entries | None = None,
        lower: Floats | None = None,
        upper: Floats | None = None,
    ) -> None:
        """State many rows of one name at once; sides have shape (rows,)."""
        ...


def write_rules(rows: Rows, problem: Problem, cells: Cells) -> None:
    """Every rule."""
    _copies(rows, cells)
    _domains(rows, cells)
    if cells.open_all:
        _forbidden(rows, cells)
    _stays(rows, cells)
    _tiers(rows, cells)
    _reads(rows, cells)
    _limits(rows, problem, cells)


def floor(cells: Cells, goal: GoalName, value: float) -> dict[str, Any]:
    """The terms and the upper side of a row that keeps an earlier goal at the ``value`` it attained.

    The row has the same size whatever the goal's: what solvers let a row miss is absolute.
    """
    place, serve, constant = cells.goal(goal)
    size = max(1.0, abs(value))
    scale = FLOOR_SCALE / size
    return {"place": place * scale, "serve": serve * scale, "upper": (value + FLOOR_SLACK * size - constant) * scale}


def grouped(keys: Ints) -> Iterator[tuple[int, Ints]]:
    """The positions of each value among ``keys``, in ascending order of the values that occur."""
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    for value, first, last in zip(values.tolist(), starts.tolist(), [*starts[1:].tolist(), len(keys)], strict=len(keys) > 0):
        yield value, order[first:last]


def _ones(at: Ints) -> tuple[Ints, Floats]:
    return at, np.ones(len(at))


def _copies(rows: Rows, cells: Cells) -> None:
    """Between replicas and copies_max copies of each object; one form on each tier."""
    store, of = cells.store, cells.store.objects
    every = cells.object, np.arange(len(cells.object)), 1.0
    sides = of.replicas.astype(np.float64), of.copies_max.astype(np.float64)
    rows.block(Rule.replica_count.value, [(name,) for name in of.ids], place=every, lower=sides[0], upper=sides[1])
    two = np.flatnonzero(cells.packed & ~cells.single[cells.object])  # a single object has one copy in all
    tiers = store.tiers.count
    both = np.isin(cells.object * tiers + cells.tier, (cells.object * tiers + cells.tier)[two])
    for key, at in grouped(np.where(both, cells.object * tiers + cells.tier, -1)):
        if key >= 0 and len(at) > 1:
            rows.row("one_form", (of.ids[key // tiers], store.tiers.ids[key % tiers]), place=_ones(at), upper=1.0)


def _domains(rows: Rows, cells: Cells) -> None:
    """Copies in as many failure domains as there are to be replicas."""
    store, (objects, domains) = cells.store, cells.spreads
    keys = cells.object * len(store.tiers.domain_names) + store.tiers.domain[cells.tier]
    there = dict(grouped(keys)) if len(objects) else {}
    for at, (o, d) in enumerate(zip(objects.tolist(), domains.tolist(), strict=True)):
        held = there[o * len(store.tiers.domain_names) + d]
        spread = np.array([at]), np.ones(1)
        ids = store.objects.ids[o], store.tiers.domain_names[d]
        rows.row("domain_held", ids, place=(held, -np.ones(len(held))), spread=spread, upper=0.0)
    for o, mine in grouped(objects):
        rows.row(Rule.failure_domain.value, (store.objects.ids[o],), spread=_ones(mine), lower=float(store.objects.replicas[o]))


def _forbidden(rows: Rows, cells: Cells) -> None:
    """What residency, protection and latency forbid, as rows."""
    store = cells.store
    of, at = store.objects, (cells.object, cells.tier)
    timely = access.in_time(access.copy_latency_ms(store, cells.tier, cells.packed), of.latency_limit[cells.object])
    for rule, fine in (
        (Rule.residency, store.resident[of.region[at[0]], at[1]]),
        (Rule.protection, store.guarded[of.guard[at[0]], at[1]]),
        (Rule.latency_limit, timely),
    ):
        _closed(rows, rule, cells, fine)
    late = ~access.servable(store, cells.read, cells.tier[cells.server], cells.packed[cells.server]) & timely[cells.server]
    for place in np.flatnonzero(late).tolist():
        reader, name, tier, form = cells.serving_ids()[place]
        rows.row(Rule.latency_limit.value, (reader, name, tier, form), serve=_ones(np.array([place])), upper=0.0)


def _closed(rows: Rows, rule: Rule, cells: Cells, fine: Bools) -> None:
    store, tiers = cells.store, cells.store.tiers.count
    where = np.flatnonzero(~fine)
    for key, at in grouped((cells.object * tiers + cells.tier)[where]):
        rows.row(rule.value, (store.objects.ids[key // tiers], store.tiers.ids[key % tiers]), place=_ones(where[at]), upper=0.0)


def _stays(rows: Rows, cells: Cells) -> None:
    """Copies that have not been where they are for long enough."""
    store, now = cells.store, cells.store.currents
    cell_at = {ids: place for place, ids in enumerate(cells.cell_ids())} if store.must_stay.any() else {}
    for k in np.flatnonzero(store.must_stay).tolist():
        ids = store.objects.ids[int(now.object[k])], store.tiers.ids[int(now.tier[k])]
        at = cell_at.get((*ids, COMPRESSED if now.packed[k] else PLAIN))
        place = None if at is None else _ones(np.array([at]))
        rows.row(Rule.minimum_stay.value, ids, place=place, lower=1.0)


def _tiers(rows: Rows, cells: Cells) -> None:
    """Capacity and bandwidth of each tier."""
    on = cells.store.tiers
    read, served = cells.read_gbps
    for tier, name in enumerate(on.ids):
        here, there = cells.tier == tier, cells.tier[cells.server] == tier
        if np.isfinite(on.capacity[tier]):
            rows.row(Rule.tier_capacity.value, (name,), place=np.where(here, cells.gib, 0.0), upper=float(on.capacity[tier]))
        if np.isfinite(on.write_gbps[tier]):
            rows.row(Rule.write_bandwidth.value, (name,), place=np.where(here, cells.write_gbps, 0.0), upper=float(on.write_gbps[tier]))
        if np.isfinite(on.read_gbps[tier]):
            terms = np.where(here, read, 0.0), np.where(there, served, 0.0)
            rows.row(Rule.read_bandwidth.value, (name,), place=terms[0], serve=terms[1], upper=float(on.read_gbps[tier]))


def _reads(rows: Rows, cells: Cells) -> None:
    """Every read that has columns is served in full, by copies that there are; and what site links carry."""
    store = cells.store
    ids = cells.serving_ids()
    apart = np.flatnonzero(~cells.single[store.reads.object])
    names = [  # own reads are known by their object alone
        (store.objects.ids[one],) if reader == OWN else (store.reader_ids[reader], store.objects.ids[one])
        for reader, one in zip(store.reads.reader[apart].tolist(), store.reads.object[apart].tolist(), strict=True)
    ]
    every, once = np.arange(len(cells.read)), np.ones(len(apart))
    rows.block(Rule.reader_served.value, names, serve=(np.searchsorted(apart, cells.read), every, 1.0), lower=once, upper=once)
    rows.block("served_by_copy", ids, place=(every, cells.server, -1.0), serve=(every, every, 1.0), upper=np.zeros(len(every)))
    for link, pair in enumerate(store.link_names):
        if np.isfinite(store.link_gbps[link]):
            place, serve = cells.link_gbps(link)
            rows.row(Rule.site_bandwidth.value, pair, place=place, serve=serve, upper=float(store.link_gbps[link]))


def _limits(rows: Rows, problem: Problem, cells: Cells) -> None:
    """What may move, and what may be spent."""
    if problem.migration.gib is not None:
        rows.row(Rule.migration_volume.value, (), place=cells.moved_gib, upper=problem.migration.gib)
    if problem.migration.usd is not None:
        upper = problem.migration.usd - float(cells.leaving.sum())
        rows.row(Rule.migration_budget.value, (), place=cells.migration_usd, upper=upper)
    if problem.budget_usd is not None:
        place, serve, constant = cells.goal(GoalName.cost)
        rows.row(Rule.cost_budget.value, (), place=place, serve=serve, upper=problem.budget_usd - constant)
