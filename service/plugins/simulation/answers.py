"""What is answered about a job that was not submitted: one answer a question, each with what is proved of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.placement.schema import Job, Plan, Problem, WorkerPlace

SEARCHED_ONLY = "the search found no way; that there is none is not proved"


class Question(StrEnum):
    """What is asked, in this order."""

    now = "now"  # beside what runs, if nobody else starts
    in_turn = "in_turn"  # and without costing those ahead of it in the queue their start
    delay = "delay"  # and without the first that cannot start now having to wait longer for it
    later = "later"  # when, if nobody else starts
    later_in_turn = "later_in_turn"  # when, with all those ahead of it running too
    moves = "moves"  # with the fewest running jobs moved
    evictions = "evictions"  # with the fewest running jobs evicted


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    ``possible`` None: not known. ``status`` is proved when nothing better is possible: no earlier time, no fewer jobs; or that there is
    no way at all. ``amount`` counts the jobs that are moved or evicted and ``bound`` is the fewest that any plan needs. ``starts_at``
    and ``not_before`` are seconds since the epoch. ``plan`` is verified against ``problem``.
    """

    question: Question
    possible: bool | None
    status: str
    text: str
    amount: int | None = None
    bound: int | None = None
    starts_at: float | None = None
    not_before: float | None = None
    reasons: tuple[str, ...] = ()
    starting: tuple[str, ...] = ()  # jobs ahead of it that start in the same plan
    problem: Problem | None = None
    plan: Plan | None = None

    def seats(self, job: str) -> tuple[WorkerPlace, ...]:
        """Where the plan puts the job."""
        placements = self.plan.placements if self.plan is not None else ()
        return next((placement.workers for placement in placements if placement.job == job), ())

    @property
    def changed(self) -> tuple[str, ...]:
        """The running jobs that the plan moves or evicts."""
        return (*self.plan.moved, *self.plan.evicted) if self.plan is not None else ()

    def as_json(self, job: str) -> dict[str, Any]:
        """The answer for programs; times are seconds since the epoch, what is not known is null."""
        return {
            "question": self.question.value,
            "possible": self.possible,
            "status": self.status,
            "text": self.text,
            "amount": self.amount,
            "bound": self.bound,
            "starts_at": self.starts_at,
            "not_before": self.not_before,
            "reasons": list(self.reasons),
            "starting": list(self.starting),
            "workers": [worker.model_dump(mode="json") for worker in self.seats(job)],
            "moved": list(self.plan.moved) if self.plan is not None else [],
            "evicted": list(self.plan.evicted) if self.plan is not None else [],
        }


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers about ``job``; ``told`` are the warnings about the snapshot, ``assumed`` what the job's words left open."""

    job: Job
    now: float | None
    answers: tuple[Answer, ...]
    told: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    ahead: tuple[str, ...] = ()  # waiting jobs that come before it
    names: dict[str, str] = field(default_factory=dict)

    def answer(self, question: Question) -> Answer | None:
        """The answer to a question; None when there was no need to ask it."""
        return next((one for one in self.answers if one.question is question), None)

    @property
    def starts_now(self) -> bool:
        """Whether it starts at once, at nobody's cost."""
        turn, delay = self.answer(Question.in_turn), self.answer(Question.delay)
        return turn is not None and turn.possible is True and (delay is None or delay.possible is True)

    def as_json(self) -> dict[str, Any]:
        """All of it for programs."""
        return {
            "job": self.job.model_dump(mode="json", exclude_defaults=True),
            "now": self.now,
            "starts_now": self.starts_now,
            "ahead": list(self.ahead),
            "assumed": list(self.assumed),
            "warnings": list(self.told),
            "answers": [answer.as_json(self.job.id) for answer in self.answers],
        }
