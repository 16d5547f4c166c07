"""Plans of the placement solver in the middle of a replay: who of the waiting jobs starts, and who moves for it.

At the first event after every so many simulated seconds (more of them after plans that changed nothing), running jobs and the oldest
waiting ones become a ``repack`` problem of the kind ``placement``: as much value as possible placed with at most so many moves, then
as few moves as possible. A job's value is 1 plus its waiting time over its estimated duration (at most 100). While the head has a
reservation, only it and jobs that should end before it are offered, and a plan that moves anybody without starting the head is dropped.
The solver works while the simulated clock stands still; ``seconds`` tells how long.

A solver that stops by its time limit may stop elsewhere on another machine: then the same seed need not give the same replay. ``stopped``
counts those plans.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.placement.online.state import MILLI, Seat
from models.placement.schema import GoalName, Job, Node, Plan, Problem, Running, Use, WorkerPlace

if TYPE_CHECKING:
    from models.placement.online.state import Request, Seats
    from service.replay.engine import Simulation

Solve = Callable[[Problem], tuple[Plan | None, bool]]  # the plan, and whether the search ended by itself
GOALS = (GoalName.placed_value, GoalName.moves)
MIB_PER_GIB = 1024
LARGEST_VALUE = 100.0


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often plans are made, how many waiting jobs they look at, and how many jobs each may move.

    After a plan that starts nobody the pause before the next is twice as long as the last, up to ``longest`` times ``every_s``.
    """

    every_s: float = 1800.0
    most_jobs: int = 50
    most_moves: int = 5
    longest: int = 16


class Planner:
    """Makes plans and carries them out; ``plans``, ``started``, ``moved``, ``stopped`` and ``seconds`` tell what came of it."""

    def __init__(self, cadence: Cadence, solve: Solve) -> None:
        self.cadence, self.solve = cadence, solve
        self.plans = self.started = self.moved = self.stopped = 0
        self.seconds = 0.0
        self._next_s = 0.0
        self._stretch = 1  # times ``every_s`` until the next plan

    def planned(self, simulation: Simulation) -> bool:
        """Make a plan where one is due and somebody waits, and carry it out; whether anything changed."""
        if simulation.now_s < self._next_s or not simulation.waiting.count:
            return False
        offered = self._offered(simulation)
        if not offered:
            self._next_s = simulation.now_s + self.cadence.every_s
            return False
        begun = time.process_time()
        plan, ended = self.solve(problem_of(simulation, offered, self.cadence.most_moves))
        self.seconds += time.process_time() - begun
        self.plans += 1
        self.stopped += not ended
        useful = plan is not None and self._carry_out(simulation, plan)
        self._stretch = 1 if useful else min(2 * self._stretch, self.cadence.longest)
        self._next_s = simulation.now_s + self.cadence.every_s * self._stretch
        return useful

    def told(self) -> dict[str, float]:
        """What came of it, as plain numbers."""
        return {
            "plans": self.plans,
            "started": self.started,
            "moved": self.moved,
            "stopped_by_time": self.stopped,
            "solver_cpu_s": round(self.seconds, 3),
        }

    def _offered(self, simulation: Simulation) -> list[int]:
        """The oldest waiting jobs that may start now without delaying the head."""
        held = simulation.queue.reservation
        estimates = {job: estimate for bucket in simulation.waiting.buckets.values() for job, estimate in bucket.estimate_s.items()}
        may = [job for job, estimate in estimates.items() if held is None or job == held.job or estimate <= held.start_s - simulation.now_s]
        return sorted(may)[: self.cadence.most_jobs]

    def _carry_out(self, simulation: Simulation, plan: Plan) -> bool:
        place = {node.id: at for at, node in enumerate(simulation.cluster.nodes)}
        seats = {
            int(one.job): tuple(Seat(place[worker.node], tuple(sorted(worker.gpus))) for worker in one.workers) for one in plan.placements
        }
        moves = {int(name): seats[int(name)] for name in plan.moved}
        starts = {job: found for job, found in seats.items() if job not in simulation.running.runs}
        held = simulation.queue.reservation
        if not starts or (moves and held is not None and held.job not in starts):
            return False  # moves that let nobody start are not worth their pause, and others might take the head's seats
        simulation.move_together(moves)
        for job, found in sorted(starts.items()):
            simulation.start(job, found)
        self.started += len(starts)
        self.moved += len(moves)
        return True


def problem_of(simulation: Simulation, offered: list[int], most_moves: int) -> Problem:
    """The state of a simulation and the jobs that are offered as a placement problem; a job's id is its number."""
    cluster = simulation.cluster
    nodes = tuple(
        Node(
            id=node.id,
            gpu_model=node.model if node.gpus else None,
            gpus=node.gpus,
            cpu_cores=node.cpu_milli / MILLI,
            memory_gib=node.memory_mib / MIB_PER_GIB,
            state="ready" if cluster.open[at] else "drained",
        )
        for at, node in enumerate(cluster.nodes)
    )
    names = [node.id for node in cluster.nodes]
    jobs = []
    for number, run in simulation.running.runs.items():
        speeds = simulation.case.jobs[number].speeds
        fast = {model: 1.0 for model in sorted(run.request.models) if speeds.get(model, 1.0) >= run.speed}  # no move slows it down
        jobs.append(_job(number, run.request, fast, 1.0, _where(names, run.seats)))
    for number in offered:
        request, speeds = simulation.request(number), simulation.case.jobs[number].speeds
        urgency = simulation.waited_s(number) / max(simulation.estimate_s[number], 1.0)
        accepted = {model: speeds.get(model, 1.0) for model in sorted(request.models)}
        jobs.append(_job(number, request, accepted, 1.0 + min(urgency, LARGEST_VALUE), None))
    return Problem(use=Use.repack, nodes=nodes, jobs=tuple(jobs), max_moves=most_moves, max_evictions=0, goals=GOALS)


def _job(number: int, request: Request, speeds: dict[str, float], value: float, running: Running | None) -> Job:
    return Job(
        id=str(number),
        workers=request.workers,
        gpus_per_worker=request.gpu_milli / MILLI,
        cpu_cores=request.cpu_milli / MILLI,
        memory_gib=request.memory_mib / MIB_PER_GIB,
        model_speeds=speeds,
        value=value,
        running=running,
    )


def _where(names: list[str], seats: Seats) -> Running:
    return Running(workers=tuple(WorkerPlace(node=names[seat.node], gpus=seat.gpus) for seat in seats), evictable=False)


def placement_solver(time_limit_s: float, gap: float = 0.01) -> Solve:
    """The optimiser on one thread in this process, for so many seconds of wall time at most."""
    from optimizer.limits import Limits
    from optimizer.result import StopReason
    from optimizer.solve import solve

    def solved(problem: Problem) -> tuple[Plan | None, bool]:
        result = solve(problem, Limits(time_limit_s=time_limit_s, gap=gap), isolate=False)
        return (result.plan if isinstance(result.plan, Plan) else None), result.stop_reason is StopReason.gap

    return solved
