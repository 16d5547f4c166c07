"""The engine that solves many scenarios at once, as batches of linear programs (``batch_engine``), in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from optimizer.batch import TorchMissingError
from optimizer.study.executors.batch_engine import solve_together
from optimizer.study.executors.desk import done, mistakes
from optimizer.study.executors.engine import Done, EngineError, Step
from optimizer.study.rows import Row
from optimizer.study.scenarios.expansion import applied

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from models.vocabulary import Document
    from optimizer.batch.solving import Device
    from optimizer.study.executors.engine import Asked, Held

CHUNK = 256  # scenarios at once: more gain little, and all of a chunk are answered at its end


@dataclass(frozen=True, slots=True)
class BatchEngine:
    """Linear programs of one shape by a first-order method in torch, all others one after another.

    ``device`` None: a GPU where there is one.
    """

    leaves_goals: ClassVar[bool] = True  # those without an objective of their own
    device: Device | None = None

    def open(self, held: Held) -> BatchWorkers:
        """One worker: this process."""
        return BatchWorkers(held, self.device)


class BatchWorkers:
    """The base problem, behind the protocol ``Workers``."""

    def __init__(self, held: Held, device: Device | None) -> None:
        self._held, self._device = held, device
        self._base: Document | None = held.problem()

    def run(
        self,
        work: Sequence[Asked],
        *,
        on_done: Callable[[Done], None],
        on_step: Callable[[Step], None],
        cancel: threading.Event,
    ) -> None:
        """See ``Workers``. The scenarios of a chunk are answered together, at its end. Raises RuntimeError once closed."""
        for start in range(0, len(work), CHUNK):
            if cancel.is_set():
                return
            self._chunk(work[start : start + CHUNK], on_done, on_step, cancel)

    def _chunk(
        self, work: Sequence[Asked], on_done: Callable[[Done], None], on_step: Callable[[Step], None], cancel: threading.Event
    ) -> None:
        right: list[tuple[Asked, Document]] = []
        for asked in work:
            on_step(Step(asked.key, "started"))
            began = time.monotonic()
            try:
                right.append((asked, self._problem(asked)))
            except RuntimeError:
                raise
            except Exception as error:  # noqa: BLE001  (a scenario may break its problem in any way: that is its answer)
                why = f"its changes break the problem: {mistakes(error)}"
                on_done(Done(Row.failed(asked.key, why, seconds=time.monotonic() - began)))
        for seed in dict.fromkeys(asked.seed for asked, _ in right):
            of_seed = [(asked, problem) for asked, problem in right if asked.seed == seed]
            limits = replace(self._held.limits, seed=seed)
            try:
                results = solve_together([problem for _, problem in of_seed], limits, device=self._device, cancel=cancel)
            except (TorchMissingError, ValueError) as error:
                raise EngineError(str(error)) from error
            for (asked, _), result in zip(of_seed, results, strict=True):
                answer = done(asked.key, result, result.seconds, plans=self._held.plans)
                if answer.is_answer:
                    on_done(answer)

    def _problem(self, asked: Asked) -> Document:
        if self._base is None:
            raise RuntimeError("these workers were closed: open others")
        problem: Document = applied(self._base, asked.changes)
        return problem

    def close(self) -> None:
        """Let go of the problem."""
        self._base = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
