"""From prices to a plan: shares of the objects near a tie, whole objects, and a small integer program around what came out.

Conversations, as ``models.tiering.duals``. With few shared limits few objects are split in a vertex of the linear program
(no more than there are limits), so rounding loses little, and what it loses an integer program over the near-ties wins back.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from models.conversation import Solve
from models.tiering.prices import LEAST_PRICE, nearest, price_scale
from models.tiering.rounding import applied, polished, whole
from models.tiering.sifting import Box, State, moves, program

if TYPE_CHECKING:
    from models.tiering.options import Options
    from models.tiering.prices import Priced

FIRST_NEAR = 100  # objects near a tie between each two servers that may move, at first
MOST_NEAR = 10_000
WIDER = 4
TRIES = 3  # with ever more spare room, before more objects may move
SPARE = 2.0  # times the excess of the last try
DEAR = 20.0  # times its price: what exceeding a limit costs
MEND_S = 10.0  # most of mending or filling

Repaired = Generator[Any, Any, State | None]


def balanced(options: Options, at: Priced, deadline: float) -> Repaired:
    """A plan from the prices of ``at``: shares, then whole objects, mended and filled; None when no limit-keeping one was found in time."""
    state = State(at.sets, at.server)
    if not len(options.rows):
        return state
    totals, goal = options.totals(at.sets, at.server), options.goal(at.sets, at.server)
    ceiling = DEAR * (at.prices + LEAST_PRICE * price_scale(options))
    near = FIRST_NEAR
    while time.monotonic() < deadline:
        objects, share = nearest(options, at, near)
        found = moves(options, state, at.prices, objects, share)
        spare = np.zeros(len(totals))  # room that the shares leave for rounding
        for _ in range(TRIES):
            scaled = program(options, goal, totals + spare, found, box=Box(np.zeros(len(ceiling)), ceiling))
            answer = yield Solve(scaled.program, share=0.5)
            if answer.values is None:
                break
            until = min(deadline, time.monotonic() + MEND_S)
            rounded = whole(options, totals, found, answer.values)
            times = polished(options, totals, at.prices, found, rounded, until)
            if times is not None:
                return applied(state, found, times)
            spare += SPARE * np.maximum(totals + rounded @ found.taken - options.limits, 0.0)
        if near >= min(options.count, MOST_NEAR):
            return None
        near *= WIDER
    return None


def improved(options: Options, at: Priced, state: State, near: int, gap: float, share: float) -> Repaired:
    """The best plan in which only the ``nearest`` objects leave a state that keeps all limits; None if there is none better."""
    objects, reached = nearest(options, at, near)
    found = moves(options, state, at.prices, objects, reached)
    if not found.count:
        return None
    goal = options.goal(state.sets, state.server)
    scaled = program(options, goal, options.totals(state.sets, state.server), found, box=None, integer=True)
    answer = yield Solve(scaled.program, share=share, gap=gap, start=np.zeros(found.count))
    if answer.values is None:
        return None
    better = applied(state, found, np.round(answer.values).astype(np.int64))
    return better if options.goal(better.sets, better.server) < goal and keeps_limits(options, better) else None


def keeps_limits(options: Options, state: State) -> bool:
    """Whether a state keeps every row's limit, to the last digits."""
    slack = 1e-9 * np.maximum(1.0, np.abs(options.limits))
    return bool((options.totals(state.sets, state.server) <= options.limits + slack).all())
