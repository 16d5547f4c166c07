"""A first plan of transfers at once, and bounds by counting: each transfer on its own cheapest way."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.flow.schema import GoalName, Leg, Plan, Shipment
from models.flow.transfers.expansion import expansion_of
from models.flow.transfers.trees import is_exact, ways, work

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.flow.schema import Problem
    from models.flow.transfers.expansion import Expansion, Legs
    from models.flow.transfers.trees import Way
    from models.program import Bools, Floats, Ints

ALONE_WORK = 3 * 10**7  # up to so many sums bounds by counting are exact
TINY = 1e-9  # relative: less room, or less of a volume, than this is none


class Part(NamedTuple):
    """A volume of a transfer on its legs."""

    transfer: int
    legs: Legs
    gbit: float


def first_plan(problem: Problem, seconds: float) -> Plan | None:
    """Transfers that must be delivered, then others by worth, on their cheapest ways with room left; None when not all that must fit.

    Cheap ways first; where these leave something over, early ones. No randomness. None proves nothing.
    """
    expansion = expansion_of(problem)
    until = time.monotonic() + seconds
    for price in (expansion.usd, early(expansion)):
        parts, left = shipped(expansion, price, until)
        if not (left[expansion.required] > TINY * expansion.size[expansion.required]).any():
            return plan_of(expansion, parts)
    return None


def simple_bounds(problem: Problem) -> dict[str, float]:
    """What all transfers are worth that can arrive in time at all, and the cost of those that must when each has the network to itself."""
    expansion = expansion_of(problem)
    found = alone(expansion)
    least = np.array([one.least for one in found])
    reached, required = np.isfinite(least), expansion.required
    if not reached[required].all():
        return {}
    bounds = {GoalName.transfer_cost.value: float(expansion.size[required] @ np.maximum(least[required], 0.0))}
    if not required.all():
        bounds[GoalName.transfer_value.value] = float(expansion.value[reached].sum())
    return bounds


def alone(expansion: Expansion) -> list[Way]:
    """The cheapest way of each transfer as if it had the network to itself, in the order of the transfers.

    Just a good one, and a bound that is less, where many targets make that long.
    """
    waiting = np.broadcast_to(expansion.no_room, (expansion.steps, expansion.network.nodes))
    asked = expansion.usd + expansion.blocked, waiting, price_unit(expansion)
    exact = [one for one in range(expansion.count) if is_exact(expansion, one)]
    long = sum(work(expansion, one) for one in exact) > ALONE_WORK
    found = ways(expansion, exact, *asked, quick=long) + ways(expansion, set(range(expansion.count)).difference(exact), *asked)
    return sorted(found, key=lambda one: one.transfer)


def price_unit(expansion: Expansion) -> float:
    """The highest price of a Gbit on any link, 1 where all are free."""
    return float(expansion.usd.max(initial=0.0)) or 1.0


def early(expansion: Expansion) -> Floats:
    """Prices of legs, (steps, arcs), with which the cheapest way arrives early, and at little cost."""
    moments = (1.0 + np.arange(expansion.steps)) / expansion.steps
    return (1.0 + 1e-3 * expansion.usd / price_unit(expansion)) * moments[:, None] * price_unit(expansion)


def shipped(expansion: Expansion, price: Floats, until: float) -> tuple[list[Part], Floats]:
    """Parts on ways that are cheap by ``price`` (steps, arcs) and have room, and what is left of each transfer, shape (transfers,)."""
    greedy = _Greedy(expansion, price)
    density = expansion.value / expansion.size
    for wanted in (expansion.required, ~expansion.required):
        greedy.ship(wanted, np.lexsort((expansion.deadline, -density)), until)
    return greedy.parts, greedy.left


class _Greedy:
    """Fills the network with one way after another."""

    def __init__(self, expansion: Expansion, price: Floats) -> None:
        self._expansion = expansion
        self._price = price + expansion.blocked
        self._channel_room = np.tile(expansion.channel_gbit, (expansion.steps, 1))
        self._node_room = np.tile(expansion.storage, (expansion.steps, 1))
        self._channel_least = TINY * expansion.channel_gbit
        self._node_least = TINY * expansion.storage
        self.left = expansion.size.copy()
        self.parts: list[Part] = []

    def ship(self, wanted: Bools, order: Ints, until: float) -> None:
        """Rounds over the transfers ``wanted``, in each one way for each of them, until all is shipped, nothing fits or time is up."""
        expansion, arc_channel = self._expansion, self._expansion.network.arc_channel
        waiting = [transfer for transfer in order.tolist() if wanted[transfer]]
        while waiting and time.monotonic() < until:
            full = np.where(np.isinf(self._channel_room) | (self._channel_room > self._channel_least), 0.0, np.inf)
            closed = np.where(np.isinf(self._node_room) | (self._node_room > self._node_least), 0.0, np.inf)
            found = {one.transfer: one for one in ways(expansion, waiting, self._price + full[:, arc_channel], closed, quick=True)}
            for transfer in waiting:
                if found[transfer].legs:
                    self._take(transfer, found[transfer].legs)
            waiting = [one for one in waiting if found[one].legs and self.left[one] > TINY * expansion.size[one]]

    def _take(self, transfer: int, legs: Legs) -> None:
        """As much of the transfer on ``legs`` as there is room for."""
        channels = Counter((step, int(self._expansion.network.arc_channel[arc])) for arc, step in legs)
        waits = self._expansion.waits(transfer, legs)
        room = [float(self._channel_room[place]) / times for place, times in channels.items()]
        amount = min(float(self.left[transfer]), *room, *(float(self._node_room[step, node]) for node, step in waits))
        if amount <= TINY * self._expansion.size[transfer]:
            return
        for place, times in channels.items():
            self._channel_room[place] -= times * amount
        for node, step in waits:
            self._node_room[step, node] -= amount
        self.left[transfer] -= amount
        self.parts.append(Part(transfer, legs, amount))


def plan_of(expansion: Expansion, parts: Iterable[Part]) -> Plan:
    """The plan of some parts; parts with the same legs become one shipment."""
    network = expansion.network
    volume: dict[tuple[int, Legs], float] = {}
    for part in parts:
        volume[part.transfer, part.legs] = volume.get((part.transfer, part.legs), 0.0) + part.gbit

    def leg(arc: int, step: int) -> Leg:
        return Leg(link=network.link_ids[network.arc_link[arc]], back=bool(network.arc_back[arc]), step=step)

    order = sorted(volume, key=lambda one: (one[0], one[1][0][1], one[1]))
    return Plan(
        shipments=tuple(
            Shipment(transfer=expansion.ids[transfer], gbit=volume[transfer, legs], legs=tuple(leg(*one) for one in legs))
            for transfer, legs in order
        )
    )


def parts_of(expansion: Expansion, plan: Plan) -> list[Part]:
    """The shipments of a right plan as parts."""
    return [Part(expansion.at[one.transfer], expansion.legs_of(one), one.gbit) for one in plan.shipments]
