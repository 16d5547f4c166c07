"""Which few moves let the most waiting jobs in: one integer program over ready-made changes of single nodes.

The program chooses changes and seats (``changes``) together within the move budget, so that every job that leaves one node has
a place on another. Changes are made up in closed form and only promising ones enter, so what it finds is a plan, not a proof.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from models.placement.changes import Change, Changes, Seat
from models.placement.heuristic import fill, waiting
from models.placement.ledger import SLACK
from models.program_builder import ProgramBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.placement.schema import GoalName, Plan, Problem
    from models.program import Floats, Ids, LinearProgram

MOVE_PENALTY = 1e-4  # per unit of move cost: of equal gains the one with cheaper moves
CHOSEN = 0.5  # a binary column above this is 1

Entries = list[tuple[int, int, float]]


class Repacking:
    """One round of a repack around ``plan``: ``program`` to solve, ``plan`` to carry out its values."""

    def __init__(self, problem: Problem, goal: GoalName, plan: Plan) -> None:
        self.problem = problem
        self.made = Changes(problem, goal, plan)
        self._moves_left = None if problem.max_moves is None else problem.max_moves - len(plan.moved)

    def program(self) -> LinearProgram | None:
        """The program of this round; None when there is nothing to choose or no move left."""
        changes, seats = self.made.changes, self.made.seats
        if not changes or self._moves_left == 0:
            return None
        builder = ProgramBuilder(maximise=True)
        gains = np.array([change.worth - MOVE_PENALTY * self._cost(change) for change in changes])
        builder.add_columns("change", [(k,) for k in range(len(changes))], cost=gains, upper=1.0, integer=True)
        builder.add_columns("seat", [(k,) for k in range(len(seats))], upper=1.0, integer=True)
        self._spots(builder)
        self._capacities(builder)
        self._jobs(builder)
        return builder.build()

    def _cost(self, change: Change) -> float:
        return sum(running.move_cost for place in change.leaving if (running := self.problem.jobs[place].running) is not None)

    def _seat_column(self, number: int) -> int:
        return len(self.made.changes) + number

    def _spots(self, builder: ProgramBuilder) -> None:
        """A node changes at most once, and where it changes no GPU takes a seat; each GPU takes at most one."""
        by_node: defaultdict[int, list[int]] = defaultdict(list)
        for k, change in enumerate(self.made.changes):
            by_node[change.node].append(k)
        spots: dict[tuple[int, int], int] = {}  # GPU -1 stands for the node itself
        entries: Entries = []
        for node in by_node:
            spots[node, -1] = len(spots)
        for k, seat in enumerate(self.made.seats):
            if seat.gpu is not None:
                entries.append((spots.setdefault((seat.node, seat.gpu), len(spots)), self._seat_column(k), 1.0))
        entries.extend((row, k, 1.0) for (node, _), row in spots.items() for k in by_node.get(node, ()))
        _add(builder, "spot", list(spots), entries, np.ones(len(spots)))

    def _capacities(self, builder: ProgramBuilder) -> None:
        """Seats fit the node's CPU and memory; a change claims all that is free, so nobody else sits down there."""
        ledger, movable = self.made.ledger, self.made.movable
        nodes = {node: row for row, node in enumerate(sorted({seat.node for seat in self.made.seats}))}
        for name, free, need in (("node_cpu", ledger.cpu, movable.cpu), ("node_memory", ledger.memory, movable.memory)):
            entries = [(nodes[seat.node], self._seat_column(k), float(need[seat.group])) for k, seat in enumerate(self.made.seats)]
            entries += [
                (nodes[change.node], k, max(float(free[change.node]), 0.0))
                for k, change in enumerate(self.made.changes)
                if change.node in nodes
            ]
            upper = np.array([max(float(free[node]), 0.0) + SLACK for node in nodes])
            _add(builder, name, [(node,) for node in nodes], entries, upper)

    def _jobs(self, builder: ProgramBuilder) -> None:
        """Who leaves gets a place, waiting jobs come in once each, moves and quotas are kept."""
        made, jobs = self.made, self.problem.jobs
        entries = [(made.group_of(place), k, 1.0) for k, change in enumerate(made.changes) for place in change.leaving]
        entries += [(group, k, -1.0) for k, change in enumerate(made.changes) for group in change.receiving]
        entries += [(seat.group, self._seat_column(k), -1.0) for k, seat in enumerate(made.seats)]
        groups = len(made.movable.jobs)
        _add(builder, "leaving", [(group,) for group in range(groups)], entries, np.zeros(groups))
        entries = [(group, k, 1.0) for k, change in enumerate(made.changes) for group in change.coming]
        counts = np.array([float(len(places)) for places in made.waiting.places])
        _add(builder, "wish", [(group,) for group in range(len(counts))], entries, counts)
        if self._moves_left is not None:
            entries = [(0, k, float(len(change.leaving))) for k, change in enumerate(made.changes)]
            _add(builder, "move_budget", [()], entries, np.array([float(self._moves_left)]))
        tenants = {tenant: row for row, tenant in enumerate(made.ledger.quota)}
        entries = [
            (tenants[job.tenant], k, job.gpus_per_worker)
            for k, change in enumerate(made.changes)
            for job in (jobs[made.waiting.places[group][0]] for group in change.coming)
            if job.tenant in tenants
        ]
        left = np.array([max(made.ledger.quota[tenant], 0.0) for tenant in tenants])
        _add(builder, "tenant_quota", [(tenant,) for tenant in tenants], entries, left)

    def plan(self, values: Floats) -> Plan:
        """Carry out the chosen changes and seats, then let in whatever else fits."""
        made, ledger = self.made, self.made.ledger
        chosen = [change for change, value in zip(made.changes, values, strict=False) if value > CHOSEN]
        places: defaultdict[int, list[Seat]] = defaultdict(list)
        for seat, value in zip(made.seats, values[len(made.changes) :], strict=True):
            if value > CHOSEN:
                places[seat.group].append(seat)
        leaving: defaultdict[int, list[int]] = defaultdict(list)
        for change in chosen:
            for place in change.leaving:
                ledger.unbook(place)
                leaving[made.group_of(place)].append(place)
        # In the order in which a change was tried out: who comes in first, then who is received.
        for change in chosen:
            for group in change.coming:
                place = made.waiting.places[group].pop()
                ledger.book(place, [(change.node, ledger.pick_gpus(place, change.node))])
            for group in change.receiving:
                if leaving[group]:
                    place = leaving[group].pop()
                    ledger.book(place, [(change.node, ledger.pick_gpus(place, change.node))])
        for group, jobs in leaving.items():
            for place in jobs:
                seat = places[group].pop()
                ledger.book(place, [(seat.node, () if seat.gpu is None else (seat.gpu,))])
        fill(ledger, waiting(self.problem), float("inf"))
        return ledger.plan()


def _add(builder: ProgramBuilder, name: str, ids: Sequence[Ids], entries: Entries, upper: Floats) -> None:
    rows, columns, values = np.array(entries, dtype=np.float64).reshape(-1, 3).T
    builder.add_rows(name, ids, upper=upper, row_index=rows.astype(np.int64), column_index=columns.astype(np.int64), coefficient=values)
