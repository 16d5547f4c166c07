"""Why something is not in the plan: thousands of reasons as a few groups, and one short row for those left out alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.reasons import LEFT_OUT, Cause, LeftOut, causes
from service.wording import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.contract import Reason
    from service.report.drawing import Drawing

MOST_ROWS = 40  # rows of one group that are shown
MOST_OTHERS = 100  # other explanations that are shown
FEW_ALIKE = 3  # ids told of those alike
NOT_EXPLAINED = "not explained one by one"


@dataclass(frozen=True, slots=True)
class Row:
    """Things left out alike: the first one's name, the others', what each is, why, and what else is known of them."""

    subject: str
    alike: int
    names: tuple[str, ...]  # of the others, the first few
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
    more: int  # ids that no row tells of


_TELLS = {"would_place": "What would place it", "displaces": "If forced", "why_not": "Also"}


def groups(reasons: Sequence[Reason], drawing: Drawing, alike: Sequence[tuple[str, ...]] = ()) -> tuple[Group, ...]:
    """Groups by the first reason of each id, the largest first; ids without any reason come last.

    ``alike`` are groups of ids that share the reasons of their first (``models.contract.Kind.alike``).
    """
    found = causes(reasons, alike, drawing.left_out)
    largest = max((cause.size for cause in found), default=1)
    return tuple(_group(cause, cause.size / largest, drawing) for cause in found)


def _group(cause: Cause, share: float, drawing: Drawing) -> Group:
    shown = cause.members[:MOST_ROWS]
    return Group(
        title=words(cause.rule) or NOT_EXPLAINED,
        status=cause.status,
        size=cause.size,
        share=share,
        rows=tuple(_row(member, drawing) for member in shown),
        more=cause.size - sum(len(member.ids) for member in shown),
    )


def _row(member: LeftOut, drawing: Drawing) -> Row:
    first, *others = member.ids
    text = member.reasons[0].text if member.reasons else ""
    further = tuple((_TELLS[reason.code], reason.text, reason.status) for reason in member.reasons[1:])
    return Row(first, len(others), tuple(others[:FEW_ALIKE]), drawing.facts.get(first, ""), text, further)


def others(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """What the solve says beyond what was left out: binding limits, moves, evictions, the summary."""
    return tuple(reason for reason in reasons if reason.code not in LEFT_OUT)[:MOST_OTHERS]
