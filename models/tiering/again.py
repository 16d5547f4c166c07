"""What one problem's prices leave to the next that is much alike: where the search for its own prices begins.

Kept in the memory of a session, by goal and by the names of rows. At these prices all objects are priced anew, so nothing rests on the
problem before: a start that is far off costs a few rounds more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.program import Floats
    from models.tiering.options import Options
    from models.tiering.schema import GoalName

MEMORY = "tiering prices"
SHARE = 1.0  # by which another problem moves the prices, about


def recalled(memory: Mapping[str, Any] | None, goal: GoalName, options: Options) -> Floats | None:
    """The prices that the last problem left for a goal, 0 for rows it did not have; None where it left none."""
    known = {} if memory is None else memory.get(MEMORY, {}).get(goal, {})
    if not known or not options.rows:
        return None
    return np.array([known.get((row.rule, row.ids), 0.0) for row in options.rows], dtype=np.float64)


def remember(memory: dict[str, Any] | None, goal: GoalName, options: Options, prices: Floats) -> None:
    """Leave the prices of a goal to the next problem."""
    if memory is not None:
        named = {(row.rule, row.ids): float(price) for row, price in zip(options.rows, prices, strict=True)}
        memory.setdefault(MEMORY, {})[goal] = named
