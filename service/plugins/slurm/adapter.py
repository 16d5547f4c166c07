"""The Slurm scheduler as the core asks and tells it: a Slurm job is one unit, its pin is ReqNodeList, its release ``scontrol release``.

Whatever happens in between, a job is either held for us or Slurm's own to start: Slurm checks every allocation itself, so that
an order can come late or be wrong and still never gives a GPU away twice.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import structlog

from service.plugins.scheduler import Committed, SchedulerError
from service.plugins.slurm.arrays import array_of, grouped, units
from service.plugins.slurm.changes import Change, Told
from service.plugins.slurm.notation import joined
from service.plugins.slurm.reading import FREED, HOLDS, MOST_NAMED, PINNED, PINS, OptIn, Read, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from service.plugins.cluster import SeenJob, Snapshot
    from service.plugins.orders import Order, Wait
    from service.plugins.slurm.files import SlurmFiles

log = structlog.get_logger(__name__)
POLL_S = 0.2  # below the core's quiet_s: a burst of submissions is seen to go on
POLL_SHARE = 4.0  # without changes, looks are so many times as far apart as one takes: a large cluster is not kept busy by them
MOST_COMMITTED = 1_000  # orders at a time, some seconds: the sign of life comes after them
LET_GO = f"{FREED}: Slurm places it"


class Slurm(Protocol):
    """How Slurm is asked and told: its commands, or slurmrestd."""

    def read(self) -> SlurmFiles:
        """The cluster now. Raises SchedulerError."""
        ...

    def glance(self) -> bytes:
        """Something short that changes when a plan may have to. Raises SchedulerError."""
        ...

    def tell(self, changes: Sequence[Change]) -> tuple[Told, ...]:
        """Carry out each change, one answer each. Raises SchedulerError."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class Ways:
    """How the adapter goes about it. ``enforce`` is False in shadow mode: then nothing is ever told to Slurm."""

    opt_in: OptIn = field(default_factory=OptIn)
    enforce: bool = False
    hold: bool = True  # jobs that opted in and that no job_submit plugin has held are held as soon as they are seen
    priority: int | None = None  # of released jobs; 22.05 takes it after the release only
    poll_s: float = POLL_S


class SlurmScheduler:
    """``scheduler.Scheduler`` for Slurm. Called from one thread."""

    name = "slurm"

    def __init__(
        self,
        slurm: Slurm,
        ways: Ways | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._slurm, self._ways, self._clock, self._sleep = slurm, ways or Ways(), clock, sleep
        self._seen: bytes | None = None
        self._next_look = -math.inf
        self._read: Read | None = None
        self._told: dict[str, str] = {}  # the last sentence that was left with each job

    # ------------------------------------------------------------ seeing

    def snapshot(self) -> Snapshot:
        """The cluster now; jobs that no plan can say are let through to Slurm, new ones that opted in are held (enforce only)."""
        found = self._fresh()
        if not self._ways.enforce:
            return _without_held(found.snapshot)
        changed = self._let_through(found)
        changed = self._note_released(found) or changed
        changed = self._hold_new(found) or changed
        return (self._fresh() if changed else found).snapshot

    def changed(self, timeout_s: float) -> bool:
        """Looks every ``poll_s`` seconds, less often where a look takes long, whether a job or a node is another than before."""
        until = self._clock() + timeout_s
        while True:
            now = self._clock()
            if now >= self._next_look:
                glance, after = self._slurm.glance(), self._clock()
                if glance != self._seen:
                    self._seen, self._next_look = glance, after + self._ways.poll_s
                    return True
                self._next_look = after + max(self._ways.poll_s, POLL_SHARE * (after - now))
                now = after
            if now >= until:
                return False
            self._sleep(min(self._next_look, until) - now)

    def _fresh(self) -> Read:
        self._read = read(self._slurm.read(), self._ways.opt_in)
        return self._read

    # ------------------------------------------------------------ committing

    def commit(self, orders: Sequence[Order]) -> tuple[Committed, ...]:
        """Pin all, look again, release those that still are what was planned; the others lose their pin and stay held."""
        self._must_enforce("commit")
        found = {order.job: Committed(order.job, "refused", "so many at a time: the next round") for order in orders[MOST_COMMITTED:]}
        pinned: list[Order] = []
        first = orders[:MOST_COMMITTED]
        pins = self._slurm.tell([Change(order.job, pin=order.nodes, comment=f"{PINS}: {order.why}") for order in first])
        for order, told in zip(first, pins, strict=True):
            if told.ok is not False:
                pinned.append(order)  # unknown: the second look tells
            else:
                found[order.job] = _not_done(order, told)
        loose = [order for order in first if order.job in found and found[order.job].outcome == "refused"]
        able = self._looked_again(pinned, found)
        loose += [order for order in pinned if order not in able and found[order.job].outcome == "refused"]
        loose += self._released(able, found)
        left = self._read.pins if self._read is not None else {}
        loose += [order for order in pinned if order not in loose and found[order.job].outcome == "gone" and order.job in left]
        if loose:
            self._put_back([order.job for order in loose])
        return tuple(found[order.job] for order in orders)

    def _looked_again(self, pinned: Sequence[Order], found: dict[str, Committed]) -> list[Order]:
        """Those that may be released: the job is held, the same and pinned as ordered, and its nodes are as they were planned with."""
        if not pinned:
            return []
        try:
            fresh = self._fresh()
        except SchedulerError as error:
            found.update({order.job: Committed(order.job, "refused", f"Slurm could not be asked again: {error}") for order in pinned})
            return []
        jobs = {job.id: job for job in fresh.snapshot.jobs}
        versions = {node.id: node.version for node in fresh.snapshot.nodes if node.state == "ready"}
        for order in pinned:
            job = jobs.get(order.job)
            if job is None:
                found[order.job] = Committed(order.job, "gone", "the job is no more, or a person holds it")
            elif (wrong := _wrong(order, job, fresh.pins, versions)) is not None:
                found[order.job] = Committed(order.job, "refused", wrong)
        return [order for order in pinned if order.job not in found]

    def _released(self, able: Sequence[Order], found: dict[str, Committed]) -> list[Order]:
        """Release each; those that Slurm refused to release."""
        if not able:
            return []
        groups = grouped(order.job for order in able)
        comments = [Change(order.job, comment=f"{PINNED}: {order.why}") for order in able]  # a hold from now on is a person's
        told = list(zip(groups.values(), self._slurm.tell([*(Change(name, hold=False) for name in groups), *comments]), strict=False))
        went = self._went(told)
        said = {job: one if len(jobs) == 1 else Told(None, one.detail) for jobs, one in told for job in jobs}
        refused = []
        for order in able:
            if order.job in went:
                found[order.job] = Committed(order.job, "done", f"pinned to {joined(order.nodes)} and released")
            else:
                found[order.job] = _not_done(order, said[order.job])
                refused += [order] if found[order.job].outcome == "refused" else []
        if self._ways.priority is not None:
            done = [order.job for order in able if found[order.job].outcome == "done"]
            self._slurm.tell([Change(job, priority=self._ways.priority) for job in done])
        return refused

    def _held_of(self, jobs: Iterable[str]) -> set[str]:
        """Those of ``jobs`` that are held still; all of them when Slurm cannot be asked."""
        wanted = set(jobs)
        if not wanted:
            return set()
        try:
            snapshot = self._fresh().snapshot
        except SchedulerError:
            return wanted
        return {job.id for job in snapshot.jobs if job.id in wanted and job.held}

    def _put_back(self, jobs: Sequence[str]) -> None:
        """Take the pin off jobs that were not released after all; they stay held, or go free where someone else has released them."""
        try:
            self._slurm.tell([Change(job, pin=(), comment=f"{HOLDS}: its plan changed, the next one is on its way") for job in jobs])
        except SchedulerError as error:
            log.warning("slurm: pins could not be taken back", jobs=list(jobs)[:20], error=str(error))

    # ------------------------------------------------------------ letting go

    def free(self, jobs: Sequence[str]) -> tuple[str, ...]:
        """Without a pin of ours; nodes that a user asked for (-w) stay asked for."""
        self._must_enforce("free")
        return self._freed(jobs, self._fresh())

    def _freed(self, jobs: Sequence[str], found: Read, loose: Sequence[str] = ()) -> tuple[str, ...]:
        """Pins first, marks last: a job whose mark says that it is free and that is held would be taken for held by its user.

        ``loose`` are others that only lose their pin; their ids are given too.
        """
        if not jobs and not loose:
            return ()
        going = units(jobs, found, loose)
        pins = [Change(job, pin=(), comment=f"{HOLDS}: goes free") for job in jobs if job in found.pins]
        told = self._slurm.tell(
            [
                *pins,
                *(Change(name, hold=False) for name in going),
                *(Change(job, pin=(), comment=LET_GO) for job in loose),
                *(Change(name, comment=LET_GO) for name in going),
            ]
        )[len(pins) :]
        freed = self._went(zip(going.values(), told, strict=False))
        return (*(job for job in jobs if job in freed), *(job for job, one in zip(loose, told[len(going) :], strict=False) if one.ok))

    def _went(self, told: Iterable[tuple[Sequence[str], Told]]) -> set[str]:
        """The jobs that are released. Where scontrol died, or complained of some task of an array, it is looked up."""
        freed, unsure = set[str](), set[str]()
        for jobs, one in told:
            if one.ok:
                freed.update(jobs)
            elif one.ok is None or len(jobs) > 1:
                unsure.update(jobs)
        return freed | (unsure - self._held_of(unsure))

    def unpin(self, jobs: Sequence[str]) -> tuple[str, ...]:
        """ReqNodeList= ; the job stays released, so that Slurm may start it anywhere."""
        self._must_enforce("unpin")
        pins = self._pins()
        ours = [job for job in jobs if job in pins]
        told = self._slurm.tell([Change(job, pin=(), comment=LET_GO) for job in ours])
        return tuple(job for job, one in zip(ours, told, strict=True) if one.ok)

    def free_all(self) -> tuple[str, ...]:
        """Release every job that is held for us, and take the pin from every job that has not started; the ids let go of."""
        self._must_enforce("free")
        found = self._fresh()
        held = [*(job.id for job in found.snapshot.jobs if job.held and job.id not in found.held), *sorted(found.held)]
        return self._freed(held, found, [job for job in found.pins if job not in held])

    def _pins(self) -> set[str]:
        """Waiting jobs that carry a pin of ours."""
        return set(self._fresh().pins)

    def _let_through(self, found: Read) -> bool:
        """Release what is held for us and no plan can say; whether anything was."""
        jobs = sorted(found.held)
        if not jobs:
            return False
        for job in jobs:
            log.info("slurm: left to Slurm", job=job, why=found.left_to_slurm.get(job, ""))
        comments = [Change(job, comment=f"{FREED}: {found.left_to_slurm[job]}") for job in jobs]
        self._slurm.tell([*(Change(job, hold=False) for job in jobs), *comments])
        return True

    def _note_released(self, found: Read) -> bool:
        """Jobs that were held for a plan and are held no more: somebody else released them, and what holds them from now on is theirs."""
        changes: dict[str, Change] = {}
        for job in found.snapshot.jobs:
            mark = found.comments.get(job.id, "")
            if job.waits and not job.held and mark.startswith((HOLDS, PINS)):
                name = array_of(job.id) if job.id in found.of_array else job.id
                if name == job.id or (name not in found.by_hand and not any(array_of(other) == name for other in found.pins)):
                    said = (
                        f"{PINNED}: {mark.partition(': ')[2]}"
                        if job.id in found.pins
                        else f"{FREED}: somebody released it, Slurm places it"
                    )
                    changes[name] = Change(name, comment=said)
        return any(one.ok for one in self._slurm.tell(list(changes.values())))

    def _hold_new(self, found: Read) -> bool:
        """Hold what opted in, waits and was not held by a job_submit plugin; whether anything was. Those let go of are not held again.

        The mark comes first: a hold without it would be taken for a person's.
        """
        if not self._ways.hold:
            return False
        new = (job.id for job in found.snapshot.jobs if job.opted_in and job.waits and not job.held and not found.comments.get(job.id))
        jobs = list(dict.fromkeys(array_of(job) if job in found.of_array else job for job in new))
        changes = []
        for job in jobs:
            changes += [Change(job, comment=f"{HOLDS}: until its plan is made"), Change(job, hold=True)]
        return any(one.ok for one in self._slurm.tell(changes))

    # ------------------------------------------------------------ telling

    def tell(self, waits: Sequence[Wait]) -> None:
        """The sentence becomes the job's AdminComment: ``scontrol show job`` shows it, ``squeue -O AdminComment`` too."""
        if not self._ways.enforce or self._read is None:
            return
        held = {job.id for job in self._read.snapshot.jobs if job.held}
        changes: list[Change] = []
        for wait in waits:
            comment = f"{HOLDS}: {wait.why}"
            if wait.job in held - self._read.of_array and self._told.get(wait.job) != comment:
                changes.append(Change(wait.job, comment=comment))
        try:
            told = self._slurm.tell(changes)
        except SchedulerError as error:
            log.warning("slurm: comments could not be left", error=str(error))
            return
        self._told = {job: comment for job, comment in self._told.items() if job in held}
        self._told.update({change.job: change.comment or "" for change, one in zip(changes, told, strict=True) if one.ok})

    def close(self) -> None:
        """Give back what it holds."""
        self._slurm.close()

    def _must_enforce(self, what: str) -> None:
        if not self._ways.enforce:
            raise SchedulerError(f"{what}: only in mode enforce may anything be told to Slurm")


def _without_held(snapshot: Snapshot) -> Snapshot:
    """For shadow mode: what is held for a plan waits because it is held, and would be no gain of the plan's."""
    held = [job.id for job in snapshot.jobs if job.opted_in and job.held]
    if not held:
        return snapshot
    some = ", ".join(held[:MOST_NAMED]) + (f" and {len(held) - MOST_NAMED} more" if len(held) > MOST_NAMED else "")
    told = f"held for a plan, and nobody releases them in shadow mode: {some}; run --mode enforce or the watchdog, or `scontrol release`"
    jobs = tuple(replace(job, opted_in=False) if job.held else job for job in snapshot.jobs)
    return replace(snapshot, jobs=jobs, warnings=(*snapshot.warnings, told))


def _not_done(order: Order, told: Told) -> Committed:
    if told.gone:
        return Committed(order.job, "gone", told.detail)
    return Committed(order.job, "refused", told.detail or "Slurm did not say why")


def _wrong(order: Order, job: SeenJob, pins: Mapping[str, tuple[str, ...]], versions: Mapping[str, str]) -> str | None:
    """Why a pinned job must not be released after all."""
    closed = next((node for node in order.nodes if node not in versions), None)
    other = next((node for node in order.nodes if versions.get(node) != order.node_versions.get(node)), None)
    reasons = (
        (bool(job.running), "it runs already"),
        (job.identity != order.identity, "it was made anew, or asks for something else than was planned"),
        (not job.held, "someone else has released it"),
        (set(pins.get(job.id, ())) != set(order.nodes), f"Slurm did not take the pin to {joined(order.nodes)}"),
        (closed is not None, f"node {closed} takes no job any more"),
        (other is not None, f"node {other} is not as it was planned with"),
    )
    return next((reason for wrong, reason in reasons if wrong), None)


__all__ = ["POLL_S", "Slurm", "SlurmScheduler", "Ways"]
