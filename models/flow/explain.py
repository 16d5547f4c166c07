"""Why a plan of a flow is as it is: full links and what they are worth, and why a demand gets no more.

A link is full by its load; that every path of a demand crosses a full one is proved by a cut (see ``routing.explain_cuts``); the worth of a
link is proved when the prices of the plan, by weak duality, give a bound that the plan attains. All else is told as heuristic. Designs
and transfers have words of their own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from models.contract import Reason
from models.flow.explain_words import CUT_COLUMNS, FIRM_RULES, repair_in, repair_text, rule_units
from models.flow.failures.explain import failure_reasons
from models.flow.goals import goal_names
from models.flow.network.arrays import network_of, traffic_of
from models.flow.routing.explain import Told
from models.flow.verify import verify

if TYPE_CHECKING:
    from models.contract import Verdict
    from models.flow.schema import Plan, Problem

__all__ = ["CUT_COLUMNS", "FIRM_RULES", "alike", "explain", "repair_in", "repair_text", "rule_units", "subjects"]

MOST_ALIKE = 20_000  # demands up to which they are grouped


def explain(problem: Problem, plan: Plan, subject: str | None = None, seconds: float = math.inf) -> tuple[Reason, ...]:
    """The reasons for a plan, or all that can be told about one ``subject``: a link, a demand, a transfer or a node by its id.

    Raises KeyError for an id that none of them has.
    """
    if subject is not None and not _known(problem, subject):
        raise KeyError(f"'{subject}' is no link, demand, transfer or node of this problem")
    verdict = verify(problem, plan)
    if not verdict.ok:
        first = verdict.violations[0]
        text = f"The plan breaks rules ({verdict.violation_count:,} times), first of all: {first.message}. It is not explained further."
        return (Reason(subject or "", "summary", str(first.rule), first.ids, text, "proved"),)
    if problem.use == "design":
        from models.flow.design.explain import explain_design

        return explain_design(problem, plan, verdict, subject, seconds)
    if problem.use == "transfer":
        from models.flow.transfers.explain import explain_transfers

        return explain_transfers(problem, plan, verdict, subject)
    told = Told(problem, plan, verdict, seconds)
    if subject is None:
        return (summary(problem, verdict), *told.everything(), *failure_reasons(problem, plan))
    return (*told.about(subject), *failure_reasons(problem, plan, subject))


def subjects(problem: Problem, plan: Plan) -> tuple[str, ...]:
    """The ids one may ask about: links, demands, transfers, nodes."""
    del plan
    network = network_of(problem)
    transfers = tuple(one.id for one in problem.transfers)
    return tuple(dict.fromkeys((*network.link_ids, *traffic_of(problem).ids, *transfers, *network.node_ids)))


def alike(problem: Problem, plan: Plan) -> tuple[tuple[str, ...], ...]:
    """Demands that get less than they ask for and join the same two nodes under the same latency limit, in groups."""
    from models.flow.network.tally import tally_of
    from models.flow.routing.verify import served

    traffic = traffic_of(problem)
    if problem.use != "route" or not 0 < traffic.count <= MOST_ALIKE:
        return ()
    short = traffic.size - served(problem, plan, tally_of(problem, plan)) > 1e-6 * traffic.size
    groups: dict[tuple[int, int, float], list[str]] = {}
    for place in short.nonzero()[0].tolist():
        key = (int(traffic.source[place]), int(traffic.target[place]), float(traffic.latency_limit[place]))
        groups.setdefault(key, []).append(traffic.ids[place])
    return tuple(tuple(group) for group in groups.values())


def summary(problem: Problem, verdict: Verdict) -> Reason:
    """The goals' values in one sentence."""
    name = goal_names(problem)[0]
    values = ", ".join(f"{goal} {value:.9g}" for goal, value in verdict.objectives.items())
    text = f"The plan attains {values}."
    if problem.use == "route":
        carried = verdict.metrics["throughput"]
        text += f" It carries {carried:.9g} Gbit/s, and its busiest link is used to {100 * verdict.metrics['max_utilisation']:.4g}%."
    return Reason("", "summary", name, (), text, "proved")


def _known(problem: Problem, subject: str) -> bool:
    network = network_of(problem)
    tables = (network.link_at, traffic_of(problem).at, network.node_at)
    return any(subject in one for one in tables) or any(one.id == subject for one in problem.transfers)
