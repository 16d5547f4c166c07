"""A plan as a scheduler is to carry it out: which job goes where, which waits and why, and until when that may be believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one worker goes. ``gpus`` are the indices the plan has in mind; a scheduler that hands out GPUs itself ignores them."""

    node: str
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """One job may start now, on these nodes: one seat a worker. ``node_versions`` are those of its nodes when it was planned."""

    job: str
    identity: str
    seats: tuple[Seat, ...]
    node_versions: Mapping[str, str]
    why: str = ""

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes, each once, in the order of the seats."""
        return tuple(dict.fromkeys(seat.node for seat in self.seats))


@dataclass(frozen=True, slots=True)
class Wait:
    """One job does not start now, and why, in a sentence with what would help. ``status`` is proved or heuristic."""

    job: str
    identity: str
    why: str
    status: str = "heuristic"
    until: float | None = None  # when it may start at the latest, as far as time limits tell


@dataclass(frozen=True, slots=True)
class Orders:
    """One verified plan. ``version`` grows by one with each; after ``made_at + ttl_s`` nothing of it is carried out any more."""

    version: int
    made_at: float
    ttl_s: float
    orders: Mapping[str, Order] = field(default_factory=dict)
    waits: Mapping[str, Wait] = field(default_factory=dict)
    objective: float | None = None  # of the plan's first goal
    bound: float | None = None
    gap: float | None = None
    goal: str = ""  # the first goal's name

    def expired(self, now: float) -> bool:
        """Whether it is too old, or from the future by more than its own life (a clock was set back)."""
        return not -self.ttl_s <= now - self.made_at <= self.ttl_s
