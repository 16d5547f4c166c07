"""Counts of modules that some cheapest design does without, because fewer other modules hold as much at no higher cost.

Each rule takes several modules of a link away for a single one. Capacity does not shrink, cost does not grow, and the number of
modules falls, so that rules may be used until none applies: some cheapest design obeys them all. Only modules without a limit of
their own come in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.conversation import NewRows
from models.kept import Kept

if TYPE_CHECKING:
    from models.flow.design.works import Works
    from models.program import Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Sensible:
    """``most``, (modules,): so many of one module at most; ``instead``: the module that one more makes sensible, -1 for none.

    ``alone``, by link: modules of which any two (of one or of two kinds) are worth less than some other one.
    """

    most: Floats
    instead: Ints
    alone: tuple[tuple[int, ...], ...]


def sensible_of(works: Works) -> Sensible:
    """The rules of a design, kept as long as it lives."""
    return _kept.of(works)


def _sensible(works: Works) -> Sensible:
    most, instead = works.most.copy(), np.full(works.modules, -1, dtype=np.int64)
    alone: list[tuple[int, ...]] = []
    for places in works.of_link:
        free = [place for place in places.tolist() if works.useful[place] and not works.limited[place]]
        for place in [] if works.one_each else places.tolist():
            for other in free:
                count = _enough(works, place, other)
                if count is not None and count - 1 < most[place]:
                    most[place], instead[place] = count - 1, other
        alone.append(() if works.one_each else _alone(works, free))
    return Sensible(most, instead, tuple(alone))


def _enough(works: Works, place: int, other: int) -> int | None:
    """The number of copies that one ``other`` module replaces; None when it replaces none."""
    if other == place or works.module_cost[place] <= 0:
        return None
    count = max(2, math.ceil(float(works.module_cost[other] / works.module_cost[place])))
    return count if count * works.module_capacity[place] <= works.module_capacity[other] else None


def _alone(works: Works, free: list[int]) -> tuple[int, ...]:
    """Modules from the smallest on, as long as every two of them are replaced."""
    chosen: list[int] = []
    for place in sorted(free, key=lambda one: float(works.module_capacity[one])):
        if any(_replaced(works, place, other, free) is None for other in [*chosen, place]):
            break
        chosen.append(place)
    return tuple(chosen) if len(chosen) > 1 else ()


def _replaced(works: Works, first: int, second: int, free: list[int]) -> int | None:
    """A module that replaces one of each."""
    capacity = works.module_capacity[first] + works.module_capacity[second]
    cost = works.module_cost[first] + works.module_cost[second]
    return next((one for one in free if works.module_capacity[one] >= capacity and works.module_cost[one] <= cost), None)


def tidied(works: Works, counts: Floats) -> Floats:
    """Counts on which no rule applies: as much capacity, at no higher cost."""
    rules, counts = sensible_of(works), counts.copy()
    for link, places in enumerate(works.of_link):
        changed = True
        while changed:
            changed = False
            for place in places[(counts[places] > rules.most[places]) & (rules.instead[places] >= 0)].tolist():
                times = counts[place] // (rules.most[place] + 1)
                counts[place] -= times * (rules.most[place] + 1)
                counts[rules.instead[place]] += times
                changed = True
            # Two copies of one module at a time, as often as there are two; then one of each of two modules.
            built = [place for place in rules.alone[link] for _ in range(int(min(2.0, counts[place])))]
            if len(built) > 1:
                free = [place for place in places.tolist() if works.useful[place] and not works.limited[place]]
                other = _replaced(works, built[0], built[1], free)
                times = counts[built[0]] // 2 if built[0] == built[1] else 1.0
                counts[built[0]] -= times
                counts[built[1]] -= times
                if other is not None:  # never else: that is what makes them stand alone
                    counts[other] += times
                changed = True
    return counts


def alone_rows(works: Works, first: int) -> NewRows:
    """At most one of the modules that stand alone, for the links that have such; ``first`` is the column of the first module."""
    rows = [places for places in sensible_of(works).alone if places]
    return NewRows(
        lower=np.full(len(rows), -np.inf),
        upper=np.ones(len(rows)),
        starts=np.cumsum([0, *(len(one) for one in rows)]).astype(np.int64),
        indices=np.array([first + place for one in rows for place in one], dtype=np.int64),
        values=np.ones(sum(len(one) for one in rows)),
    )


_kept: Kept[Works, Sensible] = Kept(_sensible)
