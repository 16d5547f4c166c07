"""Why something is not in the plan: thousands of reasons as a few groups, and one short row for each id shown."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.report.wording import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.contract import Reason
    from service.report.drawing import Drawing

MOST_ROWS = 40  # rows of one group that are shown
MOST_OTHERS = 100  # other explanations that are shown


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is not in the plan: what it is, why, and what else is known (what would place it, whom it displaces)."""

    subject: str
    facts: str
    text: str
    further: tuple[tuple[str, str, str], ...]  # (what it tells, text, status)


@dataclass(frozen=True, slots=True)
class Group:
    """Everything left out for one reason, known in one way. ``share`` is its part of the largest group, for the bar."""

    title: str
    status: str
    size: int
    share: float
    rows: tuple[Row, ...]

    @property
    def more(self) -> int:
        """How many are not shown."""
        return self.size - len(self.rows)


_TELLS = {"would_place": "What would place it", "displaces": "If forced", "why_not": "Also"}


def groups(reasons: Sequence[Reason], drawing: Drawing) -> tuple[Group, ...]:
    """Groups by the first reason of each id, the largest first; ids without any reason come last."""
    told: defaultdict[str, list[Reason]] = defaultdict(list)
    for reason in reasons:
        if reason.code in _TELLS:
            told[reason.subject].append(reason)
    members: defaultdict[tuple[str, str], list[tuple[str, Reason | None]]] = defaultdict(list)
    for subject in dict.fromkeys((*drawing.left_out, *told)):
        first = next((reason for reason in told[subject] if reason.code == "why_not"), None)
        if first is not None:
            members[words(first.rule), first.status].append((subject, first))
        elif subject in drawing.left_out:
            members["no reason recorded", ""].append((subject, None))
    ordered = sorted(members.items(), key=lambda group: (group[0][1] == "", -len(group[1])))
    largest = max((len(group) for group in members.values()), default=1)
    return tuple(
        Group(
            title=title,
            status=status,
            size=len(group),
            share=len(group) / largest,
            rows=tuple(_row(subject, first, told[subject], drawing) for subject, first in group[:MOST_ROWS]),
        )
        for (title, status), group in ordered
    )


def _row(subject: str, first: Reason | None, told: list[Reason], drawing: Drawing) -> Row:
    further = tuple((_TELLS[reason.code], reason.text, reason.status) for reason in told if reason is not first)
    return Row(subject, drawing.facts.get(subject, ""), first.text if first is not None else "", further)


def others(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """What the solve says beyond what was left out: binding limits, moves, evictions, the summary."""
    return tuple(reason for reason in reasons if reason.code not in _TELLS)[:MOST_OTHERS]
