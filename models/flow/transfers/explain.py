"""Why transfers go as they do: when each is sent, what it costs beside the cheapest way, which links and nodes are full.

What a plan does is counted, and so is what a transfer would cost with the network to itself: both are proved. Why one with a value is
not delivered in full is proved only where no way leads to a target in time.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Reason
from models.flow.schema import GoalName, Rule
from models.flow.transfers.expansion import expansion_of
from models.flow.transfers.first import alone, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.contract import Verdict
    from models.flow.schema import Plan, Problem
    from models.flow.transfers.expansion import Expansion
    from models.flow.transfers.first import Part

MOST_REASONS = 100  # of links and nodes that are full, in what is told of the whole plan


def explain_transfers(problem: Problem, plan: Plan, verdict: Verdict, subject: str | None) -> tuple[Reason, ...]:
    """The reasons for a right plan, or those about one transfer, link or node."""
    told = _Told(problem, plan)
    full = (*told.full_links(), *told.full_nodes())
    if subject is None:
        return (_summary(verdict, told.expansion), *told.transfers(), *full[:MOST_REASONS])
    about = [one for one in (*told.transfers(), *full) if subject in one.ids]
    if not about and subject in told.expansion.network.link_at:
        about = [told.unfilled(subject)]
    return tuple(Reason(subject, one.code, one.rule, one.ids, one.text, one.status) for one in about)


def _summary(verdict: Verdict, expansion: Expansion) -> Reason:
    figures = verdict.metrics
    text = f"{figures['delivered']:.0f} of {figures['transfers']:.0f} transfers are delivered in full"
    text += f", {figures['gbit_delivered']:.9g} Gbit in all, for {verdict.objectives[GoalName.transfer_cost.value]:.9g} USD."
    if not expansion.required.all():
        text += f" What is delivered is worth {verdict.objectives[GoalName.transfer_value.value]:.9g}."
    return Reason("", "summary", GoalName.transfer_cost.value, (), text, "proved")


class _Told:
    """The sentences about one right plan."""

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self.expansion = expansion_of(problem)
        self._parts: defaultdict[int, list[Part]] = defaultdict(list)
        expansion, network = self.expansion, self.expansion.network
        self._load = np.zeros((expansion.steps, len(expansion.channel_gbit)))
        self._kept = np.zeros((expansion.steps, network.nodes))
        for part in parts_of(expansion, plan):
            self._parts[part.transfer].append(part)
            for arc, step in part.legs:
                self._load[step, network.arc_channel[arc]] += part.gbit
            for node, step in expansion.waits(part.transfer, part.legs):
                self._kept[step, node] += part.gbit

    # ------------------------------------------------------------ transfers

    def transfers(self) -> Iterator[Reason]:
        """What becomes of each transfer."""
        expansion = self.expansion
        for way in alone(expansion):
            place = way.transfer
            name, size = expansion.ids[place], expansion.size[place]
            gbit = sum(part.gbit for part in self._parts[place])
            if gbit > 0.0:
                yield Reason("", "summary", Rule.transfer_window.value, (name,), self._sent(place, gbit, way.least), "proved")
            if gbit < size * (1.0 - TOLERANCE):
                yield self._short(name, place, gbit, reachable=np.isfinite(way.least))

    def _sent(self, place: int, gbit: float, least: float) -> str:
        expansion, parts = self.expansion, self._parts[place]
        steps = [step for part in parts for _, step in part.legs]
        cost = sum(part.gbit * expansion.cost(part.legs) for part in parts)
        text = f"Transfer '{expansion.ids[place]}': {gbit:.9g} of {expansion.size[place]:.9g} Gbit go in steps {min(steps)} to {max(steps)}"
        text += f" of {expansion.release[place]} to {expansion.deadline[place] - 1}, for {cost:.9g} USD"
        saved = cost - least * gbit  # ``least`` bounds the price of ways to many targets
        if saved <= TOLERANCE * max(1.0, cost):
            return f"{text}: no way is cheaper, even with the network to itself."
        return f"{text}: at most {saved:.6g} USD more than with the network to itself."

    def _short(self, name: str, place: int, gbit: float, *, reachable: bool) -> Reason:
        targets = ", ".join(f"'{self.expansion.network.node_ids[node]}'" for node in self.expansion.targets[place].tolist())
        if not reachable:
            text = f"Transfer '{name}' is not delivered: no way leads to {targets} within its steps."
            return Reason("", "why_not", Rule.transfer_window.value, (name,), text, "proved")
        missing = self.expansion.size[place] - gbit
        text = f"{missing:.9g} Gbit of '{name}' are not delivered to {targets}: what its ways need is used for more value."
        return Reason("", "why_not", GoalName.transfer_value.value, (name,), text, "heuristic")

    # ------------------------------------------------------------ what is full

    def full_links(self) -> Iterator[Reason]:
        """Links that are full in some step, those that are it most often first."""
        expansion, network = self.expansion, self.expansion.network
        limit = expansion.channel_gbit
        full = (limit > 0.0) & np.isfinite(limit) & (self._load >= limit * (1.0 - 10 * TOLERANCE))
        for channel in np.argsort(-full.sum(axis=0), kind="stable").tolist():
            steps = np.flatnonzero(full[:, channel])
            if not len(steps):
                return
            name = network.link_ids[network.channel_link[channel]]
            way = " on the way back" if network.channel_back[channel] else ""
            text = f"Link '{name}' is full{way} in {_steps(steps.tolist(), expansion.steps)}: it carries {limit[channel]:.9g} Gbit then."
            yield Reason("", "binding", Rule.link_capacity.value, (name,), text, "proved")

    def full_nodes(self) -> Iterator[Reason]:
        """Nodes where no more may wait in some step."""
        expansion, limit = self.expansion, self.expansion.storage
        full = (limit > 0.0) & np.isfinite(limit) & (self._kept >= limit * (1.0 - 10 * TOLERANCE))
        for node in np.flatnonzero(full.any(axis=0)).tolist():
            name = expansion.network.node_ids[node]
            steps = _steps(np.flatnonzero(full[:, node]).tolist(), expansion.steps)
            text = f"The storage of '{name}', {limit[node]:.9g} Gbit, is full in {steps}."
            yield Reason("", "binding", Rule.node_storage.value, (name,), text, "proved")

    def unfilled(self, link: str) -> Reason:
        """What a link carries that is never full."""
        network = self.expansion.network
        most = float(self._load[:, network.channel_link == network.link_at[link]].max(initial=0.0))
        text = f"Link '{link}' carries {most:.9g} Gbit in a step at most, and is never full."
        return Reason("", "summary", Rule.link_capacity.value, (link,), text, "proved")


def _steps(steps: list[int], count: int) -> str:
    """``3 of 12 steps, 4 to 6``; runs are told up to a few."""
    runs: list[list[int]] = []
    for step in steps:
        if runs and step == runs[-1][-1] + 1:
            runs[-1][1:] = [step]
        else:
            runs.append([step])
    most = 4
    told = ", ".join(" to ".join(map(str, run)) for run in runs[:most]) + (", ..." if len(runs) > most else "")
    return f"{len(steps)} of {count} steps, {told}"
