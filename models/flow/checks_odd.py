"""What is legal in a flow problem but probably not meant: told as warnings, never as errors."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Warned
from models.flow.checks import MAX_WARNINGS, column, pointer
from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.sums import sums
from models.flow.paths.shortest import distances_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.flow.network.arrays import Network, Traffic
    from models.flow.schema import Problem
    from models.program import Bools, Floats, Ints

MOST_WORK = 4_000_000  # arcs looked at for each of the two searches: about two seconds; what is beyond is not warned of


def odd(problem: Problem) -> Iterator[Warned]:
    """Everything odd, in the order of the document's parts."""
    return chain(
        _idle_nodes(problem),
        _closed_links(problem),
        _cut_off(problem),
        _too_large(problem),
        _too_far(problem),
        _unlisted(problem),
        _tiny(problem),
    )


def _idle_nodes(problem: Problem) -> Iterator[Warned]:
    network = network_of(problem)
    used = np.zeros(network.nodes, dtype=np.bool_)
    used[network.link_tail] = used[network.link_head] = True
    for place in _first(~used):
        detail = f"no link joins node '{network.node_ids[place]}'; add links, or leave the node out"
        yield Warned(pointer(problem, "nodes", place, "id"), "unused_node", detail)


def _closed_links(problem: Problem) -> Iterator[Warned]:
    network = network_of(problem)
    if problem.use == "design":
        extendable = np.array([bool(link.modules) for link in problem.links] or np.zeros(network.links), dtype=np.bool_)
    else:
        extendable = np.zeros(network.links, dtype=np.bool_)
    for place in _first((network.link_capacity == 0) & ~extendable):
        detail = f"link '{network.link_ids[place]}' has no capacity and carries nothing; give it some, or leave it out"
        yield Warned(pointer(problem, "links", place, "capacity_gbps"), "zero_capacity", detail)


def _cut_off(problem: Problem) -> Iterator[Warned]:
    """Demands without any path, whatever the capacities; a search for each source."""
    network, traffic = network_of(problem), traffic_of(problem)
    starts, arcs = network.out_arcs
    heads = network.arc_head[arcs]
    sources = np.unique(traffic.source)
    for source in sources[: MOST_WORK // max(1, network.arcs)].tolist():
        reached = _reached(source, starts, heads)
        here = np.flatnonzero(traffic.source == source)
        for place in here[~reached[traffic.target[here]]][:MAX_WARNINGS].tolist():
            ends = (network.node_ids[source], network.node_ids[traffic.target[place]])
            detail = (
                f"no path leads from '{ends[0]}' to '{ends[1]}', so demand '{traffic.ids[place]}' gets nothing; add a link or leave it out"
            )
            yield Warned(pointer(problem, "demands", place, "target"), "no_path", detail)


def _reached(source: int, starts: Ints, heads: Ints) -> Bools:
    """Which nodes a walk from ``source`` reaches, shape (nodes,)."""
    reached = np.zeros(len(starts) - 1, dtype=np.bool_)
    reached[source] = True
    edge = np.array([source])
    while len(edge):
        counts = starts[edge + 1] - starts[edge]
        offsets = np.repeat(starts[edge] - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
        found = np.unique(heads[offsets + np.arange(counts.sum())])
        edge = found[~reached[found]]
        reached[edge] = True
    return reached


def _too_large(problem: Problem) -> Iterator[Warned]:
    """Demands larger than all capacity at one of their ends."""
    network, traffic = network_of(problem), traffic_of(problem)
    if problem.use != "route" or problem.objective == "min_max_utilisation":
        return
    leaving, entering = end_capacity(network)
    for ends, most, said in ((traffic.source, leaving, "leave its source"), (traffic.target, entering, "enter its target")):
        excess = traffic.size - most[ends]
        for place in _first((excess > TOLERANCE * np.maximum(1.0, traffic.size)) & (most[ends] > 0)):
            detail = (
                f"demand '{traffic.ids[place]}' asks for {traffic.size[place]:.12g} Gbit/s and the links that {said} have "
                f"{most[ends[place]]:.12g}: {excess[place]:.12g} cannot be carried; make it smaller or add capacity"
            )
            yield Warned(pointer(problem, "demands", place, "size_gbps"), "larger_than_cut", detail)


def end_capacity(network: Network) -> tuple[Floats, Floats]:
    """Gbit/s that can leave and enter each node, each shape (nodes,); a capacity that both ways share counts for each."""
    capacity = network.channel_capacity[network.arc_channel]
    leaving = sums(network.arc_tail, capacity, network.nodes)
    entering = sums(network.arc_head, capacity, network.nodes)
    return leaving, entering


def _too_far(problem: Problem) -> Iterator[Warned]:
    """Demands whose latency limit is below that of the quickest path; a search for each source of limited demands."""
    network, traffic = network_of(problem), traffic_of(problem)
    limited = np.flatnonzero(np.isfinite(traffic.latency_limit))
    for source in np.unique(traffic.source[limited])[: MOST_WORK // max(1, 4 * network.arcs)].tolist():
        latency = distances_from(network, network.arc_latency, source)
        for place in limited[traffic.source[limited] == source].tolist():
            yield from _beyond(problem, traffic, place, float(latency[traffic.target[place]]))


def _beyond(problem: Problem, traffic: Traffic, place: int, quickest: float) -> Iterator[Warned]:
    limit = float(traffic.latency_limit[place])
    if np.isfinite(quickest) and quickest > limit + TOLERANCE * max(1.0, limit):
        detail = (
            f"demand '{traffic.ids[place]}' allows {limit:.12g} ms and its quickest path takes {quickest:.12g} ms, so it gets nothing; "
            "allow more or add a quicker link"
        )
        yield Warned(pointer(problem, "demands", place, "latency_limit_ms"), "limit_below_quickest", detail)


def _unlisted(problem: Problem) -> Iterator[Warned]:
    if problem.paths.choice != "listed":
        return
    listed = {one.demand for one in problem.paths.listed}
    names = column(problem, "demands", "id")
    for place in _first(np.array([name not in listed for name in names], dtype=np.bool_)):
        detail = f"no path is listed for demand '{names[place]}', so it gets nothing; list one"
        yield Warned(pointer(problem, "demands", place, "id"), "no_path_listed", detail)


def _tiny(problem: Problem) -> Iterator[Warned]:
    traffic = traffic_of(problem)
    for place in _first(traffic.size <= TOLERANCE):
        detail = (
            f"demand '{traffic.ids[place]}' asks for {traffic.size[place]:.12g} Gbit/s, which a check cannot tell from nothing "
            f"({TOLERANCE:g}); use a smaller unit for every rate, or leave it out"
        )
        yield Warned(pointer(problem, "demands", place, "size_gbps"), "below_tolerance", detail)


def _first(mask: Bools) -> list[int]:
    found: list[int] = np.flatnonzero(mask)[:MAX_WARNINGS].tolist()
    return found
