"""Filling a cluster: one policy on one sequence of arrivals that never leave, and how many GPUs it has allocated at the end.

Policies are seat rules here, as there is no queue: each arrival is seated or refused at once. ``quartermaster`` is the rule that
follows a plan of the expected mix (``models.placement.online.planned``); in a replay with departures that rule leaves jobs waiting
longer than FGD's, and ``quartermaster`` is another (``policies.py``).
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.placement.online import rules
from models.placement.online.fgd import TYPICAL_PART, Fgd, typical
from models.placement.online.moving import ARRIVALS_PER_MOVE, Moving
from models.placement.online.planned import Planned
from models.placement.online.planning import as_problem, planned_places
from models.placement.online.state import Cluster
from models.placement.verify import verify
from service.replay.jobs import ReplayError
from service.replay.measures import Measure
from service.replay.running import fits_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.placement.online.planned import Place
    from models.placement.online.planning import Solver
    from models.placement.online.rules import SeatRule
    from models.placement.online.state import Request, Seats
    from service.replay.fill_arrivals import Pool

    Places = list[tuple[int, Place]]

MakeRule = Callable[["Cluster", "Sequence[Request]", int], "SeatRule"]
TIES = 100  # added to a seed, so that no order of nodes comes from the generator that drew the arrivals
ALL_WORK = 1.0  # the part of the expected work that a policy plans for which refuses on purpose
MEASURES = (
    Measure("allocated_percent", "%", "more", "GPUs in use at the end, of those there are"),
    Measure("refused", "jobs", "less", "jobs without a seat that the empty cluster could hold"),
    Measure("moves", "", "less", "jobs that were taken elsewhere"),
)


@dataclass(frozen=True, slots=True)
class FillPolicy:
    """A seat rule by name. ``make`` makes it of the cluster, the jobs that are told, and a seed; policies without it follow a plan.

    ``part``: of the expected work the plan is for; None: the part that just does not fit. ``moves``: one for every 20 arrivals.
    """

    name: str
    meaning: str
    make: MakeRule | None = None
    part: float | None = None
    moves: bool = False

    @property
    def plans(self) -> bool:
        """Whether it follows a plan."""
        return self.make is None

    @property
    def declines(self) -> bool:
        """Whether it refuses jobs that fit."""
        return self.part is not None


def _fgd(part: float, *, ties_drawn: bool) -> MakeRule:
    """FGD that knows the kinds that make up ``part`` of the jobs that are told."""
    return lambda cluster, told, seed: Fgd(cluster, typical(told, part), TIES + seed if ties_drawn else None)


POLICIES: dict[str, FillPolicy] = {
    policy.name: policy
    for policy in (
        FillPolicy("random", "any node that fits and any GPU with room", lambda _cluster, _told, seed: rules.RandomFit(seed)),
        FillPolicy("first_fit", "the first node that fits", lambda *_: rules.FirstFit()),
        FillPolicy("dot_product", "the fullest node in the resources that the job asks for", lambda *_: rules.DotProduct()),
        FillPolicy("packing", "GPUs in use first, then nodes in use", lambda *_: rules.Packing()),
        FillPolicy("best_fit", "the fullest node that fits", lambda *_: rules.BestFit()),
        FillPolicy("fgd", "where the expected fragmentation grows least; of equal nodes the fullest", _fgd(TYPICAL_PART, ties_drawn=False)),
        FillPolicy("fgd_drawn_ties", "the same, but equal nodes go by a drawn order, as published", _fgd(TYPICAL_PART, ties_drawn=True)),
        FillPolicy("fgd_all_kinds", "the same, told all kinds of jobs, as ours is", _fgd(1.0, ties_drawn=True)),
        FillPolicy("quartermaster", "ours: the seats of a plan of the expected mix; refuses nobody that fits"),
        FillPolicy("quartermaster_moves", "ours, and one move for every 20 arrivals", moves=True),
        FillPolicy("quartermaster_declining", "ours, refusing who costs more GPUs of the plan than it brings", part=ALL_WORK),
        FillPolicy("quartermaster_declining_moves", "the same, and one move for every 20 arrivals", part=ALL_WORK, moves=True),
    )
}
USUAL = ("best_fit", "fgd", "quartermaster", "quartermaster_moves")


@dataclass(frozen=True, slots=True)
class Fill:
    """One trace, one policy, one seed. ``first_refused``: how many came before the first was refused that the empty cluster could hold."""

    trace: str
    policy: str
    seed: int
    jobs: int
    first_refused: int
    measures: dict[str, float | None]
    cpu_s: float


@dataclass(slots=True)
class Plans:
    """The places that policies follow on one cluster for one pool of jobs; each plan is made once. ``cpu_s`` is what that took."""

    cluster: Cluster
    told: Sequence[Request]
    solver: Solver
    cpu_s: float = 0.0
    _places: dict[float | None, Places] = field(default_factory=dict)

    def places(self, policy: FillPolicy) -> Places:
        """Those that ``policy`` follows. Raises ReplayError where nothing can be planned."""
        if policy.part not in self._places:
            begun = time.process_time()
            try:
                self._places[policy.part] = planned_places(self.cluster, self.told, self.solver, policy.part)
            except ValueError as error:
                raise ReplayError(str(error)) from None
            self.cpu_s += time.process_time() - begun
        return self._places[policy.part]


def policy_called(name: str) -> FillPolicy:
    """The policy of that name. Raises ReplayError."""
    if name in POLICIES:
        return POLICIES[name]
    near = difflib.get_close_matches(name, POLICIES, n=1)
    raise ReplayError(
        f"--policies: there is no policy '{name}' with --fill"
        + (f"; did you mean '{near[0]}'?" if near else "")
        + f"; take some of {', '.join(POLICIES)}"
    )


def filled(pool: Pool, empty: Cluster, policy: FillPolicy, seed: int, plans: Plans) -> Fill:
    """One policy on the sequence of one seed. ``empty`` is left as it is; the end is checked by the placement kind's own verify.

    Raises ReplayError, and RuntimeError where seats are wrong.
    """
    arrivals, cluster = pool.arrivals(empty, seed), empty.copy()
    place, moves = _seating(policy, cluster, seed, plans)
    begun, refused = time.process_time(), []
    for number, request in enumerate(arrivals):
        if place(request) is None and fits_whole(empty, request):
            refused.append(number)
    seconds = time.process_time() - begun
    verdict = verify(*as_problem(cluster))
    if not verdict.ok:
        raise RuntimeError(f"{policy.name} on {pool.name}, seed {seed}: {verdict.violations[0].message}")
    measures: dict[str, float | None] = {
        "allocated_percent": 100 * cluster.used_milli() / cluster.total_milli(),
        "refused": float(len(refused)),
        "moves": float(moves()),
    }
    return Fill(pool.name, policy.name, seed, len(arrivals), refused[0] if refused else len(arrivals), measures, seconds)


def _seating(policy: FillPolicy, cluster: Cluster, seed: int, plans: Plans) -> tuple[Callable[[Request], Seats | None], Callable[[], int]]:
    """What seats a request or refuses it, and what tells how many moves that took."""
    if policy.make is not None:
        other = policy.make(cluster, plans.told, seed)
        return lambda request: _taken(other, cluster, request), lambda: 0
    rule = Planned(cluster, plans.places(policy), typical(plans.told), decline=policy.declines)
    if not policy.moves:
        return lambda request: _taken(rule, cluster, request), lambda: 0
    moving = Moving(rule, ARRIVALS_PER_MOVE)
    return lambda request: moving.place(cluster, request), lambda: len(moving.moves)


def _taken(rule: SeatRule, cluster: Cluster, request: Request) -> Seats | None:
    seats = rule.choose(cluster, request)
    if seats is not None:
        cluster.seat(request, seats)
    return seats
