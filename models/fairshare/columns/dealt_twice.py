"""Time in a pair of two jobs of one workload must be held by two: a job that has more than half of it trades with another.

Two jobs put all that they have together, take half each of that pair's time, and deal out the rest between them again. Between jobs of
equal speed that never fails; between others it may, and then the next nearest is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.columns.dealing import DUST, windows
from models.fairshare.columns.thresholds import excess

if TYPE_CHECKING:
    from models.fairshare.columns.dealing import Piece
    from models.program import Bools, Floats

MOST_PARTNERS = 60
EXACT = 1e-10  # of a job's time
Held = dict[int, dict[int, float]]


def traded(pieces: list[Piece], paired: Bools, pace: Floats, copies: dict[int, float]) -> list[Piece]:
    """The same times and the same speeds, with nobody alone in a unit of ``paired`` (units,) as far as trades can do it.

    ``copies`` is by job; a job of several copies is company to itself.
    """
    held: Held = {}
    for job, unit, time in pieces:
        mine = held.setdefault(job, {})
        mine[unit] = mine.get(unit, 0.0) + time
    for unit in sorted({unit for _, unit, _ in pieces if paired[unit]}):
        holders = {job: mine[unit] for job, mine in held.items() if mine.get(unit, 0.0) > 0.0}
        most = max(holders, key=lambda job: holders[job])
        if copies[most] == 1.0 and holders[most] > 0.5 * sum(holders.values()) * (1.0 + EXACT) + DUST:
            _trade(held, most, unit, pace, copies)
    return [(job, unit, time) for job, mine in held.items() for unit, time in sorted(mine.items()) if time > DUST]


def _trade(held: Held, most: int, unit: int, pace: Floats, copies: dict[int, float]) -> None:
    """Find somebody to halve a unit with."""
    speed = {job: sum(time * pace[each] for each, time in mine.items()) for job, mine in held.items() if copies[job] == 1.0}
    near = sorted((job for job in speed if job != most), key=lambda job: abs(speed[job] - speed[most]))
    for other in near[:MOST_PARTNERS]:
        made = _halved(held[most], held[other], unit, pace)
        if made is not None:
            held[most], held[other] = made
            return


def _halved(one: dict[int, float], other: dict[int, float], unit: int, pace: Floats) -> tuple[dict[int, float], dict[int, float]] | None:
    """What the two have after the trade; None where their speeds cannot be kept."""
    half = 0.5 * (one.get(unit, 0.0) + other.get(unit, 0.0))
    units = sorted((set(one) | set(other)) - {unit})
    amounts = np.array([one.get(each, 0.0) + other.get(each, 0.0) for each in units])
    speeds, time = pace[units] if units else np.zeros(0), 1.0 - half
    needs = np.array([sum(spent * pace[each] for each, spent in mine.items()) for mine in (one, other)]) - half * pace[unit]
    if time <= 0.0 or needs.min() < -EXACT * pace[unit]:
        return None
    needs = np.maximum(needs, 0.0) / time
    thresholds = np.concatenate(([0.0], speeds))
    short = excess(needs, np.full(2, time), thresholds) - excess(speeds, amounts, thresholds)
    if float(short.max()) > EXACT * max(float(needs.sum()), pace[unit]):
        return None
    whole = np.ones(len(units), dtype=np.bool_)
    order = [0, 1] if needs[0] >= needs[1] else [1, 0]
    parts: tuple[dict[int, float], dict[int, float]] = ({unit: half}, {unit: half})
    for mine, place, spent in windows(amounts, speeds, order, [time, time], needs[order].tolist(), whole):
        parts[mine][units[place]] = parts[mine].get(units[place], 0.0) + spent
    return parts
