"""A whole comparison: from what was asked to every replay, their comparison, and notes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.placement.online.state import MILLI, Cluster
from service.replay import outages
from service.replay.cluster_file import read_cluster
from service.replay.comparison import Compared, compared
from service.replay.files import as_object
from service.replay.jobs import ReplayError
from service.replay.policies import policy_called
from service.replay.replays import Replay, replays
from service.replay.traces import Reading, read_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.replay.draws import Wish


@dataclass(frozen=True, slots=True)
class Asked:
    """Files and names as they were given; ``seeds`` is how many cases are drawn, from seed 0 on."""

    traces: tuple[str, ...]
    form: str
    nodes: str
    every_node: int = 1
    policies: tuple[str, ...] = ("fifo", "quartermaster")
    seeds: int = 10
    throughputs: str | None = None
    skip_unknown: bool = False
    skip_never_fits: bool = False
    outages: str | None = None


@dataclass(frozen=True, slots=True)
class Filling:
    """What a fill needs beside what every replay is asked: orders of seed 0 (one for each trace, or none), held-out jobs, bounds."""

    orders: tuple[str, ...] = ()
    held_out: bool = False
    bounds: bool = False


@dataclass(frozen=True, slots=True)
class Whole:
    """All that a report tells."""

    settings: dict[str, Any]
    replays: tuple[Replay, ...]
    compared: tuple[Compared, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON without the series over time."""
        return as_object(self.settings, self.replays, self.compared, self.notes)


def compare(asked: Asked, wish: Wish, tell: Callable[[Replay], None] | None = None) -> Whole:
    """Replay every trace under every policy and seed. ``tell`` is called after each replay. Raises ReplayError."""
    policies = [policy_called(name.strip()) for name in asked.policies]
    distinct("policy", [policy.name for policy in policies])
    distinct("trace", asked.traces)
    cluster = cluster_of(asked)
    if asked.outages is not None:
        wish = replace(wish, outages=outages.given(Path(asked.outages), cluster.index))
    reading = Reading(cluster, None if asked.throughputs is None else Path(asked.throughputs), asked.skip_unknown)
    traces = [read_trace(asked.form, path, reading, skip_never_fits=asked.skip_never_fits) for path in asked.traces]
    notes = [f"{trace.name}: {note}" for trace in traces for note in trace.notes]
    random = wish.random or any(policy.rule == "random" for policy in policies)
    if asked.seeds > 1 and not random:
        notes.append("nothing is drawn: jobs, arrivals and estimates are those of the trace, so one replay tells all and has no interval")
    found: list[Replay] = []
    for trace in traces:
        for one in replays(trace, cluster, policies, wish, range(asked.seeds if random else 1)):
            found.append(one)
            if tell is not None:
                tell(one)
    notes += _of_plans(found)
    told = asdict(asked) | {"cluster_nodes": len(cluster.nodes), "cluster_gpus": cluster.total_milli() // MILLI, **wish.as_json()}
    meanings = {policy.name: f"{policy.meaning} ({policy.discipline}, {policy.rule})" for policy in policies}
    return Whole(told | {"policy_meanings": meanings}, tuple(found), compared(found), tuple(notes))


def distinct(what: str, names: Sequence[str]) -> None:
    """Raises ReplayError where a trace or a policy is named twice."""
    if len(set(names)) < len(names):
        raise ReplayError(f"the command names a {what} twice; name each once")


def cluster_of(asked: Asked) -> Cluster:
    """The empty cluster that is asked for. Raises ReplayError."""
    cluster = read_cluster(asked.nodes)
    return Cluster(cluster.nodes[:: asked.every_node]) if asked.every_node > 1 else cluster


def _of_plans(found: list[Replay]) -> list[str]:
    """What the solver did, for each policy that plans."""
    notes = []
    for policy in dict.fromkeys(one.policy for one in found if one.planning):
        own = [one.planning for one in found if one.policy == policy]
        plans, stopped = (int(sum(one[name] for one in own)) for name in ("plans", "stopped_by_time"))
        spent = sum(one["solver_cpu_s"] for one in own)
        note = f"{policy}: {plans:,} plans took {spent / max(plans, 1):.2f} CPU seconds each, while the simulated clock stood still"
        notes.append(note + (f"; {stopped:,} were stopped by their time limit and may differ elsewhere" if stopped else ""))
    return notes
