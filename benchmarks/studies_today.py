"""What studies are measured against: fresh models in a pool of processes, bare hot solves, and cold solves of ours.

The functions that run in processes of their own take and give plain data.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.studies_cases import CASES
from optimizer.highs import Options
from optimizer.limits import Limits
from optimizer.live import LiveProgram
from optimizer.solve import solve
from optimizer.study.scenarios.changes import applied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.studies_cases import Numbers
    from models.vocabulary import Document
    from optimizer.highs import Method
    from optimizer.study.rows import Change

PROCESSES = 2
MOST_S = 600.0  # for one solve
TRIAL_S = 15.0  # for one way of HiGHS that is tried


@dataclass(frozen=True, slots=True)
class Took:
    """One solve: wall and processor seconds of all of it, what the first goal came to, and the gap (0 for a proved optimum)."""

    wall_s: float
    cpu_s: float
    objective: float | None
    gap: float = 0.0
    verified: bool = True


def pool(prepared: Callable[..., None], *arguments: object) -> ProcessPoolExecutor:
    """Processes that start empty, as those of a study do, and first call ``prepared``."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=prepared, initargs=arguments)


def prepare(name: str, size: int) -> None:
    """Import what fresh models need, and make the base."""
    import pyomo.contrib.appsi.solvers.highs  # noqa: F401

    CASES[name].base(size)


def here() -> None:
    """What a process answers once it is ready."""


def fresh(name: str, size: int, numbers: Numbers, options: dict[str, Any], seconds: float = MOST_S) -> Took:
    """A new Pyomo model, solved through Pyomo's own interface to HiGHS. Its values are not even read back."""
    from pyomo.contrib.appsi.solvers.highs import Highs

    wall, processor = time.perf_counter(), time.process_time()
    model = CASES[name].model(size, numbers)
    solver = Highs()
    solver.config.load_solution = False
    solver.config.time_limit = seconds
    solver.highs_options = {"threads": 1, **options}
    found = solver.solve(model)
    optimal = found.termination_condition.name == "optimal"
    return Took(time.perf_counter() - wall, time.process_time() - processor, found.best_feasible_objective if optimal else None)


def fastest(workers: ProcessPoolExecutor, name: str, size: int) -> tuple[dict[str, Any], dict[str, float | None]]:
    """The way of HiGHS that solves the base soonest, and the seconds of each (None: not within TRIAL_S)."""
    ways = CASES[name].options
    tried = [workers.submit(fresh, name, size, {}, way, TRIAL_S) for way in ways]
    took = [one.result() for one in tried]
    seconds = {str(way["solver"]): round(one.wall_s, 3) if one.objective is not None else None for way, one in zip(ways, took, strict=True)}
    best = min(range(len(ways)), key=lambda place: (took[place].objective is None, took[place].wall_s))
    return ways[best], seconds


def bare(name: str, size: int, asked: Sequence[Numbers]) -> list[Took]:
    """The programs edited and solved again in one HiGHS object that has solved the base; making the arrays is not counted."""
    case, limits = CASES[name], Limits(time_limit_s=MOST_S, gap=1e-6)
    method: Method = "ipm" if case.first == "ipm" else "choose"
    live = LiveProgram(case.arrays(size, {}), limits, Options(method=method))
    live.solve()
    took = []
    for numbers in asked:
        program = case.arrays(size, numbers)
        wall, processor = time.perf_counter(), time.process_time()
        if not live.become(program):
            raise RuntimeError("the scenarios of this case differ in more than numbers")
        found = live.solve()
        took.append(Took(time.perf_counter() - wall, time.process_time() - processor, found.objective))
    return took


_bases: list[Document] = []


def hold(kind: str, text: bytes) -> None:
    """Keep the base problem of the cold solves of this process."""
    from models.catalogue import kind as named

    _bases[:] = [named(kind).problem.model_validate_json(text)]


def cold(changes: tuple[Change, ...], limits: Limits) -> Took:
    """The changed base problem solved from scratch by this product."""
    wall, processor = time.perf_counter(), time.process_time()
    result = solve(applied(_bases[0], changes), limits, isolate=False)
    took = time.perf_counter() - wall, time.process_time() - processor
    certificate = result.certificate
    if certificate is None:
        return Took(*took, None, 1.0, verified=False)
    return Took(*took, certificate.goals[0].objective, max(goal.gap for goal in certificate.goals), certificate.verified)


def spread(count: int, sample: int) -> list[int]:
    """``sample`` positions of ``count``, evenly spread, both ends among them."""
    if sample >= count:
        return list(range(count))
    return sorted({round(place * (count - 1) / max(1, sample - 1)) for place in range(sample)})
