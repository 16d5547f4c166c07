"""What the rows of a study prove together: differences from the baseline, gates, statistics over replicates, the recommendation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from optimizer.study.conclusions.circumstances import advised
from optimizer.study.conclusions.differences import difference
from optimizer.study.conclusions.gates import Standing, judged, overall
from optimizer.study.conclusions.paired import drawn_axes, paired

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optimizer.study.conclusions.advice import Advice
    from optimizer.study.conclusions.differences import Difference
    from optimizer.study.conclusions.gates import Judged
    from optimizer.study.conclusions.paired import Paired
    from optimizer.study.rows import Answered
    from optimizer.study.run import Table
    from optimizer.study.schema import Study


class StudyExit(IntEnum):
    """What the exit code of a study means."""

    passed = 0
    unanswered = 4  # some scenario has neither a plan nor a proof that there is none, an ask no answer, or a target is reached nowhere
    gate_failed = 5
    gate_undecided = 6


@dataclass(frozen=True, slots=True)
class Conclusions:
    """All of it. ``differences`` are by scenario id, against the baseline of the same replicate, in the first goal; "" for no goal.

    ``sense`` and ``unit`` are those of that goal.
    """

    goal: str
    sense: str
    unit: str
    differences: dict[str, Difference]
    gates: tuple[Judged, ...]
    paired: tuple[Paired, ...]
    advice: Advice
    exit_code: StudyExit


def conclusions(table: Table) -> Conclusions:
    """Everything that follows from the rows without another solve."""
    lines, study = table.answered, table.study
    first = next((one.row.goals[0] for one in lines if one.row.goals), None)
    goal = "" if first is None else first.name
    drawn = drawn_axes(study)
    gates = judged(study.gates, lines, study.axes)
    return Conclusions(
        goal,
        "" if first is None else first.sense,
        "" if first is None else first.unit,
        _differences(lines, goal),
        gates,
        paired(lines, goal, drawn=drawn) if goal and study.replicates > 1 else (),
        advised(lines, study.gates, drawn=drawn, axes=study.axes),
        _exit_code(table, gates),
    )


def with_asks(told: Conclusions, study: Study, asks: Sequence[Mapping[str, Any]]) -> Conclusions:
    """The conclusions with an exit code that knows the answers to the asks, JSON as ``optimizer.study.questions.asks`` tells them."""
    if told.exit_code is StudyExit.gate_failed or (len(asks) == len(study.asks) and all(_is_answered(one) for one in asks)):
        return told
    return replace(told, exit_code=StudyExit.unanswered)


def _is_answered(ask: Mapping[str, Any]) -> bool:
    answer = ask["answer"]
    return answer is not None and not (ask["ask"] == "target" and answer["value"] is None)


def _differences(lines: Sequence[Answered], goal: str) -> dict[str, Difference]:
    baselines = {one.scenario.replicate: one for one in lines if one.scenario.is_baseline}
    return {
        one.scenario.id: difference(baselines[one.scenario.replicate], one, goal)
        for one in lines
        if goal and not one.scenario.is_baseline and one.scenario.replicate in baselines
    }


def _exit_code(table: Table, gates: Sequence[Judged]) -> StudyExit:
    standing = overall(gates)
    if standing is Standing.failed:
        return StudyExit.gate_failed
    if table.missing or not all(one.row.answered for one in table.answered):
        return StudyExit.unanswered
    return StudyExit.gate_undecided if standing is Standing.undecided else StudyExit.passed
