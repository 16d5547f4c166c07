"""The sentences about a right plan of a routing: what is full, what that is worth, and who gets less than it asks for."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from models.contract import TOLERANCE, Reason
from models.flow.fairness.verify import channel_prices, distances
from models.flow.goals import goal_names, plain_name
from models.flow.network.arrays import is_supplied, network_of, traffic_of
from models.flow.network.tally import tally_of
from models.flow.paths.route_columns import columns_of
from models.flow.routing.explain_cuts import across, blocked_within, cut_of, full_channels, listed_blocked, price_bound
from models.flow.routing.explain_supplies import bottleneck, proved_cheapest
from models.flow.routing.verify import net_outflow, served
from models.flow.schema import GoalName, Objective, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.contract import Verdict
    from models.flow.routing.explain_cuts import Cut
    from models.flow.schema import FairLevel, Plan, Problem
    from models.program import Bools, Floats, Ints

MOST_REASONS = 100  # of each sort told with the whole plan, the dearest or the largest first
MOST_NAMES = 8
WORTHLESS = 1e-9  # a price below this is noise
SHARE = 0.5  # of the time, for cuts of demands

_IN_FULL = frozenset({Objective.min_cost, Objective.min_max_utilisation})


class Told:
    """What can be told about one plan that obeys every rule."""

    def __init__(self, problem: Problem, plan: Plan, verdict: Verdict, seconds: float) -> None:
        self._problem, self._plan, self._verdict = problem, plan, verdict
        self._network, self._traffic, self._tally = network_of(problem), traffic_of(problem), tally_of(problem, plan)
        self._got = served(problem, plan, self._tally)
        self._deadline = time.monotonic() + SHARE * seconds
        self._goal = goal_names(problem)[0]

    def everything(self) -> Iterator[Reason]:
        """What binds, the bottleneck, and the demands that get less than they ask for."""
        yield from self._binding()
        short = self._short()
        yield from self._bottleneck(short)
        if is_supplied(self._problem) and plain_name(self._goal) == "throughput":
            yield from self._supply_bottleneck()
        for demand in short[:MOST_REASONS].tolist():
            if time.monotonic() > self._deadline:
                break
            yield from self._why_short(demand)
        if len(short) > MOST_REASONS:
            text = f"{len(short) - MOST_REASONS:,} more demands get less than they ask for; ask for one by its id."
            yield Reason("", "summary", Rule.demand_size, (), text, "proved")

    def about(self, subject: str) -> Iterator[Reason]:
        """Everything about a link, a demand or a node; of each that has this id."""
        if subject in self._network.link_at:
            yield from self._link(self._network.link_at[subject])
        if subject in self._traffic.at:
            yield from self._demand(self._traffic.at[subject])
        if subject in self._network.node_at:
            yield self._node(self._network.node_at[subject])

    # ------------------------------------------------------------ prices

    @cached_property
    def _full(self) -> Bools:
        return full_channels(self._network, self._tally)

    @cached_property
    def _load(self) -> Floats:
        return self._tally.channel_load(self._network)

    @cached_property
    def _prices(self) -> Floats | None:
        """The price of each channel, shape (channels,); None where the plan has none."""
        return channel_prices(self._network, self._plan.prices) if self._plan.prices else None

    @cached_property
    def _worth(self) -> Floats | None:
        """What one more Gbit/s on each channel is worth at most to the first goal; None unless prices prove that goal best."""
        if self._prices is None:
            return None
        if plain_name(self._goal) == "cost" and is_supplied(self._problem):
            flow = self._tally.arc_flow
            return self._prices if proved_cheapest(self._network, flow, self._full, self._prices, self._deadline) else None
        proof = price_bound(self._problem, self._prices)
        value = self._verdict.objectives[self._goal]
        if proof is None or abs(proof[0] - value) > TOLERANCE * max(1.0, abs(value)):
            return None
        return self._prices * proof[1]

    # ------------------------------------------------------------ links

    def _binding(self) -> Iterator[Reason]:
        """Channels at their limit: full ones, or the busiest where utilisation is the goal; the dearest first."""
        if self._problem.objective is Objective.min_max_utilisation:
            capacity = self._network.channel_capacity
            counted = np.isfinite(capacity) & (capacity > 0)
            ratio = np.where(counted, self._load / np.where(counted, capacity, 1.0), 0.0)
            there = np.flatnonzero(ratio >= max(ratio.max(initial=0.0) - 10 * TOLERANCE, TOLERANCE))
        else:
            there = np.flatnonzero(self._full & (self._network.channel_capacity > 0))
        worth = np.zeros(len(self._load)) if self._prices is None else self._prices
        order = there[np.lexsort((there, -worth[there]))]
        for channel in order[:MOST_REASONS].tolist():
            yield self._at_limit(channel, "")
        if len(order) > MOST_REASONS:
            text = f"{len(order) - MOST_REASONS:,} more links are full, each worth no more; ask for one by its id."
            yield Reason("", "summary", Rule.link_capacity, (), text, "proved")

    def _at_limit(self, channel: int, subject: str) -> Reason:
        name = self._name(channel)
        load, capacity = self._load[channel], self._network.channel_capacity[channel]
        way = " on its way back" if self._network.channel_back[channel] else ""
        state = "is the busiest" if self._problem.objective is Objective.min_max_utilisation else "is full"
        text = f"Link '{name}' {state}{way}: it carries {load:.9g} of {capacity:.9g} Gbit/s."
        status: Literal["proved", "heuristic"] = "proved"
        if self._prices is not None and self._prices[channel] > WORTHLESS:
            if self._worth is not None:
                text += f" One more Gbit/s on it is worth at most {self._worth[channel]:.6g} of {self._goal}."
            else:
                status, text = "heuristic", f"{text} The search gave it the price {self._prices[channel]:.6g}."
        return Reason(subject, "binding", Rule.link_capacity, (name,), text, status)

    def _link(self, link: int) -> Iterator[Reason]:
        network, name = self._network, self._network.link_ids[link]
        for channel in np.flatnonzero(network.channel_link == link).tolist():
            capacity = network.channel_capacity[channel]
            of = f" of {capacity:.9g}" if np.isfinite(capacity) else ""
            way = " back" if network.channel_back[channel] else ""
            own = self._tally.entry_flow * (network.arc_channel[self._tally.arcs] == channel)
            by_demand = np.bincount(self._tally.route_demand[self._tally.entry_route] + 1, weights=own, minlength=self._traffic.count + 1)[
                1:
            ]
            order = np.argsort(-by_demand, kind="stable")
            most = [
                f"{by_demand[one]:.6g} of '{self._traffic.ids[one]}'" for one in order[:MOST_NAMES].tolist() if by_demand[one] > TOLERANCE
            ]
            text = f"Link '{name}' carries {self._load[channel]:.9g}{of} Gbit/s{way}" + (f": {', '.join(most)}." if most else ".")
            yield Reason(name, "summary", Rule.link_capacity, (name,), text, "proved")
            if self._full[channel] and capacity > 0:
                yield self._at_limit(channel, name)

    def _name(self, channel: int) -> str:
        link = int(self._network.channel_link[channel])
        return self._network.link_ids[link]

    def _names(self, channels: Ints) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._name(one) for one in channels.tolist()))

    # ------------------------------------------------------------ demands

    def _short(self) -> Ints:
        """Demands that get less than they ask for, the largest shortage first."""
        if self._problem.objective in _IN_FULL or not self._traffic.count:
            return np.zeros(0, dtype=np.int64)
        missing = self._traffic.size - self._got
        found = np.flatnonzero(missing > 10 * TOLERANCE * np.maximum(1.0, self._traffic.size))
        return found[np.argsort(-missing[found], kind="stable")]

    def _bottleneck(self, short: Ints) -> Iterator[Reason]:
        """The cut behind the largest shortage, when what it separates asks for more than it carries."""
        if not len(short):
            return
        cut = self._cut(int(short[0]))
        if cut is None or not len(cut.channels):
            return
        crossing, asked = across(self._problem, cut)
        if asked <= cut.capacity * (1 + TOLERANCE):
            return
        names = self._names(cut.channels)
        text = (
            f"Bottleneck: {_listed(names)} {'together carry' if len(names) > 1 else 'carries'} {cut.capacity:.9g} Gbit/s at most, and "
            f"{_counted(int(crossing.sum()))} to cross, {asked:.9g} Gbit/s in all."
        )
        yield Reason("", "binding", Rule.link_capacity, names, text, "proved")

    def _supply_bottleneck(self) -> Iterator[Reason]:
        """The cut that keeps supplies from being shipped."""
        network = self._network
        cut = bottleneck(network, self._tally.arc_flow, self._full, net_outflow(network, self._tally.arc_flow))
        if cut is None:
            return
        inside, channels = cut
        names, asked = self._names(channels), float(network.supply[inside].sum())
        if not names:
            text = f"No link leads on from the supplies that are left: {asked:.9g} Gbit/s."
        else:
            most = float(network.channel_capacity[channels].sum())
            text = (
                f"Bottleneck: {_listed(names)} {'together carry' if len(names) > 1 else 'carries'} {most:.9g} Gbit/s at most, "
                f"and the nodes before have {asked:.9g} Gbit/s to ship."
            )
        yield Reason("", "binding", Rule.link_capacity, names, text, "proved")

    def _cut(self, demand: int) -> Cut | None:
        return cut_of(self._network, self._full, int(self._traffic.source[demand]), int(self._traffic.target[demand]))

    def _demand(self, demand: int) -> Iterator[Reason]:
        traffic, tally, name = self._traffic, self._tally, self._traffic.ids[demand]
        routes = np.flatnonzero((tally.route_demand == demand) & (tally.route_gbps > TOLERANCE))
        text = f"Demand '{name}' gets {self._got[demand]:.9g} of {traffic.size[demand]:.9g} Gbit/s on {len(routes):,} routes"
        largest = routes[np.argsort(-tally.route_gbps[routes], kind="stable")][:MOST_NAMES].tolist()
        columns = columns_of(self._plan)
        told = [f"{tally.route_gbps[one]:.6g} over {' '.join(columns.hops_of(one))}" for one in largest]
        yield Reason(name, "summary", Rule.demand_size, (name,), text + (f": {'; '.join(told)}." if told else "."), "proved")
        if traffic.size[demand] - self._got[demand] > 10 * TOLERANCE * max(1.0, traffic.size[demand]):
            yield from self._why_short(demand)

    def _why_short(self, demand: int) -> Iterator[Reason]:
        """Why a demand does not get all it asks for: nothing leads there, or what leads there is full."""
        traffic, network, name = self._traffic, self._network, self._traffic.ids[demand]
        source, target = int(traffic.source[demand]), int(traffic.target[demand])
        got = f"Demand '{name}' gets {self._got[demand]:.9g} of {traffic.size[demand]:.9g} Gbit/s"
        cut = self._cut(demand)
        if cut is not None and not len(cut.channels):
            ends = network.node_ids[source], network.node_ids[target]
            text = f"{got}: no path leads from '{ends[0]}' to '{ends[1]}'."
            yield Reason(name, "why_not", Rule.flow_conservation, (name, *ends), text, "proved")
            return
        blocked, rule, where = (None, Rule.link_capacity, "every path") if cut is None else (cut.channels, Rule.link_capacity, "every path")
        if blocked is None and self._problem.paths.choice != "all":
            blocked, rule, where = listed_blocked(self._problem, demand, self._full), Rule.path_choice, "every path that it may choose"
        elif blocked is None and np.isfinite(traffic.latency_limit[demand]):
            limit = float(traffic.latency_limit[demand])
            blocked = blocked_within(network, self._full, source, target, limit)
            rule, where = Rule.latency_limit, f"every path of up to {limit:.9g} ms"
        if blocked is not None and not len(blocked):
            yield Reason(name, "why_not", rule, (name,), f"{got}: it has no path that it may use.", "proved")
        elif blocked is not None:
            names = self._names(blocked)
            text = f"{got}: {where} crosses a link that is full, {_listed(names)}."
            yield Reason(name, "why_not", rule, names, text, "proved")
        else:
            text = f"{got}: links with room lead to its target, so a better plan may give it more."
            yield Reason(name, "why_not", Rule.demand_size, (name,), text, "heuristic")
        yield from self._outbid(demand)
        yield from self._ended(demand)

    def _outbid(self, demand: int) -> Iterator[Reason]:
        """That the room on its way is worth more to others, by prices that prove the plan best."""
        if plain_name(self._goal) != "throughput" or self._worth is None:
            return
        price = float(self._distance[demand])
        value, name = float(self._traffic.value[demand]), self._traffic.ids[demand]
        if self._traffic.priority[demand] == self._traffic.classes[0] and np.isfinite(price) and price >= value - TOLERANCE:
            text = f"One more Gbit/s of '{name}' is worth {value:.6g} and would take room worth {price:.6g} or more from other traffic."
            yield Reason(name, "why_not", self._goal, (name,), text, "proved")

    @cached_property
    def _levels(self) -> dict[str, FairLevel]:
        return {name: level for level in self._plan.levels for name in level.demands}

    def _ended(self, demand: int) -> Iterator[Reason]:
        """At which level of fairness the rate of a demand ends, and the links that end it."""
        name = self._traffic.ids[demand]
        level = self._levels.get(name)
        slack = next((value for goal, value in self._verdict.objectives.items() if plain_name(goal) == GoalName.fair_slack), None)
        if level is None or slack is None:
            return
        links = tuple(dict.fromkeys(one.link for one in level.prices if one.price > WORTHLESS))
        text = f"The fair share of '{name}' ends at {level.rate:.9g} Gbit/s for each unit of weight"
        text += f", where {_listed(links)} leave{'s' if len(links) == 1 else ''} no more to those who have no more." if links else "."
        yield Reason(name, "why_not", Rule.fairness_proof, links or (name,), text, "proved" if slack <= 10 * TOLERANCE else "heuristic")

    @cached_property
    def _distance(self) -> Floats:
        prices = self._prices if self._prices is not None else np.zeros(len(self._load))
        return distances(self._problem, prices[self._network.arc_channel])

    # ------------------------------------------------------------ nodes

    def _node(self, node: int) -> Reason:
        network, flow = self._network, self._tally.arc_flow
        name, supply = network.node_ids[node], float(network.supply[node])
        out, into = float(flow[network.arc_tail == node].sum()), float(flow[network.arc_head == node].sum())
        text = f"Node '{name}' sends {out:.9g} and receives {into:.9g} Gbit/s over its links."
        if supply:
            text += f" It has a supply of {supply:.9g}, of which {net_outflow(network, flow)[node]:.9g} is shipped."
        elif self._traffic.count:
            starts, ends = (self._got[at == node].sum() for at in (self._traffic.source, self._traffic.target))
            text += f" {starts:.9g} Gbit/s of demands start here and {ends:.9g} end here."
        return Reason(name, "summary", Rule.node_supply if supply else Rule.flow_conservation, (name,), text, "proved")


def _counted(demands: int) -> str:
    return "one demand has" if demands == 1 else f"{demands:,} demands have"


def _listed(names: Sequence[str]) -> str:
    """``'a', 'b' and 3 more``."""
    told = ", ".join(f"'{name}'" for name in names[:MOST_NAMES])
    return told if len(names) <= MOST_NAMES else f"{told} and {len(names) - MOST_NAMES:,} more"
