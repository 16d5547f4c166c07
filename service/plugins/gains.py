"""What shadow mode reports: the jobs that the plan would start now and that go on waiting."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.plugins.orders import Orders
    from service.plugins.problem import Asked

MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class Missed:
    """A job that the plan would have started and that still waits. ``waiting_s`` counts from when the plan first had room for it."""

    job: str
    name: str
    gpus: float
    priority: int
    nodes: tuple[str, ...]
    waiting_s: float


@dataclass(frozen=True, slots=True)
class Gains:
    """What the plan would have started at one time, that the scheduler had not. ``gpu_hours`` are of all jobs seen so far.

    ``share`` is of the cluster's GPUs. It is a gain of that moment: what would have come after it is for ``replay`` to say.
    """

    at: float
    jobs: tuple[Missed, ...]
    gpus: float
    share: float
    value: float | None
    gpu_hours: float
    sentence: str


class Shadow:
    """Follows round by round what the plan would have started, and for how long it went on waiting."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}
        self._gpu_s = 0.0
        self._at: float | None = None
        self._last: dict[tuple[str, str], float] = {}  # GPUs of those that were missed in the round before

    def report(self, asked: Asked, orders: Orders) -> Gains:
        """The gains of this round: every order is for a job that was seen waiting, and could run."""
        now = asked.snapshot.taken_at
        keys = {name: (name, order.identity) for name, order in orders.orders.items()}
        passed = max(now - self._at, 0.0) if self._at is not None else 0.0
        # A job still waits when it is ordered again; one that has meanwhile started waited for an unknown part of the time.
        self._gpu_s += passed * sum(self._last.get(key, 0.0) for key in keys.values())
        self._at = now
        self._since = {key: self._since.get(key, now) for key in keys.values()}
        missed = tuple(_missed(asked, orders, name, now - self._since[key]) for name, key in keys.items())
        self._last = {keys[one.job]: one.gpus for one in missed}
        gpus = sum(one.gpus for one in missed)
        total = sum(node.gpus for node in asked.nodes.values())
        share = gpus / total if total else 0.0
        ranked = tuple(sorted(missed, key=lambda one: (-one.priority, -one.gpus, one.job)))
        hours = self._gpu_s / 3600.0
        return Gains(now, ranked, gpus, share, orders.objective, hours, _sentence(ranked, gpus, share, hours))

    @property
    def waiting(self) -> Mapping[tuple[str, str], float]:
        """When the plan first had room for each job that still waits, by id and identity."""
        return dict(self._since)


def _missed(asked: Asked, orders: Orders, name: str, waiting_s: float) -> Missed:
    job = asked.jobs[name]
    return Missed(name, job.name, job.gpus_per_worker * job.workers, job.priority, orders.orders[name].nodes, max(waiting_s, 0.0))


def _sentence(missed: tuple[Missed, ...], gpus: float, share: float, hours: float) -> str:
    if not missed:
        return "The plan would start nothing that the scheduler has not started."
    twice = {name for name, count in Counter(one.name for one in missed).items() if count > 1}
    shown = [f"{one.name} ({one.job})" if one.name in twice and one.name != one.job else one.name for one in missed[:MOST_NAMES]]
    names = ", ".join(shown) + (f" and {len(missed) - MOST_NAMES} more" if len(missed) > MOST_NAMES else "")
    longest = max(one.waiting_s for one in missed)
    text = f"The plan would start {len(missed)} waiting job{'s' if len(missed) > 1 else ''} now on {gpus:g} idle GPUs"
    text += f" ({100 * share:.1f}% of the cluster): {names}."
    if longest > 0:
        text += f" There has been room for the first of them for {longest:.0f} s; {hours:.1f} GPU hours were idle meanwhile."
    return text
