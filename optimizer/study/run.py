"""A study from file to table: every scenario looked up, what is unknown solved, and each answer kept at once."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from models.catalogue import kind_of
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.study.executors.engine import Asked, Held
from optimizer.study.executors.order import neighbourly
from optimizer.study.rows import Answered, Row, Scenario, scenario_key
from optimizer.study.scenarios.expansion import expanded
from optimizer.study.store import base_hash, canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.vocabulary import Document
    from optimizer.study.executors.engine import Done, Engine, Step, Workers
    from optimizer.study.rows import Change
    from optimizer.study.schema import Study, StudyLimits
    from optimizer.study.store import AnswerStore, StudyStore

LEAVES_GOALS = "batch"  # the strategy of answers in which goals may not have been sought


@dataclass(frozen=True, slots=True)
class Table:
    """The scenarios of a study, in its order, with their rows; None for those that are not answered yet.

    ``keys`` are the content addresses of the answers; scenarios that ask the same share one. ``reused`` of the answers were known before,
    ``solved`` came now, in ``seconds``. ``complaints`` tell of files that were not believed.
    """

    study: Study
    scenarios: tuple[Scenario, ...]
    keys: tuple[str, ...]
    rows: tuple[Row | None, ...]
    reused: int = 0
    solved: int = 0
    seconds: float = 0.0
    complaints: tuple[str, ...] = ()

    @property
    def answered(self) -> tuple[Answered, ...]:
        """The lines that are there."""
        return tuple(Answered(scenario, row) for scenario, row in zip(self.scenarios, self.rows, strict=True) if row is not None)

    @property
    def failed(self) -> int:
        """How many scenarios have a reason in place of an answer."""
        return sum(row is not None and row.failure is not None for row in self.rows)

    @property
    def missing(self) -> int:
        """How many scenarios are still to be solved."""
        return sum(row is None for row in self.rows)


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """How far a study is, and what has just happened: to ``scenario``, in the state ``step``.

    The counts are of different questions, not of scenarios. ``remaining_s`` is a guess from what has been solved so far.
    """

    total: int
    reused: int
    solved: int
    failed: int
    seconds: float
    state: Literal["looked_up", "started", "searching", "lost", "done"]
    scenario: Scenario | None = None
    step: Step | None = None
    row: Row | None = None

    @property
    def left(self) -> int:
        """Questions without an answer."""
        return self.total - self.reused - self.solved

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the end, None before the first answer."""
        return self.seconds / self.solved * self.left if self.solved else None


def limits_of(told: StudyLimits, seed: int) -> Limits:
    """What one scenario may use."""
    return Limits(told.time_limit_s, told.gap, seed, told.threads, told.memory_gib)


@dataclass(slots=True)
class _Count:
    """What one call of ``ask`` has come to."""

    total: int
    reused: int = 0
    solved: int = 0
    failed: int = 0
    started_s: float = field(default_factory=time.monotonic)


class Answerer:
    """Answers scenarios of one base problem from what is kept, or by workers that stay alive from one call to the next.

    A context manager. For a whole study see ``run_study``; searches that choose their next scenario by the last answer ask here.
    ``again`` says which kept rows are solved again: for one, those that failed. Without ``plans`` rows alone are kept, which saves the
    time and room that writing large plans takes.
    """

    def __init__(
        self,
        base: Document,
        limits: StudyLimits,
        kept: AnswerStore,
        engine: Engine,
        *,
        on_progress: Callable[[StudyProgress], None] = lambda _progress: None,
        cancel: threading.Event | None = None,
        again: Callable[[Row], bool] = lambda _row: False,
        plans: bool = True,
    ) -> None:
        self._base, self._limits, self._kept, self._engine, self._plans = base, limits, kept, engine, plans
        self._on_progress, self._again = on_progress, again
        self._cancel = threading.Event() if cancel is None else cancel
        self._base_hash = base_hash(kind_of(base).name, canonical(base))
        self._workers: Workers | None = None
        self.reused = 0
        self.solved = 0

    def key(self, changes: tuple[Change, ...], seed: int) -> str:
        """The content address of an answer."""
        return scenario_key(self._base_hash, changes, limits_of(self._limits, seed), self._kept.version)

    def ask(self, scenarios: Sequence[Scenario]) -> tuple[Row | None, ...]:
        """Their rows, in their order; None for those that a cancel left open. Scenarios that ask the same are solved once.

        Raises EngineError, what the store raises when it cannot keep an answer, and what ``on_progress`` raises; what was answered is kept.
        """
        keys = [self.key(scenario.changes, scenario.seed) for scenario in scenarios]
        first = dict(zip(reversed(keys), reversed(scenarios), strict=True))
        questions = dict.fromkeys(keys)  # in order
        rows = {key: row for key in questions if (row := self._kept.row(key)) is not None and not (self._again(row) or self._is_half(row))}
        count = _Count(total=len(questions), reused=len(rows), failed=sum(row.failure is not None for row in rows.values()))
        self.reused += count.reused
        self._tell(count, "looked_up")
        work = neighbourly([Asked(key, first[key].changes, first[key].seed) for key in questions if key not in rows])

        def on_done(done: Done) -> None:
            self._kept.put(done)
            rows[done.row.key] = done.row
            count.solved += 1
            count.failed += done.row.failure is not None
            self.solved += 1
            self._tell(count, "done", scenario=first[done.row.key], row=done.row)

        def on_step(step: Step) -> None:
            self._tell(count, step.state, scenario=first[step.key], step=step)

        if work and not self._cancel.is_set():
            self._opened().run(work, on_done=on_done, on_step=on_step, cancel=self._cancel)
        return tuple(rows.get(key) for key in keys)

    def _is_half(self, row: Row) -> bool:
        """Whether an engine that leaves goals out has answered, and this one does not: an answer of the same question, and a weaker one."""
        return row.strategy == LEAVES_GOALS and row.outcome == Outcome.feasible.value and not getattr(self._engine, "leaves_goals", False)

    def solve_at(self, changes: Sequence[Change], seed: int = 0) -> Row | None:
        """The row of the base problem with these changes; None after a cancel."""
        return self.ask([Scenario("", {}, {}, 0, seed, tuple(changes))])[0]

    def _opened(self) -> Workers:
        if self._workers is None:
            self._workers = self._engine.open(Held.of(self._base, limits_of(self._limits, 0), plans=self._plans))
        return self._workers

    def _tell(
        self,
        count: _Count,
        state: Literal["looked_up", "started", "searching", "lost", "done"],
        scenario: Scenario | None = None,
        step: Step | None = None,
        row: Row | None = None,
    ) -> None:
        seconds = time.monotonic() - count.started_s
        self._on_progress(StudyProgress(count.total, count.reused, count.solved, count.failed, seconds, state, scenario, step, row))

    def close(self) -> None:
        """Let the workers go. May be called twice."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run_study(
    study: Study,
    base: Document,
    kept: AnswerStore,
    engine: Engine,
    *,
    on_progress: Callable[[StudyProgress], None] = lambda _progress: None,
    cancel: threading.Event | None = None,
    again: Callable[[Row], bool] = lambda _row: False,
    plans: bool = True,
) -> Table:
    """The table of a study, of which only what is not kept yet is solved; ``again`` and ``plans`` are those of ``Answerer``.

    ``cancel`` may be set from any thread: what runs is stopped and dropped, and those rows are None. Raises what ``expanded`` raises
    for a study that cannot be, before anything runs, and what ``Answerer.ask`` raises.
    """
    began = time.monotonic()
    scenarios = expanded(study, base)
    with Answerer(base, study.limits, kept, engine, on_progress=on_progress, cancel=cancel, again=again, plans=plans) as answerer:
        rows = answerer.ask(scenarios)
        keys = tuple(answerer.key(scenario.changes, scenario.seed) for scenario in scenarios)
        counts = answerer.reused, answerer.solved
    return Table(study, scenarios, keys, rows, *counts, seconds=time.monotonic() - began, complaints=tuple(kept.complaints))


def load_table(kept: StudyStore) -> Table:
    """The table of the study that ran last into a store, from the store alone: also of one that is running or was killed.

    Raises what the store raises when it cannot be read.
    """
    study, base = kept.study(), kept.base()
    scenarios = expanded(study, base)
    keys = tuple(
        scenario_key(kept.base_hash, scenario.changes, limits_of(study.limits, scenario.seed), kept.version) for scenario in scenarios
    )
    rows = {key: kept.row(key) for key in dict.fromkeys(keys)}
    reused = sum(row is not None for row in rows.values())
    return Table(study, scenarios, keys, tuple(rows[key] for key in keys), reused, complaints=tuple(kept.complaints))
