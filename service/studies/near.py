"""Problems of a study, solved one after another by the same child: the base is read once, and the solver stays hot.

A child serves runs in any order, of any study; it holds the base that it served last. Nothing held is taken on trust
(``optimizer.study.executors.hot``): where another base came between, or the child is new, a run is solved as well, only later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from optimizer.study.executors.hot import HotSolver

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from models.contract import Kind
    from models.vocabulary import Document
    from optimizer.incumbents import Message
    from optimizer.limits import Limits
    from optimizer.result import Result


class Near:
    """A base problem as JSON, read, with a solver for the problems that are near it."""

    held: ClassVar[Near | None] = None

    def __init__(self, kind: Kind, text: bytes) -> None:
        self.asked = (kind.name, text)
        self.base: Document = kind.problem.model_validate_json(text)
        self.solver: HotSolver | None = None

    @classmethod
    def to(cls, kind: Kind, text: bytes) -> Near:
        """The one of this base, held from now on in place of any other. Raises what reading the base raises."""
        held = cls.held
        if held is None or held.asked != (kind.name, text):
            cls.held = None  # let go before the next takes room
            held = cls.held = cls(kind, text)
        return held

    def solve(self, problem: Document, limits: Limits, *, cancel: threading.Event, on_message: Callable[[Message], None]) -> Result:
        """The answer, without an explanation. Raises what ``on_message`` raises."""
        solver, self.solver = self.solver or HotSolver(self.base, limits, diagnosing=True), None
        result = solver.solve(problem, limits=limits, cancel=cancel, on_message=on_message)
        if result.failure is None:  # after a failure, or a raise, a fresh one is the only safe one
            self.solver = solver
        return result
