"""When what a class of jobs gets together can be dealt out so that each has the speed it needs.

Let a class of n copies have times ``Y_u`` at speeds ``s_u``. Speeds ``d_j`` can be had by its copies, each with at most one unit of time,
if and only if for every threshold s >= 0

    sum_u Y_u * max(s_u - s, 0)  >=  sum_j max(d_j - s, 0)

and it is enough to ask at 0 and at the speeds ``s_u`` themselves. (E. C. Horvath, S. Lam, R. Sethi, "A level algorithm for preemptive
scheduling", 1977; G. H. Hardy, J. E. Littlewood, G. Pólya, "Inequalities", 1934.) ``dealing`` proves it by doing it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.fairshare.columns.classes import Classes
    from models.program import Floats, Ints


def excess(values: Floats, weights: Floats, thresholds: Floats) -> Floats:
    """``sum_i weights_i * max(values_i - s, 0)`` for every threshold s, shape (thresholds,)."""
    order = np.argsort(values)
    ordered, mass = values[order], weights[order]
    above = np.concatenate((np.cumsum((ordered * mass)[::-1])[::-1], [0.0]))
    count = np.concatenate((np.cumsum(mass[::-1])[::-1], [0.0]))
    place = np.searchsorted(ordered, thresholds, side="right")
    found: Floats = above[place] - thresholds * count[place]
    return np.maximum(found, 0.0)


def needed(classes: Classes, speeds: Floats, of: Ints, at: Floats) -> Floats:
    """``sum_j copies_j * max(speeds_j - s, 0)`` for rows of class ``of[r]`` and threshold ``at[r]``, shape (rows,); speeds (jobs,)."""
    found = np.zeros(len(of))
    total = np.zeros(classes.count)
    taking = classes.of >= 0
    copies = classes.market.jobs.copies
    np.add.at(total, classes.of[taking], (copies * speeds)[taking])
    zero = at == 0.0
    found[zero] = total[of[zero]]
    for k in np.unique(of[~zero]).tolist():
        rows, members = np.flatnonzero((of == k) & ~zero), classes.members[k]
        found[rows] = excess(speeds[members], copies[members], at[rows])
    return found


def broken(classes: Classes, amounts: Floats, speeds: Floats, tolerance: float) -> tuple[Ints, Floats]:
    """The classes and thresholds above 0 that ``amounts`` (entries,) break for these ``speeds`` (jobs,).

    A row counts as broken by more than ``tolerance`` times what the whole class needs. Of each run of neighbouring broken thresholds
    only the worst is told: one row mends its neighbours as a rule.
    """
    copies = classes.market.jobs.copies
    found: list[tuple[int, float]] = []
    for k, ladder in classes.ladders.items():
        if not len(ladder):
            continue
        entries, members = slice(classes.starts[k], classes.starts[k + 1]), classes.members[k]
        wanted = excess(speeds[members], copies[members], ladder)
        short = wanted - excess(classes.entry_speed[entries], amounts[entries], ladder)
        scale = max(float((copies[members] * speeds[members]).sum()), 1e-300)
        bad = short > tolerance * scale
        edges = np.flatnonzero(np.diff(bad.astype(np.int8), prepend=0, append=0))
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            found.append((k, float(ladder[begin + int(np.argmax(short[begin:end]))])))
    return np.array([k for k, _ in found], dtype=np.int64), np.array([s for _, s in found], dtype=np.float64)


def entries_above(classes: Classes, of: Ints, at: Floats) -> tuple[Ints, Ints, Floats]:
    """Rows ``sum_u Y_u * max(s_u - at, 0)`` in units of each class's largest speed: starts, columns and coefficients."""
    starts, columns, values = [0], [], []
    for k, threshold in zip(of.tolist(), at.tolist(), strict=True):
        entries = np.arange(classes.starts[k], classes.starts[k + 1])
        entries = entries[classes.entry_speed[entries] > threshold]
        worth = classes.entry_part[entries] * (classes.entry_speed[entries] - threshold)
        merged = np.bincount(classes.entry_column[entries], weights=worth) / classes.unit[k]
        here = np.flatnonzero(merged)
        columns.append(here)
        values.append(merged[here])
        starts.append(starts[-1] + len(here))
    return np.array(starts, dtype=np.int64), np.concatenate([np.zeros(0, np.int64), *columns]), np.concatenate([np.zeros(0), *values])
