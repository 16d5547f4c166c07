"""What devices that share a job say to each other, and how long it takes: rings, one level at a time, overlap and stragglers.

A message of ``size`` bytes over a link takes ``alpha_s + size / bytes_per_s`` (Hockney, "The communication challenge for MPP", 1994).
``bytes_per_s`` is what one device gets of the link, each way, while all of its group talk.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.runtime.device import Link


@dataclass(frozen=True, slots=True)
class Ring:
    """``peers`` devices on one level of the network."""

    peers: int
    alpha_s: float
    bytes_per_s: float


def all_reduce_s(size: float, ring: Ring) -> float:
    """2(n-1) alpha + 2(n-1)/n * size/beta: reduce-scatter, then all-gather (Patarasuk & Yuan, 2009); 0 for one device."""
    hops = 2 * (ring.peers - 1)
    return hops * ring.alpha_s + hops / ring.peers * size / ring.bytes_per_s


def hierarchical_all_reduce_s(size: float, rings: Sequence[Ring]) -> float:
    """Reduce-scatter inside the innermost groups, all-reduce of each part between them, all-gather inside; ``rings`` innermost first.

    A level's part is the ``size`` over the product of the peers below it.
    """
    total = 0.0
    for ring in rings:
        total += all_reduce_s(size, ring)
        size /= ring.peers
    return total


def rings(count: int, stride: int, links: Sequence[Link]) -> tuple[Ring, ...]:
    """The rings of ``count`` devices that stand ``stride`` apart, level by level, innermost first; none for one device.

    Raises ValueError when the links do not join that many devices.
    """
    found, left, apart = [], count, stride
    for link in links:
        if left == 1:
            break
        room = max(1, link.devices // apart)
        peers = min(left, room)
        if peers > 1:
            found.append(Ring(peers, link.alpha_s.value, link.bytes_per_s.value))
        left, apart = -(-left // peers), -(-apart // link.devices)
    if left > 1:
        joined = int(np.prod([link.devices for link in links])) if links else 1
        raise ValueError(
            f"{count * stride} devices talk to each other, but the device's links join {joined}: describe more levels of links"
        )
    return tuple(found)


def send_s(size: float, link: Ring) -> float:
    """One message from one device to another."""
    return link.alpha_s + size / link.bytes_per_s


def overlapped_s(compute_s: float, sync_s: float, gamma: float) -> float:
    """(compute**gamma + sync**gamma)**(1/gamma): one after the other at gamma 1, overlapped as gamma grows (Qiao et al., Pollux, 2021).

    Raises ValueError for a gamma below 1.
    """
    if gamma < 1:
        raise ValueError(f"gamma is at least 1, not {gamma}")
    longer, shorter = max(compute_s, sync_s), min(compute_s, sync_s)
    if longer == 0:
        return 0.0
    return float(longer * (1.0 + (shorter / longer) ** gamma) ** (1.0 / gamma))  # scaled: large powers of small times would vanish


@lru_cache(maxsize=1024)
def expected_largest_normal(count: int) -> float:
    """Expected maximum of ``count`` independent standard normal numbers: 0 for one, 0.5642 for two, about sqrt(2 ln n) for many.

    E = integral of (1 - F(x)**n) over x > 0 minus that of F(x)**n over x < 0, by the trapezoid rule.
    """
    x = np.linspace(-12.0, 12.0, 24_001)
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    step = x[1] - x[0]
    below = np.clip(np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2) * step]), 0.0, 1.0)
    all_below = below**count
    tail = np.where(x > 0, 1.0 - all_below, -all_below)
    tail[x == 0] = 0.5 - all_below[x == 0]  # the two integrals meet here, each takes half of the trapezoid's weight
    return float(np.sum((tail[1:] + tail[:-1]) / 2) * step)


def straggler_factor(workers: int, cv: float) -> float:
    """How much longer than its mean a step takes when all ``workers`` wait for the slowest, each with coefficient of variation ``cv``."""
    return 1.0 + cv * expected_largest_normal(workers)


def bubble_share(stages: int, micro_batches: int) -> float:
    """Share of a pipeline's time in which a stage idles, (p-1)/(m+p-1) (Huang et al., GPipe, 2019)."""
    return (stages - 1) / (micro_batches + stages - 1)
