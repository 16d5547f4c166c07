"""Why a program has no solution: the smallest conflict among its named rows, and the cheapest repair.

The conflict is found in two steps that work for integer programs as well as linear ones (HiGHS's own IIS is for linear
ones only). The elastic filter gives every named row slack, minimises it, makes the rows that need slack hard, and goes on until
the hard rows alone are infeasible. The deletion filter then leaves out every row that the infeasibility survives without.

Source: J. W. Chinneck, E. W. Dravnieks, "Locating minimal infeasible constraint sets in linear programs", ORSA Journal on
Computing 3, 1991; for integer programs O. Guieu, J. W. Chinneck, INFORMS Journal on Computing 11, 1999.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.program import Floats, Ints, LinearProgram
from optimizer.backend import FEASIBILITY_TOLERANCE, Backend, ProgramResult, ProgramStatus
from optimizer.limits import Deadline, Limits
from optimizer.result import Conflict

if TYPE_CHECKING:
    import threading

SHARE_FOR_REPAIR = 0.4  # of the time: the repair is one solve, the conflict many
NEEDED = 10 * FEASIBILITY_TOLERANCE  # slack below this is rounding; relative to the row's scale

Name = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Repair:
    """One row group that gives way: ``amount`` more, in the unit of its rows. ``too_few``: its lower side is what gives."""

    name: str
    ids: tuple[str, ...]
    amount: float
    too_few: bool


Wording = Callable[[Repair], str]


def diagnose(
    program: LinearProgram,
    backend: Backend,
    limits: Limits,
    *,
    units: Mapping[str, str] | None = None,
    keep: frozenset[str] = frozenset(),
    firm: frozenset[str] = frozenset(),
    wording: Wording | None = None,
    cancel: threading.Event | None = None,
) -> Conflict | None:
    """The smallest conflict and the cheapest repair of an infeasible program; None when the program turns out to be feasible.

    Rows are known by block name and ids. Rows of the blocks in ``keep``, rows outside all blocks, and all column bounds hold
    in any case: they are never part of the conflict. Rows of the blocks in ``firm`` may be part of the conflict, but the repair leaves
    them alone if it can. The repair minimises the sum of what gives way, each in multiples of the typical largest coefficient of
    its block, so that no block is dear or cheap for its unit alone. ``units`` has the unit of each block; ``wording`` replaces
    the sentences made from it.

    The conflict is irreducible: without any one of its members the rest can hold. The status is ``proved`` when every
    solve this rests on was conclusive; ``heuristic`` when the time limit or ``cancel`` came first, and then the
    members are those found so far: the set may be larger than need be, or not yet a conflict. A program that is infeasible by its
    bounds and kept rows alone has a conflict without members.
    """
    deadline = Deadline.after(limits.time_limit_s)
    elastic = _Elastic(program, keep, lambda asked, share: _solve(asked, backend, limits, deadline, share, cancel))
    repairs = elastic.repair(firm)
    if repairs is None:
        return None
    found, proved = elastic.conflict()
    said = wording or (lambda one: _sentence(one, units or {}))
    rules = tuple(elastic.names[group] for group in found)
    return Conflict(rules, tuple(said(one) for one in repairs), "proved" if proved else "heuristic")


def _solve(
    program: LinearProgram, backend: Backend, limits: Limits, deadline: Deadline, share: float, cancel: threading.Event | None
) -> ProgramResult | None:
    """One solve within ``share`` of the time left; None when there is none left."""
    left = deadline.remaining_s() * share
    if left <= 0 or (cancel is not None and cancel.is_set()):
        return None
    return backend.solve(program, replace(limits, time_limit_s=max(left, 1e-3)), cancel=cancel)


def _sentence(repair: Repair, units: Mapping[str, str]) -> str:
    """``node_memory[n1]: 12 GiB short``."""
    label = f"{repair.name}[{','.join(repair.ids)}]" if repair.ids else repair.name
    unit = f" {units[repair.name]}" if repair.name in units else ""
    return f"{label}: {_number(repair.amount)}{unit} {'too few' if repair.too_few else 'short'}"


def _number(amount: float) -> str:
    """At most three decimals, rounded up: a repair that is told too small would not do."""
    return f"{np.ceil(amount * 1000 - 0.01) / 1000:.12g}"


class _Elastic:
    """A program whose named rows can be given slack, made hard, or left out, group by group.

    ``names[g]`` is (block name, ids) of group ``g``. Every solve goes through ``ask(program, share of the time)``.
    """

    def __init__(self, program: LinearProgram, keep: frozenset[str], ask: Callable[[LinearProgram, float], ProgramResult | None]) -> None:
        numbers: dict[Name, int] = {}
        self._group: Ints = np.full(program.rows, -1, dtype=np.int64)
        for block in program.row_blocks:
            if block.name not in keep:
                for place, ids in enumerate(block.ids):
                    name = block.name, tuple(str(one) for one in ids)
                    self._group[block.start + place] = numbers.setdefault(name, len(numbers))
        self.names = list(numbers)
        self._ask = ask
        self._scale = _scales(program)
        self._program = replace(
            _unhidden(program, self._group >= 0), cost=np.zeros(program.columns), maximise=False, offset=0.0, row_blocks=(), column_blocks=()
        )

    # ------------------------------------------------------------ the cheapest repair

    def repair(self, firm: frozenset[str]) -> list[Repair] | None:
        """What gives way in the cheapest repair; None when nothing has to, empty when no repair was found in time."""
        soft = np.array([name not in firm for name, _ in self.names], dtype=np.bool_)
        found: tuple[Floats, bool] | None = None
        if not soft.all():
            found = self._least_slack(self._program, soft, SHARE_FOR_REPAIR)
        if found is None:
            found = self._least_slack(self._program, np.ones(len(self.names), dtype=np.bool_), SHARE_FOR_REPAIR)
        if found is None:
            return []
        slack, _ = found
        worst = np.abs(slack) / self._scale
        if (worst <= NEEDED).all():
            return None
        repairs: dict[tuple[int, bool], float] = {}
        for row in np.flatnonzero(worst > NEEDED).tolist():
            key = int(self._group[row]), bool(slack[row] > 0)
            repairs[key] = max(repairs.get(key, 0.0), abs(float(slack[row])))
        return [Repair(*self.names[group], amount, too_few) for (group, too_few), amount in repairs.items()]

    def _least_slack(self, program: LinearProgram, soft: np.typing.NDArray[np.bool_], share: float) -> tuple[Floats, bool] | None:
        """Slack by row (positive: the lower side gives) of least total when the ``soft`` groups have slack and the others are hard.

        And whether the total is proved to be least. None when there is no solution, or none was found: see ``_infeasible``.
        """
        rows = np.flatnonzero((self._group >= 0) & soft[self._group])
        widened, signs = _with_slack(program, rows, self._scale)
        result = self._ask(widened, share)
        self._infeasible = result is not None and result.status is ProgramStatus.infeasible
        if result is None or result.values is None:
            return None
        taken = result.values[program.columns :] * signs
        slack = np.zeros(program.rows)
        np.add.at(slack, np.concatenate((rows, rows))[: len(taken)] if len(taken) == 2 * len(rows) else rows, taken)
        return slack, result.status is ProgramStatus.optimal

    # ------------------------------------------------------------ the smallest conflict

    def conflict(self) -> tuple[list[int], bool]:
        """The groups of an irreducible conflict, and whether it is proved to be one."""
        if not self._program.is_mip:
            found, sure = self._filtered(self._program)
            return self._deleted(self._program, found) if sure else (found, False)
        # What conflicts without integrality conflicts with it, and is found much faster.
        relaxed = self._program.relaxed()
        found, sure = self._filtered(relaxed)
        if sure:
            found, _ = self._deleted(relaxed, found)
        else:
            found, sure = self._filtered(self._program)
        return self._deleted(self._program, found) if sure else (found, False)
