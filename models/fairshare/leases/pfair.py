"""The deadline rule: leases that are never a whole slot away from the plan, where that is proved.

For gangs of one GPU, each planned on one accelerator with a constant share, an accelerator of ``m`` GPUs is ``m`` identical processors and
a share is the weight of a periodic task. PD2 (J. Anderson, A. Srinivasan, "Mixed Pfair/ERfair scheduling of asynchronous periodic tasks",
2004) then keeps ``-1 < planned - received < 1`` slots at every moment (S. Baruah, N. Cohen, C. Plaxton, D. Varvel, "Proportionate
progress", 1996). With one GPU this is the chairman assignment problem (R. Tijdeman, 1980).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints

ROUNDING = 1e-9  # shares are sums of a solver's numbers
NEVER = 1e12  # a group deadline of a share of 1


def eligible(lag: Floats, share: Floats) -> Bools:
    """Whether a lease now would leave a cell less than one slot ahead; ``lag`` is planned minus received before this slot."""
    return np.asarray((share > 0) & (lag + share > ROUNDING))


def deadline_order(lag: Floats, share: Floats, running: Bools) -> Ints:
    """Cells in the order in which PD2 serves them, shape (C,); what runs goes first among those that are alike in everything.

    The deadline is the slot by whose end the next lease is due. Of two alike, one whose next window overlaps the one after (``overlap``)
    goes first, and then the one whose row of tight windows ends later (``group``; it matters only for shares of a half or more).
    """
    safe = np.where(share > 0, share, 1.0)
    due = (1.0 - lag) / safe
    deadline = np.ceil(due - ROUNDING)
    overlap = deadline - due > ROUNDING
    idle = 1.0 - safe
    steps = np.ceil(idle * deadline - lag - ROUNDING)
    group = np.where(idle > ROUNDING, np.ceil((steps + lag) / np.where(idle > ROUNDING, idle, 1.0) - ROUNDING), NEVER)
    group = np.where(safe >= 0.5, group, 0.0)  # noqa: PLR2004  (a heavy task is one with a weight of a half or more)
    return np.lexsort((~running, -group, ~overlap, deadline))
