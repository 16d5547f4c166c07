"""Whole jobs on devices that may be truly different: the program of the least makespan, plain or robust.

The problem is R||Cmax: job j takes ``times[j, d]`` seconds on device d, each device runs its jobs one after the other, and the last
device to end counts (Graham, Lawler, Lenstra & Rinnooy Kan, "Optimization and approximation in deterministic sequencing and scheduling: a
survey", 1979; Lenstra, Shmoys & Tardos, "Approximation algorithms for scheduling unrelated parallel machines", 1990). ``program`` makes a
plain document of the kind ``program``; nothing here solves it. Infinity in ``times`` says that a job cannot run on a device.

Robust: on every device at most ``budget`` jobs, the worst ones, take their deviation longer at once, the last of them in part where the
budget is no whole number (Bertsimas & Sim, "The price of robustness", 2004). A budget of all jobs is the sum of all late times.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Bools, Floats, Ints


class Row(NamedTuple):
    """One row of the program: its name, its two sides (None: none), and its entries by the column's name."""

    name: str
    lower: float | None
    upper: float | None
    entries: dict[str, float]


@dataclass(frozen=True, eq=False)
class Jobs:
    """Jobs to be placed: ``times`` (J, D) seconds, names of the D devices, ``deviations`` (J, D) seconds beyond the times.

    Raises ValueError for no job or device, times that are not positive, a job that can run nowhere, or a negative deviation or budget.
    """

    times: Floats
    devices: tuple[str, ...]
    deviations: Floats | None = None
    budget: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        _check(self)

    @property
    def robust(self) -> bool:
        """Whether late jobs count."""
        return self.deviations is not None and self.budget > 0

    @cached_property
    def late(self) -> Floats:
        """Deviations (J, D), 0 where none are given."""
        return np.zeros_like(self.times) if self.deviations is None else self.deviations

    @cached_property
    def twins(self) -> tuple[tuple[int, ...], ...]:
        """Devices in groups that are the same for every job."""
        groups: dict[bytes, list[int]] = {}
        for device in range(len(self.devices)):
            key = self.times[:, device].tobytes() + self.late[:, device].tobytes()
            groups.setdefault(key, []).append(device)
        return tuple(tuple(group) for group in groups.values())

    @cached_property
    def open(self) -> Bools:
        """Where each job may be placed (J, D): where it can run, and of k equal devices the i-th longest job on the first i only.

        Some best schedule obeys that: number equal devices by their longest job.
        """
        may = np.isfinite(self.times)
        for group in self.twins:
            for rank, job in enumerate(np.argsort(-self.times[:, group[0]], kind="stable")):
                may[job, list(group[rank + 1 :])] = False
        return np.asarray(may)

    def in_order(self, assignment: Ints) -> Ints:
        """The same schedule (J,) with equal devices numbered by their longest job, as ``open`` wants it."""
        made = assignment.copy()
        for group in self.twins:
            longest_first = np.argsort(-self.times[:, group[0]], kind="stable")
            met = dict.fromkeys(int(device) for device in assignment[longest_first] if device in group)
            for new, old in zip(group, met, strict=False):
                made[assignment == old] = new
        return made

    def worst_loads(self, assignment: Ints) -> Floats:
        """Seconds of each device (D,) with the late jobs that the budget allows."""
        sums = loads(self.times, assignment)
        whole = int(self.budget)
        for device in range(len(self.devices)) if self.robust else ():
            late = np.sort(self.late[assignment == device, device])[::-1]
            sums[device] += late[:whole].sum() + (self.budget - whole) * late[whole : whole + 1].sum()
        return sums


def program(jobs: Jobs) -> dict[str, Any]:
    """The document of "minimise the makespan", for the kind ``program``.

    Columns: ``place[j,d]`` in {0, 1}, ``makespan``, and with a budget ``price[d]`` and ``excess[j,d]``, the dual of the worst case.
    Rows: ``once[j]``, ``load[d]``, and with a budget ``late[j,d]``; j is the job's position.
    """
    pairs = [(int(job), int(device)) for job, device in np.argwhere(jobs.open)]
    places = [_on("place", jobs, *pair) for pair in pairs]
    rows = [
        Row(f"once[{job}]", 1.0, 1.0, {_on("place", jobs, *pair): 1.0 for pair in pairs if pair[0] == job})
        for job in range(len(jobs.times))
    ]
    others = ["makespan"]
    for device, name in enumerate(jobs.devices):
        here = [pair for pair in pairs if pair[1] == device]
        load = {_on("place", jobs, *pair): float(jobs.times[pair]) for pair in here} | {"makespan": -1.0}
        if jobs.robust:
            others += [f"price[{name}]", *(_on("excess", jobs, *pair) for pair in here)]
            load |= {f"price[{name}]": float(jobs.budget)} | {_on("excess", jobs, *pair): 1.0 for pair in here}
            rows += [_late(jobs, *pair) for pair in here]
        rows.append(Row(f"load[{name}]", None, 0.0, load))
    return _document(places, others, rows)


def started(jobs: Jobs, assignment: Ints) -> list[float]:
    """Values of the columns of ``program`` for a schedule (J,): where a search starts. Without a device that a job cannot run on."""
    standing = jobs.in_order(assignment)
    values = {_on("place", jobs, job, int(device)): 1.0 for job, device in enumerate(standing)}
    values["makespan"] = float(jobs.worst_loads(standing).max())
    for device, name in enumerate(jobs.devices) if jobs.robust else ():
        late = np.sort(jobs.late[standing == device, device])[::-1]
        price = float(late[int(jobs.budget)]) if int(jobs.budget) < len(late) else 0.0
        values[f"price[{name}]"] = price
        for job in np.flatnonzero(standing == device).tolist():
            values[_on("excess", jobs, job, device)] = max(0.0, float(jobs.late[job, device]) - price)
    return [values.get(name, 0.0) for name in program(jobs)["columns"]["names"]]


def assigned(jobs: Jobs, values: Sequence[float]) -> Ints:
    """The device of each job (J,) from values of the columns of ``program``. Raises ValueError for a job without a device."""
    found = np.full(len(jobs.times), -1)
    for (job, device), value in zip(np.argwhere(jobs.open), values, strict=False):  # the places are the first columns
        if value > 0.5:  # noqa: PLR2004  (0 or 1, up to rounding)
            found[job] = device
    if (found < 0).any():
        raise ValueError(f"job {int(np.argmin(found))} has no device in these values")
    return found


def loads(times: Floats, assignment: Ints) -> Floats:
    """Seconds of each device (D,) when job j with ``times`` (J, D) runs on device ``assignment[j]``."""
    return np.bincount(assignment, weights=times[np.arange(len(times)), assignment], minlength=times.shape[1]).astype(np.float64)


def makespan(times: Floats, assignment: Ints) -> float:
    """Seconds until the last device ends."""
    return float(loads(times, assignment).max())


def _on(what: str, jobs: Jobs, job: int, device: int) -> str:
    return f"{what}[{job},{jobs.devices[device]}]"


def _late(jobs: Jobs, job: int, device: int) -> Row:
    entries = {f"price[{jobs.devices[device]}]": 1.0, _on("excess", jobs, job, device): 1.0}
    late = float(jobs.late[job, device])
    return Row(f"late[{job},{jobs.devices[device]}]", 0.0, None, entries | ({_on("place", jobs, job, device): -late} if late > 0 else {}))


def _document(places: list[str], others: list[str], rows: list[Row]) -> dict[str, Any]:
    names = [*places, *others]
    at = {name: place for place, name in enumerate(names)}
    entries = [(row, at[name], value) for row, made in enumerate(rows) for name, value in made.entries.items()]
    return {
        "sense": "minimise",
        "columns": {
            "names": names,
            "cost": [float(name == "makespan") for name in names],
            "upper": [1.0] * len(places) + [None] * len(others),
            "integer": [True] * len(places) + [False] * len(others),
        },
        "rows": {"names": [row.name for row in rows], "lower": [row.lower for row in rows], "upper": [row.upper for row in rows]},
        "entries": {"rows": [one[0] for one in entries], "columns": [one[1] for one in entries], "values": [one[2] for one in entries]},
    }


def _check(jobs: Jobs) -> None:
    times = jobs.times
    if times.ndim != 2 or not times.size or times.shape[1] != len(jobs.devices):  # noqa: PLR2004  (jobs by devices)
        raise ValueError(f"times have the shape {times.shape}: one row per job and one column for each of {len(jobs.devices)} devices")
    if len(set(jobs.devices)) != len(jobs.devices):
        raise ValueError(f"devices need names of their own, not {', '.join(jobs.devices)}")
    if np.isnan(times).any() or (times <= 0).any():
        raise ValueError("times must be positive; infinity says that a job cannot run there")
    nowhere = np.flatnonzero(~np.isfinite(times).any(axis=1))
    if len(nowhere):
        raise ValueError(f"job {int(nowhere[0])} can run on no device")
    late = jobs.deviations
    if late is not None and (late.shape != times.shape or not np.isfinite(late).all() or (late < 0).any()):
        raise ValueError("deviations must be finite, at least 0, and as many as the times")
    if not 0 <= jobs.budget < np.inf:
        raise ValueError(f"the budget must be a number of jobs, at least 0, not {jobs.budget}")
