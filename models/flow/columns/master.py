"""The program of one goal over paths, with all that makes no difference taken out: what a column generation solves again and again.

It minimises. Column 0 is the **stretch**: the utilisation that is minimised, a share that is maximised, or 0. A commodity's flow over its
paths is

- ``exact``: all of its size;
- ``most``: at most its size;
- ``tied``: a factor (its size here) times the stretch, for classes whose common share is fixed.

Only **watched** channels have rows: few of a network are ever full, and one that turns out to be over its level is watched from then
on. A path counts by what it takes of those and what it costs, so commodities with the same choice of such **patterns** are one group, and
one that can avoid all of them is only a load. Rows: one for each **layer** and watched channel (``load - stretch * capacity <= 0``,
or ``load <= level * capacity``), one budget for each earlier class, one for each group that has a choice.

The bound needs nothing of that: relaxing all rows but the commodities' own gives one that holds for any prices, over all paths and
channels (Ahuja, Magnanti and Orlin, "Network Flows", 1993, ch. 17).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.flow.columns.patterns import Grouped, grouped
from models.flow.columns.pricing import run_totals
from models.flow.columns.units import Units, middle
from models.program import LinearProgram, row_starts

if TYPE_CHECKING:
    from models.flow.columns.store import PathStore
    from models.flow.network.fabric import Commodities, Fabric
    from models.program import Bools, Floats, Ints

    Entries = tuple[Ints, Ints, Floats]

EXACT, MOST, TIED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Stage:
    """One goal in the order of goals.

    ``form`` and ``size`` (commodities,): how each is carried and how much of it; those of size 0 are left out. ``layer_counts``
    (layers, ranks): whose load a layer counts; ``layer_level`` (layers,): the share of capacity it may take, NaN for the stretch.
    ``unit_arc`` (arcs,) and ``unit_gain`` (commodities,): the cost of a path in this objective is the sum of the first less the second.
    ``rank`` is the class whose cost is minimised, -1 for none: then the stretch is minimised, or maximised up to ``most`` where that is
    given. ``floors`` are what that cost came to in classes before it.
    """

    form: Ints
    size: Floats
    layer_counts: Bools
    layer_level: Floats
    unit_arc: Floats
    unit_gain: Floats
    rank: int
    floors: tuple[float, ...] = ()
    most: float | None = None

    @property
    def stretched(self) -> bool:
        """Whether the goal is the stretch."""
        return self.rank < 0

    @property
    def stretch(self) -> tuple[float, float]:
        """Cost and upper bound of the stretch."""
        if not self.stretched:
            return 0.0, 0.0
        return (1.0, np.inf) if self.most is None else (-1.0, self.most)


@dataclass(frozen=True, eq=False)
class Prices:
    """Multipliers of a stage: ``link`` (layers, channels) and ``floor`` (floors,), none below 0."""

    link: Floats
    floor: Floats


class Master:
    """One stage over the paths of a store. ``watched`` are the channels that have rows."""

    def __init__(self, fabric: Fabric, commodities: Commodities, stage: Stage, store: PathStore) -> None:
        self.fabric, self.commodities, self.stage, self.store = fabric, commodities, stage, store
        self.layers = len(stage.layer_level)
        self.watched: Ints = np.zeros(0, dtype=np.int64)
        self._groups: Grouped | None = None  # of the last program
        self._units = Units(np.ones(1), np.ones(0), 1.0)

    # ------------------------------------------------------------ prices and bounds

    def weights(self, prices: Prices) -> Floats:
        """What one unit of the objective's cost counts in each class, shape (ranks,)."""
        weight = np.zeros(self.commodities.ranks)
        weight[: len(prices.floor)] = prices.floor
        if not self.stage.stretched:
            weight[self.stage.rank] = 1.0
        return weight

    def arc_prices(self, prices: Prices) -> Floats:
        """What one Gbit/s of each class pays on each arc, shape (ranks, arcs)."""
        by_channel = self.stage.layer_counts.T.astype(np.float64) @ prices.link
        return by_channel[:, self.fabric.channel] + self.weights(prices)[:, None] * self.stage.unit_arc[None, :]

    def reduced(self, prices: Prices, distance: Floats) -> Floats:
        """Price of carrying one Gbit/s of each commodity over a path of the given price, shape (commodities,)."""
        return distance - self.weights(prices)[self.commodities.rank] * self.stage.unit_gain

    def path_prices(self, arc_prices: Floats) -> Floats:
        """The price of each path of the store, shape (paths,)."""
        table = self.store.table
        rank = self.commodities.rank[table.commodity]
        if len(arc_prices) == 1:
            return table.totals(arc_prices[0])
        return run_totals(arc_prices[rank[table.entry_path], table.arcs], table.starts)

    def bound(self, prices: Prices, distance: Floats) -> float:
        """What no routing can go below, over all paths; ``distance`` are the cheapest at ``arc_prices``."""
        stage = self.stage
        carried = stage.size > 0
        cost = np.zeros(len(carried))
        cost[carried] = stage.size[carried] * self.reduced(prices, distance)[carried]
        total = float(cost[stage.form == EXACT].sum() + np.minimum(cost[stage.form == MOST], 0.0).sum())
        total -= float(prices.floor @ np.array(stage.floors)) if stage.floors else 0.0
        capacity = np.where(np.isfinite(self.fabric.capacity), self.fabric.capacity, 0.0)
        worth = prices.link @ capacity
        if stage.most is not None:
            # Minus the share: total - worth - share * (1 - tied) with prices scaled until nothing depends on the share.
            tied = float(cost[stage.form == TIED].sum())
            room = float(worth @ stage.layer_level) - total
            return max(-stage.most, -max(0.0, room) / tied) if tied > 0.0 else -stage.most
        opened = np.isnan(stage.layer_level)
        total -= float((worth[~opened] * stage.layer_level[~opened]).sum())
        if not stage.stretched:
            return total
        room = float(worth[opened].sum()) - float(cost[stage.form == TIED].sum())
        if total <= 0.0:
            return 0.0
        return total / room if room > 0.0 else np.inf

    def prices(self, duals: Floats) -> Prices:
        """The multipliers in an answer's row duals, of the last ``program``."""
        link = np.zeros((self.layers, self.fabric.channels))
        split, duals = self.layers * len(self.watched), self._units.duals(duals)
        link[:, self.watched] = np.maximum(0.0, -duals[:split]).reshape(self.layers, len(self.watched))
        return Prices(link, np.maximum(0.0, -duals[split : split + len(self.stage.floors)]))

    # ------------------------------------------------------------ what is watched

    def loads(self, flow: Floats) -> Floats:
        """Gbit/s that each layer counts on each channel, shape (layers, channels)."""
        rank = self.commodities.rank[self.store.table.commodity]
        return np.stack([self.store.loads(self.fabric, flow * counts[rank]) for counts in self.stage.layer_counts])

    def levels(self, stretch: float) -> Floats:
        """Gbit/s that each layer may count on each channel, shape (layers, channels)."""
        level = np.where(np.isnan(self.stage.layer_level), stretch, self.stage.layer_level)
        capacity = self.fabric.capacity
        return np.where(np.isinf(capacity), np.inf, level[:, None] * np.where(np.isinf(capacity), 0.0, capacity))

    def overloaded(self, flow: Floats, stretch: float, slack: float) -> Ints:
        """The channels over their level by more than ``slack``, relative."""
        level = self.levels(stretch)
        return np.flatnonzero((self.loads(flow) > level + slack * np.maximum(level, 1e-9)).any(axis=0))

    def watch(self, channels: Ints) -> bool:
        """Watch more channels; whether any of them is new."""
        before = len(self.watched)
        self.watched = np.union1d(self.watched, channels)
        return len(self.watched) > before

    # ------------------------------------------------------------ the program

    def units(self) -> Floats:
        """The cost of each path of the store in this kind of objective."""
        table = self.store.table
        gain = self.stage.unit_gain[table.commodity]
        return table.totals(self.stage.unit_arc) - gain if self.stage.unit_arc.any() else -gain

    def program(self) -> LinearProgram:
        """The program over the paths that the store holds and the channels watched now."""
        stage = self.stage
        self._groups = groups = grouped(self, self.units())
        columns = np.flatnonzero(groups.is_column)
        at = np.zeros(len(groups.is_column), dtype=np.int64)  # in the program; column 0 is the stretch
        at[columns] = 1 + np.arange(len(columns))
        rank = groups.rank[groups.column_group]
        firm, firm_sides = self._firm_rows(groups, at, rank)
        rowed = np.flatnonzero(groups.has_row)
        own, own_sides = self._own_rows(groups, at, rowed, len(firm_sides))
        row, column, value = (np.concatenate(one) for one in zip(*firm, *own, strict=True))
        order = np.lexsort((column, row))
        owner = groups.column_group[columns]
        cost = np.zeros(len(columns)) if stage.stretched else groups.unit[columns] * (rank[columns] == stage.rank)
        ends = np.where(groups.form[owner] == MOST, groups.size[owner], np.inf)
        own_lower = np.where(groups.form[rowed] == MOST, -np.inf, own_sides)
        program = LinearProgram(
            maximise=False,
            cost=np.concatenate((stage.stretch[:1], cost)),
            column_lower=np.zeros(len(columns) + 1),
            column_upper=np.concatenate((stage.stretch[1:], ends)),
            integer=np.zeros(len(columns) + 1, dtype=np.bool_),
            row_lower=np.concatenate((np.full(len(firm_sides), -np.inf), own_lower)),
            row_upper=np.concatenate((firm_sides, own_sides)),
            starts=row_starts(row, len(firm_sides) + len(rowed)),
            indices=column[order],
            coefficients=value[order],
        )
        self._units = self._units_of(program)
        return self._units.into(program)

    def _units_of(self, program: LinearProgram) -> Units:
        """Units in which typical sizes, capacities and costs of the stage are numbers near 1."""
        stage, capacity = self.stage, middle(self.fabric.capacity)
        tied = stage.most is not None
        rate = capacity if tied else middle(stage.size)
        stretch = rate / (middle(stage.size[stage.form == TIED]) if tied else capacity)
        worth = middle(np.abs(program.cost[1:]))
        column, row = np.full(program.columns, rate), np.full(program.rows, rate)
        column[0] = stretch
        split = self.layers * len(self.watched)
        row[split : split + len(stage.floors)] = rate * worth
        return Units(column, row, stretch if stage.stretched else rate * worth)

    def _firm_rows(self, groups: Grouped, at: Ints, rank: Ints) -> tuple[list[Entries], Floats]:
        """Entries (row, column, value) and upper sides of the layers' rows and the budgets."""
        stage, width = self.stage, len(self.watched)
        capacity = self.fabric.capacity[self.watched]
        constant = np.where(groups.is_column, 0.0, groups.size[groups.column_group])
        entry_column, slot, times = groups.entries
        entries, sides = [self._stretch_entries()], [np.zeros(0)]
        for layer in range(self.layers):
            counted = stage.layer_counts[layer, rank[entry_column]]
            seen = counted & groups.is_column[entry_column]
            entries.append((layer * width + slot[seen], at[entry_column[seen]], times[seen]))
            fixed = np.bincount(slot[counted], weights=(times * constant[entry_column])[counted], minlength=width)
            level = float(stage.layer_level[layer])
            sides.append(capacity * (0.0 if np.isnan(level) else level) - fixed)
        for floor, spent in enumerate(stage.floors):
            ours = np.flatnonzero(groups.is_column & (rank == floor))
            entries.append((np.full(len(ours), self.layers * width + floor), at[ours], groups.unit[ours]))
            known = groups.known_cost[floor] + float((groups.unit * constant)[rank == floor].sum())
            sides.append(np.array([spent - known]))
        return entries, np.concatenate(sides)

    def _own_rows(self, groups: Grouped, at: Ints, rowed: Ints, first: int) -> tuple[list[Entries], Floats]:
        """Entries and upper sides of the groups' rows, from row ``first`` on."""
        row_of = np.full(groups.count, -1, dtype=np.int64)
        row_of[rowed] = first + np.arange(len(rowed))
        own = np.flatnonzero(groups.is_column & (row_of[groups.column_group] >= 0))
        tied = rowed[groups.form[rowed] == TIED]
        entries = [
            (row_of[groups.column_group[own]], at[own], np.ones(len(own))),
            (row_of[tied], np.zeros(len(tied), dtype=np.int64), -groups.size[tied]),
        ]
        return entries, np.where(groups.form[rowed] == TIED, 0.0, groups.size[rowed])

    def _stretch_entries(self) -> Entries:
        width = len(self.watched)
        opened = np.flatnonzero(np.isnan(self.stage.layer_level))
        rows = (opened[:, None] * width + np.arange(width)).ravel()
        return rows, np.zeros(len(rows), dtype=np.int64), np.tile(-self.fabric.capacity[self.watched], len(opened))

    def flow(self, values: Floats) -> tuple[Floats, float]:
        """Gbit/s on each path of the store, and the stretch, in the values of the last ``program``."""
        values = self._units.values(values)
        assert self._groups is not None  # noqa: S101  (values are of a program)
        return self._groups.spread(values, self.store.count), float(values[0])

    def value(self, flow: Floats, stretch: float) -> float:
        """What the stage's objective comes to."""
        if self.stage.stretched:
            return stretch * self.stage.stretch[0]
        return float((self.units() * flow)[self.commodities.rank[self.store.table.commodity] == self.stage.rank].sum())
