"""What became of the asks of a study: each a sentence and the whole of its answer, or the reason why it has none."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from models.contract import ContradictionError
from optimizer.study.conclusions.wording import percent, value_text
from optimizer.study.questions.answering import StudyAsker, axis_of, ladder_of, pareto_answer, sweep_answer, target_answer
from optimizer.study.questions.asking import UnknownMetricError
from optimizer.study.questions.target import MOST_SCANNED
from optimizer.study.run import limits_of
from optimizer.study.scenarios.pointers import PlaceError
from optimizer.study.schema import ParetoAsk, SweepAsk, TargetAsk

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from models.vocabulary import Document
    from optimizer.study.questions.answering import Answers
    from optimizer.study.questions.pareto import Front
    from optimizer.study.questions.target import TargetAnswer
    from optimizer.study.schema import Ask, Study
    from optimizer.study.sweeps.parametric import Piece, Sweep


NOISE = 1e-12  # relative: rounding of a value


@dataclass(frozen=True, slots=True)
class Answer:
    """``answer`` is that of a sweep, a trade-off or a target; None where ``failure`` says why there is none."""

    ask: Ask
    answer: Sweep | Front | TargetAnswer | None
    sentence: str = ""
    failure: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields of the ask, with the answer's; what is not finite is null."""
        told = None if self.answer is None else _plain(asdict(self.answer))
        return self.ask.model_dump(mode="json") | {"answer": told, "sentence": self.sentence, "failure": self.failure}


def answered(
    study: Study, base: Document, answers: Answers, *, workers: int = 1, cancel: threading.Event | None = None
) -> tuple[Answer, ...]:
    """All asks in their order; ``workers`` values are asked at once. Raises AskingStoppedError, and what solving raises."""
    return tuple(_answer(study, base, one, answers, workers, cancel) for one in study.asks)


def most_solves(study: Study, ask: Ask) -> int:
    """How often an ask may take the time limit of one scenario. Raises KeyError and ValueError for an axis that it cannot go along.

    All solves of a sweep share one limit; a point of a trade-off takes two solves, and its ends take three.
    """
    if isinstance(ask, SweepAsk):
        return 1
    if isinstance(ask, TargetAsk):
        count = ladder_of(axis_of(study, ask.axis), ask.tolerance).count
        return min(count, MOST_SCANNED + 2 * count.bit_length())  # a search that is contradicted scans
    return 2 * ask.points + 3


def text_of(found: Sequence[Answer]) -> str:
    """As a file holds them."""
    return json.dumps({"asks": [one.as_json() for one in found]}, allow_nan=False, indent=1)


def _answer(study: Study, base: Document, ask: Ask, answers: Answers, workers: int, cancel: threading.Event | None) -> Answer:
    limits = limits_of(study.limits, study.seed)
    try:
        if isinstance(ask, SweepAsk):
            swept = sweep_answer(study, base, ask, limits, cancel)
            return Answer(ask, swept, _sweep_sentence(ask, swept))
        if isinstance(ask, TargetAsk):
            reached = target_answer(study, base, ask, answers, workers=workers)
            return Answer(ask, reached, reached.sentence)
        front = pareto_answer(base, ask, limits, cancel) if ask.axis is None else _limited(study, base, ask, answers)
        return Answer(ask, front, _front_sentence(ask, front))
    except (ValueError, KeyError, ContradictionError, UnknownMetricError, PlaceError) as error:
        told = error.args[0] if isinstance(error, KeyError) and error.args else error
        return Answer(ask, None, failure=" ".join(str(told).split()))


def _limited(study: Study, base: Document, ask: ParetoAsk, answers: Answers) -> Front:
    """The trade-off with what an axis limits."""
    from optimizer.study.questions.pareto_pairs import axis_front

    assert ask.axis is not None  # noqa: S101  (the caller looked)
    ladder = ladder_of(axis_of(study, ask.axis))
    ends = (ladder.most, ladder.least) if ask.limits == "at_most" else (ladder.least, ladder.most)
    return axis_front(StudyAsker(study, base, answers), ask.axis, *ends, ask.first, ask.second, points=ask.points)


def _sweep_sentence(ask: SweepAsk, found: Sweep) -> str:
    if not found.pieces:
        why = found.outside or found.message or "no solve ended in time"
        return f"No value of {ask.axis} from {value_text(found.least)} to {value_text(found.most)} has a known optimum: {why}."
    first, last = found.pieces[0], found.pieces[-1]
    known = "exactly" if found.exact else f"to within {value_text(found.error)}"
    count = f"{len(found.pieces)} straight pieces" if len(found.pieces) > 1 else "one straight line"
    lead = (
        f"From {ask.axis} {value_text(first.start)} to {value_text(last.end)} the optimum goes from {value_text(first.start_value)} to"
        f" {value_text(last.end_value)} in {count}, known {known} after {found.solves} solves."
    )
    at_first, at_last = _slope(found, first), _slope(found, last)
    slopes = at_first if len(found.pieces) == 1 else f"{at_first} at the beginning and by {at_last} at the end"
    parts = [lead, f"One more of it changes the optimum by {slopes}."]
    parts += [f"Elsewhere it is {found.outside}."] if found.outside else []
    return " ".join([*parts, *([found.message] if found.message else [])])


def _slope(found: Sweep, piece: Piece) -> str:
    """The slope of a piece; 0 where it is no more than what the sweep may be off by."""
    noise = max(found.error, NOISE * max(abs(piece.start_value), abs(piece.end_value))) / max(piece.end - piece.start, NOISE)
    return value_text(piece.slope if abs(piece.slope) > noise else 0.0)


def _front_sentence(ask: ParetoAsk, found: Front) -> str:
    if not found.points:
        return f"No plan trades {ask.first} for {ask.second}: {found.message or 'none was found within the limits'}."
    first, last = found.points[0], found.points[-1]
    said = (
        f"{ask.first} goes from {value_text(first.first)} (with {ask.second} {value_text(first.second)}) to {value_text(last.first)}"
        f" (with {value_text(last.second)}) over {len(found.points)} efficient points;"
        f" {percent(found.coverage)} of the trade-off is covered."
    )
    ends = "" if found.exact_ends else " Its ends are not proved within the gap."
    return said + ends + (f" {found.message}" if found.message else "")


def _plain(value: Any) -> Any:  # noqa: ANN401  (any part of an answer)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
