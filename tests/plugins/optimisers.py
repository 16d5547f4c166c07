"""Optimisers for tests: one that is quick and runs here, and ones that do not work."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable

from models.placement.heuristic import heuristic
from models.placement.schema import Plan, Problem
from optimizer.limits import Limits
from optimizer.solve import solve
from service.plugins.optimisers import LocalOptimiser
from service.plugins.planner import Answer, NoPlanError


class Greedy:
    """Answers with the heuristic's plan at once; calls ``meanwhile`` before it answers."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.meanwhile = meanwhile
        self.problems: list[Problem] = []
        self.starts: list[Plan | None] = []
        self.closed = False

    def solve(self, problem: Problem, limits: Limits, warm_start: Plan | None = None) -> Answer:
        self.problems.append(problem)
        self.starts.append(warm_start)
        plan = self.planned(problem, limits)
        if problem.use == "place":
            self.meanwhile()
        if plan is None:
            raise NoPlanError("no_plan", "greedy placement finds no plan")
        return Answer(plan.model_dump_json())  # what it is worth is for whoever checks it to say

    def planned(self, problem: Problem, limits: Limits) -> Plan | None:
        return heuristic(problem, limits.seed, 1.0)

    def close(self) -> None:
        self.closed = True


class Here:
    """The real solver in this process: no child to start, and no deadline that is enforced."""

    def solve(self, problem: Problem, limits: Limits, warm_start: Plan | None = None) -> Answer:
        result = solve(problem, limits, warm_start=warm_start, isolate=False)
        if result.plan is None or result.certificate is None:
            raise NoPlanError("no_plan", result.message)
        return Answer(result.plan.model_dump_json(), result.certificate.objective, result.certificate.bound)

    def close(self) -> None:
        pass


class Broken:
    """Answers with what it is given, or raises it."""

    def __init__(self, answer: Answer | Exception | Callable[[Problem], Answer]) -> None:
        self.answer = answer

    def solve(self, problem: Problem, limits: Limits, warm_start: Plan | None = None) -> Answer:
        del limits, warm_start
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if isinstance(self.answer, Answer) else self.answer(problem)

    def close(self) -> None:
        pass


class Interrupted(LocalOptimiser):
    """Its children get a signal in the middle of each of the first solves."""

    def __init__(self, number: signal.Signals, times: int = 2) -> None:
        super().__init__()
        self.number, self.left = number, times

    def solve(self, problem: Problem, limits: Limits, warm_start: Plan | None = None) -> Answer:
        if self.left:
            self.left -= 1
            threading.Timer(0.05, self.hit).start()
        return super().solve(problem, limits, warm_start)

    def hit(self) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, self.number)
