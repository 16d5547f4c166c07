"""The objects of a problem as columns, whether they came as a list or as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats, Ints
    from models.tiering.schema import Problem

AGE_DAYS = 1e6  # of a current copy that says nothing: old enough for every minimum
NAMES = (
    "read_gbps",
    "reads_per_s",
    "write_gbps",
    "writes_per_s",
    "latency_limit_ms",
    "replicas",
    "copies_max",
    "regions",
    "protections",
    "compressed_share",
    "minimum_stay_days",
    "lifetime_days",
)
CURRENT_NAMES = ("current_tier", "current_days")  # of a table only


@dataclass(frozen=True, eq=False)
class Columns:
    """Names, sizes in GiB of shape (objects,), and each further column as it was given, None where it was left out."""

    ids: Sequence[str]
    size: Floats
    lists: dict[str, Sequence[Any] | None]

    def numbers(self, name: str, default: float) -> Floats:
        """A column of numbers, ``default`` where none is given; shape (objects,)."""
        given = self.lists[name]
        if given is None:
            return np.full(len(self.size), default)
        numbers = np.array(given, dtype=np.float64)  # null becomes NaN
        return numbers if np.isnan(default) else np.where(np.isnan(numbers), default, numbers)

    @property
    def regions(self) -> Sequence[Any] | None:
        """Where each object may be."""
        return self.lists["regions"]

    @property
    def protections(self) -> Sequence[Any] | None:
        """What each object needs."""
        return self.lists["protections"]


def columns_of(problem: Problem) -> Columns:
    """The columns of ``objects`` or of ``object_table``."""
    table = problem.object_table
    if table is None:
        objects = problem.objects
        lists: dict[str, Sequence[Any] | None] = {name: tuple(getattr(one, name) for one in objects) for name in NAMES}
        return Columns(tuple(one.id for one in objects), np.array([one.size_gib for one in objects], dtype=np.float64), lists)
    size = np.array(table.size_gib, dtype=np.float64)
    ids = table.id if table.id is not None else tuple([f"o{place}" for place in range(len(size))])
    return Columns(ids, size, {name: getattr(table, name) for name in (*NAMES, *CURRENT_NAMES)})


def classes(given: Sequence[Any] | None, count: int) -> tuple[Ints, list[Any]]:
    """Which of the distinct values each item has, shape (count,), and those values; nothing given: None for all."""
    if given is None:
        return np.zeros(count, dtype=np.int64), [None]
    seen: dict[Any, int] = {}
    number = np.fromiter((seen.setdefault(one, len(seen)) for one in given), np.int64, count)
    return number, list(seen)
