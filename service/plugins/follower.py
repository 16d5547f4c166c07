"""The loop that makes a scheduler follow the plan: watch, plan in batches, re-check, commit, tell.

Nothing is solved inside a scheduler's callback, and nothing here raises for what a scheduler or an optimiser does: a round that
fails is counted and told, and the next one tries again. A job that no verified plan has considered in time is released without one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from optimizer.limits import Limits
from service.plugins import planner, why
from service.plugins.debounce import Debounce
from service.plugins.evictions import Remembered
from service.plugins.forecast import Forecast, forecasts
from service.plugins.gains import Gains, Shadow
from service.plugins.holding import Holding, is_held
from service.plugins.inforce import InForce
from service.plugins.modes import Mode
from service.plugins.orders import Order, Orders, Seat, Wait
from service.plugins.passed import passed
from service.plugins.patience import Patience
from service.plugins.planner import NoPlanError, Optimiser, Planned
from service.plugins.problem import Asked, problem
from service.plugins.recheck import Refusal, Refused, Standing
from service.plugins.reservations import Reservation, Reservations
from service.plugins.scheduler import Committed, Scheduler, SchedulerError
from service.plugins.telemetry import PluginTelemetry

if TYPE_CHECKING:
    import threading

    from models.placement.schema import Tenant
    from service.plugins.cluster import Snapshot
    from service.plugins.heartbeat import Heart
    from service.plugins.occupancy import Places
    from service.plugins.settings import PluginSettings

log = structlog.get_logger(__name__)
FIRST_PAUSE_S = 0.5
LONGEST_LOOK_S = 1.0  # for changes at a time, so that whoever stops us need not wait
EVICTIONS_S = 60.0  # after which it is looked for anew who would have to go
SETTLED = frozenset({Refused.gone, Refused.started, Refused.not_held, Refused.committed})  # nothing is left to be done
UNSURE_S = 10.0  # for which seats are kept when the scheduler did not answer a commit


@dataclass(slots=True)
class Round:
    """What one round did. ``ended`` is planned, nothing (to plan) or no_plan; ``trouble`` says why there is no plan."""

    ended: str = "nothing"
    trouble: str | None = None
    orders: Orders | None = None
    refused: list[Refusal] = field(default_factory=list)
    committed: list[Committed] = field(default_factory=list)
    freed: tuple[str, ...] = ()
    unpinned: tuple[str, ...] = ()
    gains: Gains | None = None
    told: tuple[Wait, ...] = ()


class Follower:
    """Follows one scheduler from ``run`` to the end of it. One thread; ``in_force`` may be read from others.

    ``clock`` is the wall clock that orders are dated by, ``monotonic`` the one that everything is timed by. ``heart`` is stamped
    after every round with a verified plan, or with nothing to plan. ``on_round`` hears of each round that ended.
    """

    def __init__(  # noqa: PLR0913  (its parts are given by the caller, its clocks by tests)
        self,
        scheduler: Scheduler,
        optimiser: Optimiser,
        settings: PluginSettings,
        *,
        in_force: InForce | None = None,
        telemetry: PluginTelemetry | None = None,
        heart: Heart | None = None,
        tenants: Sequence[Tenant] = (),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        on_round: Callable[[Round], None] | None = None,
    ) -> None:
        self.scheduler, self.optimiser, self.settings = scheduler, optimiser, settings
        self.in_force = in_force if in_force is not None else InForce()
        self.telemetry = telemetry if telemetry is not None else PluginTelemetry()
        self.reservations = Reservations()
        self._heart, self._tenants, self._clock, self._monotonic, self.on_round = heart, tuple(tenants), clock, monotonic, on_round
        self._debounce = Debounce(settings.quiet_s, settings.longest_wait_s, settings.refresh_s)
        self._shadow = Shadow()
        self._patience = Patience(settings.patience_s)
        self._evictions = Remembered(EVICTIONS_S)
        self._seats: Mapping[str, Places] = {}
        self._holding = Holding()
        self._adopted: set[tuple[str, str]] = set()
        self._to_unpin: set[str] = set()
        self._told: dict[str, str] = {}
        self._warned: frozenset[str] = frozenset()
        self._failures = 0

    # ------------------------------------------------------------ the loop

    def run(self, stop: threading.Event) -> None:
        """Follow until ``stop`` is set; then release everything held and say that it has ended. Never raises for a round."""
        self.telemetry.started(self.settings.mode)
        log.info("following", scheduler=self.scheduler.name, mode=self.settings.mode.value)
        while not stop.is_set():
            pause = self.step()
            if pause > 0:
                stop.wait(pause)
        self.close()

    def step(self) -> float:
        """Wait a moment for changes, and hold a round if one is due; seconds to pause because something went wrong, else 0."""
        try:
            if self.scheduler.changed(min(self._debounce.wait_s(self._monotonic()), LONGEST_LOOK_S)):
                self._debounce.changed(self._monotonic())
            if self._debounce.wait_s(self._monotonic()) > 0:
                return 0.0
            self._debounce.began(self._monotonic())
            done = self.round()
        except Exception as error:  # the cluster must not lose us to what we did not think of
            known = isinstance(error, SchedulerError)
            self.telemetry.round_ended("scheduler" if known else "fault")
            log.warning("round failed", reason="scheduler" if known else "fault", error=str(error), exc_info=None if known else error)
            self._failures += 1
            self._debounce.again(self._monotonic())
            return self._pause_s()
        self._failures = self._failures + 1 if _wants_another(done) else 0
        if self._failures:
            self._debounce.again(self._monotonic() + self._pause_s())
        return 0.0

    def _pause_s(self) -> float:
        return float(min(FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 30), self.settings.longest_pause_s, self.settings.refresh_s))

    def close(self) -> None:
        """Release everything held, take away the pins of what has not started, and end the heart's beats; the optimiser is closed.

        When the scheduler does not answer, nothing is said to have ended: the watchdog releases what is held.
        """
        self.in_force.withdraw()
        ended = self.settings.mode is not Mode.enforce or self._released_all()
        self.optimiser.close()
        if self._heart is not None:
            if ended:
                self._beat(ended=True)
            self._heart.close()
        log.info("ended", clean=ended)

    def _released_all(self) -> bool:
        try:
            held = [job.id for job in self.scheduler.snapshot().jobs if is_held(job)]
            freed = self.scheduler.free(held) if held else ()
            pins = sorted(self._to_unpin.union(one.job.id for one in self.reservations))
            if pins:
                self.telemetry.unpinned(len(self.scheduler.unpin(pins)))
        except Exception as error:  # noqa: BLE001  (whatever it is, the watchdog is there for it)
            log.warning("held jobs could not be released", error=str(error))
            return False
        self.telemetry.freed("shutdown", len(freed))
        return set(held) <= set(freed)

    # ------------------------------------------------------------ one round

    def round(self) -> Round:
        """One round. Raises SchedulerError when the scheduler could not be asked or told."""
        done, began = Round(), self._monotonic()
        enforce = self.settings.mode is Mode.enforce
        with self._timed("snapshot"):
            snapshot = self.scheduler.snapshot()
        if enforce:
            self._settle(snapshot)
            done.unpinned = self._unpin(snapshot)
        with self._timed("convert"):
            asked = problem(
                snapshot,
                held_only=enforce,
                tenants=self._tenants,
                reservations=self.reservations,
                before=self._seats,
                kept=self._patience.kept,
            )
        self._seats = asked.occupied.seats
        self._note_held(snapshot)
        self.telemetry.seen(len(self._holding.jobs), len(self.reservations), len(asked.warnings))
        found = self._planned(asked, done)
        if done.trouble is None:
            self._holding.considered(asked)
            done.orders = self._in_force(asked, found)
            if enforce:
                self._commit(done.orders, done)
            else:
                done.gains = self._gained(asked, done.orders)
            self._beat()
        if enforce:
            done.freed = self._fall_back()
        if done.orders is not None:
            self._explained(asked, found, done)
        self._note_slow(self._monotonic() - began)
        self.telemetry.round_ended(done.ended)
        if self.on_round is not None:
            self.on_round(done)
        return done

    def _planned(self, asked: Asked, done: Round) -> Planned | None:
        """The verified plan; None when there is nothing to plan, or no plan."""
        for warning in asked.warnings:
            if warning not in self._warned:
                log.warning("snapshot", warning=warning)
        self._warned = frozenset(asked.warnings)
        if asked.problem is None:
            return None
        limits = Limits(
            time_limit_s=self.settings.time_limit_s,
            gap=self.settings.gap,
            threads=self.settings.threads,
            memory_gib=self.settings.memory_gib,
        )
        try:
            with self._timed("plan"):
                found = planner.planned(asked, self.optimiser, limits, self.in_force.latest)
        except NoPlanError as error:
            done.ended, done.trouble = "no_plan", error.trouble
            self.telemetry.no_plan(error.trouble)
            log.warning("no plan", reason=error.trouble, detail=str(error), jobs=len(asked.planned))
            return None
        done.ended = "planned"
        return found

    def _in_force(self, asked: Asked, found: Planned | None) -> Orders:
        now = self._clock()
        made = planner.orders(asked, found, self.in_force.version + 1, now, self.settings.ttl_s)
        self.in_force.publish(made)
        self.telemetry.in_force(made.version, now, made.gap, kept=found is not None and found.kept)
        if found is not None:
            log.info(
                "planned", version=made.version, starts=len(made.orders), waits=len(made.waits), objective=made.objective, gap=made.gap
            )
        return made

    def _commit(self, orders: Orders, done: Round) -> None:
        """Re-check each order against a fresh snapshot, and have the scheduler carry out those that stand."""
        if not orders.orders:
            return
        with self._timed("recheck"):
            fresh = self.scheduler.snapshot()
            self._adopt(fresh)  # what another follower has pinned since the round began
            standing = Standing(fresh, self.reservations, self._seats)
            now = self._clock()
            stand: list[Order] = []
            for order in orders.orders.values():
                refusal = standing.recheck(order, self.in_force.latest, now)
                if refusal is None:
                    stand.append(order)
                else:
                    done.refused.append(refusal)
                    self.telemetry.refused(refusal.reason)
                    log.info("order refused", job=refusal.job, reason=refusal.reason.value, detail=refusal.detail)
        if stand:
            with self._timed("commit"):
                done.committed += self._committed(stand, standing)

    def _committed(self, stand: Sequence[Order], standing: Standing) -> tuple[Committed, ...]:
        """Commit, with the seats kept from before the call: a scheduler that fails to answer may have done it."""
        now = self._monotonic()
        unsure = min(UNSURE_S, self.settings.reserve_s)
        for order in stand:
            self.reservations.add(Reservation(standing.jobs[order.job], order, now + unsure, certain=False))
        try:
            answers = self.scheduler.commit(stand)
        except BaseException:
            for _ in stand:
                self.telemetry.committed("unknown")
            raise
        told = {answer.job: answer for answer in answers}
        for order in stand:
            answer = told.get(order.job)
            self.telemetry.committed(answer.outcome if answer is not None else "unknown")
            if answer is None:
                continue
            if answer.outcome == "done":
                until = self._monotonic() + self.settings.reserve_s
                self.reservations.add(Reservation(standing.jobs[order.job], order, until))
                log.info("started", job=order.job, nodes=order.nodes, why=order.why)
            else:
                self.reservations.drop(order.job)
                log.info("not started", job=order.job, outcome=answer.outcome, detail=answer.detail)
        return answers

    def _gained(self, asked: Asked, orders: Orders) -> Gains:
        gains = self._shadow.report(asked, orders)
        self.telemetry.gained(gains)
        if gains.jobs:
            log.info("would start", jobs=len(gains.jobs), gpus=gains.gpus, sentence=gains.sentence)
        return gains

    def _beat(self, *, ended: bool = False) -> None:
        if self._heart is not None:
            try:
                self._heart.beat(ended=ended)
            except OSError as error:  # the watchdog will take us for dead: better that than the other way round
                log.exception("no sign of life could be left", error=str(error))

    # ------------------------------------------------------------ what was released and what is held

    def _settle(self, snapshot: Snapshot) -> None:
        ended = self.reservations.settle(snapshot, self._monotonic())
        self._adopt(snapshot, besides={job for job, ending in ended.items() if ending == "late"})
        for job, ending in ended.items():
            self.telemetry.ended(ending)
            if ending == "late":
                self._to_unpin.add(job)
                log.info("released job has not started in time", job=job)
        self._to_unpin |= set(self.reservations.stranded(snapshot))

    def _adopt(self, snapshot: Snapshot, besides: Container[str] = ()) -> None:
        """Keep the seats of jobs that an earlier follower, or another one, released and pinned, once for each."""
        for job in snapshot.jobs:
            key = (job.id, job.identity)
            if job.id in self.reservations or key in self._adopted or job.id in besides:
                continue
            if job.pinned and job.waits and not job.held:
                self._adopted.add(key)
                seats = tuple(Seat(job.pinned[worker % len(job.pinned)]) for worker in range(job.workers))
                order = Order(job.id, job.identity, seats, {}, "pinned before")
                self.reservations.add(Reservation(job, order, self._monotonic() + self.settings.reserve_s))

    def _unpin(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Take the pins from released jobs that have not started, because a node is drained or it takes too long."""
        pending = {job.id for job in snapshot.jobs if job.waits and not job.held}
        self._to_unpin &= pending
        if not self._to_unpin:
            return ()
        gone = self.scheduler.unpin(sorted(self._to_unpin))
        self._to_unpin -= set(gone)
        for job in gone:
            if job in self.reservations:  # else its seats were given up before; while a pin stays, it may still start there
                self.reservations.drop(job)
                self.telemetry.ended("unpinned")
        self.telemetry.unpinned(len(gone))
        return tuple(gone)

    def _note_held(self, snapshot: Snapshot) -> None:
        more = self._holding.note(snapshot, self._monotonic())
        self._adopted &= {(job.id, job.identity) for job in snapshot.jobs}
        if more > 0 and self.settings.mode is not Mode.enforce:
            log.warning("jobs are held, and nobody releases them in this mode", jobs=len(self._holding.jobs), mode=self.settings.mode.value)

    def _fall_back(self) -> tuple[str, ...]:
        """Release held jobs that no verified plan has considered for too long."""
        late = self._holding.late(self._monotonic(), self.settings.fallback_s, self.reservations)
        if not late:
            return ()
        freed = self.scheduler.free(late)
        self.telemetry.freed("fallback", len(freed))
        log.warning("released without a plan", jobs=len(freed), first=freed[:5])
        return tuple(freed)

    # ------------------------------------------------------------ telling

    def _explained(self, asked: Asked, found: Planned | None, done: Round) -> None:
        """Say why jobs wait. A sentence that cannot be made costs nothing but the sentence: the round is done by now."""
        try:
            self._explain(asked, found, done)
        except SchedulerError as error:
            log.warning("the sentences could not be left", error=str(error))
        except Exception:
            log.exception("the sentences could not be made")

    def _explain(self, asked: Asked, found: Planned | None, done: Round) -> None:
        """Say why jobs wait and what would help: after the commits, and within its own time."""
        orders, now = done.orders, asked.snapshot.taken_at
        if orders is None:
            return
        with self._timed("explain"):
            told: dict[str, Wait] = dict(orders.waits)
            if found is not None and orders.waits:
                first = sorted(
                    (name for name in orders.waits if name in asked.planned), key=lambda name: (-asked.jobs[name].priority, name)
                )
                names = first[: self.settings.tell_jobs]
                ahead = forecasts(asked, found.plan, names, now) if names else {}
                self._keep(asked, found, ahead)
                limits = Limits(time_limit_s=self.settings.explain_s, threads=self.settings.threads, memory_gib=self.settings.memory_gib)
                top = first[: self.settings.explain_jobs]
                evicted = self._evictions.evictions(asked, found.plan, top, self.optimiser, limits, self._monotonic)
                instead = passed(asked, found.plan, names) if names else {}
                self.telemetry.passes(len(instead))
                told |= why.waits(asked, found, now, forecasts=ahead, evictions=evicted, passed=instead)
            else:
                self.telemetry.passes(0)
            self.in_force.explain(orders.version, told)
        done.told = tuple(wait for wait in told.values() if self._told.get(wait.job) != wait.why)[: self.settings.tell_jobs]
        self._told = {wait.job: self._told.get(wait.job, "") for wait in told.values()}
        if done.told and self.settings.mode is not Mode.shadow:
            with self._timed("tell"):
                self.scheduler.tell(done.told)
        self._told |= {wait.job: wait.why for wait in done.told}

    def _keep(self, asked: Asked, found: Planned, ahead: Mapping[str, Forecast]) -> None:
        before, kept = self._patience.kept, self._patience.note(asked, found, ahead)
        self.telemetry.keeps(len(kept.nodes) if kept is not None else 0)
        if kept is not None and kept != before:
            log.info("keeping room", job=kept.job, nodes=sorted(kept.nodes))

    def _note_slow(self, seconds: float) -> None:
        if self.settings.mode is Mode.enforce and seconds > self.settings.watchdog_s / 2:
            self.telemetry.slow()
            log.warning(
                "a round took so long that the watchdog may act: raise watchdog_s",
                seconds=round(seconds, 1),
                watchdog_s=self.settings.watchdog_s,
            )

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = self._monotonic()
        try:
            yield
        finally:
            self.telemetry.phase(phase, self._monotonic() - began)


def _wants_another(done: Round) -> bool:
    """Whether something was left undone that no change in the cluster need announce."""
    refused = any(one.reason not in SETTLED for one in done.refused) or any(one.outcome == "refused" for one in done.committed)
    return done.trouble is not None or refused
