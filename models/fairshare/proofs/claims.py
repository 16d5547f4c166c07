"""What the duals of a level's search are allowed to claim: rounded outward, so that arithmetic never makes a bound too tight.

Duals prove that GPUs fall short of some needs by at least so much. Every sum in that has an error of a known size, relative to the sum of
its terms without their signs; a level is refuted only where the shortfall is larger than all of them. Numbers of very unlike size then
make a bound weaker, never wrong.

The bound of a less important class is one for plans that are as good for the classes above. How good this plan is for them is known once
it is dealt out and verified, so the claim is made with the speeds that they have in it, to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.fairshare.columns.classes import Classes
    from models.fairshare.levels.gauge import Gauged
    from models.program import Floats

MOST_WITNESSES = 3  # of the duals seen on the way to a level: the tightest
MOST_EVALUATIONS = 120
OUTWARD = 1e-12  # relative: by how much a level that is refuted lies above the highest that is told
EXPLAINED = 1e-7  # of the GPUs: what a verified plan may have beyond what there is, as solvers keep rows to as much


@dataclass(slots=True)
class Seen:
    """What the search for one level came by: duals with the levels above which they refute, and whether nothing is left at all."""

    witnesses: list[tuple[float, Gauged]] = field(default_factory=list)
    nothing: bool = False

    def note(self, above: float, found: Gauged) -> None:
        """Keep these duals if they are among the tightest."""
        self.witnesses.append((above, found))
        self.witnesses.sort(key=lambda one: one[0])
        del self.witnesses[MOST_WITNESSES:]

    def bound(self, classes: Classes, speeds: Callable[[float], Floats], most: float) -> float:
        """No level above it can be had: the lowest that the duals claim, and no more than ``most``."""
        if self.nothing:
            return 0.0
        for above, found in self.witnesses:
            most = min(most, highest_unrefuted(_Refuted(classes, found, speeds), most, above))
        return most

    def explains(self, classes: Classes, speeds: Floats) -> bool:
        """Whether a plan may have these speeds (jobs,) by the tolerance of rows alone."""
        return all(found.proves(classes, speeds) <= EXPLAINED for _, found in self.witnesses)


@dataclass(frozen=True, slots=True, eq=False)
class _Refuted:
    """What duals refute at a level."""

    classes: Classes
    found: Gauged
    speeds: Callable[[float], Floats]

    def __call__(self, level: float) -> float:
        return self.found.refutes(self.classes, self.speeds(level))


def highest_unrefuted(refuted: Callable[[float], float], most: float, near: float) -> float:
    """Where a growing function of the level leaves 0: every level above the answer has a value above 0. ``most`` where none has.

    ``near`` is where it is looked for first. False position as Illinois does it; what is found is probed a hair above.
    """
    if most <= 0.0 or refuted(most) <= 0.0:
        return most
    high, at_high, low, at_low = most, refuted(most), 0.0, min(refuted(0.0), -1e-300)
    if not np.isfinite(at_high):
        at_high = 1.0
    middle = near if 0.0 < near < most else 0.5 * most
    for step in range(MOST_EVALUATIONS):
        value = refuted(middle)
        if value > 0.0:
            high, at_high, at_low = middle, value, at_low * (0.5 if step % 2 else 1.0)
        else:
            low, at_low = middle, min(value, -1e-300)
            probe = middle * (1.0 + OUTWARD)
            if probe < high and refuted(probe) > 0.0:
                return probe
        if high - low <= OUTWARD * high:
            break
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        if step % 3 == 2 or not low < middle < high:  # noqa: PLR2004  (what is proved may be flat for long: halving alone is sure to end)
            middle = 0.5 * (low + high)
    return high
