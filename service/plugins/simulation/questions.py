"""Would this job start, when, and what would have to move? Six questions, each answered by a verified plan or a proof.

A later question is asked only where an earlier one is answered with no: a job that starts at once moves nobody.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from service.plugins.simulation.answers import SEARCHED_ONLY, Answer, Answers, Question
from service.plugins.simulation.making_room import Making
from service.plugins.simulation.rooms import Rooms, earliest, hopeful
from service.plugins.simulation.sentences import duration, listed, many, moment, where
from service.plugins.simulation.situation import ahead_of, as_running

if TYPE_CHECKING:
    from models.placement.schema import Job, Plan, Problem, WorkerPlace
    from service.plugins.simulation.asked_job import AskedJob
    from service.plugins.simulation.rooms import Found
    from service.plugins.simulation.situation import Situation

LEAST_S = 1.0  # of wall time for any one search


def ask(situation: Situation, asked: AskedJob, rooms: Rooms) -> Answers:
    """All questions about the job in this (settled) situation.

    Raises TooLargeError for a job that no cluster of these nodes could ever hold.
    """
    asker = Asker(situation, asked.job, rooms, asked.priority, asked.minutes)
    found = list(asker.answers())
    ahead = tuple(situation.name(job.id) for job in asker.ahead)
    return Answers(asked.job, situation.now, tuple(found), situation.warnings, asked.assumed, ahead, dict(situation.names))


@dataclass
class Asker:
    """One job in one situation."""

    situation: Situation
    job: Job
    rooms: Rooms
    priority: int  # its own, on the scheduler's scale
    minutes: float | None = None  # that it runs; None: for ever, as far as is known

    def answers(self) -> tuple[Answer, ...]:
        """The answers, in the order of the questions."""
        now = self._now()
        if now.possible:
            turn = self._in_turn(now)
            return (now, turn, *self._delay(turn)) if turn.possible else (now, turn, self._later_in_turn(turn))
        later = self._later(now)
        together = (self._later_in_turn(later),) if later.possible and self.waiting else ()
        return (now, later, *together, self._moves(), self._evictions())

    # ------------------------------------------------------------ what is known

    @cached_property
    def ahead(self) -> tuple[Job, ...]:
        """The waiting jobs that come before it, the first first."""
        return ahead_of(self.situation, self.job)

    @cached_property
    def times(self) -> tuple[float, ...]:
        """When running jobs end at the latest, each time once, ascending; an overdue job ends now."""
        now = -math.inf if self.situation.now is None else self.situation.now
        return tuple(sorted({max(end, now) for end in self.situation.ends.values() if math.isfinite(end)}))

    @cached_property
    def waiting(self) -> tuple[Job, ...]:
        """Those ahead that could start by themselves once all running jobs with a known end have ended."""
        last = self.times[-1] if self.times else -math.inf
        return hopeful(self.rooms, self.situation.left_at(last), self.ahead)

    # ------------------------------------------------------------ now

    def _now(self) -> Answer:
        found = self.rooms.for_one(self.situation.running, self.job)
        if found.plan is not None:
            text = f"There is room for it now: {where(_seats(found.plan, self.job))}."
            return self._answer(Question.now, found, text)
        told = " ".join(found.reasons) or SEARCHED_ONLY
        return self._answer(Question.now, found, f"It does not start now. {told}", found.reasons)

    def _in_turn(self, now: Answer) -> Answer:
        """Whether those ahead of it lose nothing by its start."""
        if not self.waiting:
            text = f"It starts now, on {where(now.seats(self.job.id))}: {self._queue()}."
            return replace(now, question=Question.in_turn, text=text)
        found, plan = self.rooms.in_turn(self.situation.running, self.waiting, self.job)
        placed = {placement.job for placement in plan.placements} if plan is not None else set()
        starting = tuple(job.id for job in self.waiting if job.id in placed)
        names = listed([self.situation.name(job) for job in starting])
        others = f"{many(len(starting), 'job')} ahead of it {'starts' if len(starting) == 1 else 'start'} too ({names})"
        others = others if starting else f"none of the {many(len(self.waiting), 'job')} ahead of it can start now"
        if found.plan is not None:
            text = f"It starts now, on {where(_seats(found.plan, self.job))}, and takes nobody's place: {others}."
        elif found.proved:
            text = f"The room there is goes to those ahead of it: {names}; with it, fewer or less important ones of them would start."
        else:
            text = f"Whether it takes the place of those ahead of it was not found out in time: {SEARCHED_ONLY}."
        return replace(self._answer(Question.in_turn, found, text), starting=starting)

    def _delay(self, turn: Answer) -> tuple[Answer, ...]:
        """Whether the first of those ahead that cannot start now would start later because of it, if all starts as the plan says."""
        blocked = [job for job in self.waiting if job.id not in turn.starting]
        if not blocked or turn.plan is None or self.situation.now is None or not self.times:
            return ()
        first, seats = blocked[0], {placement.job: placement.workers for placement in turn.plan.placements}
        others = [as_running(job, seats[job.id]) for job in self.waiting if job.id in turn.starting]
        mine, ends = as_running(self.job, seats[self.job.id]), math.inf
        if self.minutes is not None:
            ends = self.situation.now + 60.0 * self.minutes
        times = sorted({*self.times, *([ends] if math.isfinite(ends) else [])})

        def start(*, beside: bool) -> float | None:
            def test(k: int) -> Found:
                stays = (mine,) if beside and ends > times[k] else ()
                return self.rooms.for_one((*self.situation.left_at(times[k]), *others, *stays), first, planned=False)

            at = earliest(len(times), test)[0]
            return None if at is None else times[at]

        without, beside = start(beside=False), start(beside=True)
        if without is None:
            return ()
        text = f"{self.situation.name(first.id)}, the first that cannot start now, {self._told_of_delay(without, beside)}"
        text += " This holds for the plan above."
        return (Answer(Question.delay, beside == without, "proved", text),)

    def _told_of_delay(self, without: float, beside: float | None) -> str:
        at = moment(without, self.situation.now)
        if beside == without:
            return f"starts {at} at the latest, with or without it."
        late = "no time is known" if beside is None else f"{duration(beside - without)} later"
        limit = "" if self.minutes is not None else ", if it has no time limit (minutes= says one)"
        return f"would start {at}; beside it {late}{limit}."

    def _queue(self) -> str:
        if not self.ahead:
            return "nobody waits ahead of it"
        return f"of the {many(len(self.ahead), 'job')} ahead of it none can start, whatever ends"

    # ------------------------------------------------------------ later

    def _later(self, now: Answer) -> Answer:
        """The earliest time at which the running jobs, if each takes all its time, leave room."""

        def test(k: int, *, planned: bool = False) -> Found:
            return self.rooms.for_one(self.situation.left_at(self.times[k]), self.job, planned=planned)

        at, refuted, found = earliest(len(self.times), test)
        if at is not None:
            found = test(at, planned=True)
            at = at if found.plan is not None else None
        known = now.possible is False
        return self._when(Question.later, at, refuted, found, "if nobody else takes the room", known=known)

    def _later_in_turn(self, alone: Answer) -> Answer:
        """The earliest time at which it and all those ahead of it run beside what then still runs; not before it would start alone."""
        first = alone.starts_at if alone.starts_at is not None else -math.inf
        times = [one for one in self.times if one >= first]
        jobs = (*self.waiting, self.job)
        ends_s = time.monotonic() + 2 * self.rooms.limits.time_limit_s

        def test(k: int) -> Found:
            limit = max(LEAST_S, min(self.rooms.limits.time_limit_s, ends_s - time.monotonic()))
            rooms = replace(self.rooms, limits=replace(self.rooms.limits, time_limit_s=limit))
            return rooms.for_all(self.situation.left_at(times[k]), jobs)

        at, refuted, found = earliest(len(times), test)
        shift = len(self.times) - len(times)
        given = f"with {many(len(self.waiting), 'job')} ahead of it running as well"
        known = alone.possible is False or alone.status == "proved"
        # What is proved of the job alone holds with others besides: there is no room before it has room alone.
        alone_before = shift - 1 if shift and alone.status == "proved" else None
        before = alone_before if refuted is None else refuted + shift
        return self._when(Question.later_in_turn, None if at is None else at + shift, before, found, given, known=known)

    def _when(self, question: Question, at: int | None, refuted: int | None, found: Found | None, given: str, *, known: bool) -> Answer:
        """``known``: that there is no room before the first of the times is proved."""
        if found is None:
            text = "When is not known: no running job has a known end." if self.situation.running else "Nothing runs whose end would help."
            return Answer(question, None, "heuristic", text)
        if at is None:
            proved = refuted == len(self.times) - 1
            forever = [job for job in self.situation.running if job.id not in self.situation.ends]
            still = f" {many(len(forever), 'running job')} {'has' if len(forever) == 1 else 'have'} no time limit." if forever else ""
            sure = "It does not start even" if proved else "No way was found for it to start"
            text = f"{sure} when all running jobs with a time limit have ended, {given}.{still} {' '.join(found.reasons)}".rstrip()
            if question is Question.later_in_turn and proved:
                text += " It starts once some of those ahead have ended too, which is after their own start and not foreseen here."
            return Answer(question, False if proved else None, "proved" if proved else "heuristic", text, problem=found.problem)
        start = self.times[at]
        exact = known if at == 0 else refuted == at - 1
        after = self.times[refuted + 1] if refuted is not None else self.times[0]
        last = [self.situation.name(job) for job, end in self.situation.ends.items() if self._end(end) == start]
        ended = f"when {listed(last)} {'has' if len(last) == 1 else 'have'} ended"
        text = f"It starts {moment(start, self.situation.now)}, {ended}, {given}: {where(_seats(found.plan, self.job))}."
        text += " Not earlier, unless jobs end before their limits." if exact else f" Proved only: not before {moment(after, None)[3:]}."
        return replace(self._answer(question, found, text), status="proved" if exact else "heuristic", starts_at=start, not_before=after)

    def _end(self, end: float) -> float:
        return max(end, self.situation.now) if self.situation.now is not None else end

    # ------------------------------------------------------------ who would have to go

    def _moves(self) -> Answer:
        """The fewest running jobs that run elsewhere afterwards; who may not be evicted is not stopped for a move either."""
        begun = Making(self.rooms, self.situation, self.job).moved()
        proved = begun.bound is None
        if begun.plan is not None:
            return self._fewest(Question.moves, begun.problem, begun.plan, begun.plan.moved, begun.bound or 0)
        firm = sum(job.running is not None and not job.running.evictable for job in self.situation.running)
        whose = f" ({many(firm, 'running job')} may not be moved)" if firm else ""
        text = f"No moves of running jobs make room for it{whose}."
        if not proved:
            text = f"No moves that make room for it were found{whose}: {SEARCHED_ONLY}."
            text += f" At least {many(begun.bound, 'move')} would be needed." if begun.bound else ""
        status = "proved" if proved else "heuristic"
        return Answer(Question.moves, False if proved else None, status, text, bound=begun.bound)

    def _evictions(self) -> Answer:
        """The fewest running jobs of lower priority that are evicted for it."""
        making = Making(self.rooms, self.situation, self.job)
        found = making.evicted()
        if found.plan is not None:
            return self._fewest(Question.evictions, found.problem, found.plan, found.plan.evicted, found.bound or 0)
        proved = found.bound is None
        text = f"No evictions of jobs of lower priority than {self.priority} make room for it"
        text += "." if proved else f", as far as the search found: {SEARCHED_ONLY}."
        higher = making.above_all
        if higher > self.job.priority:
            better = making.evicted(priority=higher)
            if better.plan is not None:
                text += f" With priority {self.situation.priority(higher)} it would take {many(len(better.plan.evicted), 'eviction')}."
        return Answer(Question.evictions, False if proved else None, "proved" if proved else "heuristic", text)

    def _fewest(self, question: Question, problem: Problem, plan: Plan, changed: tuple[str, ...], bound: int) -> Answer:
        proved = len(changed) <= bound
        word = "move" if question is Question.moves else "eviction"
        few = f"at least {many(bound, word)} {'is' if bound == 1 else 'are'} needed" if bound else "how few would do is not proved"
        names = listed([self.situation.name(job) for job in changed])
        text = f"{many(len(changed), word)} would make room, {'and no fewer do' if proved else f'and {few}'}: {names}."
        text += f" It then runs on {where(_seats(plan, self.job))}."
        return Answer(
            question,
            possible=True,
            status="proved" if proved else "heuristic",
            text=text,
            amount=len(changed),
            bound=bound,
            problem=problem,
            plan=plan,
        )

    # ------------------------------------------------------------ shared

    def _answer(self, question: Question, found: Found, text: str, reasons: tuple[str, ...] = ()) -> Answer:
        status = "proved" if found.proved else "heuristic"
        return Answer(question, found.possible, status, text, reasons=reasons, problem=found.problem, plan=found.plan)


def _seats(plan: Plan | None, job: Job) -> tuple[WorkerPlace, ...]:
    placements = plan.placements if plan is not None else ()
    return next((placement.workers for placement in placements if placement.job == job.id), ())
