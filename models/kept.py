"""What was worked out of a problem, kept beside it as long as it lives.

A solve asks for the arrays of one problem again and again. They are held beside it, not in it: a changed copy of a problem
must not bring the arrays of the original along, and problems are compared by content, which takes too long for a key.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Owner = TypeVar("Owner")
Made = TypeVar("Made")


class Kept(Generic[Owner, Made]):
    """``of(owner)`` is what ``make`` made of it; of the ``most`` owners asked for last it is kept while they live."""

    def __init__(self, make: Callable[[Owner], Made], most: int = 4) -> None:
        self._make, self._most = make, most
        self._latest: list[tuple[weakref.ref[Owner], Made]] = []  # replaced whole, never edited: threads may look meanwhile

    def of(self, owner: Owner) -> Made:
        """What belongs to ``owner``."""
        for known, made in self._latest:
            if known() is owner:
                return made
        made = self._make(owner)
        self._latest = [(weakref.ref(owner, self._forget), made), *(pair for pair in self._latest if pair[0]() is not None)][: self._most]
        return made

    def _forget(self, gone: weakref.ref[Owner]) -> None:
        self._latest = [pair for pair in self._latest if pair[0] is not gone]
