"""The master program of transfers: how much of each goes on which of the ways known so far. Ways are priced in ``trees``.

One column for each way, as a share of its transfer; rows are capacity and storage by step, one for each transfer, and the value attained.
Volumes and money are scaled so that usual numbers are about 1. With prices of capacity and storage of at least 0, any plan costs at least
what its ways cost at these prices less the worth of all capacity: so every round has a bound (L. R. Ford, D. R. Fulkerson, "A suggested
computation for maximal multi-commodity network flows", Management Science 5 (1958); Lagrange's bound as in Farley, 1990).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.flow.transfers.first import Part, price_unit
from models.flow.transfers.trees import price_of, ways
from models.program_builder import ProductIds, ProgramBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.flow.transfers.expansion import Expansion, Legs
    from models.flow.transfers.trees import Way
    from models.program import Bools, Floats, Ints, LinearProgram

TOLERANCE = 1e-6  # of a side: what ``verify`` lets pass, so that nothing is called impossible for less
NEGATIVE = 1e-9  # a reduced cost above minus this gains nothing


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """What the master minimises: what is missing, the value not had, or the cost. All in the master's units.

    ``leg`` (steps, arcs) is the cost of a unit of volume on a leg, ``whole`` (transfers,) of all of a transfer besides its way; ``missing``
    of a transfer that must be delivered and is not, inf: all are. ``floor`` is the value to keep.
    """

    goal: str | None
    leg: Floats
    whole: Floats
    missing: float
    floor: float
    unit: float  # of the goal: what 1 in the master stands for


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """Row duals as prices of at least 0: of legs (steps, arcs), waiting (steps, nodes), delivery (transfers,) and the floor of value."""

    leg: Floats
    wait: Floats
    delivery: Floats
    floor: float
    rent: float  # what all capacity and storage is worth
    slack: float  # of the rent, what limits exceeded by the tolerance would add


class Master:
    """The rows, the ways known, and what is read from the solver's answers."""

    def __init__(self, expansion: Expansion, first: Iterable[Way]) -> None:
        self._expansion = expansion
        self.volume_unit = 10.0 ** round(float(np.log10(np.median(expansion.size))))
        self._money = max((one.price for one in first if one.legs and one.price > 0.0), default=price_unit(expansion))
        self._worth_unit = float(expansion.value.max(initial=0.0)) or 1.0
        self.worth = expansion.value / self._worth_unit  # of each transfer, (transfers,)
        self.size = expansion.size / self.volume_unit
        self.known: list[tuple[int, Legs]] = []
        self._entries: list[tuple[list[int], list[float]]] = []
        self._seen: set[tuple[int, Legs]] = set()

    # ------------------------------------------------------------ stages

    def missing_stage(self) -> Stage:
        """Least is missing of what must be delivered."""
        expansion = self._expansion
        return Stage(None, np.zeros_like(expansion.usd), np.zeros(expansion.count), 1.0, -np.inf, 1.0)

    def value_stage(self, goal: str) -> Stage:
        """Most value; its unit is negative, for the master minimises."""
        return Stage(goal, np.zeros_like(self._expansion.usd), -self.worth, np.inf, -np.inf, -self._worth_unit)

    def cost_stage(self, goal: str, value: float) -> Stage:
        """Least cost with at least ``value``."""
        expansion = self._expansion
        floor = -np.inf if expansion.required.all() else value / self._worth_unit * (1.0 - 1e-9)
        return Stage(goal, expansion.usd / self._money, np.zeros(expansion.count), np.inf, floor, self.volume_unit * self._money)

    # ------------------------------------------------------------ rows

    @cached_property
    def _channel_rows(self) -> Ints:
        """The row of each step and channel, -1 where it cannot be full; (steps, channels)."""
        expansion = self._expansion
        rows = np.full((expansion.steps, len(expansion.channel_gbit)), -1, dtype=np.int64)
        steps, channels = np.flatnonzero(expansion.open_steps), expansion.limited_channels
        channels = channels[expansion.channel_gbit[channels] > 0.0]
        rows[np.ix_(steps, channels)] = np.arange(len(steps) * len(channels)).reshape(len(steps), len(channels))
        return rows

    @cached_property
    def _node_rows(self) -> Ints:
        """The row of each step and node, -1 where it cannot be full; (steps, nodes)."""
        expansion = self._expansion
        rows = np.full((expansion.steps, expansion.network.nodes), -1, dtype=np.int64)
        steps, nodes = np.flatnonzero(expansion.open_steps), expansion.limited_nodes
        first = int(self._channel_rows.max(initial=-1)) + 1
        rows[np.ix_(steps, nodes)] = first + np.arange(len(steps) * len(nodes)).reshape(len(steps), len(nodes))
        return rows

    @cached_property
    def _delivery_row(self) -> int:
        """The row of the first transfer; the floor's comes after the last."""
        return max(int(self._channel_rows.max(initial=-1)), int(self._node_rows.max(initial=-1))) + 1

    @property
    def floor_row(self) -> int:
        """The row of the value to keep."""
        return self._delivery_row + self._expansion.count

    @cached_property
    def _limits(self) -> Floats:
        """The right-hand side of each capacity and storage row."""
        expansion = self._expansion
        limits = np.zeros(self._delivery_row)
        for rows, room in ((self._channel_rows, expansion.channel_gbit), (self._node_rows, expansion.storage)):
            _, places = np.nonzero(rows >= 0)
            limits[rows[rows >= 0]] = room[places] / self.volume_unit
        return limits

    # ------------------------------------------------------------ columns

    def program(self, stage: Stage) -> LinearProgram:
        """The master with the ways known, and columns for what is missing of each transfer."""
        expansion, count = self._expansion, self._expansion.count
        builder = ProgramBuilder()
        may_miss = expansion.required & np.isfinite(stage.missing)
        builder.add_columns(
            "missing", ProductIds(range(count)), cost=stage.missing if may_miss.any() else 0.0, upper=np.where(may_miss, np.inf, 0.0)
        )
        builder.add_columns("ship", ProductIds(range(len(self.known))), cost=self._costs(stage))
        limited = self._delivery_row
        column = [count + place for place, (rows, _) in enumerate(self._entries) for _ in rows]
        row = [row for rows, _ in self._entries for row in rows]
        value = [value for _, values in self._entries for value in values]
        builder.add_rows(
            "limit",
            ProductIds(range(self.floor_row + 1)),
            lower=np.concatenate((np.full(limited, -np.inf), np.where(expansion.required, 1.0, -np.inf), [stage.floor])),
            upper=np.concatenate((self._limits, np.ones(count), [np.inf])),
            row_index=np.array([*row, *range(limited, limited + count)], dtype=np.int64),
            column_index=np.array([*column, *range(count)], dtype=np.int64),
            coefficient=np.array([*value, *[1.0] * count]),
        )
        return builder.build()

    def add(self, found: Iterable[tuple[int, Legs]]) -> bool:
        """Note ways; True when one is new."""
        before = len(self.known)
        for transfer, legs in found:
            if (transfer, legs) not in self._seen:
                self._seen.add((transfer, legs))
                self.known.append((transfer, legs))
                self._entries.append(self._entries_of(transfer, legs))
        return len(self.known) > before

    def _entries_of(self, transfer: int, legs: Legs) -> tuple[list[int], list[float]]:
        """Rows and coefficients of a way."""
        channel = self._expansion.network.arc_channel
        entries: dict[int, float] = {}
        size = float(self.size[transfer])
        for arc, step in legs:
            row = int(self._channel_rows[step, channel[arc]])
            entries[row] = entries.get(row, 0.0) + size
        for node, step in self._expansion.waits(transfer, legs):
            entries[int(self._node_rows[step, node])] = size
        entries[self._delivery_row + transfer] = 1.0
        entries[self.floor_row] = float(self.worth[transfer])
        used = [row for row in entries if row >= 0]
        return used, [entries[row] for row in used]

    def _costs(self, stage: Stage) -> Floats:
        return np.array(
            [self.size[one] * sum(float(stage.leg[step, arc]) for arc, step in legs) + stage.whole[one] for one, legs in self.known],
            dtype=np.float64,
        )

    # ------------------------------------------------------------ prices

    def no_duals(self) -> Floats:
        """Row duals of a network in which nothing is short."""
        return np.zeros(self.floor_row + 1)

    def prices(self, row_duals: Floats) -> Prices:
        """The prices that row duals of a minimising master stand for."""
        expansion = self._expansion
        rent = np.maximum(-row_duals[: self._delivery_row], 0.0)
        padded = np.append(rent, 0.0)  # what the row -1 looks at
        slack = TOLERANCE * np.maximum(1.0 / self.volume_unit, self._limits)
        return Prices(
            leg=padded[self._channel_rows][:, expansion.network.arc_channel],
            wait=padded[self._node_rows],
            delivery=row_duals[self._delivery_row : self.floor_row],
            floor=max(0.0, float(row_duals[self.floor_row])),
            rent=float(np.sum(rent * self._limits)),
            slack=float(np.sum(rent * slack)),
        )

    def priced(self, stage: Stage, prices: Prices, which: Sequence[int], *, quick: bool) -> list[Way]:
        """The cheapest way of each transfer at the cost of the stage and these prices; ``quick``: a cheap one will do."""
        expansion = self._expansion
        return ways(expansion, which, stage.leg + prices.leg + expansion.blocked, prices.wait + expansion.no_room, quick=quick)

    def _own(self, stage: Stage, prices: Prices) -> Floats:
        """What all of each transfer costs besides its way."""
        return np.asarray(stage.whole - prices.floor * self.worth)

    def gaining(self, stage: Stage, prices: Prices, found: Iterable[Way]) -> list[tuple[int, Legs]]:
        """Ways whose reduced cost at ``prices`` is negative; they may have been found at others."""
        own, leg = self._own(stage, prices) - prices.delivery, stage.leg + prices.leg

        def reduced(one: Way) -> float:
            way = price_of(self._expansion, one.transfer, one.legs, leg, prices.wait)
            return float(self.size[one.transfer] * way + own[one.transfer])

        return [(one.transfer, one.legs) for one in found if one.legs and reduced(one) < -NEGATIVE]

    def bound(self, stage: Stage, prices: Prices, found: Iterable[Way]) -> float:
        """What no plan of the stage can cost less than; ``found`` has a way for each transfer that can arrive at all."""
        least = np.full(self._expansion.count, np.inf)
        for one in found:
            least[one.transfer] = one.least
        each = self.size * least + self._own(stage, prices)
        required = self._expansion.required
        each = np.where(required, np.minimum(each, stage.missing), np.minimum(each, 0.0))
        floor = prices.floor * stage.floor if prices.floor > 0.0 and np.isfinite(stage.floor) else 0.0
        return float(each.sum()) - prices.rent + floor

    def impossible(self, bound: float, prices: Prices) -> bool:
        """Whether so much is missing by ``bound`` that not even limits exceeded by the tolerance could deliver all."""
        sizes = self._expansion.size[self._expansion.required]
        return bound - prices.slack - TOLERANCE * float((np.maximum(1.0, sizes) / sizes).sum()) > 0.0

    # ------------------------------------------------------------ plans

    def parts(self, values: Floats, kept_value: float) -> list[Part] | None:
        """The parts of the master's column values; None while something is missing.

        Rounding of the solver's is made good: what is delivered but for rounding is delivered in full, and ``kept_value``, which an
        earlier goal attained, is attained again.
        """
        expansion = self._expansion
        share = np.maximum(values[expansion.count : expansion.count + len(self.known)], 0.0)
        transfer = np.array([one for one, _ in self.known[: len(share)]], dtype=np.int64)
        ship = share * expansion.size[transfer]
        ship[ship <= 1e-9 * expansion.size[transfer]] = 0.0
        total = np.bincount(transfer, weights=ship, minlength=expansion.count)
        near: Bools = np.asarray(
            np.abs(total - expansion.size) <= TOLERANCE * np.where(expansion.required, np.maximum(1.0, expansion.size), expansion.size)
        )
        if not near[expansion.required].all():
            return None
        factor = np.where(near, expansion.size / np.where(total > 0.0, total, 1.0), 1.0)
        partial = float((expansion.value / expansion.size)[~near] @ total[~near])
        short = kept_value - float(expansion.value[near].sum()) - partial
        if 0.0 < short <= TOLERANCE * max(partial, 0.0):
            factor = np.where(near, factor, np.minimum(1.0 + short / partial, expansion.size / np.where(total > 0.0, total, 1.0)))
        ship *= factor[transfer]
        return [Part(*self.known[place], float(ship[place])) for place in np.flatnonzero(ship).tolist()]

    def value(self, parts: Iterable[Part]) -> float:
        """What parts are worth."""
        density = self._expansion.value / self._expansion.size
        return float(sum(density[part.transfer] * part.gbit for part in parts))
