"""Why things are not in a plan, put together: the first reason of each decides, and those alike share it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.contract import Reason

LEFT_OUT = ("why_not", "would_place", "displaces")  # codes of reasons that are about something left out


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Ids that are left out for the same ``reasons``, the deciding one first; none where the plan's explanation stops short."""

    ids: tuple[str, ...]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """Everything left out by one rule that is known in one way (``proved``, ``heuristic``); both empty where no reason was given."""

    rule: str
    status: str
    members: tuple[LeftOut, ...]

    @property
    def size(self) -> int:
        """How many ids."""
        return sum(len(member.ids) for member in self.members)


def causes(reasons: Iterable[Reason], alike: Sequence[tuple[str, ...]] = (), others: Iterable[str] = ()) -> tuple[Cause, ...]:
    """The causes, the one that leaves out most first.

    ``alike`` are groups of ids of which only the first one's reasons are given (``Kind.alike``); ``others`` are further ids
    that are left out. Ids without any reason come last.
    """
    told: defaultdict[str, list[Reason]] = defaultdict(list)
    for reason in reasons:
        if reason.code in LEFT_OUT:
            told[reason.subject].append(reason)
    grouped = {ids[0]: ids for ids in alike if ids}
    known = {name for ids in alike for name in ids}
    subjects = dict.fromkeys([*grouped, *(name for name in (*others, *told) if name not in known)])
    found: defaultdict[tuple[str, str], list[LeftOut]] = defaultdict(list)
    wanted = {*known, *others}
    for subject in subjects:
        first = next((reason for reason in told[subject] if reason.code == "why_not"), None)
        ids = grouped.get(subject, (subject,))
        if first is not None:
            rest = [reason for reason in told[subject] if reason is not first]
            found[first.rule, first.status].append(LeftOut(ids, (first, *rest)))
        elif subject in wanted:
            found["", ""].append(LeftOut(ids, ()))
    made = [Cause(rule, status, tuple(members)) for (rule, status), members in found.items()]
    return tuple(sorted(made, key=lambda cause: (not cause.rule, -cause.size)))
