"""What a study asks of whoever solves its scenarios: this process, several, or Ray.

An engine is opened on a base problem once. Its workers hold the problem; afterwards only changes travel to them, and rows with plans
come back. What is remembered of a study is not their concern.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self

from models.catalogue import kind, kind_of
from optimizer.result import StopReason

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from models.vocabulary import Document
    from optimizer.limits import Limits
    from optimizer.study.rows import Change, Row


class EngineError(RuntimeError):
    """No worker can be had, or none that can hold the base problem. Nothing that was answered is lost."""


@dataclass(frozen=True, slots=True)
class Held:
    """What every worker holds: the base problem as JSON, the limits of each scenario but for its seed, and whether plans come back."""

    kind: str
    base: bytes
    limits: Limits
    plans: bool = True

    @classmethod
    def of(cls, base: Document, limits: Limits, *, plans: bool = True) -> Held:
        """What workers on ``base`` hold."""
        return cls(kind_of(base).name, base.model_dump_json().encode(), limits, plans)

    def problem(self) -> Document:
        """The base problem."""
        return kind(self.kind).problem.model_validate_json(self.base)


@dataclass(frozen=True, slots=True)
class Asked:
    """A scenario to solve: the content address of its answer, what it changes in the base problem, and the solver's seed."""

    key: str
    changes: tuple[Change, ...]
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """An answered scenario: its row, and its plan as deflated JSON (``zlib``), where there is one."""

    row: Row
    plan: bytes | None = None

    @property
    def is_answer(self) -> bool:
        """False for a scenario that was cancelled: whatever it found, another run would find more."""
        return self.row.stop_reason != StopReason.cancelled.value


@dataclass(frozen=True, slots=True)
class Step:
    """What a scenario has come to, at the worker of this number. ``lost``: its process died, and it is tried again.

    ``incumbent`` and ``bound`` are those of the first goal, None while not known.
    """

    key: str
    state: Literal["started", "searching", "lost"]
    worker: int = 0
    incumbent: float | None = None
    bound: float | None = None


class Workers(Protocol):
    """Workers that hold one base problem, alive between runs. A context manager."""

    def run(
        self,
        work: Sequence[Asked],
        *,
        on_done: Callable[[Done], None],
        on_step: Callable[[Step], None],
        cancel: threading.Event,
    ) -> None:
        """Answer all of ``work``, neighbours by the same worker; return when that is done, or soon after ``cancel`` is set.

        Both functions are called in the calling thread. What they raise ends the run; so does Ctrl-C. Scenarios that were running then
        are dropped, and those that had been answered are still handed to ``on_done``. Raises EngineError.
        """
        ...

    def close(self) -> None:
        """Let the workers go. May be called twice."""
        ...

    def __enter__(self) -> Self:
        """The workers."""
        ...

    def __exit__(self, *_: object) -> None:
        """Let the workers go."""
        ...


class Engine(Protocol):
    """A way to solve scenarios."""

    def open(self, held: Held) -> Workers:
        """Workers on a base problem. They may start with their first run."""
        ...
