"""The words of the answers: where, when, and how many."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.placement.schema import WorkerPlace

MOST_NAMES = 6
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def where(workers: Sequence[WorkerPlace]) -> str:
    """``4 nodes (n1, n2, n3, n4)``, or one node with its GPUs."""
    by_node: defaultdict[str, list[int]] = defaultdict(list)
    for worker in workers:
        by_node[worker.node] += worker.gpus
    if len(by_node) == 1:
        node, gpus = next(iter(by_node.items()))
        return f"node {node}" + (f" ({'GPU' if len(gpus) == 1 else 'GPUs'} {spans(gpus)})" if gpus else "")
    return f"{len(by_node)} nodes ({listed(list(by_node))})"


def spans(numbers: Sequence[int]) -> str:
    """``0-3, 6``."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in found)


def listed(names: Sequence[str]) -> str:
    """``a, b, c and 4 more``."""
    if len(names) <= MOST_NAMES + 1:
        return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
    return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"


def many(count: int, word: str) -> str:
    """``1 job``, ``3 jobs``, ``no job``."""
    return f"{count:,} {word}{'s' if count != 1 else ''}" if count else f"no {word}"


def moment(time: float, now: float | None) -> str:
    """``at 2026-03-01 14:10 UTC, in 2 h 10 min``."""
    told = f"at {datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"
    return told if now is None else f"{told}, {'in ' + duration(time - now) if time > now else 'at any moment'}"


def duration(seconds: float) -> str:
    """``3 d 4 h``, ``2 h 10 min``, ``40 s``: the two largest units."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE)
    if seconds < HOUR and minutes < HOUR / MINUTE:
        return f"{minutes} min"
    if seconds < DAY:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    hours = round(seconds / HOUR)
    return f"{hours // 24} d" + (f" {hours % 24} h" if hours % 24 else "")
