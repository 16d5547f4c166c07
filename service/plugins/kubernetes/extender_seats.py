"""Which pod sits where: the orders in force by pod, made when a plan lands, so that the extender only has to look one up."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.plugins.kubernetes.gangs import Gang
    from service.plugins.orders import Order, Orders

COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"  # the number of a pod in its Job
PART = 250  # pods in one message
SEAT_TAKEN = "its gang has more pods than the plan has seats; the next plan counts them again"


@dataclass(frozen=True, slots=True)
class Member:
    """One pod of a job. ``index`` is its number in the gang, where it has one; ``node`` is where it is bound, or empty."""

    namespace: str
    name: str
    uid: str
    index: int | None = None
    node: str = ""

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Told:
    """What the plan says of one pod: its node, or None and why it waits.

    ``free``: it was given up, and kube-scheduler places it by itself.
    """

    namespace: str
    name: str
    uid: str
    job: str
    node: str | None = None
    why: str = ""
    free: bool = False


@dataclass(frozen=True, slots=True)
class Seating:
    """One plan by pod: ``told`` by ``namespace/name``.

    The times are those of the orders: seconds since the epoch, and seconds.
    """

    version: int
    made_at: float
    ttl_s: float
    told: Mapping[str, Told] = field(default_factory=dict)

    def expired(self, now: float) -> bool:
        """As ``Orders.expired``: too old, or from the future by more than its own life."""
        return not -self.ttl_s <= now - self.made_at <= self.ttl_s

    def find(self, key: str, uid: str) -> Told | None:
        """What it says of that pod; None where it knows none, one of the same name that is another, or who it is cannot be told."""
        found = self.told.get(key)
        return found if uid and found is not None and found.uid == uid else None

    def messages(self, sent: Seating | None = None) -> list[bytes]:
        """For another process: a head, and the pods in small parts, so that reading one is soon done; none where ``sent`` has the same."""
        same = sent is not None and sent.told == self.told
        told = [] if same else [asdict(one) for one in self.told.values()]
        head = {"version": self.version, "made_at": self.made_at, "ttl_s": self.ttl_s, "same": same}
        parts = [orjson.dumps(told[at : at + PART]) for at in range(0, len(told), PART)]
        return [orjson.dumps(head | {"parts": len(parts)}), *parts]

    @classmethod
    def received(cls, receive: Callable[[], bytes], before: Seating | None) -> Seating:
        """The plan whose ``messages`` are received one by one."""
        head: dict[str, Any] = orjson.loads(receive())
        told: dict[str, Told] = {}
        for _ in range(head.pop("parts")):
            for one in orjson.loads(receive()):
                told[f"{one['namespace']}/{one['name']}"] = Told(**one)
        if head.pop("same") and before is not None:
            return replace(before, version=head["version"], made_at=head["made_at"], ttl_s=head["ttl_s"])
        return cls(**head, told=told)


def members_of(gang: Gang) -> tuple[Member, ...]:
    """The pods of a gang, in the order of their numbers and names."""
    found = [
        Member(pod.namespace, pod.name, pod.uid, _index(pod.annotations) if gang.kind == "job" else None, pod.node) for pod in gang.members
    ]
    return tuple(sorted(found, key=_rank))


def _index(annotations: Mapping[str, str]) -> int | None:
    told = annotations.get(COMPLETION_INDEX, "")
    return int(told) if told.isascii() and told.isdigit() else None


def _rank(member: Member) -> tuple[bool, int, str, str]:
    return member.index is None, member.index or 0, member.name, member.uid


def seated(order: Order, members: Sequence[Member], before: Seating | None = None) -> dict[str, str]:
    """A node for each pod by uid, every seat given at most once; a pod without a seat is left out.

    Who is bound keeps the seat on its node, who was told a node before keeps that one as long as a seat is there, and the
    others follow in the order of their numbers and names: the same pods get the same seats, in whatever order they are seen.
    """
    free = [seat.node for seat in order.seats]
    given: dict[str, str] = {}
    waiting: list[Member] = []
    for member in sorted(members, key=_rank):
        if not member.node:
            waiting.append(member)
        elif member.node in free:
            free.remove(member.node)
            given[member.uid] = member.node
    for member in waiting:
        earlier = before.find(member.key, member.uid) if before is not None else None
        if earlier is not None and earlier.node in free:
            free.remove(earlier.node)
            given[member.uid] = earlier.node
    for member, node in zip((one for one in waiting if one.uid not in given), free, strict=False):
        given[member.uid] = node
    return given


def seating(orders: Orders, members: Mapping[str, Sequence[Member]], before: Seating | None = None) -> Seating:
    """The orders by pod. ``members`` are the pods by job."""
    told: dict[str, Told] = {}
    for job, order in orders.orders.items():
        places = seated(order, members.get(job, ()), before)
        for member in members.get(job, ()):
            node = places.get(member.uid)
            why = order.why if node is not None else SEAT_TAKEN
            told[member.key] = Told(member.namespace, member.name, member.uid, job, node, why)
    for job, wait in orders.waits.items():
        for member in members.get(job, ()):
            told[member.key] = Told(member.namespace, member.name, member.uid, job, None, wait.why)
    return Seating(orders.version, orders.made_at, orders.ttl_s, told)


def landed(before: Seating | None, after: Seating) -> tuple[Told, ...]:
    """The pods that have a node now and had none, or another one: those that kube-scheduler must try again."""
    found: list[Told] = []
    for key, one in after.told.items():
        earlier = before.find(key, one.uid) if before is not None else None
        if one.node is not None and (earlier is None or earlier.node != one.node):
            found.append(one)
    return tuple(found)
