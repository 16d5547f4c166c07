"""Collects broken rules: the first in words, all of them counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import MAX_VIOLATIONS, TOLERANCE, Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.program import Floats


class Broken:
    """The violations found so far."""

    def __init__(self) -> None:
        self._told: list[Violation] = []
        self.count = 0

    @property
    def told(self) -> tuple[Violation, ...]:
        """The first MAX_VIOLATIONS."""
        return tuple(self._told)

    def add(self, rule: str, ids: tuple[str, ...], amount: float, unit: str, text: str) -> None:
        """One more."""
        self.count += 1
        if len(self._told) < MAX_VIOLATIONS:
            self._told.append(Violation(rule, ids, amount, unit, text))

    def where(self, rule: str, excess: Floats, sides: Floats | float, unit: str, say: Callable[[int], tuple[tuple[str, ...], str]]) -> None:
        """Items whose ``excess`` is more than the tolerance at ``sides``, both of shape (items,); ``say`` gives ids and words of one."""
        size = np.maximum(1.0, np.where(np.isfinite(sides), np.abs(sides), 1.0))
        for place in np.flatnonzero(excess > TOLERANCE * size).tolist():
            if len(self._told) >= MAX_VIOLATIONS:
                self.count += 1
                continue
            ids, text = say(place)
            self.add(rule, ids, float(excess[place]), unit, text)
