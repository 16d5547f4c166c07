"""The worker: takes runs from the queue and has each solved in a child process.

A worker is threads in whatever process starts it, and light: one *slot* for each run at a time, which claims, listens to
the child and writes the answer down; one *scribe*, which writes down what was heard meanwhile; and one *keeper*, which
renews the leases, passes cancellations on, takes runs away from workers that are lost, and forgets what is old.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from optimizer.child import ChildGoneError
from service.errors import LeaseLost, ServiceError
from service.runs import assignment as assignments
from service.runs import forgetting, store
from service.runs.asking import AsksAssignment
from service.runs.assignment import Assignment
from service.runs.states import State, Task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from service.children import ChildPool
    from service.runs.bulletin import Bulletin
    from service.runs.database import Database
    from service.runs.records import Claim, Lease, Run
    from service.settings import Settings
    from service.telemetry import Telemetry

DAY_S = 86_400.0
FORGET_EVERY_S = 2.0
MISSED_BEATS = 3.0  # after as many, whoever watches leases begins anew: it was the watcher that slept
SCRIBE_S = 0.025
WARM_S = 60.0
LEFT_S = 1.0
CANCELLED_POLL_S = 1.0
LONGEST_PAUSE_S = 30.0
AGAIN_S = 1.0  # after the database did not answer
log = structlog.get_logger(__name__)


class Worker:
    """Serves the queue from ``start`` to ``stop``. ``wake`` tells it that a run was accepted in this process."""

    def __init__(self, database: Database, settings: Settings, bulletin: Bulletin, pool: ChildPool, telemetry: Telemetry) -> None:
        self.database, self.settings, self.bulletin, self.pool, self.telemetry = database, settings, bulletin, pool, telemetry
        self.name = new_name()
        self._stopping = threading.Event()  # claim nothing more
        self._stopped = threading.Event()  # end at once
        self._accepted = threading.Condition()
        self._news = 0
        self._hurry = threading.Event()  # for the slot of cancelled runs: it must not take the slots' news away
        self._lock = threading.Lock()
        self._at_work: dict[Lease, Assignment] = {}
        self._heard = threading.Event()
        self._threads: list[threading.Thread] = []

    # ------------------------------------------------------------ from outside

    def start(self) -> None:
        """Begin; returns at once."""
        names = [f"slot-{number}" for number in range(1, self.settings.slots + 1)]
        self._threads = [threading.Thread(target=self._serve, name=name, daemon=True) for name in names]
        self._threads.append(threading.Thread(target=self._serve, kwargs={"cancelled": True}, name="slot-cancelled", daemon=True))
        self._threads.append(threading.Thread(target=self._keep, name="keeper", daemon=True))
        self._threads.append(threading.Thread(target=self._scribe, name="scribe", daemon=True))
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There may be something in the queue."""
        with self._accepted:
            self._news += 1
            self._accepted.notify()

    def cancelled(self, run: Run) -> None:
        """Pass a cancellation on at once when the run is at work here; the keeper of another process sees it in the database."""
        with self._lock:
            mine = [
                assignment for lease, assignment in self._at_work.items() if (lease.position, lease.attempt) == (run.position, run.attempt)
            ]
        if run.cancel_mode is not None:
            self._hurry.set()
            for assignment in mine:
                assignment.cancel(run.cancel_mode)

    @property
    def busy(self) -> int:
        """How many runs are at work here."""
        with self._lock:
            return len(self._at_work)

    @property
    def alive(self) -> bool:
        """Whether every thread of a started worker does its work."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def drain(self, seconds: float) -> None:
        """Claim nothing more, let the runs at work end for so long, hand the rest back, and stop."""
        self._stopping.set()
        self.wake_all()
        until = time.monotonic() + seconds
        while self.busy and time.monotonic() < until:
            time.sleep(0.02)
        self.stop()

    def stop(self) -> None:
        """Hand back what is at work and end every thread. May be called twice."""
        self._stopping.set()
        self._stopped.set()
        with self._lock:
            at_work = list(self._at_work.values())
        for assignment in at_work:
            assignment.hand_back()
        self.wake_all()
        self._heard.set()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def wake_all(self) -> None:
        """Have every slot look up."""
        with self._accepted:
            self._news += 1
            self._accepted.notify_all()
        self._hurry.set()

    # ------------------------------------------------------------ a slot

    def _serve(self, *, cancelled: bool = False) -> None:
        """Claim and work; ``cancelled``: only runs that were cancelled while they waited, which no busy slot shall hold up."""
        troubles = 0
        self._warm()
        while not self._stopping.is_set():
            with self._accepted:
                seen = self._news
            try:
                claim = self._claim(cancelled=cancelled)
                troubles = self._work(claim, troubles) if claim is not None else troubles
            except ServiceError:
                self._stopping.wait(AGAIN_S)
                continue
            except Exception:
                log.exception("a slot could not claim a run")
                self._stopping.wait(AGAIN_S)
                continue
            if claim is not None:
                continue
            if cancelled:
                self._hurry.wait(max(self.settings.poll_s, CANCELLED_POLL_S))
                self._hurry.clear()
                continue
            with self._accepted:
                if self._news == seen and not self._stopping.is_set():
                    self._accepted.wait(self.settings.poll_s)

    def _warm(self) -> None:
        """Wait for a child that has its imports done: they must not use up the time limit of the first run."""
        with contextlib.suppress(OSError, ChildGoneError):  # the first run will say so
            self.pool.run(f"{assignments.TASKS}:ready", None, deadline_s=WARM_S, cancel=self._stopping, grace_s=0.0)

    def _claim(self, *, cancelled: bool) -> Claim | None:
        settings = self.settings
        limit = settings.tenant_running_limit
        return self.database.write(lambda connection: store.claim(connection, self.name, settings.attempts, limit, cancelled=cancelled))

    def _work(self, claim: Claim, troubles: int) -> int:
        """Work on one run; how often in a row that went wrong by no fault of the run's, for the pause before the next."""
        run = claim.run
        if run.attempt == 1:
            self.telemetry.run_claimed(time.time() - run.created_at)
        self.bulletin.publish(run.position)
        made = AsksAssignment if run.task is Task.asks else Assignment
        assignment = made(claim, self.database, self.settings, self.bulletin, self.pool, self.telemetry, self._heard.set)
        with self._lock:
            self._at_work[claim.lease] = assignment
        if self._stopped.is_set():
            assignment.hand_back()
        with structlog.contextvars.bound_contextvars(run_id=run.id, trace_id=run.trace_id, request_id=run.request_id):
            try:
                with self.telemetry.tracing.span("run", trace_id=run.trace_id, attributes={"run_id": run.id, "kind": run.kind}):
                    assignment.run()
            except LeaseLost as lost:
                self.telemetry.lease_lost()
                log.warning("the run was given to another worker; what was found here is dropped", reason=lost.detail)
            except (ServiceError, OSError) as error:
                log.warning("a slot had no means to go on; the run returns to the queue", reason=str(error))
                self._return(claim, counts=False)
                return self._pause(troubles)
            except Exception:
                log.exception("a slot failed; the run returns to the queue")
                self._return(claim, counts=True)
                return self._pause(troubles)
            finally:
                with self._lock:
                    del self._at_work[claim.lease]
                self.bulletin.publish(run.position)
        return 0

    def _return(self, claim: Claim, *, counts: bool) -> None:
        """Give a run back that this slot cannot work on; it ``counts`` as a loss where the run itself may be the cause."""

        def operation(connection: Connection) -> None:
            held = store.held(connection, claim.lease)
            if counts:
                store.give_back(connection, held, "a fault of ours", self.settings.attempts)
            else:
                store.hand_back(connection, claim.lease, "its worker had no means to go on")

        try:
            self.database.write(operation)
        except ServiceError as error:
            log.warning("a run could not be returned; its lease will run out", reason=error.detail)

    def _pause(self, troubles: int) -> int:
        """Longer each time: what is short of processes or descriptors must not burn through the queue."""
        self._stopping.wait(min(LONGEST_PAUSE_S, AGAIN_S * 2**troubles))
        return troubles + 1

    # ------------------------------------------------------------ the scribe

    def _scribe(self) -> None:
        """Now and then, so that what is heard in quick succession costs one write."""
        while not self._stopped.is_set():
            self._heard.wait(LEFT_S)  # and from time to time, for what could not be written the first time
            if self._stopped.wait(SCRIBE_S):
                return
            self._heard.clear()
            with self._lock:
                at_work = list(self._at_work.values())
            for assignment in at_work:
                try:
                    assignment.flush()
                except ServiceError as error:
                    log.warning("what was heard could not be written down", reason=error.detail)

    # ------------------------------------------------------------ the keeper

    def _keep(self) -> None:
        watch = _Watch(self.settings.lease_s, MISSED_BEATS * self.settings.heartbeat_s)
        forgot_at = time.monotonic()
        while not self._stopped.wait(self.settings.heartbeat_s):
            try:
                self._beat()
                self._take_from_the_lost(watch)
                if time.monotonic() - forgot_at > FORGET_EVERY_S:
                    forgot_at = time.monotonic()
                    self._forget()
            except ServiceError as error:
                log.warning("the keeper could not reach the database", reason=error.detail)
            except Exception:
                log.exception("the keeper failed and goes on")

    def _forget(self) -> None:
        """Delete the finished runs that are older than the settings want them kept."""
        if self.settings.retention_days is not None:
            before = time.time() - self.settings.retention_days * DAY_S
            # One small step a turn, so that leases are renewed between: a long one would hold up every write.
            self.database.write(lambda connection: forgetting.forget(connection, before))

    def _beat(self) -> None:
        """Renew the leases; hear what is cancelled; let go of runs that are no longer ours."""
        with self._lock:
            at_work = dict(self._at_work)
        if not at_work:
            return
        renewed = self.database.write(partial(store.beat, worker=self.name, positions=[lease.position for lease in at_work]))
        mine = {run.position: run for run in renewed}
        for lease, assignment in at_work.items():
            run = mine.get(lease.position)
            if run is None or run.attempt != lease.attempt:
                assignment.lost()
            elif run.cancel_mode is not None:
                assignment.cancel(run.cancel_mode)

    def _take_from_the_lost(self, watch: _Watch) -> None:
        runs = self.database.read(store.leased)
        with self._lock:
            at_work = {(lease.position, lease.attempt) for lease in self._at_work}
        for run in watch.lost(run for run in runs if (run.position, run.attempt) not in at_work):
            given = self.database.write(partial(store.give_back, seen=run, why=store.LOST, attempts=self.settings.attempts))
            if given is not None:
                self.telemetry.lease_expired()
                log.warning("a run's worker is lost", run_id=run.id, worker=run.worker, state=given.state)
                self.bulletin.publish(run.position)
                if given.state is State.queued:
                    self.wake()
                else:
                    limit = float(given.limits["time_limit_s"])
                    self.telemetry.run_ended(given.kind, given.outcome or "", given.stop_reason or "", given.spent_s, limit, None)


class _Watch:
    """Finds the runs whose lease stands still, by this process's own monotonic clock, or whose worker of this machine is dead."""

    def __init__(self, lease_s: float, asleep_s: float) -> None:
        self._lease_s = lease_s
        self._asleep_s = asleep_s
        self._looked = time.monotonic()
        self._seen: dict[tuple[int, int], tuple[int, float]] = {}  # (position, attempt): beat, and when it was first seen

    def lost(self, leased: Iterable[Run]) -> list[Run]:
        """Those that are lost. Time in which nobody could look or beat, such as a rest of the database, counts for nothing."""
        now = time.monotonic()
        if now - self._looked > self._asleep_s:
            self._seen = {}
        self._looked = now
        seen: dict[tuple[int, int], tuple[int, float]] = {}
        found = []
        for run in leased:
            key = (run.position, run.attempt)
            beat, since = self._seen.get(key, (run.beat, now))
            seen[key] = (run.beat, since if beat == run.beat else now)
            if now - seen[key][1] >= self._lease_s or is_dead(run.worker):
                found.append(run)
        self._seen = seen
        return found


# ---------------------------------------------------------------- names of workers


def new_name() -> str:
    """``host/boot/namespace/pid/start/random``: tells those who see the same processes whether the worker can still be alive."""
    return "/".join((*_place(), str(os.getpid()), _started(os.getpid()) or "", secrets.token_hex(4)))


def is_dead(name: str | None) -> bool:
    """Whether the worker is known to be gone: only ever True for one of this machine, since its last start."""
    match (name or "").split("/"):
        case [host, boot, namespace, pid, start, _] if (host, boot, namespace) == _place() and pid.isdecimal():
            return _started(int(pid)) != start
    return False


def _place() -> tuple[str, str, str]:
    """This machine since its last start, and which of its processes are seen from here: containers may share all but the last."""
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        namespace = 0
    return socket.gethostname(), _boot_id(), str(namespace)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When the process started, in ticks since the boot, which no change of the clock touches; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self").exists() else ""
    return None if fields[0] in {"Z", "X"} else fields[19]
