"""Why a program has no solution: the smallest conflict among its named rows, and the cheapest repair.

The conflict is found in two steps that work for integer programs as well as linear ones (HiGHS's own search is for linear
ones only). The elastic filter gives every named row slack, minimises it, makes the rows that need slack hard, and goes on until
the hard rows alone are infeasible. The deletion filter then leaves out every row that the infeasibility survives without.

Sources: J. W. Chinneck, E. W. Dravnieks, "Locating minimal infeasible constraint sets in linear programs", ORSA Journal on
Computing 3 (1991); for integer programs O. Guieu, J. W. Chinneck, INFORMS Journal on Computing 11 (1999).
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from models.program import Bools, Floats, Ints, LinearProgram
from optimizer.backend import FEASIBILITY_TOLERANCE, Backend, ProgramStatus
from optimizer.limits import Deadline, Limits
from optimizer.result import Conflict

SHARE_FOR_REPAIR = 0.4  # of the time: the repair is one or two solves, the conflict many
NEEDED = 10 * FEASIBILITY_TOLERANCE  # less slack than this, in multiples of the row's scale, is rounding

Name = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Repair:
    """One group of rows that gives way, by ``amount`` in its unit; ``too_few`` when its lower side is what gives way."""

    name: str
    ids: tuple[str, ...]
    amount: float
    too_few: bool


def diagnose(  # noqa: PLR0913 - what of the program may be named, changed and said is told by name
    program: LinearProgram,
    backend: Backend,
    limits: Limits,
    *,
    units: Mapping[str, str] | None = None,
    keep: frozenset[str] = frozenset(),
    firm: frozenset[str] = frozenset(),
    cut: frozenset[str] = frozenset(),
    wording: Callable[[Repair], str] | None = None,
    cancel: threading.Event | None = None,
) -> Conflict | None:
    """The smallest conflict and the cheapest repair of an infeasible program; None when all rows can hold after all.

    Rows are known by block name and ids. Rows of the blocks in ``keep``, rows outside all blocks, and column bounds hold in
    any case and are never named. Rows of the blocks in ``firm`` may be part of the conflict, but the repair leaves them alone
    if it can. ``cut`` are blocks of columns whose upper bounds may repeat what a named row says; such a bound is lifted, so
    that it does not stand in for the row. The repair minimises what gives way in sum, each in multiples of the
    typical largest coefficient of its block, so that no block is dear or cheap for its unit alone. ``units`` has the unit
    of each block; ``wording`` makes other sentences than ``node_memory[n1]: 12 GiB short``.

    The conflict is irreducible: without any one of its members the rest can hold. Its status is ``proved`` when every solve
    it rests on was conclusive. When the time limit or ``cancel`` came first it is ``heuristic``: the set may be
    larger than need be, or not yet a conflict. A program that is infeasible by its kept rows and bounds alone has a
    conflict without members. Raises what ``backend.solve`` raises.
    """
    deadline = Deadline.after(limits.time_limit_s)
    asked = _Asked(backend, limits, deadline, cancel)
    groups = _Groups(program, keep, cut)
    repairs = _cheapest_repair(groups, asked, firm)
    if repairs is None:
        return None
    found, proved = _conflict(groups, asked)
    say = wording or (lambda repair: _sentence(repair, units or {}))
    return Conflict(tuple(groups.names[group] for group in found), tuple(map(say, repairs)), "proved" if proved else "heuristic")


def _sentence(repair: Repair, units: Mapping[str, str]) -> str:
    label = f"{repair.name}[{','.join(repair.ids)}]" if repair.ids else repair.name
    unit = f" {units[repair.name]}" if repair.name in units else ""
    return f"{label}: {rounded_up(repair.amount)}{unit} {'too few' if repair.too_few else 'short'}"


def rounded_up(amount: float) -> str:
    """An amount with at most three decimals; rounded up, because a repair told too small would not do."""
    return f"{math.ceil(amount * 1000 - 0.01) / 1000:.12g}"


# ---------------------------------------------------------------- solving


class _Answer(Enum):
    """What one solve says about a set of rows."""

    holds = "holds"
    conflicts = "conflicts"
    unknown = "unknown"


@dataclass(frozen=True, slots=True)
class _Asked:
    """The backend with what is left of the limits."""

    backend: Backend
    limits: Limits
    deadline: Deadline
    cancel: threading.Event | None

    def solve(self, program: LinearProgram, share: float = 1.0) -> tuple[_Answer, Floats | None]:
        """Solve within ``share`` of the time left."""
        left = self.deadline.remaining_s() * share
        if left <= 0 or (self.cancel is not None and self.cancel.is_set()):
            return _Answer.unknown, None
        result = self.backend.solve(program, replace(self.limits, time_limit_s=left), cancel=self.cancel)
        if result.values is not None:
            return _Answer.holds, result.values
        return (_Answer.conflicts if result.status is ProgramStatus.infeasible else _Answer.unknown), None


class _Groups:
    """A program without objective whose named rows can be given slack, be hard, or be left out, group by group.

    ``names[g]`` is (block name, ids) of group ``g``; ``of_row`` has the group of each row, -1 for those that always hold.
    """

    def __init__(self, program: LinearProgram, keep: frozenset[str], cut: frozenset[str]) -> None:
        numbers: dict[Name, int] = {}
        self.of_row: Ints = np.full(program.rows, -1, dtype=np.int64)
        for block in program.row_blocks:
            if block.name not in keep:
                for row, ids in enumerate(block.ids, block.start):
                    self.of_row[row] = numbers.setdefault((block.name, tuple(map(str, ids))), len(numbers))
        self.names = tuple(numbers)
        self.scale = _scales(program)
        plain = replace(_with_cuts_lifted(program, self.of_row >= 0, cut), row_blocks=(), column_blocks=())
        self.program = replace(plain, cost=np.zeros(program.columns), offset=0.0, maximise=False)

    def chosen(self, groups: Iterable[int]) -> Bools:
        """Which groups are among ``groups``, shape (groups,)."""
        mask = np.zeros(len(self.names), dtype=np.bool_)
        mask[list(groups)] = True
        return mask

    def rows_of(self, mask: Bools) -> Bools:
        """Which rows belong to a group in ``mask``, shape (rows,)."""
        found: Bools = (self.of_row >= 0) & np.append(mask, False)[self.of_row]  # rows of no group look at the entry added
        return found

    def gives_way(self, amounts: Floats) -> list[int]:
        """The groups of the rows whose ``amounts``, shape (rows,), are more than rounding."""
        return [int(group) for group in np.unique(self.of_row[np.abs(amounts) > NEEDED * self.scale])]

    def least_slack(self, program: LinearProgram, soft: Bools, asked: _Asked, share: float = 1.0) -> tuple[_Answer, Floats]:
        """The slack by row (positive: below its lower side) of least total, when the groups in ``soft`` have slack."""
        may = self.rows_of(soft)
        below, above = np.flatnonzero(may & np.isfinite(program.row_lower)), np.flatnonzero(may & np.isfinite(program.row_upper))
        rows = np.concatenate((below, above))
        sign = np.concatenate((np.ones(len(below)), -np.ones(len(above))))
        count = len(rows)
        elastic = program.with_columns(
            1.0 / self.scale[rows],
            np.zeros(count),
            np.full(count, np.inf),
            np.zeros(count, dtype=np.bool_),
            np.arange(count + 1),
            rows,
            sign,
        )
        answer, values = asked.solve(elastic, share)
        slack = np.zeros(program.rows)
        if values is not None:
            np.add.at(slack, rows, sign * values[program.columns :])
        return answer, slack

    def only(self, program: LinearProgram, groups: Iterable[int]) -> LinearProgram:
        """The program with the rows that always hold and those of ``groups``."""
        rows = (self.of_row < 0) | self.rows_of(self.chosen(groups))
        entries = rows[program.entry_rows]
        return replace(
            program,
            row_lower=program.row_lower[rows],
            row_upper=program.row_upper[rows],
            starts=np.concatenate(([0], np.cumsum(np.diff(program.starts)[rows]))),
            indices=program.indices[entries],
            coefficients=program.coefficients[entries],
        )

    def broken_by(self, program: LinearProgram, values: Floats) -> list[int]:
        """The groups that ``values`` break."""
        activity = program.activity(values)
        return self.gives_way(
            np.where(self.of_row >= 0, np.maximum(program.row_lower - activity, activity - program.row_upper).clip(0.0), 0.0)
        )


def _scales(program: LinearProgram) -> Floats:
    """The size of each row's terms, shape (rows,): over its block, the median of the rows' largest coefficients."""
    largest = np.zeros(program.rows)
    np.maximum.at(largest, program.entry_rows, np.abs(program.coefficients))
    scale = np.ones(program.rows)
    for block in program.row_blocks:
        sizes = largest[block.rows]
        if (sizes > 0).any():
            scale[block.rows] = np.median(sizes[sizes > 0])
    return scale


def _with_cuts_lifted(program: LinearProgram, named: Bools, cut: frozenset[str]) -> LinearProgram:
    """The program without those upper bounds of the columns in ``cut`` that a named row implies by itself.

    With all named rows in place nothing changes. A bound that no row implies stays: it says something of its own.
    """
    liftable = np.zeros(program.columns, dtype=np.bool_)
    for block in program.column_blocks:
        liftable[block.rows] = block.name in cut
    lifted = np.zeros(program.columns, dtype=np.bool_)
    rows, columns = program.entry_rows, program.indices
    for sign, sides in ((1.0, program.row_upper), (-1.0, -program.row_lower)):
        weight = sign * program.coefficients
        at = np.where(weight > 0, program.column_lower[columns], program.column_upper[columns])
        # An infinite least activity proves nothing, and so does one that rests on a bound which is itself to be lifted.
        unsafe = ~np.isfinite(at) | ((weight < 0) & liftable[columns])
        spoilt = np.bincount(rows[unsafe], minlength=program.rows) > 0
        least = np.bincount(rows, weights=np.where(unsafe, 0.0, weight * at), minlength=program.rows)
        proves = named & np.isfinite(sides) & ~spoilt
        use = proves[rows] & (weight > 0) & liftable[columns]
        r, c, w = rows[use], columns[use], weight[use]
        implied = (sides[r] - least[r]) / w + program.column_lower[c]
        implied = np.where(program.integer[c], np.floor(implied + NEEDED), implied)
        lifted[c[implied <= program.column_upper[c] + NEEDED]] = True
    return replace(program, column_upper=np.where(lifted, np.inf, program.column_upper))


# ---------------------------------------------------------------- the cheapest repair


def _cheapest_repair(groups: _Groups, asked: _Asked, firm: frozenset[str]) -> list[Repair] | None:
    """What gives way; None when nothing has to, empty when no repair was found in time or none exists."""
    everything = np.ones(len(groups.names), dtype=np.bool_)
    soft = np.array([name not in firm for name, _ in groups.names], dtype=np.bool_)
    answer, slack = groups.least_slack(groups.program, soft, asked, SHARE_FOR_REPAIR)
    if answer is not _Answer.holds and not soft.all():
        answer, slack = groups.least_slack(groups.program, everything, asked, SHARE_FOR_REPAIR)
    if answer is not _Answer.holds:
        return []
    if not groups.gives_way(slack):
        return None
    amounts: dict[tuple[int, bool], float] = {}
    for row in np.flatnonzero(np.abs(slack) > NEEDED * groups.scale).tolist():
        key = int(groups.of_row[row]), bool(slack[row] > 0)
        amounts[key] = max(amounts.get(key, 0.0), abs(float(slack[row])))
    return [Repair(*groups.names[group], amount, too_few) for (group, too_few), amount in amounts.items()]


# ---------------------------------------------------------------- the smallest conflict


def _conflict(groups: _Groups, asked: _Asked) -> tuple[list[int], bool]:
    """The groups of an irreducible conflict, and whether that is proved of them."""
    program = groups.program
    answer, found = _Answer.holds, list[int]()
    if program.is_mip:
        # What conflicts without integrality conflicts with it, and that is found much faster.
        relaxed = program.relaxed()
        answer, found = _elastic_filter(groups, relaxed, asked)
        if answer is _Answer.conflicts:
            found, _ = _deletion_filter(groups, relaxed, found, asked)
    if answer is _Answer.holds:
        answer, found = _elastic_filter(groups, program, asked)
    if answer is not _Answer.conflicts:
        return found, False
    return _deletion_filter(groups, program, found, asked)


def _elastic_filter(groups: _Groups, program: LinearProgram, asked: _Asked) -> tuple[_Answer, list[int]]:
    """Groups that conflict, hardly more than need be; or the answer that the program holds, or the groups so far."""
    hard: set[int] = set()
    while True:
        answer, slack = groups.least_slack(program, ~groups.chosen(hard), asked)
        if answer is not _Answer.holds:
            return answer, sorted(hard)
        needing = groups.gives_way(slack)
        if not needing:
            return _Answer.holds, []
        hard.update(needing)


def _deletion_filter(groups: _Groups, program: LinearProgram, found: list[int], asked: _Asked) -> tuple[list[int], bool]:
    """The conflict ``found`` without what it does not need, and whether each member is proved to be needed.

    Whole blocks are tried first, then halves of them. A member that is needed in a set is needed in every conflict inside it.
    """
    kept, needed = set(found), set[int]()
    proved = True
    by_block: defaultdict[str, list[int]] = defaultdict(list)
    for group in found:
        by_block[groups.names[group][0]].append(group)
    waiting = sorted(by_block.values(), key=len)  # the last is tried first: the largest
    while waiting:
        part = [group for group in waiting.pop() if group not in needed]
        if not part:
            continue
        answer, values = asked.solve(groups.only(program, kept.difference(part)))
        if answer is _Answer.conflicts:
            kept.difference_update(part)
            continue
        if answer is _Answer.unknown:
            proved = False
            continue
        # Values that break just one member show that the others hold without it.
        broken = kept.intersection(groups.broken_by(program, values)) if values is not None else set[int]()
        if len(part) == 1:
            needed.update(part)
        else:
            needed.update(broken if len(broken) == 1 else ())
            waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
    return sorted(kept), proved
