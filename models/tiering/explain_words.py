"""The words of explanations and repairs of a tiering: amounts, units, and what a limit that gives way is called."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from models.tiering.schema import GoalName, Rule
from models.tiering.store import store_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.tiering.schema import Problem

MOST_NAMES = 6

_UNITS: dict[Rule, str] = {
    Rule.replica_count: "copies",
    Rule.failure_domain: "domains",
    Rule.residency: "copies",
    Rule.protection: "copies",
    Rule.latency_limit: "copies",
    Rule.minimum_stay: "copies",
    Rule.compression: "copies",
    Rule.tier_capacity: "GiB",
    Rule.read_bandwidth: "Gbit/s",
    Rule.write_bandwidth: "Gbit/s",
    Rule.site_bandwidth: "Gbit/s",
    Rule.reader_served: "of its reads",
    Rule.migration_volume: "GiB",
    Rule.migration_budget: "USD",
    Rule.cost_budget: "USD",
}
_LIMITS = {Rule.tier_capacity: "capacity", Rule.read_bandwidth: "read bandwidth", Rule.write_bandwidth: "write bandwidth"}
_WHOLE = {
    Rule.migration_volume: "the migration's GiB",
    Rule.migration_budget: "the migration's budget",
    Rule.cost_budget: "the budget of the period",
}
_GOALS = {GoalName.cost: ("cost", "USD"), GoalName.access_time: ("access time", "s/s"), GoalName.moved_gib: ("amount moved", "GiB")}

# A repair buys room before it asks for less safety, or for data to go where it must not.
FIRM_RULES = frozenset(
    rule.value
    for rule in (
        Rule.replica_count,
        Rule.failure_domain,
        Rule.residency,
        Rule.protection,
        Rule.latency_limit,
        Rule.minimum_stay,
        Rule.compression,
        Rule.reader_served,
    )
)
CUT_COLUMNS: frozenset[str] = frozenset()  # no bound of a column repeats a row: a second copy of an object on one tier makes no sense


def rule_units() -> dict[str, str]:
    """The unit in which each rule's excess is told."""
    return {rule.value: unit for rule, unit in _UNITS.items()}


def repair_text(rule: str, ids: Sequence[str], excess: float) -> str:
    """``raise the capacity of tier 'nvme' by 120 GiB``."""
    known = Rule(rule)
    if known in _LIMITS:
        return f"raise the {_LIMITS[known]} of tier '{ids[0]}' by {at_least(excess)} {_UNITS[known]}"
    if known in _WHOLE:
        return f"raise {_WHOLE[known]} by {at_least(excess)} {_UNITS[known]}"
    if known is Rule.site_bandwidth:
        return f"raise the bandwidth of the site link from '{ids[0]}' to '{ids[1]}' by {at_least(excess)} Gbit/s"
    if known is Rule.reader_served:
        by_reader = f"let reader '{ids[0]}' do without object '{ids[-1]}', or add a site link for it"
        return by_reader if len(ids) > 1 else f"leave the own reads of object '{ids[0]}' out"
    if known is Rule.latency_limit and len(ids) > 2:  # noqa: PLR2004 (reader, object, tier, form)
        return f"let object '{ids[1]}' answer reader '{ids[0]}' from tier '{ids[2]}' in spite of its latency limit"
    where = f"object '{ids[0]}'" + (f" on tier '{ids[1]}'" if len(ids) > 1 else "")
    said = {
        Rule.replica_count: f"{where}: ask for {many(excess, 'copy')} fewer, or leave it out",
        Rule.failure_domain: f"{where}: ask for {at_least(excess)} failure domains fewer",
        Rule.residency: f"allow {where} in spite of its regions",
        Rule.protection: f"allow {where} in spite of its protections",
        Rule.latency_limit: f"allow {where} in spite of its latency limit",
        Rule.minimum_stay: f"let {where} leave before its minimum stay",
        Rule.compression: f"give {where} a compressed_share",
    }
    return said[known]


def repair_in(problem: Problem, rule: str, ids: Sequence[str], excess: float, *, too_few: bool) -> str:
    """The same with the problem's own numbers: ``raise the capacity of tier 'nvme' from 100 by 120 GiB``."""
    known = Rule(rule)
    if known is Rule.replica_count:
        replicas = dict(zip(store_of(problem).objects.ids, store_of(problem).objects.replicas.tolist(), strict=True))[ids[0]]
        if not too_few:
            return f"object '{ids[0]}': raise copies_max by {at_least(excess)}, or let a copy leave early"
        fewer = f"object '{ids[0]}': ask for {many(excess, 'replica')} fewer"
        return fewer if excess < replicas else f"leave object '{ids[0]}' out, or let another of these rules give way"
    limits = {
        Rule.migration_volume: problem.migration.gib,
        Rule.migration_budget: problem.migration.usd,
        Rule.cost_budget: problem.budget_usd,
    }
    now = limits.get(known)
    if known in _LIMITS:
        tier = next(tier for tier in problem.tiers if tier.id == ids[0])
        now = {
            Rule.tier_capacity: tier.capacity_gib,
            Rule.read_bandwidth: tier.read_gbps,
            Rule.write_bandwidth: tier.write_gbps,
        }[known]
    elif known is Rule.site_bandwidth:
        now = next(link.gbps for link in problem.site_links if (link.source, link.target) == tuple(ids))
    text = repair_text(rule, ids, excess)
    return text if now is None else text.replace(" by ", f" from {amount(now)} by ", 1)


def amount(value: float) -> str:
    """A quantity: ``1,213``, ``0.5``; never more digits than matter."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.6g}"


def at_least(value: float) -> str:
    """As ``amount``, rounded up at the third decimal: what is told to be enough must be enough."""
    return amount(math.ceil(value * 1000 - 0.01) / 1000)


def many(count: float, noun: str) -> str:
    """``1 object``, ``12 objects``."""
    plural = "copies" if noun == "copy" else f"{noun}s"
    return f"{amount(count)} {noun if count == 1 else plural}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``; of many only the first few."""
    if len(names) > MOST_NAMES:
        return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES:,} more"
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def goal_text(goal: GoalName, value: float) -> str:
    """``cost 12.5 USD``."""
    name, unit = _GOALS[goal]
    return f"{name} {amount(value)} {unit}"


def change_text(goal: GoalName, change: float) -> str:
    """``12.5 USD less cost``."""
    name, unit = _GOALS[goal]
    return f"{amount(abs(change))} {unit} {'less' if change < 0 else 'more'} {name}"


def shadow_price_text(rule: Rule, tier: str, price: float, goal: GoalName, months: float) -> str:
    """``the shadow price of 'nvme' is 0.031 USD/GiB-month``; of other goals and limits, for the whole period."""
    unit, worth = _UNITS[rule], _GOALS[goal][1]
    if goal is GoalName.cost and rule is Rule.tier_capacity:
        return f"the shadow price of '{tier}' is {amount(price / months)} USD/GiB-month"
    what = "" if rule is Rule.tier_capacity else f" the {_LIMITS[rule]} of"
    return f"the shadow price of{what} '{tier}' is {amount(price)} {worth} for one more {unit}"


def price_text(rule: Rule, price: float, goal: GoalName, months: float) -> str:
    """``One more GiB for the period is worth 0.031 USD, that is 0.031 USD per GiB and month``."""
    unit = _UNITS[rule]
    text = f"one more {unit} for the period is worth {amount(price)} {_GOALS[goal][1]}"
    if goal is GoalName.cost and rule is Rule.tier_capacity:
        text += f" ({amount(price / months)} USD per GiB and month)"
    return text
