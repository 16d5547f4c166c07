"""All scenarios of a study on its base problem, in a stable order, or everything that is wrong before anything runs."""

from __future__ import annotations

import hashlib
import itertools
import re
from typing import TYPE_CHECKING

from models.catalogue import UnknownKindError, kind_of
from models.contract import ContradictionError, Warned
from models.garbage import collection_paused
from optimizer.study.checks import hints
from optimizer.study.rows import BASELINE, Change, Scenario
from optimizer.study.scenarios import axes, draws, overlaps
from optimizer.study.scenarios.changes import applied
from optimizer.study.scenarios.edits import Dice, EditError, Ground, Move, has_value, moves, places_have_value
from optimizer.study.scenarios.overlay import BY_POINTER, combined
from optimizer.study.scenarios.pointers import PlaceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.vocabulary import Document
    from optimizer.study.scenarios.axes import Choice
    from optimizer.study.schema import Axis, Study

__all__ = ["applied", "expanded", "expanded_and_warned", "warned"]

MOST_CHANGES = 20_000_000  # of all scenarios together: they are held in memory
MOST_TRIED = 8  # values of a range or draws that are tried alone on the base problem, the ends among them
MOST_LISTED_TRIED = 256  # the same of values and options
MOST_TOLD = 3  # mistakes of one axis
LONGEST_ID = 100

Combination = tuple["Choice | None", ...]  # one choice for each axis; None: the axis changes nothing


def expanded(study: Study, base: Document) -> tuple[Scenario, ...]:
    """Every scenario of the study: replicate by replicate, each with its baseline first, then the combinations, the last axis fastest.

    Raises ContradictionError with the place in the study file of everything that is wrong. What is not found out before it runs: whether a
    combination breaks the problem though each of its values alone does not.
    """
    with collection_paused():
        return tuple(_Expansion(study, base).scenarios())


def warned(study: Study, base: Document) -> tuple[Warned, ...]:
    """What is legal but suspicious, with its place in the study file. Raises ContradictionError as ``expanded``."""
    return (*hints(study), *_Expansion(study, base).warnings)


def expanded_and_warned(study: Study, base: Document) -> tuple[tuple[Scenario, ...], tuple[Warned, ...]]:
    """Both from one look at the base problem."""
    with collection_paused():
        expansion = _Expansion(study, base)
        return tuple(expansion.scenarios()), (*hints(study), *expansion.warnings)


class _Line:
    """One axis on the base problem: what its choices do there."""

    def __init__(self, study: Study, index: int, ground: Ground) -> None:
        self.axis = study.axes[index]
        self.place = f"/axes/{index}"
        self.listed = () if self.axis.draw is not None else axes.choices(self.axis)
        self._study, self._index, self._ground = study, index, ground
        edits = [*self.axis.edits, *(edit for option in self.axis.options or () for edit in option.edits)]
        self._picks = any(getattr(edit, "pick", None) is not None for edit in edits)
        self._samples = study.combine.how == "latin_hypercube" and self.axis.range is not None
        self._kept: dict[str, tuple[Change, ...]] = {}

    def moves(self, choice: Choice, replicate: int | None) -> list[tuple[Move, bool]]:
        """What a choice does, each with whether other values of the axis do the same; without a replicate all that it may do.

        Raises ContradictionError.
        """
        dice = None if replicate is None else Dice(self._study.seed, self.axis.name, replicate)
        made: list[tuple[Move, bool]] = []
        for number, edit in enumerate(choice.edits):
            try:
                found = moves(edit, choice.value, self._ground, dice)
            except EditError as error:
                place = f"{self.place}{choice.place}/{number}{error.field}"
                raise ContradictionError(Warned(place, error.code, f"{self.told(choice)}{error.detail}")) from None
            is_fixed = replicate is not None or self.axis.options is not None or not has_value(edit)
            made += [(move, is_fixed) for move in found]
        return made

    def told(self, choice: Choice) -> str:
        """Which value a mistake is about, where the axis has several."""
        return "" if len(self.listed) == 1 else f"with {self.axis.name}={choice.key}: "

    def changes(self, choice: Choice, replicate: int) -> tuple[Change, ...]:
        """What a choice does alone; kept where the next scenario may ask for it again. Raises ContradictionError."""
        if choice.key not in self._kept:
            found = together(self._ground, [(self, choice)], replicate)
            if self._samples:
                return found
            self._kept[choice.key] = found
        return self._kept[choice.key]

    def next_replicate(self) -> None:
        """Forgets what belongs to the replicate before."""
        if self._picks or self.axis.draw is not None:
            self._kept = {}

    def touched(self) -> overlaps.Touched:
        """What any choice may do. Raises ContradictionError, with the mistakes of several choices."""
        mistakes: list[Warned] = []
        found = overlaps.Touched.by(self._all_moves(mistakes), self._index)
        # A mistake that every value makes is told once.
        first = {(one.pointer, one.detail.partition(": ")[2] or one.detail): one for one in reversed(mistakes)}
        ContradictionError.refuse(list(reversed(first.values()))[:MOST_TOLD])
        return found

    def _all_moves(self, mistakes: list[Warned]) -> Iterator[tuple[Move, bool]]:
        """What every choice may do, one after another: all of it at once may be too much for the memory. Mistakes are collected."""
        for choice in self._looked_at():
            try:
                yield from self.moves(choice, None)
            except ContradictionError as error:
                mistakes += error.mistakes

    def _looked_at(self) -> Sequence[Choice]:
        """The choices that between them touch all that the axis may touch."""
        if self.axis.draw is not None:
            return [axes.drawn(self.axis, self.axis.draw, self._study.seed, 0)]
        if self.axis.range is not None and not any(places_have_value(edit) for edit in self.axis.edits):
            return self.tried()
        return self.listed

    def tried(self) -> Sequence[Choice]:
        """The choices that are tried alone: all, or some spread evenly from the first to the last."""
        if self.axis.draw is not None:
            replicates = range(min(self._study.replicates, MOST_TRIED))
            return [axes.drawn(self.axis, self.axis.draw, self._study.seed, replicate) for replicate in replicates]
        most = MOST_LISTED_TRIED if self.axis.range is None else MOST_TRIED
        if len(self.listed) <= most:
            return self.listed
        return [self.listed[number * (len(self.listed) - 1) // (most - 1)] for number in range(most)]


def together(ground: Ground, chosen: Sequence[tuple[_Line, Choice]], replicate: int) -> tuple[Change, ...]:
    """What the choices of several axes do in a replicate. Raises ContradictionError."""
    try:
        return combined(ground, (move for line, choice in chosen for move, _ in line.moves(choice, replicate)))
    except PlaceError as error:
        line, choice = chosen[-1]
        raise ContradictionError(error.at(f"{line.place}{choice.place}")) from None


class _Expansion:
    """A study on its base problem. Making it raises ContradictionError."""

    def __init__(self, study: Study, base: Document) -> None:
        _refuse_other_kind(study, base)
        self._study, self._ground = study, Ground(base)
        self._lines = [_Line(study, index, self._ground) for index in range(len(study.axes))]
        touched = self._touched()
        mistakes, self.warnings = overlaps.judged([axis.name for axis in study.axes], touched)
        ContradictionError.refuse(mistakes)
        self._clusters = overlaps.clusters(touched, self._ground)
        self._try_alone()
        self._named = _names(self._lines)

    def _touched(self) -> list[overlaps.Touched]:
        found: list[overlaps.Touched] = []
        mistakes: list[Warned] = []
        for line in self._lines:
            try:
                found.append(line.touched())
            except ContradictionError as error:
                mistakes += error.mistakes
        ContradictionError.refuse(mistakes)
        return found

    def _try_alone(self) -> None:
        """Tries values alone on the base problem. Raises ContradictionError."""
        mistakes: list[Warned] = []
        for line in self._lines:
            broken = [found for choice in line.tried() if (found := self._broken(line, choice)) is not None]
            mistakes += broken[:MOST_TOLD]
            if not broken and not any(line.changes(choice, 0) for choice in line.tried()):
                what = f"no value of axis '{line.axis.name}' changes anything: the problem is so already"
                self.warnings.append(Warned(line.place, "changes_nothing", what))
        ContradictionError.refuse(mistakes)

    def _broken(self, line: _Line, choice: Choice) -> Warned | None:
        changes = line.changes(choice, 0)
        try:
            applied(self._ground.problem, changes)
        except ContradictionError as error:
            first, more = error.mistakes[0], len(error.mistakes) - 1
            only = "/0" if len(choice.edits) == 1 else ""
            others = f"; and {more:,} more mistake{'s' if more > 1 else ''}" if more else ""
            what = f"{line.axis.name}={choice.key} breaks the problem"
            detail = f"{what}: {first.pointer or '/'}: {first.detail}{others}"
            return Warned(f"{line.place}{choice.place}{only}", "breaks_problem", detail)
        return None

    # ------------------------------------------------------------ combinations

    def scenarios(self) -> Iterator[Scenario]:
        """In their order."""
        ids: set[str] = set()
        count = 0
        for replicate in range(self._study.replicates):
            for line in self._lines:
                line.next_replicate()
            baseline = self._baseline(replicate)
            yield self._scenario(BASELINE, baseline, replicate, is_baseline=True)
            for number, combination in enumerate(self._combinations(replicate)):
                if _keys(combination) == _keys(baseline) and self._study.combine.how != "latin_hypercube":
                    continue
                made = self._scenario(_fresh(self._name(number, combination), ids), combination, replicate)
                count += len(made.changes)
                self._refuse_too_much(count)
                yield made
            ids.clear()

    def _refuse_too_much(self, count: int) -> None:
        if count > MOST_CHANGES:
            largest = max(range(len(self._lines)), key=lambda index: len(self._lines[index].listed))
            detail = (
                f"the scenarios together change more than {MOST_CHANGES:,} places; take fewer of them, or change whole columns of tables"
            )
            raise ContradictionError(Warned(f"/axes/{largest}", "too_many_changes", detail))

    def _combinations(self, replicate: int) -> Iterator[Combination]:
        study = self._study
        how = study.combine.how
        if how == "latin_hypercube":
            samples = study.combine.samples or 0
            return zip(*(axes.sampled(line.axis, study.seed, replicate, samples) for line in self._lines), strict=True)
        if how == "cartesian":
            return itertools.product(*(line.listed or self._drawn(line, replicate) for line in self._lines))
        length = max((len(line.listed) for line in self._lines if line.listed), default=1)
        return zip(*(line.listed or self._drawn(line, replicate) * length for line in self._lines), strict=True)

    def _drawn(self, line: _Line, replicate: int) -> tuple[Choice, ...]:
        draw = line.axis.draw
        return () if draw is None else (axes.drawn(line.axis, draw, self._study.seed, replicate),)

    def _baseline(self, replicate: int) -> Combination:
        study = self._study
        named = study.baseline or {}
        # With nothing but draws, the base problem as it is is all that they can be compared with.
        with_draws = study.combine.how != "latin_hypercube" and not all(map(axes.is_drawn, study.axes))
        found: list[Choice | None] = []
        for line in self._lines:
            if line.axis.name in named:
                found.append(axes.named(line.axis, named[line.axis.name]))
            else:
                found.append(next(iter(self._drawn(line, replicate)), None) if with_draws else None)
        return tuple(found)

    # ------------------------------------------------------------ one scenario

    def _scenario(self, name: str, combination: Combination, replicate: int, *, is_baseline: bool = False) -> Scenario:
        chosen = [(line.axis, choice) for line, choice in zip(self._lines, combination, strict=True) if choice is not None]
        return Scenario(
            id=name if replicate == 0 else f"{name}@{replicate}",
            values={axis.name: choice.shown for axis, choice in chosen},
            numbers={axis.name: choice.number for axis, choice in chosen},
            replicate=replicate,
            seed=draws.solver_seed(self._study.seed, replicate),
            changes=self._changes(combination, replicate),
            spend_usd=sum(choice.usd for _, choice in chosen),
            is_baseline=is_baseline,
        )

    def _changes(self, combination: Combination, replicate: int) -> tuple[Change, ...]:
        parts: list[tuple[Change, ...]] = []
        for cluster in self._clusters:
            chosen = [(self._lines[axis], choice) for axis in cluster if (choice := combination[axis]) is not None]
            alone = chosen[0] if len(chosen) == 1 else None
            part = alone[0].changes(alone[1], replicate) if alone is not None else together(self._ground, chosen, replicate)
            if part:
                parts.append(part)
        return _in_order(parts)

    def _name(self, number: int, combination: Combination) -> str:
        """What a scenario is called: by its values, or its number among samples; draws belong to the replicate."""
        if self._study.combine.how == "latin_hypercube":
            return f"sample-{number + 1}"
        given = [self._named[index][choice.key] for index, choice in enumerate(combination) if choice is not None and self._named[index]]
        name = ",".join(given) or "drawn"
        return name if len(name) <= LONGEST_ID else f"{name[: LONGEST_ID - 9]}-{_digest(name)}"


def _refuse_other_kind(study: Study, base: Document) -> None:
    try:
        found = kind_of(base).name
    except UnknownKindError:
        return
    if found != study.kind:
        raise ContradictionError(
            Warned("/kind", "other_kind", f"the study is of kind '{study.kind}', and its base problem of '{found}'; correct one")
        )


def _in_order(parts: list[tuple[Change, ...]]) -> tuple[Change, ...]:
    """All changes in the order of their pointers, as each part is by itself; that none lies between two of another part is usual."""
    if len(parts) == 1:
        return parts[0]
    parts.sort(key=lambda part: part[0].pointer)
    joined = tuple(itertools.chain.from_iterable(parts))
    if all(one[-1].pointer < other[0].pointer for one, other in itertools.pairwise(parts)):
        return joined
    return tuple(sorted(joined, key=BY_POINTER))


def _keys(combination: Combination) -> list[str | None]:
    return [None if choice is None else choice.key for choice in combination]


def _names(lines: Sequence[_Line]) -> list[dict[str, str]]:
    """Of each axis that is not drawn the part of an id that each choice gives."""
    return [{choice.key: name for choice, name in zip(line.listed, _words(line.axis, line.listed), strict=True)} for line in lines]


def _words(axis: Axis, listed: Sequence[Choice]) -> list[str]:
    """``name=value`` with what file names, addresses and shells take as it is; values that become alike get a suffix."""
    plain = [_word(choice.key) for choice in listed]
    counts: dict[str, int] = {}
    for word in plain:
        counts[word] = counts.get(word, 0) + 1
    words = [word if counts[word] == 1 else f"{word}-{_digest(choice.key)}" for word, choice in zip(plain, listed, strict=True)]
    return [f"{_word(axis.name)}={word}" for word in words]


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-") or _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _fresh(name: str, ids: set[str]) -> str:
    """The id, or one like it where it is taken."""
    while name in ids:
        name = f"{name}-{_digest(name)}"
    ids.add(name)
    return name
