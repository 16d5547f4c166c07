"""The mean loss of the worst scenarios as a program that makes it least.

Rockafellar and Uryasev, "Optimization of conditional value-at-risk", Journal of Risk 2, 2000: CVaR is the least over a of
a + E[max(0, loss - a)] / (1 - beta). Bogle et al., "TEAVAR: striking the right utilization-availability balance in WAN traffic
engineering", SIGCOMM 2019, minimise it for the loss of the demand that loses the largest share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.flow.failures.losses import demand_losses
from models.flow.failures.program import ReservationProgram, Stage
from models.flow.failures.scenarios import scenarios_of
from models.flow.schema import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.flow.schema import Problem
    from models.program import Floats, Ints
    from models.program_builder import ProgramBuilder

MISSED = 2e-8  # of a loss: what a scenario row may be broken by
SPECK = 1e-7  # of a demand: less is not worth a route
AT_ONCE = 4  # rows that a scenario gets in one round


class Tail(ReservationProgram):
    """Columns: the goal, the value at risk a, each scenario's loss beyond it, and the sum of all that is reserved."""

    def __init__(self, problem: Problem) -> None:
        self._scenarios = scenarios_of(problem)
        super().__init__(problem)
        assert problem.failures is not None  # noqa: S101 - the mode is one of theirs
        self._tail = 1.0 - problem.failures.beta
        self.chance = np.append(self._scenarios.probability, self._scenarios.intact)
        self._place = {self._scenarios.of(one): one for one in range(self._scenarios.count)} | {(): self._scenarios.count}
        self._goal, self._at_risk, self._lean, self._beyond = 0, 1, 2, 3
        self._lean_first = 0

    def head(self, builder: ProgramBuilder) -> None:
        """See ``ReservationProgram``."""
        builder.add_columns("loss", [()], upper=1.0 / self._tail + 1.0)
        builder.add_columns("at_risk", [()], upper=1.0)
        builder.add_columns("reserve_in_all", [()])
        builder.add_columns("beyond", [(one,) for one in range(len(self.chance))], upper=1.0)

    def goal_rows(self, builder: ProgramBuilder) -> None:
        """See ``ReservationProgram``."""
        self.capacity_rows(builder)
        beyond = self._beyond + np.arange(len(self.chance))
        columns = np.concatenate(([self._goal, self._at_risk], beyond))
        values = np.concatenate(([1.0, -1.0], -self.chance / self._tail))
        builder.add_rows("tail", [()], lower=0.0, row_index=np.zeros(len(columns)), column_index=columns, coefficient=values)
        self._lean_first = builder.add_rows("in_all", [()], lower=0.0, row_index=0, column_index=self._lean).start

    def arc_terms(self, rank: int) -> Iterator[tuple[int, Ints, Ints, Floats]]:
        """See ``ReservationProgram``."""
        del rank
        arcs = np.arange(self.network.arcs)
        yield self.loads(self.capacity_first)
        yield self._lean_first, np.zeros(len(arcs), dtype=np.int64), arcs, np.full(len(arcs), -1.0)

    def scenario_row(self, demand: int, links: tuple[int, ...]) -> tuple[list[int], list[float], float, float]:
        """See ``ReservationProgram``: what is lost is beyond the value at risk or within it."""
        return [self._at_risk, self._beyond + self._place[links]], [1.0, 1.0], 1.0 / float(self.size[demand]), 1.0

    def forgone(self, demand: int) -> float:
        """See ``ReservationProgram``: the side of every row is 1."""
        del demand
        return 1.0

    def stages(self) -> Sequence[Stage]:
        """See ``ReservationProgram``."""
        return [Stage("loss_cvar", self._goal, 1.0, 1.0), Stage(None, self._lean, 1.0, 1.0, proves=False)]

    def violated(self, values: Floats) -> list[tuple[int, tuple[int, ...]]]:
        """See ``ReservationProgram``: of each scenario the demands that lose most."""
        covered = values[self._at_risk] + values[self._beyond : self._beyond + len(self.chance)]
        found: list[tuple[int, tuple[int, ...]]] = []
        first = 0
        for losses in demand_losses(self.routes, self.taken(values), self.size, self._scenarios):
            rows = slice(first, first + len(losses))
            losses[self.chance[rows] <= 0.0] = 0.0
            most = min(AT_ONCE, losses.shape[1])
            worst = np.argpartition(-losses, most - 1, axis=1)[:, :most]
            broken = np.take_along_axis(losses, worst, axis=1) - covered[rows, None] > MISSED
            for row, place in np.argwhere(broken).tolist():
                scenario = first + row
                found.append((int(worst[row, place]), self._scenarios.of(scenario) if scenario < self._scenarios.count else ()))
            first += len(losses)
        return found

    def plan(self, values: Floats) -> Plan:
        """See ``ReservationProgram``."""
        return Plan(routes=self.routes_of(self._filled(self.within_capacity(self.reserved(values)))))

    def _filled(self, taken: Floats) -> Floats:
        """Demands that lack something get what still has room on their known paths, short ones first: no loss grows by that.

        The goal looks at the worst scenarios alone; where one of them loses everything, it would leave all the others without traffic.
        """
        network, routes, taken = self.network, self.routes, taken.copy()
        lacks = self.traffic.size - np.bincount(routes.demand, weights=taken, minlength=self.traffic.count)
        load = np.bincount(network.arc_channel[routes.arcs], weights=taken[routes.entry_route], minlength=len(network.channel_link))
        room = network.channel_capacity - load
        least = SPECK * self.traffic.size
        for route in np.argsort(np.diff(routes.starts), kind="stable").tolist():
            demand = int(routes.demand[route])
            if lacks[demand] > least[demand]:
                channels = network.arc_channel[list(routes.arcs_of(route))]
                more = min(float(lacks[demand]), float(room[channels].min()))
                if more > least[demand]:
                    taken[route] += more
                    lacks[demand] -= more
                    room[channels] -= more
        return taken
