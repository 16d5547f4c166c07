"""How long a collective takes on given GPUs of a fabric: where placement meets the network.

The alpha-beta model (Hockney, "The communication challenge for MPP: Intel Paragon and Meiko CS-2", 1994) with shared links: a collective
is a sequence of steps; in a step every GPU sends its messages at once, over shortest paths with even splitting; the step takes the longest
latency of any message, plus the time of the link that is busiest with all messages of the step together. Steps follow each other.

ring            each GPU passes a piece on to the next; Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
                workstations", 2009. An all-to-all sends to the 1st, 2nd, 3rd, ... neighbour in turn.
two_way_ring    the same with half the data each way round.
halving         recursive halving and doubling, for 2^d GPUs; Thakur, Rabenseifner, Gropp, "Optimization of Collective Communication
                Operations in MPICH", 2005. The largest pieces go to the nearest GPU.
tree            two binary trees with half the data each, in chunks: up to the root, and down again; Sanders, Speck, Träff, "Two-tree
                algorithms for full bandwidth broadcast, reduction and scan", 2009, laid out as in NCCL.
direct          everyone sends to everyone at once (an all-reduce: twice).
hierarchical    rings inside each domain of the fabric (a node, leaf, pod or group), and between the domains one for each place in them; an
                all-to-all first gathers inside the domain what goes to the same place elsewhere.
pipelined       the hierarchical one in chunks: while one chunk is between the domains, others are inside. Only where the two use no link
                together.
best            the fastest of those that there are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from models.collective_cuts import Collective, LowerBound, cut_lower_bound, lower_bound, refuse_cut_off, request
from models.fabric_routing import EvenRouting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from models.fabrics import Fabric
    from models.program import Floats, Ints

__all__ = ["Algorithm", "Collective", "CollectiveTime", "LowerBound", "Phase", "collective_time", "cut_lower_bound", "lower_bound"]

MOST_CHUNKS = 4096  # of a tree's pipeline: more would be shorter than a packet
CHUNKS = (2, 4, 8, 16, 32, 64, 128)  # of a pipeline between and inside domains


class Algorithm(StrEnum):
    """How a collective is carried out; see the module."""

    ring = "ring"
    two_way_ring = "two_way_ring"
    halving = "halving"
    tree = "tree"
    direct = "direct"
    hierarchical = "hierarchical"
    pipelined = "pipelined"
    best = "best"


@dataclass(frozen=True, slots=True)
class Phase:
    """Equal steps, one after another: seconds of all of them, and the link that is busiest (None where nothing is sent)."""

    steps: int
    seconds: float
    latency_s: float
    transfer_s: float
    link: str | None
    back: bool

    def often(self, times: int) -> Phase:
        """The phase so many times."""
        return Phase(times * self.steps, times * self.seconds, times * self.latency_s, times * self.transfer_s, self.link, self.back)


@dataclass(frozen=True, slots=True)
class CollectiveTime:
    """What a collective takes. ``level`` is the domain of a hierarchy; ``bottleneck`` the busiest link of its longest phase."""

    seconds: float
    algorithm: Algorithm
    level: str | None
    steps: int
    latency_s: float
    transfer_s: float
    bottleneck: str | None
    phases: tuple[Phase, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """Messages that are sent at once, and how often that happens. Senders and receivers are numbers of GPUs; shape (messages,)."""

    source: Ints
    target: Ints
    gbit: float
    times: int = 1


def collective_time(
    fabric: Fabric,
    gpus: Iterable[str],
    size_gib: float,
    kind: Collective | str = Collective.all_reduce,
    algorithm: Algorithm | str = Algorithm.best,
    *,
    message_s: float = 0.0,
) -> CollectiveTime:
    """The time of a collective of ``size_gib`` for each GPU; ``gpus`` are taken in the fabric's order, whatever theirs is.

    ``message_s`` is what starting one message costs its sender, and its receiver, besides the latency of links. Raises ValueError for
    unknown, repeated or disconnected GPUs, negative quantities, and an algorithm that does not carry out this collective on these GPUs.
    """
    at, gbit, asked = request(fabric, gpus, size_gib, kind)
    if not 0 <= message_s < math.inf:
        raise ValueError(f"message_s must be 0 or more and finite, not {message_s:g}")
    named = Algorithm(algorithm)
    if len(at) == 1:
        return CollectiveTime(0.0, named, None, 0, 0.0, 0.0, None, ())
    routing = EvenRouting(fabric, at)
    refuse_cut_off(routing)
    clock = _Clock(routing, message_s)
    found: list[CollectiveTime] = []
    for one in _contenders(asked) if named is Algorithm.best else (named,):
        found += [_time(clock, steps, one, level) for level, steps in _schedules(fabric, at, gbit, asked, one, clock)]
        if one is Algorithm.pipelined:
            found += [time for level, rows in _hierarchies(fabric, at) for time in _pipelined(clock, rows, gbit, asked, level)]
    if not found:
        raise ValueError(f"{named.value} does not carry out {asked.value} on these {len(at)} GPUs; choose another algorithm, or best")
    return min(found, key=lambda one: one.seconds)


class _Clock:
    """Tells the time of a step."""

    def __init__(self, routing: EvenRouting, message_s: float) -> None:
        self._routing, self._message_s = routing, message_s

    def phase(self, step: _Step) -> Phase:
        """The time of a step, as often as it happens."""
        messages = max(np.bincount(step.source).max(), np.bincount(step.target).max())
        latency = float(self._routing.latency_s(step.source, step.target).max()) + self._message_s * float(messages)
        loads = self._routing.loads(step.source, step.target, np.full(len(step.source), step.gbit))
        seconds: Floats = loads / self._routing.arc_gbps
        busiest = int(seconds.argmax())
        link = self._routing.fabric.link_ids[self._routing.arc_link[busiest]] if loads[busiest] > 0 else None
        transfer = float(seconds[busiest])
        total = step.times * (latency + transfer)
        return Phase(step.times, total, step.times * latency, step.times * transfer, link, bool(self._routing.arc_back[busiest]))

    def share_a_link(self, first: list[_Step], second: list[_Step]) -> bool:
        """Whether some way of a link carries messages of both."""
        carried = []
        for steps in (first, second):
            loads = [self._routing.loads(step.source, step.target, np.ones(len(step.source))) for step in steps]
            carried.append(np.sum(loads, axis=0) > 0)
        return bool((carried[0] & carried[1]).any())


def _time(clock: _Clock, steps: list[_Step], algorithm: Algorithm, level: str | None) -> CollectiveTime:
    phases = tuple(clock.phase(step) for step in steps)
    return CollectiveTime(
        seconds=sum(phase.seconds for phase in phases),
        algorithm=algorithm,
        level=level,
        steps=sum(phase.steps for phase in phases),
        latency_s=sum(phase.latency_s for phase in phases),
        transfer_s=sum(phase.transfer_s for phase in phases),
        bottleneck=max(phases, key=lambda phase: phase.transfer_s).link,
        phases=phases,
    )


# ---------------------------------------------------------------- schedules


def _schedules(
    fabric: Fabric, at: Ints, gbit: float, kind: Collective, algorithm: Algorithm, clock: _Clock
) -> Iterator[tuple[str | None, list[_Step]]]:
    """The steps of the algorithm, for each level it may use; nothing where it does not apply."""
    everyone = [np.arange(len(at))]
    match algorithm:
        case Algorithm.ring:
            yield None, _neighbours(len(at), gbit) if kind is Collective.all_to_all else _rings(everyone, gbit, _rounds(kind))
        case Algorithm.two_way_ring if kind is not Collective.all_to_all:
            yield None, _rings(everyone, gbit, _rounds(kind), both_ways=True)
        case Algorithm.halving if kind is not Collective.all_to_all and len(at).bit_count() == 1:
            yield None, _halving(len(at), gbit, _rounds(kind))
        case Algorithm.tree if kind is Collective.all_reduce:
            yield None, [_trees(len(at), gbit, clock)]
        case Algorithm.direct:
            yield None, [_everyone(everyone, gbit / len(at), _rounds(kind))]
        case Algorithm.hierarchical:
            for level, rows in _hierarchies(fabric, at):
                within, between = _hierarchical(rows, gbit, kind)
                # Scattered inside, each GPU deals with its part of the data between the rows; an all-gather goes the other way round.
                yield level, between + within if kind is Collective.all_gather else within + between
        case _:
            return


def _contenders(kind: Collective) -> tuple[Algorithm, ...]:
    """The algorithms that may be best. All-to-all in turns never is: each link's turns take at least as long as all of its data at once."""
    return tuple(one for one in Algorithm if not (kind is Collective.all_to_all and one is Algorithm.ring))


def _rounds(kind: Collective) -> int:
    """An all-reduce is a reduce-scatter and then an all-gather."""
    return 2 if kind is Collective.all_reduce else 1


def _rings(rings: list[Ints], gbit: float, rounds: int, *, both_ways: bool = False) -> list[_Step]:
    """Rings of equal length at the same time, each over data of ``gbit``; its nth goes round."""
    length = len(rings[0])
    if length == 1:
        return []
    source = np.concatenate(rings)
    target = np.concatenate([np.roll(ring, -1) for ring in rings])
    piece = gbit / length
    if both_ways:
        return [_Step(np.concatenate((source, target)), np.concatenate((target, source)), piece / 2, rounds * (length - 1))]
    return [_Step(source, target, piece, rounds * (length - 1))]


def _neighbours(count: int, gbit: float) -> list[_Step]:
    """All-to-all in turns: to the next, to the next but one, ..."""
    number = np.arange(count)
    return [_Step(number, np.roll(number, -ahead), gbit / count) for ahead in range(1, count)]


def _halving(count: int, gbit: float, rounds: int) -> list[_Step]:
    """Exchanges with the GPU whose number differs in one bit: half the data with the nearest, a quarter with the next, ..."""
    number = np.arange(count)
    return [_Step(number, number ^ (1 << bit), gbit / (2 << bit), rounds) for bit in range(count.bit_length() - 1)]


def _everyone(groups: list[Ints], gbit: float, times: int) -> _Step:
    """In each group everyone sends ``gbit`` to everyone else."""
    pairs = [(np.repeat(group, len(group)), np.tile(group, len(group))) for group in groups]
    source, target = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    return _Step(source[source != target], target[source != target], gbit, times)


def _trees(count: int, gbit: float, clock: _Clock) -> _Step:
    """Two binary trees, each with half the data in chunks; in every step each edge carries one chunk up and one down.

    With m chunks and trees of depth d the last chunk is back at the farthest GPU after 2d + m - 1 steps. The first and last steps use
    only some of the edges; they are counted as if they used all.
    """
    parents = _parents(count)
    child = np.flatnonzero(parents >= 0)
    twin = count - 1 - np.arange(count) if count % 2 == 0 else (np.arange(count) + 1) % count
    low = np.concatenate((child, twin[child]))
    high = np.concatenate((parents[child], twin[parents[child]]))
    source, target = np.concatenate((low, high)), np.concatenate((high, low))
    depth = _depth(parents)
    whole = clock.phase(_Step(source, target, gbit / 2))
    start, transfer = whole.latency_s, whole.transfer_s
    ideal = math.sqrt((2 * depth - 1) * transfer / start) if start > 0 else float(MOST_CHUNKS) if transfer > 0 else 1.0
    choices = {min(max(1, chunks), MOST_CHUNKS) for chunks in (math.floor(min(ideal, MOST_CHUNKS)), math.ceil(min(ideal, MOST_CHUNKS)))}
    chunks = min(choices, key=lambda one: (2 * depth + one - 1) * (start + transfer / one))
    return _Step(source, target, gbit / 2 / chunks, 2 * depth + chunks - 1)


def _parents(count: int) -> Ints:
    """Parent of each number in a binary tree where odd numbers are leaves; -1 for the root, which is 0 and has one child."""
    found = np.full(count, -1, dtype=np.int64)
    for number in range(1, count):
        bit = number & -number
        up = (number ^ bit) | (bit << 1)
        found[number] = up if up < count else number ^ bit
    return found


def _depth(parents: Ints) -> int:
    """Edges from the root to the farthest number."""
    at, depth = np.arange(len(parents)), -1
    while (at >= 0).any():
        at = np.where(at >= 0, parents[at], -1)
        depth += 1
    return depth


def _rows(domain: Ints) -> Ints | None:
    """The GPUs by domain, one row each, shape (domains, GPUs in each); None unless all are equally many, and it is a true division."""
    names, sizes = np.unique(domain, return_counts=True)
    if names[0] < 0 or len(names) < 2 or sizes[0] < 2 or (sizes != sizes[0]).any():  # noqa: PLR2004  (else there are not two levels)
        return None
    return np.argsort(domain, kind="stable").reshape(len(names), sizes[0])


def _hierarchies(fabric: Fabric, at: Ints) -> Iterator[tuple[str, Ints]]:
    """The levels whose domains divide the GPUs evenly, each with its rows."""
    for level, numbers in fabric.domains.items():
        rows = _rows(numbers[at])
        if rows is not None:
            yield level, rows


def _hierarchical(rows: Ints, gbit: float, kind: Collective) -> tuple[list[_Step], list[_Step]]:
    """Inside the rows of ``rows``, and along its columns; all rows, and then all columns, at the same time."""
    inside, across = list(rows), list(rows.T)
    if kind is Collective.all_to_all:  # first to whoever has the target's place in the own row, then straight to the target
        return [_everyone(inside, gbit / rows.shape[1], 1)], [_everyone(across, gbit / rows.shape[0], 1)]
    return _rings(inside, gbit, _rounds(kind)), _rings(across, gbit / rows.shape[1], _rounds(kind))


def _pipelined(clock: _Clock, rows: Ints, gbit: float, kind: Collective, level: str) -> Iterator[CollectiveTime]:
    """The hierarchy in chunks; nothing where a link is used inside the domains and between them.

    An all-reduce has three stages: a chunk is scattered inside, dealt with between, gathered inside; the others have two. While the links
    inside are busy with the first and the last stage of two chunks, those between carry a third one: a turn takes the longer of the two.
    """
    stages = 3 if kind is Collective.all_reduce else 2
    if clock.share_a_link(*_hierarchical(rows, 1.0, kind)):
        return
    for chunks in CHUNKS:
        turn = max(
            (_time(clock, part, Algorithm.pipelined, level) for part in _hierarchical(rows, gbit / chunks, kind)),
            key=lambda one: one.seconds,
        )
        turns = chunks + stages - 1
        phases = tuple(phase.often(turns) for phase in turn.phases)
        yield replace(
            turn,
            seconds=turns * turn.seconds,
            steps=turns * turn.steps,
            latency_s=turns * turn.latency_s,
            transfer_s=turns * turn.transfer_s,
            phases=phases,
        )
