"""Studies of linear programs against fresh Pyomo models in a pool of two, and against bare hot solves of the same programs."""

from __future__ import annotations

import resource
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import studies_cases, studies_today
from benchmarks.studies_cases import CASES
from benchmarks.studies_today import PROCESSES, Took, spread
from optimizer.study.executors.pool import LocalPool
from optimizer.study.run import run_study
from service.studies.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.vocabulary import Document
    from optimizer.study.executors.engine import Engine
    from optimizer.study.run import Table
    from optimizer.study.schema import Study


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of a line is measured: scenarios of the study, fresh models and bare hot solves among them; scenarios with whole objects."""

    size: int = 10_000
    scenarios: int = 100
    fresh: int = 32
    bare: int = 100
    whole: int = 40


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of something, its processes included."""

    wall_s: float
    cpu_s: float


def studied(folder: Path, study: Study, base: Document, engine: Engine) -> tuple[Table, Spent]:
    """A study from its start to its table, every row and plan written to disk."""
    wall, processor = time.perf_counter(), _processor_s()
    with Shelf.opened(folder, study, base) as shelf:
        table = run_study(study, base, shelf, engine)
    return table, Spent(time.perf_counter() - wall, _processor_s() - processor)


def _processor_s() -> float:
    """Of this process and of those that it has seen end."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def linear(folder: Path, name: str, sizes: Sizes) -> dict[str, Any]:
    """One line: half of the fresh models, the study, the bare solves, the other half. All of them are of the same scenarios."""
    case = CASES[name]
    study, base = case.study(sizes.size, sizes.scenarios), case.base(sizes.size)
    began = time.perf_counter()
    with studies_today.pool(studies_today.prepare, name, sizes.size) as workers:
        for one in [workers.submit(studies_today.here) for _ in range(PROCESSES)]:
            one.result()
        started_s = time.perf_counter() - began
        way, tried = studies_today.fastest(workers, name, sizes.size)
        table, spent = studied(folder / "study", study, base, LocalPool(PROCESSES))
        asked = [{place: number for place, number in one.numbers.items() if number is not None} for one in table.scenarios]
        chosen = spread(len(asked), sizes.fresh)
        took = _all(workers, name, sizes.size, [asked[place] for place in chosen[::2]], way)
        bare = workers.submit(studies_today.bare, name, sizes.size, asked[-sizes.bare :]).result()
        took += _all(workers, name, sizes.size, [asked[place] for place in chosen[1::2]], way)
    count = len(asked)
    fresh_s = started_s + count / len(took) * sum(one.wall_s for one in took) / PROCESSES
    bare_s = count / len(bare) * sum(one.wall_s for one in bare)
    objectives = [_objective(table, place) for place in range(count)]
    pairs = [(one.objective, objectives[place]) for one, place in zip(took, [*chosen[::2], *chosen[1::2]], strict=True)]
    pairs += [(one.objective, objectives[place]) for place, one in enumerate(bare, count - len(bare))]
    return {
        "scenarios": count,
        **told(table, spent),
        "fresh_sample": len(took),
        "fresh_way": way["solver"],
        "fresh_ways_tried_s": tried,
        "fresh_start_s": round(started_s, 3),
        "fresh_each_s": round(_mean(took), 3),
        "fresh_wall_s": round(fresh_s, 3),
        "bare_sample": len(bare),
        "bare_each_s": round(_mean(bare), 4),
        "bare_sum_s": round(bare_s, 3),
        "faster_than_fresh": round(fresh_s / spent.wall_s, 2),
        "times_bare": round(spent.wall_s / bare_s, 3),
        "cpu_times_bare": round(spent.cpu_s * len(bare) / count / sum(one.cpu_s for one in bare), 3),
        "largest_difference": max(_apart(*pair) for pair in pairs),
    }


def tiering(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """The line of the linear program, and for information scenarios like them with whole objects."""
    row = linear(folder, "tiering", sizes)
    study, base = studies_cases.tiering_study(sizes.size, sizes.whole), studies_cases.tiering_base(sizes.size)
    table, spent = studied(folder / "whole", study, base, LocalPool(PROCESSES))
    return row | {"whole_objects": {"scenarios": len(table.rows), **told(table, spent)}}


def told(table: Table, spent: Spent) -> dict[str, Any]:
    """What a table came to, and what it took."""
    rows = [one.row for one in table.answered]
    own = sum(row.seconds for row in rows)
    gaps = [goal.gap for row in rows for goal in row.goals]
    return {
        "study_wall_s": round(spent.wall_s, 3),
        "study_cpu_s": round(spent.cpu_s, 3),
        "rows_own_s": round(own, 3),
        "unverified": sum(not (row.answered and row.verified) for row in rows) + table.missing,
        "largest_gap": max(gaps, default=1.0),
    }


def _all(workers: ProcessPoolExecutor, name: str, size: int, asked: Sequence[Any], way: dict[str, Any]) -> list[Took]:
    waiting: list[Future[Took]] = [workers.submit(studies_today.fresh, name, size, numbers, way) for numbers in asked]
    return [one.result() for one in waiting]


def _objective(table: Table, place: int) -> float | None:
    row = table.rows[place]
    return row.goals[0].objective if row is not None and row.goals else None


def _apart(one: float | None, other: float | None) -> float:
    """Relative; 1 where there is no number."""
    return 1.0 if one is None or other is None else abs(one - other) / max(abs(one), abs(other), 1e-12)


def _mean(took: Sequence[Took]) -> float:
    return sum(one.wall_s for one in took) / len(took)
