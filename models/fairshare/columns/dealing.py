"""Dealing out what a class has: to every job its speed, in no more than its own time.

Put the class's time in a row, fastest first, idle time last, as long as there are copies. A job with c copies that need speed d takes the
window of length c whose mean speed is d; what is left closes up. Whatever the order of the jobs, the rest still meets the threshold
condition of the others: before the window nothing is missing, and behind it exactly ``c * d`` is. So it never fails where the condition
holds, and a class of n jobs with u units of time makes at most 2n + u shares. (After R. McNaughton, "Scheduling with deadlines and loss
functions", 1959, and E. C. Horvath, S. Lam, R. Sethi, "A level algorithm for preemptive scheduling", 1977.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Bools, Floats, Ints

Piece = tuple[int, int, float]  # job, unit, time
DUST = 1e-12  # times below this are rounding


def windows(
    amounts: Floats, speeds: Floats, jobs: Sequence[int], copies: Sequence[float], needs: Sequence[float], whole: Bools | None = None
) -> list[Piece]:
    """Who gets which of the units: ``amounts`` of time at ``speeds`` (units,), to ``jobs`` with so many ``copies`` and ``needs`` each.

    Where less is there than is needed (by rounding), the job that is served then gets the best that is left. Of the units ``whole`` (a
    mask) what nobody needs goes to those who have time for it: somebody else counts on their company.
    """
    order = np.argsort(-speeds, kind="stable")
    order = order[(amounts[order] > DUST) & (speeds[order] > 0.0)]
    room = float(sum(copies))
    row = [[int(unit), float(amounts[unit]), float(speeds[unit])] for unit in order.tolist()]
    # More time than the copies have is never needed: the slowest is left idle.
    spare = room - float(amounts[order].sum())
    while spare < 0.0 and row:
        cut = min(row[-1][1], -spare)
        row[-1][1] -= cut
        spare += cut
        if row[-1][1] <= DUST:
            row.pop()
    row.append([-1, max(spare, 0.0), 0.0])
    pieces: list[Piece] = []
    for job, length, need in zip(jobs, copies, needs, strict=True):
        row = _window(row, job, length, need * length, pieces)
    if whole is None:
        return [piece for piece in pieces if piece[1] >= 0]
    left = [(int(unit), amount) for unit, amount, _ in row if unit >= 0 and whole[int(unit)]]
    idle = [(job, time) for job, unit, time in pieces if unit < 0]
    return [piece for piece in pieces if piece[1] >= 0] + [(job, unit, time) for job, unit, time in matched(idle, left)]


def _window(row: list[list[float]], job: int, length: float, work: float, pieces: list[Piece]) -> list[list[float]]:
    """Take from the row the window of this length that does this work, as near to its end as that allows."""
    begin, taken_first, end, taken_end = _placed(row, length, work)
    left = row[:begin]
    for place in range(begin, min(end, len(row) - 1) + 1):
        unit, amount, speed = row[place]
        low = taken_first if place == begin else 0.0
        high = taken_end if place == end else amount
        low, high = min(low, amount), min(high, amount)
        if high - low > DUST:
            pieces.append((job, int(unit), high - low))
        if low > DUST:
            left.append([unit, low, speed])
        if amount - high > DUST:
            left.append([unit, amount - high, speed])
    left += row[end + 1 :]
    return _closed(left)


def _closed(row: list[list[float]]) -> list[list[float]]:
    """Neighbours of one unit as one."""
    found: list[list[float]] = []
    for unit, amount, speed in row:
        if found and found[-1][0] == unit:
            found[-1][1] += amount
        else:
            found.append([unit, amount, speed])
    return found


def _placed(row: list[list[float]], length: float, work: float) -> tuple[int, float, int, float]:
    """Where the window lies: unit and offset of its begin, unit and offset of its end.

    The work of a window falls as it slides towards slower units; between two meetings of an end with an edge it falls linearly.
    """
    begin, low = 0, 0.0
    end, high, done = _end_of(row, length)
    while done > work * (1.0 + 1e-15):
        if end >= len(row):
            break
        step = min(row[begin][1] - low, row[end][1] - high)
        fall = row[begin][2] - row[end][2]
        if fall > 0.0 and done - fall * step <= work:
            step = (done - work) / fall
            return begin, low + step, end, high + step
        done -= fall * step
        low, high = low + step, high + step
        if high >= row[end][1] - DUST:
            if end + 1 >= len(row):
                break
            end, high = end + 1, high - row[end][1]
            high = max(high, 0.0)
        if low >= row[begin][1] - DUST:
            begin, low = begin + 1, max(low - row[begin][1], 0.0)
    return begin, low, end, high


def _end_of(row: list[list[float]], length: float) -> tuple[int, float, float]:
    """Unit and offset where the first window ends, and the work it does."""
    left, done = length, 0.0
    for place, (_, amount, speed) in enumerate(row):
        if left <= amount or place == len(row) - 1:
            taken = min(left, amount)
            return place, taken, done + taken * speed
        done += amount * speed
        left -= amount
    return len(row), 0.0, done


def matched(first: list[tuple[int, float]], second: list[tuple[int, float]]) -> list[tuple[int, int, float]]:
    """Jobs of two workloads with their times in a pair, brought together: (first job, second job, time). Never one with itself."""
    found: list[tuple[int, int, float]] = []
    here, there, left, right = 0, 0, 0.0, 0.0
    one = other = -1
    while (left > DUST or here < len(first)) and (right > DUST or there < len(second)):
        if left <= DUST:
            one, left = first[here]
            here += 1
            continue
        if right <= DUST:
            other, right = second[there]
            there += 1
            continue
        time = min(left, right)
        found.append((one, other, time))
        left, right = left - time, right - time
    return found


def matched_within(parts: list[tuple[int, float]], alone: Ints) -> tuple[list[tuple[int, int, float]], float]:
    """Jobs of one workload with their times in a pair of two such jobs, brought together, and the time that finds no partner.

    ``alone`` says (1 or 0 by job position) who has one copy only, which cannot share with itself. The jobs stand in a row; the second half
    of the row goes beside the first, so that a job meets itself only where it has more than half of all.
    """
    order = sorted(parts, key=lambda part: -part[1])
    half = sum(time for _, time in order) / 2.0
    front: list[tuple[int, float]] = []
    back: list[tuple[int, float]] = []
    filled = 0.0
    for job, time in order:
        here = min(time, max(half - filled, 0.0))
        if here > DUST:
            front.append((job, here))
        if time - here > DUST:
            back.append((job, time - here))
        filled += time
    pairs = matched(front, back)
    lost = sum(time for one, other, time in pairs if one == other and alone[one])
    return [pair for pair in pairs if pair[0] != pair[1] or not alone[pair[0]]], lost
