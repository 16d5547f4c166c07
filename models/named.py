"""Things that are known by name, kept as arrays by position."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Named:
    """What every table of named things can tell; it has ``ids``, the names in their order."""

    if TYPE_CHECKING:

        @property
        def ids(self) -> Sequence[str]:
            """The names."""

    @property
    def count(self) -> int:
        """How many."""
        return len(self.ids)

    @cached_property
    def at(self) -> dict[str, int]:
        """Position of each name."""
        return {name: place for place, name in enumerate(self.ids)}
