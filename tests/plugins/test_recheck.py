"""Each reason for which an order is not carried out, one by one; and what becomes of what was released."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from service.plugins.cluster import SeenJob, SeenNode, SeenWorker, Snapshot
from service.plugins.inforce import InForce
from service.plugins.orders import Order, Orders, Seat, Wait
from service.plugins.recheck import Refused, Standing, recheck
from service.plugins.reservations import Reservation, Reservations
from tests.plugins.pretend import job

NOW = 1_000.0
NODES = tuple(SeenNode(name, "1", gpu_model="h100", gpus=4, cpu_cores=16.0, memory_gib=64.0) for name in "ab")
GANG = job("gang", 2, 2, cpu_cores=8.0)
ORDER = Order("gang", "gang", (Seat("a", (0, 1)), Seat("b", (0, 1))), {"a": "1", "b": "1"})
ORDERS = Orders(4, NOW, 30.0, {"gang": ORDER})

Change = Callable[[], tuple[Any, ...]]


def seen(*jobs: SeenJob, nodes: tuple[SeenNode, ...] = NODES) -> Snapshot:
    return Snapshot("pretend", NOW, nodes, jobs)


def other(gpus: float, node: str, told: tuple[int, ...] | None = None) -> SeenJob:
    return job(f"other-{node}", gpus, running=(SeenWorker(node, told),), held=False, opted_in=False)


def test_an_order_that_stands() -> None:
    assert recheck(ORDER, ORDERS, seen(GANG), NOW) is None
    assert recheck(ORDER, ORDERS, seen(GANG, other(2, "a", (0, 1))), NOW) is None  # the scheduler finds it the other two GPUs


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        (seen(), Refused.gone),
        (seen(replace(GANG, identity="new")), Refused.changed),
        (seen(replace(GANG, running=(SeenWorker("a"),))), Refused.started),
        (seen(replace(GANG, held=False)), Refused.not_held),
        (seen(replace(GANG, workers_seen=1)), Refused.not_whole),
        (seen(replace(GANG, workers=3)), Refused.wrong_seats),
        (seen(GANG, nodes=NODES[:1]), Refused.node_gone),
        (seen(GANG, nodes=(NODES[0], replace(NODES[1], state="cordoned"))), Refused.node_state),
        (seen(GANG, nodes=(NODES[0], replace(NODES[1], version="2"))), Refused.node_changed),
        (seen(GANG, other(3, "b")), Refused.no_room),
        (seen(GANG, other(3, "a")), Refused.no_room),
        (seen(GANG, replace(other(0, "b"), cpu_cores=9.0)), Refused.no_room),
        (seen(GANG, other(5, "b")), Refused.no_room),  # set aside
    ],
)
def test_what_has_changed_refuses_it(snapshot: Snapshot, reason: Refused) -> None:
    found = recheck(ORDER, ORDERS, snapshot, NOW)
    assert found is not None
    assert (found.job, found.reason) == ("gang", reason)
    assert found.detail


@pytest.mark.parametrize(
    ("orders", "now", "reason"),
    [
        (None, NOW, Refused.superseded),
        (Orders(5, NOW, 30.0), NOW, Refused.superseded),
        (Orders(5, NOW, 30.0, {"gang": replace(ORDER, seats=ORDER.seats[::-1])}), NOW, Refused.superseded),
        (ORDERS, NOW + 30.1, Refused.expired),
        (ORDERS, NOW - 30.1, Refused.expired),
    ],
)
def test_orders_that_are_not_in_force(orders: Orders | None, now: float, reason: Refused) -> None:
    found = recheck(ORDER, orders, seen(GANG), now)
    assert found is not None
    assert found.reason is reason


def test_one_worker_on_each_node() -> None:
    both = replace(ORDER, seats=(Seat("a", (0, 1)), Seat("a", (2, 3))))
    orders = replace(ORDERS, orders={"gang": both})
    assert recheck(both, orders, seen(GANG), NOW) is None
    found = recheck(both, orders, seen(replace(GANG, one_worker_per_node=True)), NOW)
    assert found is not None
    assert found.reason is Refused.wrong_seats


def test_orders_of_one_round_count_on_each_other() -> None:
    names = ["j1", "j2", "j3"]
    jobs = [job(name, 2) for name in names]
    orders = Orders(1, NOW, 30.0, {name: Order(name, name, (Seat("a", (0, 1)),), {"a": "1"}) for name in names})
    standing = Standing(seen(*jobs))
    found = [standing.recheck(order, orders, NOW) for order in orders.orders.values()]
    assert [one.reason if one else None for one in found] == [None, None, Refused.no_room]
    again = standing.recheck(orders.orders["j1"], orders, NOW)
    assert again is not None
    assert again.reason is Refused.committed
    assert standing.seats(orders.orders["j2"]) == (Seat("a", (2, 3)),)


def test_a_gang_that_does_not_fit_whole_takes_nothing() -> None:
    standing = Standing(seen(GANG, other(4, "b"), job("j", 4)))
    assert standing.recheck(ORDER, ORDERS, NOW) is not None
    small = Order("j", "j", (Seat("a", (0, 1, 2, 3)),), {"a": "1"})
    assert standing.recheck(small, Orders(1, NOW, 30.0, {"j": small}), NOW) is None


def test_reserved_seats_are_taken() -> None:
    other_order = Order("x", "x", (Seat("a", (0, 1, 2)),), {"a": "1"})
    reservation = Reservation(job("x", 3, held=False), other_order, 99.0)
    found = recheck(ORDER, ORDERS, seen(GANG, job("x", 3, held=False)), NOW, [reservation])
    assert found is not None
    assert found.reason is Refused.no_room


# ---------------------------------------------------------------- reservations


@pytest.mark.parametrize(
    ("snapshot", "now", "ending"),
    [
        (seen(GANG), 0.0, None),
        (seen(replace(GANG, held=False)), 0.0, None),
        (seen(replace(GANG, running=(SeenWorker("a"),))), 0.0, None),
        (seen(replace(GANG, running=(SeenWorker("a"), SeenWorker("b")))), 0.0, "runs"),
        (seen(replace(GANG, running=(SeenWorker("c"),))), 0.0, "moved_on"),
        (seen(), 0.0, "gone"),
        (seen(replace(GANG, identity="new")), 0.0, "changed"),
        (seen(replace(GANG, held=False)), 50.0, "late"),
    ],
)
def test_how_a_reservation_ends(snapshot: Snapshot, now: float, ending: str | None) -> None:
    kept = Reservations()
    kept.add(Reservation(GANG, ORDER, 50.0))
    assert kept.settle(snapshot, now).get("gang") == ending
    assert ("gang" in kept) == (ending is None)


def test_stranded_jobs_are_those_that_have_not_started_beside_a_closed_node() -> None:
    kept = Reservations()
    kept.add(Reservation(GANG, ORDER, 50.0))
    assert kept.stranded(seen(GANG)) == ()
    closed = (NODES[0], replace(NODES[1], state="drained"))
    assert kept.stranded(seen(GANG, nodes=closed)) == ("gang",)
    assert kept.stranded(seen(GANG, nodes=NODES[:1])) == ("gang",)
    assert kept.stranded(seen(replace(GANG, running=(SeenWorker("b"),)), nodes=closed)) == ()


# ---------------------------------------------------------------- what is in force


def test_only_later_orders_come_into_force_and_old_ones_expire() -> None:
    held = InForce()
    assert (held.version, held.current(NOW), held.order("gang", NOW)) == (0, None, None)
    assert held.publish(ORDERS)
    assert not held.publish(replace(ORDERS, orders={}))
    assert held.order("gang", NOW + 30.0) == ORDER
    assert held.order("gang", NOW + 31.0) is None
    wait = Wait("w", "w", "because")
    held.explain(3, {"w": wait})
    assert held.wait("w", NOW) is None
    held.explain(4, {"w": wait})
    assert held.wait("w", NOW) == wait
    held.withdraw()
    assert held.version == 4
    assert held.order("gang", NOW) is None
    assert held.publish(Orders(5, NOW, 1.0))
