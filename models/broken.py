"""Collects broken rules: the first in words, all of them counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import MAX_VIOLATIONS, TOLERANCE, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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

    def add(self, violation: Violation) -> None:
        """One more."""
        self.count += 1
        if len(self._told) < MAX_VIOLATIONS:
            self._told.append(violation)

    def extend(self, violations: Iterable[Violation], count: int | None = None) -> None:
        """Several more; ``count`` where there are more of them than are told."""
        before = self.count
        for violation in violations:
            self.add(violation)
        if count is not None:
            self.count = before + count

    def where(self, rule: str, excess: Floats, sides: Floats | float, unit: str, say: Callable[[int], tuple[tuple[str, ...], str]]) -> None:
        """Items whose ``excess`` is more than the tolerance at ``sides``, both of shape (items,); ``say`` gives ids and words of one."""
        size = np.maximum(1.0, np.where(np.isfinite(sides), np.abs(sides), 1.0))
        found = np.flatnonzero(excess > TOLERANCE * size)
        self.count += len(found)
        for place in found[: max(0, MAX_VIOLATIONS - len(self._told))].tolist():
            ids, text = say(place)
            self._told.append(Violation(rule, ids, float(excess[place]), unit, text))
