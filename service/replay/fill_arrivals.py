"""Arrivals that never leave: in which order jobs come to an empty cluster until they ask for all of its GPUs.

The protocol of Weng et al. (USENIX ATC 2023; runs ``2023_0511`` of github.com/hkust-adsl/kubernetes-scheduler-simulator): every job of
the list once in a shuffled order, then jobs drawn from the list with replacement; the sequence ends with the job by which the demand
exceeds the GPUs. Nobody leaves, and who finds no seat does not come again. Jobs without GPUs come too and take CPU and memory.
Seed s shuffles the list, sorted by name, with numpy's generator of seed s. An order that is given takes the place of seed 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from service.replay.jobs import ReplayError
from service.replay.rows import read_rows
from service.replay.trace_openb import read_openb_requests
from service.replay.traces import FORMATS, unknown_format

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.placement.online.state import Cluster, Request
    from service.replay.traces import Reading

MOST_ARRIVALS = 1_000_000


@dataclass(frozen=True, slots=True)
class Pool:
    """The jobs that may come, by name. ``given``: the names of seed 0 in the order of coming, where a file says so.

    ``held_out``: every second job of the sorted list is told to the policies, and only the others come (in drawn orders only).
    """

    name: str
    requests: dict[str, Request]
    given: tuple[str, ...] = ()
    held_out: bool = False

    def told(self) -> list[Request]:
        """The jobs that policies know of: the list, or every second job of it."""
        return [self.requests[name] for name in sorted(self.requests)[:: 2 if self.held_out else 1]]

    def coming(self) -> list[str]:
        """The names of the jobs that may come, sorted."""
        return sorted(self.requests)[1 if self.held_out else 0 :: 2 if self.held_out else 1]

    def arrivals(self, cluster: Cluster, seed: int) -> list[Request]:
        """The sequence of one seed; a job that comes again is called ``<job>#2`` and so on.

        A given order that ends before the demand exceeds the GPUs is replayed to its end. Raises ReplayError where no end is in sight.
        """
        capacity = cluster.total_milli()
        if not self._is_given(seed):
            self._check(capacity)
        asked, times, found = 0, dict.fromkeys(self.requests, 0), []
        for name in self._names(seed):
            one = self.requests[name]
            times[name] += 1
            found.append(one if times[name] == 1 else replace(one, id=self._again(name, times[name])))
            asked += asked_milli(one)
            if asked > capacity:
                break
        return found

    def _again(self, name: str, time: int) -> str:
        """What a job is called that comes for the so many-th time: like no job of the list."""
        mark = "#"
        while f"{name}{mark}{time}" in self.requests:
            mark += "#"
        return f"{name}{mark}{time}"

    def _is_given(self, seed: int) -> bool:
        return seed == 0 and bool(self.given) and not self.held_out

    def _names(self, seed: int) -> Iterator[str]:
        if self._is_given(seed):
            yield from self.given
            return
        names, draw = self.coming(), np.random.default_rng(seed)
        yield from (names[at] for at in draw.permutation(len(names)))
        while True:
            yield names[draw.integers(len(names))]

    def _check(self, capacity: int) -> None:
        names = self.coming()
        total = sum(asked_milli(self.requests[name]) for name in names)
        if capacity * len(names) > MOST_ARRIVALS * total:
            raise ReplayError(
                f"{self.name}: its jobs ask for so few GPUs that more than {MOST_ARRIVALS:,} would have to come to fill the cluster; "
                "give a smaller cluster, or a trace whose jobs use GPUs"
            )


def asked_milli(request: Request) -> int:
    """Thousandths of a GPU of all workers."""
    return request.workers * request.gpu_milli


def read_pool(form: str, path: str, reading: Reading, order: str | None = None, *, held_out: bool = False) -> Pool:
    """The jobs of a trace, whatever their times: of openb also the pods that never ran. ``order``: a CSV with the names as they come.

    Raises ReplayError for what cannot be read, two jobs of one name, and an order of jobs that the trace does not have.
    """
    if form not in FORMATS:
        raise unknown_format(form)
    found = read_openb_requests(Path(path)) if form == "openb" else [job.request for job in FORMATS[form](Path(path), reading).jobs]
    requests = {one.id: one for one in found}
    if len(requests) < len(found):
        raise ReplayError(f"{path}: two jobs have the same name; give each a name of its own")
    if len(requests) < 2 and held_out:  # noqa: PLR2004  (one to tell of, one to come)
        raise ReplayError(f"{path}: --held-out needs two jobs at least; give a longer trace")
    return Pool(path, requests, () if order is None else _given(Path(order), path, requests), held_out)


def _given(path: Path, trace: str, requests: dict[str, Request]) -> tuple[str, ...]:
    names = []
    for row in read_rows(path, ("name",)):
        name = row.name("name")
        if name not in requests:
            raise row.error("name", f"{trace} has no job '{name[:40]}'; give the order of this trace's jobs")
        names.append(name)
    if not names:
        raise ReplayError(f"{path}: names no job; give the order in which they come")
    return tuple(names)


def demand_percent(arrivals: Sequence[Request], cluster: Cluster) -> float:
    """The GPUs that all of ``arrivals`` ask for, of those of the cluster."""
    return 100 * sum(map(asked_milli, arrivals)) / cluster.total_milli()
