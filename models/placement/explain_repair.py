"""The cheapest repair of a placement problem without a plan, in the user's words; see ``optimizer.diagnose``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.placement.explain_words import at_least, listed, rule_units
from models.placement.schema import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

# A conflict may name these rules, but nobody is helped by a repair that gives them up.
FIRM_RULES = frozenset({Rule.must_place.value, Rule.gang.value})
# The formulation's columns whose upper bounds only repeat what rows say: as rows they have a name.
CUT_COLUMNS = frozenset({"place", "place_share"})

# {0}, {1}, {2}: the ids of the formulation's row; {more}: how far it is exceeded, with the unit.
_TEXTS: dict[Rule, str] = {
    Rule.node_cpu: "node {0}: {more} short",
    Rule.node_memory: "node {0}: {more} of memory short",
    Rule.node_gpus: "node {0}: {more} short",
    Rule.gpu_share: "GPU {1} of node {0}: {more} short",
    Rule.gpu_memory: "GPU {1} of node {0}: {more} of memory short",
    Rule.gang: "job {0}: it would have to do without {more}",
    Rule.accepted_model: "job {0}: {more} would have to go where the GPU model is not accepted",
    Rule.node_selector: "job {0}: {more} would have to go where the labels differ from those it selects",
    Rule.drained: "job {0}: {more} would have to go to drained or cordoned nodes",
    Rule.reserved: "job {0}: {more} would have to go to nodes reserved for another tenant",
    Rule.tenant_quota: "quota of tenant {0}: {more} short",
    Rule.colocation: "job {0}: {more} would have to be apart from the others",
    Rule.spread: "job {0}: {more} more than its spread allows in one domain",
    Rule.anti_affinity: "jobs {0} and {1} would have to share {2}",
    Rule.running_stays: "running job {0} would have to give way",
    Rule.evictable: "job {0} would have to be evicted, which it must not be",
    Rule.move_budget: "move budget: {more} short",
    Rule.eviction_budget: "eviction budget: {more} short",
    Rule.power_cap: "power cap: {more} short",
    Rule.must_place: "job {0} would have to wait",
}
# A running job that breaks one of these where it is has a row of its own, which counts the job and not its workers.
_AS_IT_RUNS: dict[Rule, str] = {
    Rule.accepted_model: "running job {0} would have to leave node {1}, whose GPU model it does not accept, or to be allowed there",
    Rule.node_selector: "running job {0} would have to leave node {1}, whose labels differ from those it selects, or to be allowed there",
    Rule.drained: "running job {0} would have to leave node {1}, or the node to be taken back into service",
}


def repair_text(rule: str, ids: Sequence[str], excess: float) -> str:
    """One part of the cheapest repair, for example ``node n3: 2 GPUs short``.

    ``ids`` are those of the formulation's row, ``excess`` is how far the row is exceeded, in the unit of ``rule_units``.
    """
    more = f"{at_least(excess)} {rule_units().get(rule, '')}".rstrip()
    if rule not in set(Rule):
        return f"{rule} {listed(tuple(ids))}: {more}"
    named = Rule(rule)
    text = _AS_IT_RUNS.get(named, _TEXTS[named]) if len(ids) > 1 else _TEXTS[named]
    names = (*ids, "", "", "") if len(ids) != 2 else (*ids, "the same domain")  # noqa: PLR2004 - two jobs, in whatever domain
    return text.format(*names, more=more)
