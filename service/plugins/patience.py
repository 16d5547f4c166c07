"""Room kept free for a job that has waited too long: without it small jobs could pass a large one for ever.

A plan is about one moment, and uses every GPU it can. A job that needs more at once than ever comes free together would starve. So
the nodes on which it will fit first, by the time limits of those who run there, take nobody else once it has waited long enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.plugins.forecast import Forecast
    from service.plugins.planner import Planned
    from service.plugins.problem import Asked


@dataclass(frozen=True, slots=True)
class Kept:
    """``nodes`` take no new job but this one, which was to fit on them ``at`` a time by the scheduler's clock."""

    job: str
    identity: str
    nodes: frozenset[str]
    at: float


class Patience:
    """Chooses for whom room is kept: one job at a time, of the highest priority among those that wait, then the one that waits longest."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self.kept: Kept | None = None

    def note(self, asked: Asked, found: Planned | None, forecasts: Mapping[str, Forecast]) -> Kept | None:
        """What is kept from now on, by what a round has planned and forecast."""
        placed = found.placements if found is not None else {}
        left = [name for name in asked.planned if name not in placed]
        top = max((asked.jobs[name].priority for name in left), default=0)
        if self.kept is not None and not self._stands(self.kept, asked, left, top):
            self.kept = None
        if self.kept is None:
            late = [name for name in left if asked.jobs[name].priority == top and name in forecasts and self._late(asked, name)]
            if late:
                name = min(late, key=lambda name: (asked.jobs[name].submitted_at or 0.0, name))
                self.kept = Kept(name, asked.jobs[name].identity, frozenset(forecasts[name].nodes), forecasts[name].at)
        return self.kept

    def _late(self, asked: Asked, name: str) -> bool:
        since = asked.jobs[name].submitted_at
        return since is not None and asked.snapshot.taken_at - since >= self.patience_s

    def _stands(self, kept: Kept, asked: Asked, left: list[str], top: int) -> bool:
        """Whether its job still waits, nobody more important does, and its nodes take jobs and were not kept in vain for too long."""
        if asked.snapshot.taken_at - kept.at >= self.patience_s:
            return False  # who runs there does not end, or others land there: it is chosen anew
        if kept.job not in left or asked.jobs[kept.job].identity != kept.identity or asked.jobs[kept.job].priority < top:
            return False
        return all(name in asked.nodes and asked.nodes[name].state == "ready" for name in kept.nodes)
