"""From shares to leases: rounds in which whole GPUs are given to whole gangs, so that received time converges to the plan.

A round has one or more equal slots; in a slot each job has at most one lease and each GPU at most one unit. What a job (and a unit on an
accelerator) has been promised and not received is its *lag*, in slots; the leases of a slot are those that make the fourth powers of the
lags as small as they can become. README.md derives what that guarantees, and what is only measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.leases.choice import Candidates, choose, in_order
from models.fairshare.leases.nodes import Seat, seated
from models.fairshare.leases.pfair import deadline_order, eligible

if TYPE_CHECKING:
    from models.fairshare.leases.targets import Targets
    from models.program import Bools, Floats, Ints

CELL = 0.5  # weight of a unit's lag on one accelerator beside the lag of its jobs
SETTLED = 75  # rounds after which a lag of a slot or so is little beside what a job has had
LEAST_PATIENCE, MOST_PATIENCE = 0.1, 8.0
OWED = 0.5  # slots: a unit that the plan no longer has is leased again only for more than this


class LeaseRule(StrEnum):
    """How the leases of a slot are chosen: the least fourth powers of lags, or by deadlines (leases_pfair)."""

    deficit = "deficit"
    deadline = "deadline"


@dataclass(frozen=True, slots=True)
class Terms:
    """How time is cut. Of every lease that starts or moves, ``restart_s`` seconds are lost.

    ``extend`` is what going on is worth beside lags (their fourth powers, in slots), and more for jobs that have been there for long:
    larger means fewer restarts and larger lags.
    """

    round_s: float = 360.0
    slots: int = 2
    restart_s: float = 0.0
    extend: float = 1.0
    rule: LeaseRule = LeaseRule.deficit

    @property
    def slot_s(self) -> float:
        """Seconds of a slot."""
        return self.round_s / self.slots


@dataclass(frozen=True, slots=True)
class Lease:
    """GPUs of one accelerator for one unit and slot. ``gpus`` and ``had`` number them through; ``had`` are those of the slot before."""

    jobs: tuple[str, ...]
    accelerator: str
    spread: bool
    gpus: tuple[int, ...]
    had: tuple[int, ...]

    @property
    def starts(self) -> bool:
        """Whether it pays the restart: it did not run on these GPUs in the slot before."""
        return self.gpus != self.had


@dataclass(frozen=True, slots=True)
class Slot:
    """The leases of one slot."""

    begin_s: float
    seconds: float
    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class LeaseRound:
    """A round and its slots; ``number`` counts from 0."""

    number: int
    slots: tuple[Slot, ...]


@dataclass(slots=True)
class Standing:
    """What a job was promised and what it got since it came, in seconds. ``lost_s`` of what it received went into restarts."""

    rounds: int = 0
    planned_s: float = 0.0
    received_s: float = 0.0
    lost_s: float = 0.0


@dataclass(slots=True)
class LeaseBook:
    """Who has been promised what and has what: give it ``Targets`` whenever the plan changes, and ask it for one round after another.

    Lags live on through a new plan: a job is still owed what it has not received. A job that the new targets do not have has left.
    """

    targets: Targets
    terms: Terms = field(default_factory=Terms)
    begin_s: float = 0.0
    rounds: int = 0
    standing: dict[str, Standing] = field(init=False)
    _job_lag: Floats = field(init=False)
    _cell_lag: Floats = field(init=False)
    _had: list[tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        """Everybody starts even."""
        self.standing = {name: Standing() for name in self.targets.jobs}
        self._job_lag, self._cell_lag = np.zeros(len(self.targets.jobs)), np.zeros(self.targets.count)
        self._had = [()] * self.targets.count

    @property
    def lags(self) -> Floats:
        """Planned minus received of each job, in slots, shape (jobs,)."""
        return self._job_lag.copy()

    def replan(self, targets: Targets) -> None:
        """Go on with other targets: jobs by name, units by their jobs and accelerator."""
        lag = dict(zip(self.targets.jobs, self._job_lag.tolist(), strict=True))
        known = dict(zip(self.targets.keys, zip(self._cell_lag.tolist(), self._had, strict=True), strict=True))
        staying = frozenset(targets.jobs)
        owed = [
            place
            for place, (first, second, accelerator, _) in enumerate(self.targets.keys)
            if (self._cell_lag[place] > OWED and first in staying and (not second or second in staying))
            and accelerator in targets.accelerators
        ]
        targets = _with_owed(targets, self.targets, owed)
        self.targets = targets
        self._job_lag = np.array([lag.get(name, 0.0) for name in targets.jobs])
        self._cell_lag = np.array([known.get(key, (0.0, ()))[0] for key in targets.keys])
        room = dict(zip(targets.accelerators, targets.room.tolist(), strict=True))
        had = [known.get(key, (0.0, ()))[1] for key in targets.keys]
        self._had = [gpus if max(gpus, default=-1) < room[key[2]] else () for key, gpus in zip(targets.keys, had, strict=True)]
        self.standing = {name: self.standing.get(name, Standing()) for name in targets.jobs}

    def next_round(self) -> LeaseRound:
        """The leases of the next round; their time counts as received."""
        slots = tuple(self._next_slot(self.begin_s + number * self.terms.slot_s) for number in range(self.terms.slots))
        found = LeaseRound(self.rounds, slots)
        self.rounds += 1
        self.begin_s += self.terms.round_s
        for standing in self.standing.values():
            standing.rounds += 1
        return found

    def _next_slot(self, begin_s: float) -> Slot:
        targets = self.targets
        chosen = self._chosen()
        gpus = self._seats(chosen)
        leases = []
        for cell in np.flatnonzero(chosen).tolist():
            first, second, accelerator, spread = targets.keys[cell]
            leases.append(Lease((first, second) if second else (first,), accelerator, spread, gpus[cell], self._had[cell]))
        planned, received = targets.per_job(targets.share), targets.per_job(chosen.astype(np.float64))
        self._job_lag += planned - received
        self._cell_lag += targets.share - chosen
        self._had = gpus
        self._book(planned, received, leases)
        return Slot(begin_s, self.terms.slot_s, tuple(leases))

    def _book(self, planned: Floats, received: Floats, leases: list[Lease]) -> None:
        seconds = self.terms.slot_s
        for name, promised, got in zip(self.targets.jobs, planned.tolist(), received.tolist(), strict=True):
            standing = self.standing[name]
            standing.planned_s += promised * seconds
            standing.received_s += got * seconds
        for name in (name for lease in leases if lease.starts for name in lease.jobs):
            self.standing[name].lost_s += min(self.terms.restart_s, seconds)

    def _chosen(self) -> Bools:
        """The cells that are leased in the coming slot, shape (cells,)."""
        targets = self.targets
        running = np.fromiter((bool(gpus) for gpus in self._had), np.bool_, targets.count)
        if self.terms.rule is LeaseRule.deadline:
            weight = np.where(eligible(self._cell_lag, targets.share), 1.0, 0.0)
            return in_order(self._candidates(weight), deadline_order(self._cell_lag, targets.share, running))
        weight = self._relief() + self.terms.extend * running * self._patience()
        weight *= targets.gpus
        owed = (targets.share > 0) | (self._cell_lag > OWED)
        chosen = np.zeros(targets.count, dtype=np.bool_)
        open_ = np.flatnonzero(owed & (weight > 0))
        chosen[open_] = choose(self._candidates(weight, open_))
        return chosen

    def _patience(self) -> Floats:
        """How much more a unit's going on is worth, the longer its jobs have been there: lags are soon little beside a long stay."""
        rounds = np.array([self.standing[name].rounds for name in self.targets.jobs], dtype=np.float64)
        age = np.where(
            self.targets.second >= 0, np.minimum(rounds[self.targets.first], rounds[self.targets.second]), rounds[self.targets.first]
        )
        return np.clip(age / SETTLED, LEAST_PATIENCE, MOST_PATIENCE)

    def _relief(self) -> Floats:
        """By how much a lease makes the sum of fourth powers of lags smaller, shape (cells,)."""
        targets = self.targets
        job = _drop(self._job_lag + targets.per_job(targets.share))
        shared = targets.second >= 0
        members = job[targets.first] + np.where(shared, job[targets.second], 0.0)
        return members + CELL * (1 + shared) * _drop(self._cell_lag + targets.share)

    def _candidates(self, weight: Floats, cells: Ints | None = None) -> Candidates:
        targets = self.targets
        cells = np.arange(targets.count) if cells is None else cells
        return Candidates(
            first=targets.first[cells],
            second=targets.second[cells],
            accelerator=targets.accelerator[cells],
            gpus=targets.gpus[cells],
            packed=(~targets.spread & (targets.gpus > 1))[cells],
            weight=weight[cells],
            room=targets.room,
            packed_room=targets.packed_room,
            jobs=len(targets.jobs),
        )

    def _seats(self, chosen: Bools) -> list[tuple[int, ...]]:
        """The GPUs of each cell; none for those that are not leased."""
        targets = self.targets
        found: list[tuple[int, ...]] = [()] * targets.count
        for accelerator in range(len(targets.accelerators)):
            here = np.flatnonzero(chosen & (targets.accelerator == accelerator)).tolist()
            wishes = [Seat(int(targets.gpus[cell]), bool(targets.spread[cell]), self._had[cell]) for cell in here]
            places = seated(wishes, int(targets.room[accelerator]), int(targets.gpus_per_node[accelerator]))
            for cell, gpus in zip(here, places, strict=True):
                found[cell] = gpus
        return found


def plannable_gpus(count: int, largest_gang: int) -> int:
    """How many of ``count`` GPUs to plan with so that whole gangs can keep the plan: the largest gang less one is kept back.

    Then a plan within ``job_time`` and this capacity is a mean of choices of whole gangs that fit into ``count`` (D. Shmoys, E. Tardos,
    "An approximation algorithm for the generalized assignment problem", 1993). Never less than the largest gang needs, nor below 0.
    """
    return max(0, min(count, max(count - largest_gang + 1, largest_gang)))


def _drop(lag: Floats) -> Floats:
    """``lag**4 - (lag - 1)**4``: what one slot takes off."""
    return np.asarray(lag**4 - (lag - 1.0) ** 4)


def _with_owed(targets: Targets, before: Targets, owed: list[int]) -> Targets:
    """Targets with units of an earlier plan that are still owed time, with a share of 0."""
    known, job = frozenset(targets.keys), {name: place for place, name in enumerate(targets.jobs)}
    keys = [(before.keys[place], int(before.gpus[place])) for place in owed if before.keys[place] not in known]
    if not keys:
        return targets
    at = {name: place for place, name in enumerate(targets.accelerators)}
    return replace(
        targets,
        first=np.append(targets.first, [job[key[0]] for key, _ in keys]),
        second=np.append(targets.second, [job[key[1]] if key[1] else -1 for key, _ in keys]),
        accelerator=np.append(targets.accelerator, [at[key[2]] for key, _ in keys]),
        spread=np.append(targets.spread, [key[3] for key, _ in keys]),
        gpus=np.append(targets.gpus, [gpus for _, gpus in keys]),
        share=np.append(targets.share, np.zeros(len(keys))),
    )
