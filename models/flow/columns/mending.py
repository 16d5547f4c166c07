"""Flow moved off channels that a program did not watch, onto other known paths: what else would take a round of the program each.

A program has many optimal answers, and few of its commodities need the paths they got. Those that cross a channel over its level
are moved, as far as other paths of theirs that cost no more have room. Nothing here is proved or needs to be: a flow that keeps all levels
at the value of the program is as good as one the program finds with more rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.flow.columns.patterns import spans

if TYPE_CHECKING:
    from models.flow.columns.master import Master
    from models.program import Floats, Ints

MOST_CHANNELS = 30  # over their level: with more of them a new program knows better
MOST_MOVES = 1_000
PASSES = 3  # for each channel: the path that carries most of each commodity is emptied first


def mended(master: Master, flow: Floats, stretch: float, slack: float) -> Floats | None:
    """``flow`` (paths,) with no channel over its level by more than ``slack``, relative; None where moving some of it did not do."""
    mender = _Mender(master, flow, stretch, slack)
    over = mender.over()
    if len(over) > MOST_CHANNELS:
        return None
    for channel in over.tolist():
        for _ in range(PASSES):
            mender.relieve(channel)
            if not mender.exceeded(channel):
                break
        else:
            return None
    return None if len(mender.over()) else mender.flow


@dataclass(frozen=True, slots=True)
class _Pair:
    """Flow may go from the path ``giver`` to the path ``taker``: the channels that only one of them uses, and how often."""

    giver: int
    taker: int
    left: dict[int, float]
    entered: dict[int, float]


class _Mender:
    """A flow being moved, and the room that is left: ``room`` (layers, channels)."""

    def __init__(self, master: Master, flow: Floats, stretch: float, slack: float) -> None:
        store = master.store
        self._master, self._table, self._units = master, store.table, master.units()
        self._path, self._channel, self._times = store.entries(master.fabric)
        self._starts = np.concatenate(([0], np.cumsum(np.bincount(self._path, minlength=store.count))))
        self._level = master.levels(stretch)
        self._slack = slack * np.maximum(self._level, 1e-9)
        self._moves = MOST_MOVES
        self.flow: Floats = store.filled(flow).copy()
        self._room = self._level - master.loads(self.flow)

    def over(self) -> Ints:
        """The channels over their level, the one by most first."""
        beyond = (-self._room - self._slack).max(axis=0)
        found = np.flatnonzero(beyond > 0.0)
        return found[np.argsort(-beyond[found], kind="stable")]

    def exceeded(self, channel: int) -> bool:
        """Whether a channel is still over its level."""
        return bool((self._room[:, channel] < -self._slack[:, channel]).any())

    def relieve(self, channel: int) -> None:
        """Move flow off a channel, to the paths with the most room first."""
        crossing = np.zeros(self._table.count, dtype=np.bool_)
        crossing[self._path[self._channel == channel]] = True
        own = np.flatnonzero(crossing & (self.flow > 0.0))
        giver = np.full(self._master.commodities.count, -1, dtype=np.int64)
        own = own[np.argsort(self.flow[own], kind="stable")]
        giver[self._table.commodity[own]] = own
        other = np.flatnonzero((giver[self._table.commodity] >= 0) & ~crossing)
        other = other[self._units[other] <= self._units[giver[self._table.commodity[other]]]]
        space = self._space(other, giver)
        order = np.argsort(-space, kind="stable")
        for taker in other[order[: np.count_nonzero(space > 0.0)]].tolist():
            if self._moves == 0 or (self._room[:, channel] >= 0.0).all():
                return
            self._moves -= 1
            self._move(self._pair(int(giver[self._table.commodity[taker]]), taker), channel)

    def _space(self, other: Ints, giver: Ints) -> Floats:
        """How much each of the paths can take from its commodity's giver, before anything is moved; shape (others,)."""
        entry, owner = spans(self._starts, other)
        commodity, width = self._table.commodity[other][owner], self._master.fabric.channels
        gives, _ = spans(self._starts, giver[giver >= 0])
        shared = np.isin(commodity * width + self._channel[entry], self._table.commodity[self._path[gives]] * width + self._channel[gives])
        space = np.full(len(other), np.inf)
        new = np.flatnonzero(~shared)
        for layer, counts in enumerate(self._master.stage.layer_counts):
            counted = new[counts[self._master.commodities.rank[commodity[new]]]]
            np.minimum.at(space, owner[counted], self._room[layer, self._channel[entry[counted]]] / self._times[entry[counted]])
        return space

    def _pair(self, giver: int, taker: int) -> _Pair:
        one, other = self._uses(giver), self._uses(taker)
        left = {channel: times - other.get(channel, 0.0) for channel, times in one.items()}
        entered = {channel: times - one.get(channel, 0.0) for channel, times in other.items()}
        positive = ({channel: times for channel, times in used.items() if times > 0.0} for used in (left, entered))
        return _Pair(giver, taker, *positive)

    def _uses(self, path: int) -> dict[int, float]:
        here = slice(self._starts[path], self._starts[path + 1])
        return dict(zip(self._channel[here].tolist(), self._times[here].tolist(), strict=True))

    def _move(self, pair: _Pair, channel: int) -> None:
        """As much as there is, fits, and helps the channel."""
        rank = self._master.commodities.rank[self._table.commodity[pair.taker]]
        layers = np.flatnonzero(self._master.stage.layer_counts[:, rank])
        entered, left = list(pair.entered), list(pair.left)
        if not len(layers):
            return
        room = self._room[layers]
        space = float((room[:, entered] / list(pair.entered.values())).min(initial=np.inf))
        needed = float(-room[:, channel].min()) / pair.left[channel]
        amount = min(float(self.flow[pair.giver]), space, needed)
        if amount <= 0.0:
            return
        self.flow[pair.giver] -= amount
        self.flow[pair.taker] += amount
        self._room[np.ix_(layers, np.array(entered, dtype=np.int64))] -= amount * np.array(list(pair.entered.values()))
        self._room[np.ix_(layers, np.array(left, dtype=np.int64))] += amount * np.array(list(pair.left.values()))
