"""What leases should converge to: the shares of a plan, job by job, with every copy of a job on its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.plans.division import division_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.fairshare.plans.division import Division
    from models.fairshare.schema import Plan, Problem
    from models.program import Bools, Floats, Ints

MOST_COPIES = 200_000  # beyond it nobody reads leases one by one
LEAST_SHARE = 1e-9  # less is the rounding of a solver
NOBODY = -1


class TooManyCopiesError(ValueError):
    """The jobs have more copies than leases are worked out for."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Planned shares in parallel arrays: ``first``, ``second`` (-1: alone), ``accelerator``, ``spread``, ``gpus``, ``share`` are (cells,).

    A cell is a unit on an accelerator; ``share`` is the part of all time that it should run, at most 1. ``room``, ``packed_room`` and
    ``gpus_per_node`` are (accelerators,), in GPUs. ``jobs`` names every copy of every job.
    """

    jobs: tuple[str, ...]
    accelerators: tuple[str, ...]
    first: Ints
    second: Ints
    accelerator: Ints
    spread: Bools
    gpus: Ints
    share: Floats
    room: Ints
    packed_room: Ints
    gpus_per_node: Ints

    @property
    def count(self) -> int:
        """How many cells."""
        return len(self.first)

    @cached_property
    def keys(self) -> tuple[tuple[str, str, str, bool], ...]:
        """What each cell is called, whatever the others are: job, the job beside it or "", accelerator, spread."""
        return tuple(
            (self.jobs[first], self.jobs[second] if second >= 0 else "", self.accelerators[accelerator], spread)
            for first, second, accelerator, spread in zip(
                self.first.tolist(), self.second.tolist(), self.accelerator.tolist(), self.spread.tolist(), strict=True
            )
        )

    def per_job(self, cells: Floats) -> Floats:
        """Sums over the cells of each job, shape (jobs,): a pair counts for both."""
        shared = self.second >= 0
        alone = np.bincount(self.first, weights=cells, minlength=len(self.jobs))
        return np.asarray(alone + np.bincount(self.second[shared], weights=cells[shared], minlength=len(self.jobs)))


def targets_of(problem: Problem, plan: Plan) -> Targets:
    """The shares of a plan. All copies of a job get the same time; a job with several copies is called ``id#1``, ``id#2``, ...

    Raises TooManyCopiesError beyond MOST_COPIES copies.
    """
    return targets_from(problem, division_of(problem, plan))


def targets_from(problem: Problem, division: Division) -> Targets:
    """The same of shares as arrays, perhaps planned for fewer GPUs than ``problem`` has (``leases.plannable_gpus``)."""
    market = division.market
    copies = market.jobs.copies.astype(np.int64)
    if copies.sum() > MOST_COPIES:
        raise TooManyCopiesError(f"the jobs have {copies.sum():,} copies, and leases are for at most {MOST_COPIES:,}; ask for fewer jobs")
    starts = np.concatenate([[0], np.cumsum(copies)])
    names = tuple(
        name if count == 1 else f"{name}#{copy}"
        for name, count in zip(market.jobs.ids, copies.tolist(), strict=True)
        for copy in range(1, count + 1)
    )
    shares = zip(*(part.tolist() for part in (division.first, division.second, division.way, division.gangs)), strict=True)
    cells = [
        cell for first, second, way, gangs in shares if gangs > LEAST_SHARE for cell in _dealt(first, second, way, gangs, starts, copies)
    ]
    columns = list(zip(*cells, strict=True)) or [()] * 4
    first, second, way = (np.array(column, dtype=np.int64) for column in columns[:3])
    return Targets(
        jobs=names,
        accelerators=market.accelerators.ids,
        first=first,
        second=second,
        accelerator=market.ways.accelerator[way],
        spread=market.ways.spread[way],
        gpus=market.ways.gpus[way].astype(np.int64),
        share=np.minimum(1.0, np.array(columns[3], dtype=np.float64)),
        room=np.array([one.count for one in problem.accelerators], dtype=np.int64),
        packed_room=np.array([one.count if one.packed_gpus is None else one.packed_gpus for one in problem.accelerators], dtype=np.int64),
        gpus_per_node=np.array([one.gpus_per_node for one in problem.accelerators], dtype=np.int64),
    )


def _dealt(first: int, second: int, way: int, gangs: float, starts: Ints, copies: Ints) -> Iterator[tuple[int, int, int, float]]:
    """A share dealt out so that each copy gets the same: copies of two jobs meet along the north-west corner, those of one in a ring."""
    begin, count = int(starts[first]), int(copies[first])
    if second < 0:
        for copy in range(count):
            yield begin + copy, NOBODY, way, gangs / count
    elif second == first:
        ring = 1 if count == 2 else count  # noqa: PLR2004  (two copies make one pair, not two)
        for copy in range(ring):
            yield begin + copy, begin + (copy + 1) % count, way, gangs / ring
    else:
        other, others = int(starts[second]), int(copies[second])
        edges = sorted({*(step * others for step in range(count + 1)), *(step * count for step in range(others + 1))})
        for low, high in pairwise(edges):
            yield begin + low // others, other + low // count, way, gangs * (high - low) / (count * others)
