"""How close leases come to the plan: 500 rounds on traces of Gavel, planned anew whenever a job comes or goes.

``python -m benchmarks.leases [NAME] [--rounds N] [--slots N] [--keep N] [--plan equal|solve]`` prints a JSON line for each case. Jobs come
as the trace says, run at the measured speeds whenever they have a lease, lose the restart at each start, and leave when their steps are
done. The numbers are about every job that stays at least 50 rounds:

    share_error     |received - planned| / time since it came     (the target: at most 0.01)
    relative_error  |received - planned| / planned
    type_error      the same as share_error, for the worst accelerator of each job: its time there, whatever it had elsewhere
    speed_error     |steps of the time received - steps of the time planned| / steps planned, restarts not counted
    lost            part of the leased time that went into restarts
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.fairshare.leases.book import LeaseBook, Terms, plannable_gpus
from models.fairshare.leases.targets import targets_from
from models.fairshare.plans.division import division_of
from models.fairshare.plans.equal_split import equal_division
from service.importers.gavel import Choice, import_gavel

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.fairshare.leases.book import LeaseRound
    from models.fairshare.leases.targets import Targets
    from models.fairshare.plans.division import Division
    from models.fairshare.schema import Job, Problem

DATA = Path(__file__).resolve().parent / "data" / "gavel"
STAYS = 50  # rounds from which on a job counts
RESTART_S = 20.0
MOST_KEPT = 1_000  # GPUs kept back: as many as the largest gang less one
Key = tuple[str, str, str, bool]


@dataclass(frozen=True, slots=True)
class Case:
    """A trace, a cluster, and which of the jobs take part."""

    trace: str
    cluster: dict[str, int]
    begin_s: float = 0.0
    single: bool = False
    pairs: bool = False


CASES = {
    "physical": Case("max_min_fairness.trace", {"k80": 24, "p100": 16, "v100": 8}),
    "physical_single": Case("max_min_fairness.trace", {"k80": 12, "p100": 8, "v100": 4}, single=True),
    "physical_pairs": Case("max_min_fairness.trace", {"k80": 12, "p100": 8, "v100": 4}, single=True, pairs=True),
    "burst": Case("msr_0e4a51_part.trace.gz", {"k80": 36, "p100": 36, "v100": 36}, begin_s=3_015_000.0),
    "mixed": Case("msr_103959_part.trace.gz", {"k80": 24, "p100": 24, "v100": 24}, begin_s=6_480_000.0),
}


@dataclass(slots=True)
class _Stay:
    """What one job has been promised and has got, by accelerator and in steps."""

    left: float
    rounds: int = 0
    planned: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    received: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    planned_steps: float = 0.0
    received_steps: float = 0.0
    lost_s: float = 0.0


class Replay:
    """A trace that runs: who is there, what they have got, and when to plan anew."""

    def __init__(self, case: Case, plan: Callable[[Problem], Division], terms: Terms, keep: int = MOST_KEPT) -> None:
        found = import_gavel(
            DATA / "simulation_throughputs.json.gz", DATA / case.trace, case.cluster, Choice(pairs=case.pairs, skip_unknown=True)
        )
        self.problem, self.plan, self.terms = found.problem, plan, terms
        gpus = {workload.id: workload.gpus for workload in self.problem.workloads}
        waiting = [job for job in self.problem.jobs if not case.single or gpus[job.workload] == 1]
        self.waiting = sorted(waiting, key=lambda job: job.arrival_s, reverse=True)
        self.largest = min(max(gpus[job.workload] for job in waiting), keep + 1)
        self.speed = {(w.id, s.accelerator): (s.steps_per_s, s.spread_steps_per_s or 0.0) for w in self.problem.workloads for s in w.speeds}
        self.pair = {(p.first, p.second, p.accelerator): (p.first_steps_per_s, p.second_steps_per_s) for p in self.problem.pairs}
        self.now_s = case.begin_s
        self.there: dict[str, Job] = {}
        self.stays: dict[str, _Stay] = {}
        self.book: LeaseBook | None = None
        self.counts = {"leases": 0, "starts": 0, "plans": 0, "jobs": 0}
        self.seconds = {"plan_s": 0.0, "lease_s": 0.0}

    def round(self) -> LeaseRound | None:
        """One round; None while nobody is there."""
        if self._changed():
            self._replan()
        if self.book is not None and self.there:
            began = time.process_time()
            found = self.book.next_round()
            self.seconds["lease_s"] += time.process_time() - began
            self._credit(self.book.targets, found)
        else:
            found = None
        self.now_s += self.terms.round_s
        return found

    def _changed(self) -> bool:
        gone = [name for name in self.there if self.stays[name].left <= 0]
        for name in gone:
            del self.there[name]
        came = 0
        while self.waiting and self.waiting[-1].arrival_s <= self.now_s:
            job = self.waiting.pop()
            self.there[job.id], self.stays[job.id] = job, _Stay(left=job.remaining_steps or 0.0)
            came += 1
        self.counts["jobs"] += came
        return bool(gone or came)

    def _replan(self) -> None:
        if not self.there:
            self.book = None
            return
        jobs = tuple(job.model_copy(update={"remaining_steps": self.stays[name].left}) for name, job in self.there.items())
        kept = tuple(one.model_copy(update={"count": plannable_gpus(one.count, self.largest)}) for one in self.problem.accelerators)
        asked = self.problem.model_copy(update={"jobs": jobs, "accelerators": kept, "now_s": self.now_s})
        began = time.process_time()
        targets = targets_from(self.problem, self.plan(asked))
        self.seconds["plan_s"] += time.process_time() - began
        self.counts["plans"] += 1
        if self.book is None:
            self.book = LeaseBook(targets, self.terms, self.now_s)
        else:
            self.book.replan(targets)

    def _credit(self, targets: Targets, found: LeaseRound) -> None:
        for key, share in zip(targets.keys, targets.share.tolist(), strict=True):
            for name, speed in self._speeds(key):
                self.stays[name].planned[key[2]] += share * self.terms.round_s
                self.stays[name].planned_steps += share * self.terms.round_s * speed
        for slot in found.slots:
            for lease in slot.leases:
                lost = self.terms.restart_s if lease.starts else 0.0
                self.counts["leases"] += 1
                self.counts["starts"] += lease.starts
                key = (lease.jobs[0], lease.jobs[1] if len(lease.jobs) > 1 else "", lease.accelerator, lease.spread)
                for name, speed in self._speeds(key):
                    stay = self.stays[name]
                    stay.received[lease.accelerator] += slot.seconds
                    stay.received_steps += slot.seconds * speed
                    stay.left -= (slot.seconds - lost) * speed
                    stay.lost_s += lost
        for name in self.there:
            self.stays[name].rounds += 1

    def _speeds(self, key: Key) -> list[tuple[str, float]]:
        """Each job of a unit with its steps/s."""
        first, second, accelerator, spread = key
        one = self.there[first].workload
        if not second:
            return [(first, self.speed[one, accelerator][spread])]
        other = self.there[second].workload
        speeds = self.pair.get((one, other, accelerator)) or self.pair[other, one, accelerator][::-1]
        return [(first, speeds[0]), (second, speeds[1])]


def solved(problem: Problem) -> Division:
    """The best plan of the problem's policy."""
    from optimizer.limits import Limits
    from optimizer.solve import solve

    result = solve(problem, Limits(time_limit_s=30.0), isolate=False)
    if result.plan is None:
        raise RuntimeError(f"no plan: {result.failure or result.outcome}")
    return division_of(problem, result.plan)  # type: ignore[arg-type]


def measure(name: str, plan: Callable[[Problem], Division], terms: Terms, rounds: int, keep: int = MOST_KEPT) -> dict[str, Any]:
    """The numbers of one case. ``keep`` is the most GPUs of each type that the plan leaves out for whole gangs' sake."""
    replay = Replay(CASES[name], plan, terms, keep)
    for _ in range(rounds):
        replay.round()
    stays = [stay for stay in replay.stays.values() if stay.rounds >= STAYS]
    leased = sum(sum(stay.received.values()) for stay in replay.stays.values())
    return {
        "case": name,
        "rounds": rounds,
        "slots": terms.slots,
        **replay.counts,
        "stay": len(stays),
        "shortest_stay": min((stay.rounds for stay in stays), default=0),
        **{key: round(value, 5) for key, value in _errors(stays, terms).items()},
        "lost": round(sum(stay.lost_s for stay in replay.stays.values()) / leased, 4) if leased else 0.0,
        **{key: round(value, 2) for key, value in replay.seconds.items()},
    }


def _errors(stays: list[_Stay], terms: Terms) -> dict[str, float]:
    worst = {"share_error": 0.0, "relative_error": 0.0, "type_error": 0.0, "speed_error": 0.0}
    for stay in stays:
        here, planned, received = stay.rounds * terms.round_s, sum(stay.planned.values()), sum(stay.received.values())
        off = abs(received - planned)
        each = {
            "share_error": off / here,
            "relative_error": off / planned if planned else 0.0,
            "type_error": max((abs(stay.received[k] - stay.planned[k]) / here for k in {*stay.planned, *stay.received}), default=0.0),
            "speed_error": abs(stay.received_steps - stay.planned_steps) / stay.planned_steps if stay.planned_steps else 0.0,
        }
        worst = {key: max(value, each[key]) for key, value in worst.items()}
    return worst


def main() -> None:
    """Prints a line for each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("case", nargs="*", choices=[*CASES, []], help="all by default")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--extend", type=float, default=Terms().extend)
    parser.add_argument("--keep", type=int, default=MOST_KEPT, help="most GPUs of each type that the plan leaves out")
    parser.add_argument("--plan", choices=["equal", "solve"], default="solve")
    asked = parser.parse_args()
    terms = Terms(slots=asked.slots, restart_s=RESTART_S, extend=asked.extend)
    for name in asked.case or CASES:
        print(json.dumps(measure(name, equal_division if asked.plan == "equal" else solved, terms, asked.rounds, asked.keep)), flush=True)


if __name__ == "__main__":
    main()
