"""Whether a plan of transfers can be carried out, and what it is worth: every shipment is followed over its legs.

Reckons from the problem's own documents with dictionaries, and shares no code with the search. A volume waits where its next leg starts,
from the last time that it came there; at the source and the targets of its transfer it does not count. Limits may be exceeded by TOLERANCE
times ``max(1, |limit|)``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.contract import MAX_VIOLATIONS, TOLERANCE, Verdict, Violation
from models.flow.goals import goal_names
from models.flow.schema import GoalName, Rule

if TYPE_CHECKING:
    from models.flow.schema import Leg, Plan, Problem, Shipment, Transfer

__all__ = ["verify_transfers"]


def verify_transfers(problem: Problem, plan: Plan) -> Verdict:
    """Every broken rule, and the value and cost; never raises an error, whatever the plan says."""
    follower = _Follower(problem)
    for place, shipment in enumerate(plan.shipments):
        follower.follow(place, shipment)
    follower.capacities()
    follower.storages()
    follower.deliveries()
    return follower.verdict()


@dataclass(frozen=True, slots=True)
class _Side:
    """One link as a leg sees it."""

    tail: str
    head: str
    channel: tuple[str, bool]  # the link, and whether it is the way back that has capacity of its own


@dataclass(frozen=True, slots=True)
class _Line:
    """What is known of a link: its sides by ``back``, Gbit in a step for each channel, and its prices."""

    sides: dict[bool, _Side]
    room: float
    usd: tuple[float, ...]


class _Follower:
    """Adds up what shipments load, keep, deliver and cost."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._steps = problem.horizon.steps if problem.horizon is not None else 0
        self._transfers = {one.id: one for one in problem.transfers}
        self._lines = _lines(problem)
        self._storage = {node.id: math.inf if node.storage_gbit is None else node.storage_gbit for node in problem.nodes}
        self._load: defaultdict[tuple[str, bool, int], float] = defaultdict(float)
        self._kept: defaultdict[tuple[str, int], float] = defaultdict(float)
        self._delivered: defaultdict[str, float] = defaultdict(float)
        self._cost = self._sent = 0.0
        self._violations: list[Violation] = []
        self._count = 0

    def _break(self, rule: Rule, ids: tuple[str, ...], amount: float, unit: str, message: str) -> None:
        self._count += 1
        if len(self._violations) < MAX_VIOLATIONS:
            self._violations.append(Violation(rule.value, ids, amount, unit, message))

    # ------------------------------------------------------------ shipments

    def follow(self, place: int, shipment: Shipment) -> None:
        """Check where one shipment goes; it loads links and counts as delivered when it reaches every target."""
        transfer = self._transfers.get(shipment.transfer)
        name = f"shipment {place} of '{shipment.transfer}'"
        if transfer is None:
            self._break(Rule.transfer_complete, (), shipment.gbit, "Gbit", f"{name}: there is no such transfer")
            return
        if any(leg.link not in self._lines or leg.back not in self._lines[leg.link].sides for leg in shipment.legs):
            self._break(
                Rule.flow_conservation, (transfer.id,), shipment.gbit, "Gbit", f"{name} uses a link, or a way over it, that is not there"
            )
            return
        if len({(leg.link, leg.back, leg.step) for leg in shipment.legs}) < len(shipment.legs):
            self._break(Rule.flow_conservation, (transfer.id,), shipment.gbit, "Gbit", f"{name} names a leg twice")
            return
        self._window(name, transfer, shipment)
        for leg in shipment.legs:
            self._pay(leg, shipment.gbit)
        came = self._arrivals(shipment.legs)
        self._wait(name, transfer, shipment, came)
        end = self._steps if transfer.deadline is None else transfer.deadline
        missed = [node for node in transfer.targets if min(came.get(node, [math.inf])) > end]
        for node in missed:
            self._break(Rule.transfer_complete, (transfer.id, node), shipment.gbit, "Gbit", f"{name} does not reach '{node}' in time")
        if not missed:
            self._delivered[transfer.id] += shipment.gbit

    def _window(self, name: str, transfer: Transfer, shipment: Shipment) -> None:
        end = self._steps if transfer.deadline is None else transfer.deadline
        for leg in shipment.legs:
            if not transfer.release <= leg.step < end:
                text = f"{name} uses '{leg.link}' in step {leg.step}, and its steps are {transfer.release} to {end - 1}"
                off = transfer.release - leg.step if leg.step < transfer.release else leg.step - end + 1
                self._break(Rule.transfer_window, (transfer.id,), float(off), "steps", text)

    def _pay(self, leg: Leg, gbit: float) -> None:
        line = self._lines[leg.link]
        self._load[*line.sides[leg.back].channel, leg.step] += gbit
        self._sent += gbit
        if line.usd:
            self._cost += gbit * line.usd[min(leg.step, len(line.usd) - 1) if len(line.usd) > 1 else 0]

    def _arrivals(self, legs: tuple[Leg, ...]) -> dict[str, list[int]]:
        """The moments at which the volume comes to each node."""
        came: dict[str, list[int]] = defaultdict(list)
        for leg in legs:
            came[self._lines[leg.link].sides[leg.back].head].append(leg.step + 1)
        return came

    def _wait(self, name: str, transfer: Transfer, shipment: Shipment, came: dict[str, list[int]]) -> None:
        """Each leg leaves from where the volume is: it waits there, once however many legs leave."""
        waited: set[tuple[str, int]] = set()
        for leg in shipment.legs:
            node = self._lines[leg.link].sides[leg.back].tail
            if node == transfer.source:
                continue
            before = [moment for moment in came.get(node, ()) if moment <= leg.step]
            if not before:
                text = f"{name} leaves '{node}' in step {leg.step} on '{leg.link}', and has not come there by then"
                self._break(Rule.flow_conservation, (transfer.id, node), shipment.gbit, "Gbit", text)
            elif node not in transfer.targets:
                waited.update((node, step) for step in range(max(before), leg.step))
        for place in waited:
            self._kept[place] += shipment.gbit

    # ------------------------------------------------------------ sums

    def capacities(self) -> None:
        """No channel carries more in a step than its capacity."""
        for (link, back, step), load in sorted(self._load.items()):
            room = self._lines[link].room
            if load > room + TOLERANCE * max(1.0, room):
                text = f"'{link}'{' (back)' if back else ''} carries {load:g} Gbit in step {step}, and has room for {room:g}"
                self._break(Rule.link_capacity, (link,), load - room, "Gbit", text)

    def storages(self) -> None:
        """No node keeps more through a step than it has room for."""
        for (node, step), kept in sorted(self._kept.items()):
            room = self._storage.get(node, 0.0)
            if kept > room + TOLERANCE * max(1.0, room):
                text = f"{kept:g} Gbit wait at '{node}' in step {step}, and it has room for {room:g}"
                self._break(Rule.node_storage, (node,), kept - room, "Gbit", text)

    def deliveries(self) -> None:
        """What must be delivered is, and nothing is delivered more than once."""
        for transfer in self._problem.transfers:
            off = self._delivered[transfer.id] - transfer.size_gbit
            if off > TOLERANCE * max(1.0, transfer.size_gbit) or (
                transfer.value is None and -off > TOLERANCE * max(1.0, transfer.size_gbit)
            ):
                text = f"{self._delivered[transfer.id]:g} Gbit of '{transfer.id}' reach all its targets, and it has {transfer.size_gbit:g}"
                self._break(Rule.transfer_complete, (transfer.id,), abs(off), "Gbit", text)

    def verdict(self) -> Verdict:
        """The goals in order, the broken rules, and figures worth showing."""
        share = {one.id: self._delivered[one.id] / one.size_gbit for one in self._problem.transfers}
        worth = sum(one.value * min(1.0, share[one.id]) for one in self._problem.transfers if one.value is not None)
        values = {GoalName.transfer_value.value: worth, GoalName.transfer_cost.value: self._cost}
        metrics = {
            "transfers": float(len(self._transfers)),
            "delivered": float(sum(one >= 1.0 - TOLERANCE for one in share.values())),
            "gbit_delivered": sum(self._delivered.values()),
            "gbit_sent": self._sent,
            "full_link_steps": float(sum(load >= self._lines[link].room * (1.0 - TOLERANCE) for (link, _, _), load in self._load.items())),
            "most_gbit_waiting": max(self._kept.values(), default=0.0),
        }
        return Verdict({name: values[name] for name in goal_names(self._problem)}, tuple(self._violations), self._count, metrics)


def _lines(problem: Problem) -> dict[str, _Line]:
    step_s = problem.horizon.step_s if problem.horizon is not None else 0.0
    table = problem.link_table
    found: dict[str, _Line] = {}
    if table is None:
        for link in problem.links:
            room = math.inf if link.capacity_gbps is None else link.capacity_gbps * step_s
            found[link.id] = _Line(_sides(link.id, link.source, link.target, link.direction), room, link.usd_per_gbit)
        return found
    names = table.id if table.id is not None else tuple(f"l{place}" for place in range(len(table.source)))
    for name, source, target, capacity in zip(names, table.source, table.target, table.capacity_gbps, strict=True):
        found[name] = _Line(_sides(name, source, target, table.direction), math.inf if capacity is None else capacity * step_s, ())
    return found


def _sides(link: str, source: str, target: str, direction: str) -> dict[bool, _Side]:
    sides = {False: _Side(source, target, (link, False))}
    if direction != "directed":
        sides[True] = _Side(target, source, (link, direction == "each"))
    return sides
