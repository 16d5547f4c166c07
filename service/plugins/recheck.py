"""Whether an order may still be carried out: asked of a fresh snapshot right before it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from service.plugins.occupancy import Occupied, occupied
from service.plugins.orders import Seat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.plugins.cluster import SeenJob, SeenNode, Snapshot
    from service.plugins.occupancy import Places
    from service.plugins.orders import Order, Orders
    from service.plugins.reservations import Reservation


class Refused(StrEnum):
    """Why an order is not carried out."""

    superseded = "superseded"  # a later plan says otherwise, or nothing
    expired = "expired"
    gone = "gone"
    changed = "changed"  # the name means another job now, or it asks for something else
    started = "started"
    not_held = "not_held"  # someone else has released it: the scheduler decides
    committed = "committed"  # it was released before, and the scheduler has not started it yet
    not_whole = "not_whole"
    wrong_seats = "wrong_seats"  # not one seat a worker
    node_gone = "node_gone"
    node_state = "node_state"
    node_changed = "node_changed"
    no_room = "no_room"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An order that is not carried out: a stable reason, and a sentence."""

    job: str
    reason: Refused
    detail: str


class Standing:
    """A fresh snapshot with what is held in it, to ask about many orders, one after another. Not thread-safe."""

    def __init__(self, snapshot: Snapshot, reservations: Iterable[Reservation] = (), before: Mapping[str, Places] | None = None) -> None:
        kept = tuple(reservations)
        self.snapshot = snapshot
        self.occupied: Occupied = occupied(snapshot, kept, before)
        self.jobs: Mapping[str, SeenJob] = self.occupied.jobs
        self.nodes: dict[str, SeenNode] = {name: machine.node for name, machine in self.occupied.machines.items()}
        self._reserved = {one.job.id for one in kept}

    def recheck(self, order: Order, in_force: Orders | None, now: float, *, held: bool = True) -> Refusal | None:
        """None when the order may be carried out now, and then its seats count as taken for whoever is asked about next.

        ``in_force`` are the orders in force and ``now`` the time by the clock that made them; ``held=False`` does not ask that the
        job is held.
        """
        found = _of_orders(order, in_force, now) or self._of_job(order, held=held) or self._of_nodes(order) or self._of_room(order)
        return None if found is None else Refusal(order.job, *found)

    def _of_job(self, order: Order, *, held: bool) -> tuple[Refused, str] | None:
        job = self.jobs.get(order.job)
        if job is None:
            return Refused.gone, f"job '{order.job}' is no more"
        name = job.name
        wrong: tuple[tuple[bool, Refused, str], ...] = (
            (job.identity != order.identity, Refused.changed, f"job '{name}' was made anew, or asks for something else than was planned"),
            (bool(job.running), Refused.started, f"job '{name}' runs already"),
            (order.job in self._reserved, Refused.committed, f"job '{name}' was released already"),
            (held and not job.held, Refused.not_held, f"job '{name}' is not held any more"),
            (not job.whole, Refused.not_whole, f"{job.workers_seen} of the {job.workers} workers of job '{name}' exist"),
            (len(order.seats) != job.workers, Refused.wrong_seats, f"job '{name}' has {job.workers} workers, not {len(order.seats)}"),
            (
                job.one_worker_per_node and len(order.nodes) != job.workers,
                Refused.wrong_seats,
                f"the workers of job '{name}' are to be on different nodes",
            ),
        )
        return next(((reason, detail) for true, reason, detail in wrong if true), None)

    def _of_nodes(self, order: Order) -> tuple[Refused, str] | None:
        for name in order.nodes:
            node = self.nodes.get(name)
            if node is None:
                return Refused.node_gone, f"node '{name}' is no more"
            if node.state != "ready":
                return Refused.node_state, f"node '{name}' is {node.state}"
            if node.version != order.node_versions.get(name):
                return Refused.node_changed, f"node '{name}' is not as it was planned with"
        return None

    def _of_room(self, order: Order) -> tuple[Refused, str] | None:
        job = self.jobs[order.job]
        full = self.occupied.seat(job, (seat.node for seat in order.seats))
        if full is None:
            self._reserved.add(order.job)
            return None
        aside = self.occupied.aside.get(full)
        return Refused.no_room, f"node '{full}' has no room left for it" + (f": {aside}" if aside is not None else "")

    def seats(self, order: Order) -> tuple[Seat, ...]:
        """The seats that ``recheck`` took for an order, with GPU indices that are free now."""
        return self.occupied.seats.get(order.job, order.seats)


def recheck(
    order: Order, in_force: Orders | None, snapshot: Snapshot, now: float, reservations: Iterable[Reservation] = ()
) -> Refusal | None:
    """``Standing.recheck`` for one order. Pure."""
    return Standing(snapshot, reservations).recheck(order, in_force, now)


def _of_orders(order: Order, in_force: Orders | None, now: float) -> tuple[Refused, str] | None:
    if in_force is None or in_force.orders.get(order.job) != order:
        return Refused.superseded, f"a later plan does not start job '{order.job}', or not there"
    if in_force.expired(now):
        return Refused.expired, f"the plan is {now - in_force.made_at:.0f} s old and was good for {in_force.ttl_s:g} s"
    return None
