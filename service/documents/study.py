"""A study file and its base problem, or what is wrong with them: the place and the cure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models import catalogue
from models.contract import ContradictionError, Warned
from optimizer.study.checks import check_names
from optimizer.study.questions.beforehand import check_asks
from optimizer.study.scenarios.expansion import expanded_and_warned
from optimizer.study.schema import Study
from service.documents.complaints import InvalidError, Mistake, below
from service.documents.errors import BadInputError
from service.documents.reading import Text, parse, validated

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.contract import Kind
    from models.vocabulary import Document
    from optimizer.study.rows import Scenario
    from optimizer.study.schema import Snapshot

HEURISTIC_S = 1.0
PLACEMENT = "placement"


@dataclass(frozen=True, slots=True)
class ReadStudy:
    """A study that can run: its base problem is there, every axis matches something, and every value gives a right problem."""

    study: Study
    kind: Kind
    base: Document
    scenarios: tuple[Scenario, ...]
    warnings: tuple[Warned, ...] = ()


def read_study(
    text: Text,
    folder: Path,
    read: Callable[[str], Text],
    stored: Callable[[Kind, str], Document] | None = None,
    frozen: Callable[[Study], Document | None] | None = None,
) -> ReadStudy:
    """The study in ``text``, whose base problem may be a file: a relative path starts at ``folder``. ``read`` reads a file's text.

    ``stored`` finds problems by id, where there is a service that has them. ``frozen`` finds the base of a study that has begun, so that
    the cluster of a snapshot is read once only. Raises BadInputError.
    """
    study = parse(Study, text)
    try:
        kind = catalogue.kind(study.kind)
    except catalogue.UnknownKindError as error:
        raise BadInputError(f"{text.name}: /kind: {error}") from None
    seen: tuple[Warned, ...] = ()
    if study.base.snapshot is None:
        base = _base(study, kind, text.name, folder, read, stored)
    else:
        base, seen = _snapshot(study, study.base.snapshot, text.name, folder, frozen)
    try:
        names_checked(study, kind, base)
        scenarios, warnings = expanded_and_warned(study, base)
        check_asks(study, base)
    except ContradictionError as error:
        raise BadInputError(f"{text.name}: {refused(error)}") from None
    return ReadStudy(study, kind, base, scenarios, (*seen, *warnings))


def names_checked(study: Study, kind: Kind, base: Document) -> None:
    """Refuses goals and metrics that no row will have. Raises ContradictionError.

    What metrics there are is known from a plan only: where a name is no goal, the heuristic makes one.
    """
    goals = [goal.name for goal in kind.goals(base)]
    try:
        check_names(study, goals, ())
    except ContradictionError:
        plan = kind.part("heuristic").heuristic(base, study.seed, HEURISTIC_S)
        if plan is not None:
            check_names(study, goals, list(kind.verify(base, plan).metrics))


def refused(error: ContradictionError) -> InvalidError:
    """A study that was refused, told as any other document."""
    return InvalidError([Mistake(found.pointer, "", found.code, found.detail) for found in error.mistakes])


def _base(
    study: Study, kind: Kind, name: str, folder: Path, read: Callable[[str], Text], stored: Callable[[Kind, str], Document] | None
) -> Document:
    told = study.base
    if told.file is not None:
        place = Path(told.file)
        return parse(kind.problem, read(str(place if place.is_absolute() else folder / place)))
    if told.problem is not None:
        try:
            with below("/base/problem"):
                return validated(kind.problem, told.problem)
        except InvalidError as error:
            raise BadInputError(f"{name}: {error}") from None
    if stored is None:
        raise BadInputError(f"{name}: /base/problem_id: problems are stored by a service; give --server URL, or the base as a file")
    assert told.problem_id is not None  # noqa: S101  (what else a base has was looked at before)
    return stored(kind, told.problem_id)


def _snapshot(
    study: Study, told: Snapshot, name: str, folder: Path, frozen: Callable[[Study], Document | None] | None
) -> tuple[Document, tuple[Warned, ...]]:
    """The cluster as it was when the study began, else as it is; with what could not be taken over. Raises BadInputError."""
    if study.kind != PLACEMENT:
        raise BadInputError(f"{name}: /base/snapshot: a cluster is a problem of the kind {PLACEMENT}, not {study.kind}; correct kind")
    kept = frozen(study) if frozen is not None else None
    if kept is not None:
        return kept, ()
    from service.plugins.simulation.sources import Source, problem_of

    def place(path: str | None) -> str | None:
        return path if path is None or path == Source.LIVE or Path(path).is_absolute() else str(folder / path)

    kubernetes = place(told.kubernetes)
    try:
        found, warnings = problem_of(Source(place(told.slurm), (kubernetes,) if kubernetes is not None else ()), told.jobs)
    except BadInputError as error:
        raise BadInputError(f"{name}: /base/snapshot: {error}") from None
    return found, tuple(Warned("/base/snapshot", "snapshot", warning) for warning in warnings)


def as_text(study: Study) -> str:
    """The study as a person would write it, in JSON."""
    return json.dumps(study.model_dump(mode="json", exclude_unset=True), indent=2)
