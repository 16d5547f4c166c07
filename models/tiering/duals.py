"""The prices of the shared limits: samples first, then sifting over all objects.

Written as conversations: the drivers solve what is asked (see ``models.conversation``). The ceiling on prices in each round keeps
them near the last ones (the boxstep method: Marsten, Hogan, Blankenship, "The boxstep method for large-scale optimization", 1975).
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from models.conversation import Proved, Solve
from models.tiering.prices import LEAST_PRICE, Priced, price_scale, priced
from models.tiering.sifting import Box, State, moves, prices_of, program, sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.program import Floats
    from models.tiering.options import Options

METHOD = "prices of the shared limits, every object's best option at them in closed form"  # what certificates say
SMALLEST_SAMPLE = 600
SAMPLE_STEP = 16
SAMPLE_ROUNDS = 4
MOST_ROUNDS = 60
FIRST_SHARE = 0.1  # by how much the prices of a sample may be wrong
LEAST_SHARE = 1e-12
SETTLED = 0.1  # of the tolerance: a bound that rises by less has settled,
MOST_QUIET = 4  # the latest after so many rounds
WIDEST = 1e4
GROWTH, SHRINK = 4.0, 20.0  # of the box
AT_SIDE = 0.99
NEAR_SHARE, NEAR_LEAST, NEAR_MOST = 0.05, 1_500, 15_000  # objects near a tie that are sifted
NEAR_EXCESS = 1.5  # times as many are rather taken than sampled
SAMPLE_TOLERANCE = 2e-3
LADDER = 10.0 ** np.arange(-1, 6)


class NoPlanError(Exception):
    """The prices prove that no plan keeps all limits."""


Sifting = Generator[Any, Any, Priced]


def duals(
    options: Options,
    goal: str | None,
    tolerance: float,
    seed: int,
    deadline: float,
    start: Floats | None = None,
    share: float = FIRST_SHARE,
) -> Sifting:
    """The prices with the best bound, until it rises by much less than ``tolerance`` (relative) in a round, or time is up.

    ``start``, shape (rows,), may be wrong by ``share``. Bounds are proved of ``goal``, where one is named. Raises NoPlanError.
    """
    rows = len(options.rows)
    prices = np.zeros(rows) if start is None else start
    if not rows:
        return (yield from sifted(options, prices, goal, tolerance, deadline, rounds=1))
    if start is None:
        importance = options.reach
        rng = np.random.default_rng(seed)
        steps = (SMALLEST_SAMPLE * SAMPLE_STEP**level for level in range(8))
        sizes = [size for size in steps if 2 * size < options.count]
        wrong = WIDEST
        for size in sizes:
            part = options.part(*sample(importance, size, rng))
            try:
                found = yield from sifted(part, prices, None, SAMPLE_TOLERANCE, deadline, share=wrong, rounds=SAMPLE_ROUNDS, seed=seed)
            except NoPlanError:  # of the sample: no proof about all
                break
            prices, wrong = found.prices, FIRST_SHARE
        share = WIDEST if options.count <= 2 * SMALLEST_SAMPLE else FIRST_SHARE
    return (yield from sifted(options, prices, goal, tolerance, deadline, share=share, seed=seed))


def sifted(
    options: Options,
    prices: Floats,
    goal: str | None,
    tolerance: float,
    deadline: float,
    *,
    share: float = FIRST_SHARE,
    rounds: int = MOST_ROUNDS,
    seed: int = 0,
) -> Sifting:
    """Sift from ``prices`` on, which may be wrong by ``share``. Raises NoPlanError.

    Each round seeks the best prices in a box around the best so far, by the objects that can change their minds inside it: all
    of them where they are few, else a sample, each counted several times. The box shrinks as the prices settle and grows when they
    meet its side.
    """
    at = best = priced(options, prices)
    quiet = 0
    rng = np.random.default_rng(seed)
    scale = LEAST_PRICE * price_scale(options)
    for _ in range(rounds):
        if goal is not None and at is best and math.isfinite(at.bound):
            yield Proved(goal, at.bound, METHOD)
        if at.bound - options.constant > options.dearest:
            raise NoPlanError
        if not len(options.rows) or share < LEAST_SHARE or time.monotonic() > deadline:
            break
        new = yield from _round(options, best, share, rng)
        if new is None:
            break
        moved = float((np.abs(new - best.prices) / (best.prices + scale)).max())
        at = priced(options, new)
        gained = at.bound - best.bound
        at_side = moved >= AT_SIDE * share
        if gained <= 0:
            share /= GROWTH
        elif at_side:
            share = min(GROWTH * share, WIDEST)
        else:
            share = max(min(share / GROWTH, GROWTH * moved), share / SHRINK)
        best = at if gained > 0 else best
        quiet = quiet + 1 if abs(gained) <= SETTLED * tolerance * abs(best.bound) else 0
        if quiet == MOST_QUIET or (quiet and not at_side):
            break
    return best


def _round(options: Options, at: Priced, share: float, rng: np.random.Generator) -> Generator[Any, Any, Floats | None]:
    """The best prices in a box around those of ``at``, by a linear program over the objects near a tie; None when it was not solved."""
    near = np.flatnonzero(at.closeness <= share)
    wanted = int(min(max(NEAR_SHARE * options.count, NEAR_LEAST), NEAR_MOST))
    weights = None
    if len(near) > NEAR_EXCESS * wanted:
        chosen, weights = sample(options.reach[near], wanted, rng)
        near = near[chosen]
    found = moves(options, State(at.sets, at.server), at.prices, near, np.broadcast_to(share, options.count), weights)
    scale = LEAST_PRICE * price_scale(options)
    width = share * (at.prices + scale)
    box = Box(np.where(at.prices > scale, np.maximum(at.prices - width, 0.0), 0.0), at.prices + width)
    scaled = program(options, options.goal(at.sets, at.server), options.totals(at.sets, at.server), found, box=box)
    answer = yield Solve(scaled.program, share=0.5)
    if answer.row_duals is None:
        return None
    return np.clip(prices_of(scaled, answer.row_duals), box.least, box.most)


def ladder(options: Options, known: Mapping[tuple[str, tuple[str, ...]], float]) -> Floats | None:
    """Where to begin with a later goal: the ``known`` prices by rule and ids, and a price for rows that hold earlier goals.

    The more the earlier goals are worth, the larger all of them are: the best of some scales. None where no row is new.
    """
    prices = np.array([known.get((row.rule, row.ids), np.nan) for row in options.rows])
    new = np.flatnonzero(np.isnan(prices))
    if not len(new):
        return None
    prices[new] = 1.0
    scale = float(price_scale(options)[new[-1]])
    trials = [priced(options, prices * scale * factor) for factor in LADDER]
    return max(trials, key=lambda trial: trial.bound).prices


__all__ = ["METHOD", "NoPlanError", "duals", "ladder", "sifted"]
