"""Boxes of prices near ones at which all objects were priced: most objects are known not to change their minds, and are not asked again.

An object with closeness c at the prices p of a survey keeps its best option while every price stays within c * (p + least) of p
(``Priced.closeness``). So at other prices, and in the whole box around them, only objects with a closeness up to the share that reaches
from p to the far side of the box can prefer anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.tiering.prices import LEAST_PRICE, best_of, charged, price_scale, priced
from models.tiering.sifting import Box, State, moves, program, weighed

if TYPE_CHECKING:
    from models.program import Floats, Ints
    from models.tiering.options import Options
    from models.tiering.prices import Priced
    from models.tiering.sifting import Moves, Scaled

BOX_OBJECTS = 5_000  # that can change their minds in one box
LEAST_BOX, WIDEST_BOX = 0.01, 0.5
WIDER = 1.25  # by which a box may be wider than the one before
MOST_ASKED = 0.35  # of all objects: when more could change their minds, all are priced


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """All objects priced: what they take of the rows, (rows,), and add to the goal; ``least`` is what a row without price may get."""

    at: Priced
    least: Floats
    totals: Floats
    goal: float

    @classmethod
    def of(cls, options: Options, prices: Floats) -> Survey:
        """A survey at ``prices``, shape (rows,)."""
        at = priced(options, prices)
        return cls(at, LEAST_PRICE * price_scale(options), options.totals(at.sets, at.server), options.goal(at.sets, at.server))

    def share_to(self, prices: Floats) -> float:
        """By how large a share the prices differ from the survey's."""
        return float((np.abs(prices - self.at.prices) / (self.at.prices + self.least)).max(initial=0.0))


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A box of prices, the state that is best at its middle, and the moves that may pay somewhere in it."""

    state: State
    totals: Floats
    goal: float
    found: Moves
    sides: Box
    share: float

    def program(self, options: Options) -> Scaled:
        """The best moves within the limits of ``options``, with the box's sides as prices of room."""
        return program(options, self.goal, self.totals, self.found, box=self.sides)


def drawn(options: Options, survey: Survey | None, prices: Floats, share: float) -> tuple[Drawn, Survey]:
    """The box around ``prices`` in which about BOX_OBJECTS objects can change their minds, at most ``WIDER`` times as wide as ``share``.

    Also the survey that it was drawn from: a new one where ``survey`` is None or too far away.
    """
    least = LEAST_PRICE * price_scale(options)
    asked = None
    if survey is not None:
        share = min(share * WIDER, WIDEST_BOX)
        stretch = float(((prices + least) / (survey.at.prices + survey.least)).max(initial=0.0))
        asked = np.flatnonzero(survey.at.closeness <= survey.share_to(prices) + share * stretch)
    if survey is None or asked is None or len(asked) > MOST_ASKED * options.count:
        survey = Survey.of(options, prices)
        asked, closeness = np.arange(options.count), survey.at.closeness
        share = min(max(_wide_enough(closeness), LEAST_BOX), WIDEST_BOX)
        stands = _Stands(State(survey.at.sets, survey.at.server), survey.totals, survey.goal)
    else:
        server, _, sets, closeness = best_of(charged(options, prices, asked), 2 * LEAST_PRICE * options.reach[asked])
        share = min(share, max(_wide_enough(closeness), LEAST_BOX))
        stands = _changed(options, survey, asked, sets, server)
    near = asked[closeness <= share]
    found = moves(options, stands.state, prices, near, np.full(options.count, share))
    width = share * (prices + least)
    sides = Box(np.maximum(prices - width, 0.0), prices + width)
    return Drawn(stands.state, stands.totals, stands.goal, found, sides, share), survey


def _wide_enough(closeness: Floats) -> float:
    """The share by which BOX_OBJECTS objects can change their minds; inf where there are not as many."""
    return float(np.partition(closeness, BOX_OBJECTS - 1)[BOX_OBJECTS - 1]) if len(closeness) >= BOX_OBJECTS else np.inf


@dataclass(frozen=True, slots=True, eq=False)
class _Stands:
    """Where all objects stand, and what that adds up to."""

    state: State
    totals: Floats
    goal: float


def _changed(options: Options, survey: Survey, asked: Ints, sets: Ints, server: Ints) -> _Stands:
    """The survey with the new minds of those that were asked."""
    before = survey.at
    new = np.flatnonzero((sets != before.sets[asked]) | (server != before.server[asked]))
    at, state = asked[new], State(before.sets.copy(), before.server.copy())
    state.sets[at], state.server[at] = sets[new], server[new]
    cost_then, taken_then = weighed(options, at, before.sets[at], before.server[at])
    cost, taken = weighed(options, at, state.sets[at], state.server[at])
    return _Stands(state, survey.totals + (taken - taken_then).sum(axis=0), survey.goal + float((cost - cost_then).sum()))
