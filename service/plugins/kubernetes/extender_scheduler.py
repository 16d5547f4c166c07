"""The Kubernetes adapter of a cluster whose pods have no scheduling gates: an order is carried out by answering from it.

A pod that opted in by its label is held by the extender's answer alone. To release it is to publish its seat, and to touch the
pod, because kube-scheduler tries a pod again when it changes. Everything else is the other adapter's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from service.plugins.kubernetes.extender import OPT_IN
from service.plugins.kubernetes.extender_seats import Seating, Told, landed, members_of, seating
from service.plugins.kubernetes.extender_touches import Touches, newly_free, no_longer_held
from service.plugins.kubernetes.shadowing import as_if_opted_in
from service.plugins.modes import Mode
from service.plugins.orders import Orders
from service.plugins.scheduler import Committed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from service.plugins.cluster import SeenJob, Snapshot
    from service.plugins.inforce import InForce
    from service.plugins.kubernetes.gangs import Gang
    from service.plugins.orders import Order, Wait

NO_PLAN_TTL_S = 30.0  # how long the news that a pod was given up is good for, where there never was a plan to carry it


class Reader(Protocol):
    """What is asked of the adapter that watches the cluster."""

    def snapshot(self) -> Snapshot:
        """As ``Scheduler.snapshot``."""

    def changed(self, timeout_s: float) -> bool:
        """As ``Scheduler.changed``."""

    def tell(self, waits: Sequence[Wait]) -> None:
        """As ``Scheduler.tell``."""

    def gangs(self) -> Mapping[str, Gang]:
        """The pods behind the jobs of the last snapshot, by the jobs' ids."""


@dataclass(frozen=True, slots=True)
class _Placed:
    identity: str
    order: Order | None  # None: given up, kube-scheduler places it


class ExtenderScheduler:
    """Fulfils ``Scheduler``. ``publish`` puts a plan before the extender, and says False where it is not answered from yet.

    ``touch`` writes a mark on a pod, or raises. ``clock`` is the wall clock, as of the orders. Called from the follower's thread.
    ``after_round`` belongs into the follower's ``on_round``: it keeps the plan from running out.
    """

    name = "kubernetes"

    def __init__(
        self,
        reader: Reader,
        in_force: InForce,
        mode: Mode,
        publish: Callable[[Seating], bool | None],
        touch: Callable[[Told, str], object],
        namespaces: frozenset[str] = frozenset(),
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader, self._in_force, self._mode, self._namespaces = reader, in_force, mode, namespaces
        self._publish, self._clock = publish, clock
        self._placed: dict[str, _Placed] = {}
        self._identities: dict[str, str] = {}
        self._before: Seating | None = None
        self._ran_out = False
        self._touches = Touches(touch, monotonic)

    def close(self) -> None:
        """Wait for the touches under way, and end."""
        self._touches.close()

    # ------------------------------------------------------------ seeing

    def snapshot(self) -> Snapshot:
        """The cluster now; jobs that opted in are held until their seats are published. In shadow mode all that wait are planned."""
        seen = self._reader.snapshot()
        gangs = self._reader.gangs()
        self._identities = {job.id: job.identity for job in seen.jobs}
        self._forget(seen, gangs)
        if self._mode is Mode.shadow:
            return as_if_opted_in(seen, gangs, self._namespaces)
        return replace(seen, jobs=tuple(self._as_held(job, gangs.get(job.id)) for job in seen.jobs))

    def _as_held(self, job: SeenJob, gang: Gang | None) -> SeenJob:
        if gang is None or (self._namespaces and gang.namespace not in self._namespaces):
            return job
        if not any(pod.labels.get(OPT_IN) == "true" for pod in gang.members):
            return job
        return replace(job, opted_in=True, held=job.waits and job.id not in self._placed)

    def _forget(self, seen: Snapshot, gangs: Mapping[str, Gang]) -> None:
        """Seats of jobs that are gone, are others now, or sit."""
        jobs = {job.id: job for job in seen.jobs}
        for name, placed in list(self._placed.items()):
            job, gang = jobs.get(name), gangs.get(name)
            changed = job is not None and job.waits and job.identity != placed.identity
            if job is None or gang is None or changed or all(pod.node for pod in gang.members):
                del self._placed[name]

    def changed(self, timeout_s: float) -> bool:
        """As the other adapter says."""
        return self._reader.changed(timeout_s)

    def tell(self, waits: Sequence[Wait]) -> None:
        """As the other adapter does."""
        self._reader.tell(waits)

    # ------------------------------------------------------------ carrying out

    def commit(self, orders: Sequence[Order]) -> tuple[Committed, ...]:
        """Publish the seats of all at once, a gang's together, and touch the pods."""
        gangs = self._reader.gangs()
        there = [order for order in orders if order.job in gangs]
        self._placed |= {order.job: _Placed(order.identity, order) for order in there}
        self.after_round()
        gone = [Committed(order.job, "gone", "its pods are no more") for order in orders if order.job not in gangs]
        return (*(Committed(order.job, "done") for order in there), *gone)

    def free(self, jobs: Sequence[str]) -> tuple[str, ...]:
        """Let kube-scheduler place these by itself."""
        return self._give_up(jobs)

    def unpin(self, jobs: Sequence[str]) -> tuple[str, ...]:
        """Take their seats away again, from those that have one."""
        return self._give_up(name for name in jobs if (placed := self._placed.get(name)) is not None and placed.order is not None)

    def _give_up(self, jobs: Iterable[str]) -> tuple[str, ...]:
        gangs = self._reader.gangs()
        found = tuple(name for name in jobs if name in gangs)
        self._placed |= {name: _Placed(self._identities.get(name, ""), None) for name in found}
        self.after_round()
        return found

    def after_round(self) -> None:
        """Publish what is in force, dated as it is, and touch the pods whose answer has changed, once it is answered so."""
        latest = self._in_force.latest
        if latest is None:
            if not self._placed:
                return
            latest = Orders(0, self._clock(), NO_PLAN_TTL_S)  # there never was a plan, and pods were given up for it
        made = self._seating(latest)
        answered = self._publish(made) is not False
        if self._mode is Mode.enforce:
            self._owe(made)
            if answered:
                self._touches.pay(made)
        self._before = made

    def _owe(self, made: Seating) -> None:
        before, self._ran_out = self._ran_out, made.expired(self._clock())
        opened = newly_free(self._before, made)
        if self._ran_out and not before:
            opened += no_longer_held(made)
        self._touches.owe(landed(self._before, made), opened, made.version)

    def _seating(self, latest: Orders) -> Seating:
        members = {name: members_of(gang) for name, gang in self._reader.gangs().items()}
        if self._mode is not Mode.enforce:
            return seating(latest, members, self._before)
        orders = {name: placed.order for name, placed in self._placed.items() if placed.order is not None}
        waits = {name: wait for name, wait in latest.waits.items() if name not in self._placed}
        made = seating(replace(latest, orders=orders, waits=waits), members, self._before)
        free = {
            one.key: Told(one.namespace, one.name, one.uid, name, free=True)
            for name, placed in self._placed.items()
            if placed.order is None
            for one in members.get(name, ())
        }
        return replace(made, told={**made.told, **free})
