"""Two studies, or two scenarios, held against each other: which pairs there are, and what is certain of each."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimizer.study.conclusions.differences import Difference, Finding, difference
from optimizer.study.conclusions.paired import combinations, drawn_axes
from optimizer.study.run import load_table
from service.documents.errors import BadInputError
from service.studies.shelf import Shelf, ShelfError
from service.studies.wording import label_of

if TYPE_CHECKING:
    from optimizer.study.conclusions.paired import Combination
    from optimizer.study.rows import Answered
    from optimizer.study.run import Table

BETWEEN = "::"


@dataclass(frozen=True, slots=True)
class Chosen:
    """One side: a folder with what is compared of it. ``name`` is the scenario that was asked for, None for the whole study."""

    folder: Path
    table: Table
    base: str
    name: str | None
    lines: tuple[tuple[str, Answered], ...]  # label without what is drawn, row

    @property
    def goal(self) -> str:
        """The first goal of whatever has a plan, "" for none."""
        return next((line.row.goals[0].name for _, line in self.lines if line.row.goals), "")

    @property
    def measured(self) -> tuple[str, ...]:
        """All goals and metrics that some row has."""
        names = [goal.name for _, line in self.lines for goal in line.row.goals]
        return tuple(dict.fromkeys(names + [name for _, line in self.lines for name in line.row.metrics]))


@dataclass(frozen=True, slots=True)
class Comparison:
    """B against A, pair by pair, in one goal or metric; ``unpaired`` scenarios have none of the same name on the other side.

    ``by_label``: both sides are whole studies, and scenarios of one name are compared.
    """

    metric: str
    same_base: bool
    by_label: bool
    labels: tuple[str, ...]  # of each B, as a table shows it
    differences: tuple[Difference, ...]
    unpaired: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many pairs there are of each finding."""
        found = [one.finding.value for one in self.differences]
        return {one.value: found.count(one.value) for one in Finding if one.value in found}

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "metric": self.metric,
            "same_base": self.same_base,
            "counts": self.counts,
            "differences": [one.as_json() for one in self.differences],
            "unpaired": list(self.unpaired),
        }


def chosen(told: str) -> Chosen:
    """The side that ``FOLDER`` or ``FOLDER::SCENARIO`` names; a scenario by id, by label, or ``baseline``. Raises BadInputError."""
    place, mark, name = told.partition(BETWEEN)
    folder = Path(place)
    try:
        shelf = Shelf.read(folder)
        table = load_table(shelf)
    except ShelfError as error:
        raise BadInputError(str(error)) from None
    grouped = combinations(table.answered, drawn_axes(table.study))
    found = tuple((one.label, line) for one in grouped for line in one.rows.values() if not mark or _is(one, line, name))
    if not found:
        raise BadInputError(_nothing(folder, table, grouped, name if mark else None))
    return Chosen(folder, table, shelf.base_hash, name if mark else None, found)


def compared(a: Chosen, b: Chosen, metric: str | None = None) -> Comparison:
    """All pairs: scenarios of one name where both are whole studies, else the one that is named against each of the other side.

    Only the same replicate is compared. ``metric`` is a goal or a metric, left out: the first goal. Raises BadInputError.
    """
    if a.table.study.kind != b.table.study.kind:
        raise BadInputError(
            f"{a.folder} is about {a.table.study.kind} and {b.folder} about {b.table.study.kind}; compare studies of one kind"
        )
    name = metric or a.goal or b.goal
    known = tuple(dict.fromkeys(a.measured + b.measured))
    if metric is not None and known and metric not in (*known, "spend_usd"):
        near = difflib.get_close_matches(metric, known, n=1)
        meant = f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(known)}"
        raise BadInputError(f"--metric: no scenario has a goal or metric '{metric}'{meant}")
    same_base = a.base == b.base
    by_label = a.name is None and b.name is None
    sides = [((_place(label, one, by_label=by_label)), one) for label, one in b.lines]
    pairs = [(mine, theirs) for label, mine in a.lines for place, theirs in sides if place == _place(label, mine, by_label=by_label)]
    pairs = [(mine, theirs) for mine, theirs in pairs if not _is_itself(a, b, mine, theirs)]
    if not pairs:
        raise BadInputError(f"{_side(a)} and {_side(b)} have no two scenarios to compare; name one of each: DIR{BETWEEN}SCENARIO")
    used = {id(one) for pair in pairs for one in pair}
    unpaired = tuple(f"{side.folder}{BETWEEN}{label}" for side in (a, b) for label, one in side.lines if by_label and id(one) not in used)
    found = tuple(difference(mine, theirs, name, same_base=same_base, labels=_labels(a, b, mine, theirs)) for mine, theirs in pairs)
    numbered = max(a.table.study.replicates, b.table.study.replicates) > 1
    labels = tuple(label_of(theirs.scenario, numbered=numbered) for _, theirs in pairs)
    return Comparison(name, same_base, by_label, labels, found, unpaired)


def _is(one: Combination, line: Answered, name: str) -> bool:
    number = f" #{line.scenario.replicate}"  # as tables have it
    return name.removesuffix(number) in (line.scenario.id, line.scenario.label, one.label)


def _place(label: str, one: Answered, *, by_label: bool) -> tuple[str, int]:
    """What both of a pair share."""
    return (label if by_label else "", one.scenario.replicate)


def _is_itself(a: Chosen, b: Chosen, mine: Answered, theirs: Answered) -> bool:
    return a.folder == b.folder and mine.scenario.id == theirs.scenario.id and (a.name is None) != (b.name is None)


def _side(one: Chosen) -> str:
    return str(one.folder) if one.name is None else f"{one.folder}{BETWEEN}{one.name}"


def _labels(a: Chosen, b: Chosen, mine: Answered, theirs: Answered) -> tuple[str, str]:
    """The names in sentences: with the study's name where the scenarios alone would not tell them apart."""
    first, second = mine.scenario.label, theirs.scenario.label
    if first != second:
        return first, second
    if a.table.study.name != b.table.study.name:
        return f"{first} ({a.table.study.name})", f"{second} ({b.table.study.name})"
    if a.folder != b.folder:
        return f"{first} ({a.folder})", f"{second} ({b.folder})"
    return f"{first} ({mine.scenario.id})", f"{second} ({theirs.scenario.id})"


def _nothing(folder: Path, table: Table, grouped: tuple[Combination, ...], name: str | None) -> str:
    """Why a side is empty."""
    if not grouped:
        return f"{folder} has no answers yet; run the study first"
    if name is None or any(name in (one.id, one.label) for one in table.scenarios):
        return f"{folder}{BETWEEN}{name} is not answered yet; run the study first"
    labels = [one.label for one in grouped]
    near = difflib.get_close_matches(name, [*labels, *(one.id for one in table.scenarios)], n=1, cutoff=0.5)
    meant = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(labels[:4])}{', ...' if len(labels) > 4 else ''}"  # noqa: PLR2004
    return f"{folder} has no scenario '{name}'; {meant}"
