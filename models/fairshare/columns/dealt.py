"""From columns of classes to shares of jobs: every job gets its speed, and the jobs that share GPUs are named two by two."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.columns.dealing import matched, matched_within, windows
from models.fairshare.columns.dealt_twice import traded
from models.fairshare.schema import ShareTable

if TYPE_CHECKING:
    from models.fairshare.columns.classes import Classes
    from models.fairshare.columns.dealing import Piece
    from models.program import Bools, Floats, Ints

LEFT = 1e-8  # of a class's copies: time of jobs that are to have nothing which counts as rounding
LOST = 1e-9  # of a class's copies: time without a partner that counts as rounding


@dataclass(slots=True)
class Dealt:
    """Shares by position (second -1: alone), and the classes (a mask) of which some time found no partner."""

    short: Bools
    first: list[int] = field(default_factory=list)
    second: list[int] = field(default_factory=list)
    way: list[int] = field(default_factory=list)
    gangs: list[float] = field(default_factory=list)

    def add(self, first: int, second: int, way: int, gangs: float) -> None:
        """One more share."""
        self.first.append(first)
        self.second.append(second)
        self.way.append(way)
        self.gangs.append(gangs)

    def lacking(self, classes: Classes) -> Bools:
        """The jobs whose class has time without a partner, shape (jobs,)."""
        return np.isin(classes.of, np.flatnonzero(self.short))

    def table(self, classes: Classes) -> ShareTable:
        """The shares in the user's ids."""
        market = classes.market
        ids, places, ways = market.jobs.ids, market.accelerators.ids, market.ways
        accelerator, spread = ways.accelerator.tolist(), ways.spread.tolist()
        return ShareTable(
            first=tuple(ids[job] for job in self.first),
            second=tuple(None if job < 0 else ids[job] for job in self.second) if max(self.second, default=-1) >= 0 else None,
            accelerator=tuple(places[accelerator[way]] for way in self.way),
            spread=tuple(spread[way] for way in self.way) if any(spread[way] for way in self.way) else None,
            gangs=tuple(self.gangs),
        )


def dealt(classes: Classes, values: Floats, speeds: Floats) -> Dealt:
    """Shares that give the jobs ``speeds`` (jobs,) from ``values`` (columns,), which meet their threshold conditions.

    Where several jobs are alike in all, or a class is of one job, all of its columns are its own. A robust class gets all it has.
    """
    found = Dealt(short=np.zeros(classes.count, dtype=np.bool_))
    amounts = classes.amounts(values)
    way_of = classes.entry_way
    simple = _single(classes)
    _own(classes, simple, amounts, speeds, found)
    sides: dict[tuple[int, int], list[tuple[int, float]]] = {}
    ways = classes.market.ways
    running = np.bincount(classes.entry_class, weights=amounts, minlength=classes.count) > 0.0
    for k in np.flatnonzero(running & ~simple).tolist():
        entries = np.arange(classes.starts[k], classes.starts[k + 1])
        if not speeds[classes.members[k]].any():  # who is to have nothing gets no rounding, and is company only where it is needed
            alone = ways.second[way_of[entries]] < 0
            amounts[entries] = np.where(alone | (amounts[entries] <= LEFT * classes.size[k]), 0.0, amounts[entries])
        for job, place, time in _pieces(classes, k, entries, amounts[entries], speeds):
            way = int(way_of[entries[place]])
            if ways.second[way] < 0:
                found.add(job, -1, way, time)
            else:
                sides.setdefault((way, int(classes.workload[k])), []).append((job, time))
    _pair(classes, sides, found)
    return found


def _single(classes: Classes) -> Bools:
    """The classes of one job that has no company in any way, shape (classes,)."""
    found: Bools = np.bincount(classes.of[classes.of >= 0], minlength=classes.count) == 1
    found[classes.entry_class[classes.market.ways.second[classes.entry_way] >= 0]] = False
    return found


def _own(classes: Classes, simple: Bools, amounts: Floats, speeds: Floats, found: Dealt) -> None:
    """What those have is theirs."""
    jobs = np.flatnonzero(classes.of >= 0)
    job_of = np.zeros(classes.count, dtype=np.int64)
    job_of[classes.of[jobs]] = jobs
    at = np.flatnonzero(simple[classes.entry_class] & (amounts > 0.0))
    job = job_of[classes.entry_class[at]]
    at = at[(speeds[job] > 0.0) | (amounts[at] > LEFT * classes.size[classes.entry_class[at]])]
    found.first += job_of[classes.entry_class[at]].tolist()
    found.second += [-1] * len(at)
    found.way += classes.entry_way[at].tolist()
    found.gangs += amounts[at].tolist()


def _pieces(classes: Classes, k: int, entries: Ints, amounts: Floats, speeds: Floats) -> list[Piece]:
    members = classes.members[k]
    copies = classes.market.jobs.copies[members]
    if len(members) == 1 or classes.robust or np.isfinite(classes.budget[k]):
        part = copies / copies.sum()
        return [
            (job, place, float(one * amounts[place]))
            for job, one in zip(members.tolist(), part.tolist(), strict=True)
            for place in np.flatnonzero(amounts > 0.0).tolist()
        ]
    shared = classes.market.ways.second[classes.entry_way[entries]] >= 0
    pace, names = classes.entry_speed[entries], members.tolist()
    pieces = windows(amounts, pace, names, copies.tolist(), speeds[members].tolist(), shared)
    twins = classes.entry_part[entries] > 1.0
    if not (twins & (amounts > 0.0)).any():
        return pieces
    return traded(pieces, twins, pace, dict(zip(names, copies.tolist(), strict=True)))


def _pair(classes: Classes, sides: dict[tuple[int, int], list[tuple[int, float]]], found: Dealt) -> None:
    ways, copies = classes.market.ways, classes.market.jobs.copies
    single = (copies == 1.0).astype(np.int64)
    for way, workload in sorted(sides):
        first, second = int(ways.first[way]), int(ways.second[way])
        if workload != first:
            continue
        parts = sides[way, first]
        if first == second:
            pairs, lost = matched_within(parts, single)
            if lost > LOST:
                found.short[np.unique(classes.of[[job for job, _ in parts]])] = True
        else:
            pairs = matched(parts, sides.get((way, second), []))
        for one, other, time in pairs:
            found.add(one, other, way, time)
