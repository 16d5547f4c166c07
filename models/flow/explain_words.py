"""The words of conflicts and repairs: what gives way, in the problem's own numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from models.flow.network.arrays import network_of, traffic_of
from models.flow.schema import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.flow.schema import Problem

FIRM_RULES = frozenset({Rule.latency_limit.value, Rule.path_choice.value, Rule.module_limit.value, Rule.transfer_window.value})
CUT_COLUMNS: frozenset[str] = frozenset()  # no bound of a column repeats a row

_UNITS = {
    Rule.transfer_window: "Gbit",
    Rule.transfer_complete: "Gbit",
    Rule.node_storage: "Gbit",
    Rule.module_limit: "modules",
    Rule.fairness_proof: "",
}
_PLAIN = {
    Rule.link_capacity: "link '{}': {} Gbit/s of capacity are missing",
    Rule.link_lower: "link '{}': its lower bound is {} Gbit/s too high",
    Rule.flow_conservation: "node '{}': {} Gbit/s too few arrive",
    Rule.demand_served: "demand '{}': {} Gbit/s of it cannot be carried",
    Rule.demand_size: "demand '{}': {} Gbit/s more than its size",
    Rule.node_supply: "node '{}': {} Gbit/s of its supply cannot be carried",
    Rule.latency_limit: "demand '{}': {} Gbit/s of it take longer than its latency limit",
    Rule.path_choice: "demand '{}': {} Gbit/s of it need other paths",
    Rule.protection: "demand '{}': {} Gbit/s of it are not protected",
    Rule.module_limit: "link '{}': {} more modules than may be added",
    Rule.node_storage: "node '{}': {} Gbit of storage are missing",
    Rule.transfer_window: "transfer '{}': {} Gbit outside its time",
    Rule.transfer_complete: "transfer '{}': {} Gbit of it cannot be delivered in time",
}


def rule_units() -> dict[str, str]:
    """The unit in which the exact program counts each rule."""
    return {rule.value: _UNITS.get(rule, "Gbit/s") for rule in Rule}


def repair_text(rule: str, ids: Sequence[str], excess: float) -> str:
    """``link 'ams-fra': 5 Gbit/s of capacity are missing``."""
    text = _PLAIN.get(Rule(rule)) if rule in {one.value for one in Rule} else None
    if text is None or not ids:
        return f"{rule}: {rounded_up(excess)} short"
    return text.format(ids[0], rounded_up(excess))


def repair_in(problem: Problem, rule: str, ids: Sequence[str], excess: float, *, too_few: bool) -> str:
    """The same with the problem's numbers: ``link 'ams-fra': raise its capacity from 10 by 5 Gbit/s``."""
    network, traffic = network_of(problem), traffic_of(problem)
    name, amount = (ids[0] if ids else ""), rounded_up(excess)
    if name in network.link_at:
        place = network.link_at[name]
        texts = {
            Rule.link_capacity.value: f"link '{name}': raise its capacity from {network.link_capacity[place]:.12g} by {amount} Gbit/s",
            Rule.link_lower.value: f"link '{name}': lower its lower bound from {network.link_lower[place]:.12g} by {amount} Gbit/s",
            Rule.protection.value: f"link '{name}': raise its capacity from {network.link_capacity[place]:.12g} by {amount} Gbit/s"
            + (f", for when '{ids[1]}' fails" if ids[1:] else ""),
        }
        if rule in texts:
            return texts[rule]
    if name in traffic.at:
        place = traffic.at[name]
        size, limit = traffic.size[place], traffic.latency_limit[place]
        smaller = (
            f"leave it out, all {size:.12g} Gbit/s"
            if excess >= size * (1 - 1e-6)
            else f"make it smaller, from {size:.12g} by {amount} Gbit/s"
        )
        texts = {
            Rule.demand_served.value: f"demand '{name}': {smaller}",
            Rule.latency_limit.value: f"demand '{name}': let {amount} Gbit/s of it exceed its limit, {limit:.12g} ms",
            Rule.protection.value: f"demand '{name}': leave {amount} Gbit/s of it unprotected"
            + (f" in scenario '{ids[1]}'" if ids[1:] else ""),
            Rule.path_choice.value: f"demand '{name}': let {amount} Gbit/s of it use other paths",
        }
        if rule in texts:
            return texts[rule]
    if rule == Rule.node_supply and name in network.node_at:
        supply = network.supply[network.node_at[name]]
        return f"node '{name}': {'lower' if too_few else 'raise'} its supply from {supply:.12g} by {amount} Gbit/s"
    return repair_text(rule, ids, excess)


def rounded_up(amount: float) -> str:
    """An amount with six digits at most, rounded up: a repair told too small would not do."""
    if amount <= 0 or not math.isfinite(amount):
        return f"{amount:g}"
    unit = 10.0 ** (math.floor(math.log10(amount)) - 5)
    return f"{math.ceil(amount / unit - 1e-3) * unit:.12g}"
