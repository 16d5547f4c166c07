"""The gate controller: makes kube-scheduler start gated pods where the plan says, and only then.

Pods carry the scheduling gate ``quartermaster.dev/plan``. A release takes it away, and names the node: softly in the pod's
status, or hard in its node selector. kube-scheduler checks every rule and all room as ever; nothing is bound here.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import structlog

from service.plugins.kubernetes.cache import Cache
from service.plugins.kubernetes.connection import ApiRefusedError
from service.plugins.kubernetes.jobs import pinned_to, seated_pods, short, started
from service.plugins.kubernetes.pods import HOSTNAME
from service.plugins.kubernetes.reading import Reading, read
from service.plugins.kubernetes.releases import (
    Release,
    nominated_by_another,
    pod_path,
    preconditions,
    recorded_pin,
    recorded_seats,
    withdraw,
)
from service.plugins.kubernetes.releasing import Ended, Releasing
from service.plugins.kubernetes.rests import Rests
from service.plugins.kubernetes.shadowing import as_if_opted_in
from service.plugins.kubernetes.telling import Telling
from service.plugins.scheduler import Committed, SchedulerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.plugins.cluster import Snapshot
    from service.plugins.kubernetes.connection import Connection
    from service.plugins.kubernetes.nodes import ReadingOptions
    from service.plugins.kubernetes.pods import Pod
    from service.plugins.kubernetes.reading import Gang
    from service.plugins.orders import Order, Wait

Pin = Literal["soft", "hard"]
LIMIT_S = 10.0  # of one call
REFUSALS = 3  # lasting ones of the same job, after which it is released without a pin
UNREADABLE_S = 5.0  # between releases of pods that cannot be read
AT_ONCE = 4  # gangs that are released at the same time

log = structlog.get_logger(__name__)


class _Seen:
    """A reading, with its gangs and their identities by the jobs' ids."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.gangs = {short(name): gang for name, gang in reading.gangs.items()}
        self.identities = {job.id: job.identity for job in reading.snapshot.jobs}


class Gates:
    """A ``Scheduler`` by scheduling gates.

    ``mends`` is False where nothing may be touched (modes shadow and advise): then no gang that is half released is brought
    to its end, and every job that waits for kube-scheduler is planned, opted in or not. ``replaces``: hard-pinned pods that cannot
    start any more are deleted where a controller makes them anew; otherwise such a pod waits for its node. ``limit_s`` is that of
    one call. ``stopping``: whether all that is held is to be let go.
    """

    name = "kubernetes"

    def __init__(  # noqa: PLR0913  (what it does, and the clocks of tests)
        self,
        connection: Connection,
        cache: Cache,
        options: ReadingOptions,
        *,
        mends: bool,
        replaces: bool = False,
        limit_s: float = LIMIT_S,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.options, self.cache = options, cache
        self._connection, self._mends, self._replaces, self._limit_s = connection, mends, replaces, limit_s
        self._clock, self._monotonic, self._stopping = clock, monotonic, stopping
        self._releasing = Releasing(connection, options.gate, cache.observe, monotonic=monotonic, sleep=sleep)
        self._telling = Telling(connection, clock)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="gang")
        self.completed = self.unreadable = self.given_up = self.releases_refused = 0  # told by metrics.py
        self.rests = Rests(monotonic)
        self._last: tuple[object, Reading] | None = None
        self._refusals: dict[tuple[str, str], int] = {}
        self._next_unreadable = -math.inf
        self._owed: list[tuple[Pod, str, str, bool]] = []  # sentences of the releases of one call

    def close(self) -> None:
        """End the watches and the threads."""
        self.cache.stop()
        self._pool.shutdown()
        self._releasing.close()

    # ------------------------------------------------------------ what the follower asks

    def snapshot(self) -> Snapshot:
        """The cluster now; gangs that were half released are brought to their end before. Raises SchedulerError."""
        reading = self._reading()
        self.rests.keep(reading.gangs)
        if self._mends and self._mend(reading):
            reading = self._reading()
        if self._stopping():
            return reading.snapshot
        return self._ours(reading) if self._mends else as_if_opted_in(reading.snapshot, _Seen(reading).gangs, self.options.namespaces)

    def changed(self, timeout_s: float) -> bool:
        """Whether anything changed that matters, waiting at most so long."""
        return self.cache.changed(timeout_s)

    def commit(self, orders: Sequence[Order]) -> tuple[Committed, ...]:
        """Pin and release each job; a gang whole or not at all. Raises SchedulerError when the cluster is not known."""
        seen = _Seen(self._reading())
        deadline = self._monotonic() + self._limit_s
        self._refusals = {key: count for key, count in self._refusals.items() if seen.identities.get(key[0]) == key[1]}
        answers = tuple(self._pool.map(lambda order: self._committed(order, seen, deadline), orders))
        self._tell_owed()  # nothing is released later for a sentence
        return answers

    def free(self, jobs: Sequence[str]) -> tuple[str, ...]:
        """Release these jobs' held pods without a pin; the ids of which none is held any more. Raises SchedulerError."""
        gangs, deadline = _Seen(self._reading()).gangs, self._monotonic() + self._limit_s
        return tuple(job for job in jobs if job not in gangs or self._freed(gangs[job], deadline))

    def unpin(self, jobs: Sequence[str]) -> tuple[str, ...]:
        """Take the pins of released pods that have not started; the ids whose pins are all gone. Raises SchedulerError."""
        seen = _Seen(self._reading())
        return tuple(job for job in jobs if job not in seen.gangs or self._unpinned(seen.gangs[job], seen.reading))

    def tell(self, waits: Sequence[Wait]) -> None:
        """Leave each sentence as an event on the job's first pod that waits, and on its Job."""
        try:
            gangs = _Seen(self._reading()).gangs
        except SchedulerError as error:
            log.warning("kubernetes_events_lost", count=len(waits), detail=str(error))
            return
        waiting = [([pod for pod in gangs[wait.job].members if not pod.node], wait.why) for wait in waits if wait.job in gangs]
        told = [(pods[0], why) for pods, why in waiting if pods]
        list(self._pool.map(lambda one: self._telling.tell(one[0], "WaitingForPlan", one[1]), told))

    # ------------------------------------------------------------ releases

    def _reading(self) -> Reading:
        state, objects, now = self.cache.state(), self.cache.objects(), self._clock()
        if self._last is not None and state is not None and self._last[0] == state:
            last = self._last[1]
            return replace(last, snapshot=replace(last.snapshot, taken_at=now))
        self.cache.forget(len(objects.pods))
        reading = read(objects, self.options, now, self.cache.reader)
        self._last = (state, reading)
        return reading

    def _ours(self, reading: Reading) -> Snapshot:
        """The snapshot, in which only what we could release now counts as held by us.

        Not so a gang that something else holds too, or one whose release the server refuses: it keeps its gate, takes no seat of a
        plan, and is looked at anew when the other gate is gone, or after a rest.
        """
        gate, jobs = self.options.gate, reading.snapshot.jobs
        gangs = {short(name): gang for name, gang in reading.gangs.items()}
        stuck = {
            job.id
            for job in jobs
            if job.held and (any(pod.gates != (gate,) for pod in gangs[job.id].held(gate)) or self.rests.refused(gangs[job.id].id))
        }
        if not stuck:
            return reading.snapshot
        return replace(reading.snapshot, jobs=tuple(replace(job, held=False) if job.id in stuck else job for job in jobs))

    def _committed(self, order: Order, seen: _Seen, deadline: float) -> Committed:
        gang = seen.gangs.get(order.job)
        if gang is None:
            return Committed(order.job, "gone", "it is no more")
        complaint = self._complaint(order, gang, seen)
        if complaint is not None:
            return Committed(order.job, "refused", complaint)
        if self._monotonic() >= deadline:
            return Committed(order.job, "refused", "the time of this round is used up")
        nodes = {pod.uid: seat.node for pod, seat in zip(seated_pods(gang, self.options), order.seats, strict=True)}
        held = sorted(gang.held(self.options.gate), key=lambda pod: pod.uid not in nodes)  # one with a seat leads
        ended = self._releasing.together([self._release(pod, nodes, seen.reading) for pod in held], deadline)
        if ended.outcome == "refused" and ended.lasting:
            key = (order.job, order.identity)
            self._refusals[key] = self._refusals.get(key, 0) + 1
            if self._refusals[key] >= REFUSALS and self._freed(gang, deadline):
                self.given_up += 1
                told = f"Released without its planned nodes: {ended.detail}"
                self._owed.append((gang.members[0], "ReleasedWithoutPlan", told, True))
                return Committed(order.job, "done", f"released without a pin, which was refused: {ended.detail}")
        return self._answer(order, gang, ended)

    def _answer(self, order: Order, gang: Gang, ended: Ended) -> Committed:
        if ended.outcome in {"done", "begun"}:
            told = f"Starts on {', '.join(order.nodes)}." + (f" {order.why}" if order.why else "")
            self._owed.append((gang.members[0], "Planned", told, False))
            return Committed(order.job, "done", ended.detail)
        return Committed(order.job, "gone" if ended.outcome == "gone" else "refused", ended.detail)

    def _tell_owed(self) -> None:
        """Leave the sentences of what was released, for at most half of a call's time: what comes too late is lost, and told here."""
        owed, self._owed = self._owed, []
        until = self._monotonic() + self._limit_s / 2

        def tell(one: tuple[Pod, str, str, bool]) -> bool:
            if self._monotonic() >= until:
                return False
            self._telling.tell(one[0], one[1], one[2], warning=one[3])
            return True

        lost = sum(not done for done in self._pool.map(tell, owed))
        if lost:
            log.warning("kubernetes_events_lost", count=lost, detail="the API server is too slow for them")

    def _complaint(self, order: Order, gang: Gang, seen: _Seen) -> str | None:
        """Why the order is not for this gang as it is now; None when it is."""
        if order.identity != seen.identities.get(order.job):
            return "its pods are not those that were planned"
        held = gang.held(self.options.gate)
        if not held or started(gang, self.options):
            return "it is not held any more"
        if any(pod.gates != (self.options.gate,) for pod in held):
            return "something else holds its pods too"
        if len(order.seats) != len(seated_pods(gang, self.options)) or len(gang.members) < gang.wanted:
            return "the order does not have one seat for each of its pods"
        nodes = seen.reading.nodes
        away = [node for node in order.nodes if node not in nodes or nodes[node].state != "ready"]
        return f"the node {away[0]} takes no pods" if away else None

    def _release(self, pod: Pod, nodes: Mapping[str, str], reading: Reading) -> Release:
        """A pod's release to its node, if it has one there. A demand that only the scheduler can check is never pinned hard."""
        node = nodes.get(pod.uid, "")
        if not node or node not in reading.nodes:
            return Release(pod)
        host = reading.nodes[node].labels.get(HOSTNAME, "")
        other = pod.node_selector.get(HOSTNAME, host) != host
        return Release(pod, node, host if self.options.hard and host and not pod.unmodelled and not other else "")

    def _freed(self, gang: Gang, deadline: float) -> bool:
        held = gang.held(self.options.gate)
        ended = self._releasing.finish([Release(pod) for pod in held], deadline)
        if ended.outcome == "begun":
            self._not_released(gang, ended)
            return False
        self.rests.done(gang.id)
        return True

    def _not_released(self, gang: Gang, ended: Ended) -> None:
        """Leave the gang alone for a while: long, where the same request would be refused again."""
        rest_s = self.rests.failed(gang.id, lasting=ended.lasting)
        if not self.rests.refused(gang.id):
            log.warning("kubernetes_not_released", job=gang.id, detail=ended.detail)
            return
        self.releases_refused += 1
        log.warning("kubernetes_left_alone", job=gang.id, rest_s=rest_s, detail=ended.detail)
        told = f"Its scheduling gate cannot be taken away, which is tried again in {rest_s:.0f} s: {ended.detail}"
        self._telling.tell(gang.members[0], "NotReleased", told, warning=True)

    def _mend(self, reading: Reading) -> bool:
        """Release what is still held of gangs that have started: to the seats their first pod carries, else anywhere."""
        found = self._release_unreadable(reading)
        deadline = self._monotonic() + self._limit_s / 2  # of all together: the next round goes on
        for gang in reading.gangs.values():
            if self._monotonic() >= deadline:
                break
            held = gang.held(self.options.gate)
            if not held or not started(gang, self.options):
                continue
            if self.rests.resting(gang.id):
                continue
            found = True
            everyone = [*gang.members, *gang.ended]
            seats = recorded_seats(everyone)
            nodes = {uid: node for uid, node in seats.items() if node in reading.nodes and reading.nodes[node].state == "ready"}
            ended = self._releasing.finish([self._release(pod, nodes, reading) for pod in held], deadline)
            log.warning(
                "kubernetes_gang_completed", job=gang.id, pods=len(held), seats=len(nodes), outcome=ended.outcome, detail=ended.detail
            )
            if ended.outcome == "begun":
                self._not_released(gang, ended)
            else:
                self.rests.done(gang.id)
                self.completed += 1
                told = "Released after the others of its gang, which had started already."
                self._telling.tell(held[0], "GangCompleted", told, warning=True)
        return found

    def _release_unreadable(self, reading: Reading) -> bool:
        """Release held pods that no job can be made of: nobody would ever plan them."""
        if not reading.unreadable or self._monotonic() < self._next_unreadable:
            return False
        freed = self._releasing.freed([Release(pod) for pod in reading.unreadable], self._monotonic() + self._limit_s / 2)
        log.warning("kubernetes_unreadable_released", pods=len(reading.unreadable), released=len(freed))
        self.unreadable += len(freed)
        self._next_unreadable = self._monotonic() + UNREADABLE_S
        return bool(freed)

    # ------------------------------------------------------------ pins

    def _unpinned(self, gang: Gang, reading: Reading) -> bool:
        hosts = {node.labels.get(HOSTNAME, ""): node.name for node in reading.nodes.values()}
        taken = [self._pin_taken(pod) for pod in gang.members if pinned_to(pod, hosts)]  # each is tried
        return all(taken)

    def _pin_taken(self, pod: Pod) -> bool:
        try:
            if recorded_pin(pod) != "hard" and nominated_by_another(pod):
                return True  # the scheduler has made up its own mind
            if recorded_pin(pod) != "hard":
                self.cache.observe(self._connection.patch(pod_path(pod, status=True), withdraw(pod)))
                return True
            if self._replaces and pod.owner is not None:
                self._connection.delete(pod_path(pod), preconditions(pod))
                self._telling.tell(
                    pod, "Replaced", "Deleted, to be made anew: it had not started, and its planned node takes no pods.", warning=True
                )
                return True
        except ApiRefusedError as error:
            log.info("kubernetes_pin_stays", pod=pod.key, detail=str(error))
            return False
        except SchedulerError as error:
            log.warning("kubernetes_pin_stays", pod=pod.key, detail=str(error))
            return False
        told = "Its node selector names a node that takes no pods, and cannot be changed: delete the pod so that it is made anew."
        self._telling.tell(pod, "PinStays", told, warning=True)
        return False
