"""What is wrong with the asks of a study, told before anything is solved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.catalogue import kind_of
from models.contract import ContradictionError, Warned
from optimizer.limits import Limits
from optimizer.study.questions.answering import axis_of, ladder_of, problem_along
from optimizer.study.scenarios.pointers import PlaceError
from optimizer.study.schema import ParetoAsk, TargetAsk

if TYPE_CHECKING:
    from models.vocabulary import Document
    from optimizer.study.schema import Ask, Study

LARGEST_CHECKED = 20_000  # columns: building a larger program takes seconds, and the ask itself says what is wrong with it


def check_asks(study: Study, base: Document) -> None:
    """Refuses asks that cannot be answered whatever is solved: no values in order, a sweep or a trade-off of no fitting program.

    Programs of more than ``LARGEST_CHECKED`` columns are not built for this. Raises ContradictionError.
    """
    found = []
    for number, ask in enumerate(study.asks):
        try:
            _check(study, base, ask)
        except ContradictionError:
            continue  # a value breaks the problem: the scenarios tell
        except (ValueError, KeyError, PlaceError) as error:
            told = error.args[0] if isinstance(error, KeyError) and error.args else error
            found.append(Warned(f"/asks/{number}", "cannot_be_asked", " ".join(str(told).split())))
    ContradictionError.refuse(found)


def _check(study: Study, base: Document, ask: Ask) -> None:
    if isinstance(ask, TargetAsk):
        ladder_of(axis_of(study, ask.axis), ask.tolerance)
        return
    small = kind_of(base).part("formulation").size(base) <= LARGEST_CHECKED
    if isinstance(ask, ParetoAsk):
        if ask.axis is not None:
            ladder_of(axis_of(study, ask.axis))
        elif small:
            from optimizer.study.questions.pareto_pairs import GoalPair

            GoalPair(base, ask.first, ask.second, Limits())
        return
    problem_at, least, most = problem_along(study, base, ask.axis)
    if small:
        from optimizer.study.sweeps.parametric_kind import KindPrograms

        KindPrograms(problem_at).moving(least, most)
