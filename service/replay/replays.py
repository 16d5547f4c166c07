"""Replays of a trace under several policies and seeds: every policy meets the same cases."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.placement.online.fgd import Fragmentation, typical
from service.replay.draws import drawn, offered_load
from service.replay.engine import Simulation
from service.replay.measures import measured, series
from service.replay.moving import Mover
from service.replay.planning import Planner, placement_solver
from service.replay.policies import RULES
from service.replay.queues import DISCIPLINES, Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from models.placement.online.state import Cluster
    from service.replay.draws import Wish
    from service.replay.engine import Case
    from service.replay.jobs import Trace
    from service.replay.policies import Policy

PLAN_S = 10.0  # of one plan, by the wall: it usually ends by its gap long before


@dataclass(frozen=True, slots=True)
class Replay:
    """One trace, one policy, one seed: its measures, and series over time. ``cpu_s`` is what it cost us, the only clock there is."""

    trace: str
    policy: str
    seed: int
    jobs: int
    load: float
    measures: dict[str, float | None]
    series: dict[str, Any]
    cpu_s: float
    planning: dict[str, float] = field(default_factory=dict)  # what came of plans, where the policy makes some


def simulation(case: Case, cluster: Cluster, policy: Policy, seed: int, after: Callable[[Simulation], None] | None = None) -> Simulation:
    """A replay of a case that is ready to run. ``cluster`` is empty, and left as it is. Raises ReplayError."""
    own = cluster.copy()
    requests = [job.request for job in case.jobs]
    return Simulation(
        case,
        own,
        Queue(DISCIPLINES[policy.discipline]),
        RULES[policy.rule](own, requests, seed),
        fragmentation=Fragmentation(own, typical(requests)),
        mover=None if policy.arrivals_per_move is None else Mover(policy.arrivals_per_move),
        planner=None if policy.cadence is None else Planner(policy.cadence, placement_solver(PLAN_S)),
        after=after,
    )


def replays(trace: Trace, cluster: Cluster, policies: Sequence[Policy], wish: Wish, seeds: Sequence[int]) -> Iterator[Replay]:
    """Seed by seed all policies, one replay after the other. Raises ReplayError."""
    for seed in seeds:
        for policy in policies:
            case = drawn(trace, cluster, wish, seed)  # anew, as its outages are read only once
            begun = time.process_time()
            one = simulation(case, cluster, policy, seed)
            history = one.run()
            cpu_s = time.process_time() - begun
            yield Replay(
                trace.name,
                policy.name,
                seed,
                len(case.jobs),
                offered_load(case.jobs, cluster),
                measured(history, case.jobs, cluster.models),
                series(history, case.jobs),
                cpu_s,
                {} if one.planner is None else one.planner.told(),
            )
