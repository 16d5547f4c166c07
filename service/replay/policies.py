"""The policies: a queue discipline and a seat rule each, by name. ``DISCIPLINE+RULE`` names any other pair.

A new policy is a line of ``POLICIES``, a new rule a line of ``RULES``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.placement.online import rules
from models.placement.online.fgd import Fgd, typical
from service.replay.jobs import ReplayError
from service.replay.planning import Cadence
from service.replay.queues import DISCIPLINES

if TYPE_CHECKING:
    from models.placement.online.rules import SeatRule
    from models.placement.online.state import Cluster, Request

MakeRule = Callable[["Cluster", "Sequence[Request]", int], "SeatRule"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Who is tried (a name in ``DISCIPLINES``), where (a name in ``RULES``), who moves, and plans made on the way.

    ``arrivals_per_move``: one move for so many arrivals; ``cadence``: plans of the placement solver. None: none.
    """

    name: str
    discipline: str
    rule: str
    meaning: str
    arrivals_per_move: int | None = None
    cadence: Cadence | None = None


RULES: dict[str, MakeRule] = {
    "first_fit": lambda _cluster, _requests, _seed: rules.FirstFit(),
    "best_fit": lambda _cluster, _requests, _seed: rules.BestFit(),
    "dot_product": lambda _cluster, _requests, _seed: rules.DotProduct(),
    "packing": lambda _cluster, _requests, _seed: rules.Packing(),
    "random": lambda _cluster, _requests, seed: rules.RandomFit(seed),
    "fgd": lambda cluster, requests, _seed: Fgd(cluster, typical(requests)),
}
POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("fifo", "fifo", "first_fit", "first in, first out: nobody passes the job at the head"),
        Policy("best_fit", "greedy", "best_fit", "any job that fits, in order of arrival; the fullest node that fits"),
        Policy("fgd", "greedy", "fgd", "any job that fits; where the expected fragmentation grows least"),
        Policy("backfill", "easy", "best_fit", "EASY backfilling: a job passes the head where it does not delay it"),
        Policy(
            "quartermaster",
            "patient_smallest",
            "fgd",
            "ours: the smallest jobs first, and a reservation for the oldest once it has waited as long as it should run",
        ),
        Policy(
            "quartermaster_moves",
            "patient_smallest",
            "fgd",
            "ours, and a running job may move for the oldest: one move for 20 arrivals",
            arrivals_per_move=20,
        ),
        Policy(
            "quartermaster_plans",
            "patient_smallest",
            "fgd",
            "ours, and every half hour the placement solver plans who starts and who moves for it, 5 moves at most",
            cadence=Cadence(),
        ),
    )
}


def policy_called(name: str) -> Policy:
    """The policy of that name, or of a discipline and a rule joined by ``+``. Raises ReplayError."""
    if name in POLICIES:
        return POLICIES[name]
    discipline, joined, rule = name.partition("+")
    if joined and discipline in DISCIPLINES and rule in RULES:
        return Policy(name, discipline, rule, f"discipline {discipline}, rule {rule}")
    near = difflib.get_close_matches(name, POLICIES, n=1)
    raise ReplayError(
        f"--policies: there is no policy '{name}'"
        + (f"; did you mean '{near[0]}'?" if near else "")
        + f"; take some of {', '.join(POLICIES)}, or DISCIPLINE+RULE of {', '.join(DISCIPLINES)} and {', '.join(RULES)}"
    )
