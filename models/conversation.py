"""What a kind may ask of the solvers, and what it is told: a search written as a conversation.

A kind that needs more than one program for an answer (levels of fairness, prices that are refined, scenarios one after
another) writes its search as a generator in ``scale.py``::

    def converse(problem, plan, seed, seconds, gap) -> Conversation:
        answer = yield Solve(program)          # the driver solves and sends back a Solved
        ...
        yield Proved("cost", bound, METHOD)    # it is told a bound of a goal,
        yield Offered(plan, "column generation")  # and a plan, which it verifies before it counts

The kind stays pure: it makes programs and reads answers. ``optimizer.conversation`` holds the other side: deadlines,
cancellation, the solver, the check of every value and every bound.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.contract import ColumnSource, NewColumns, RowEdits
    from models.program import Floats, Ints, LinearProgram

Method = Literal["choose", "simplex", "ipm", "network"]
Status = Literal["optimal", "feasible", "infeasible", "unbounded", "infeasible_or_unbounded", "no_solution", "error"]


@dataclass(frozen=True, slots=True, eq=False)
class Solve:
    """Solve this program.

    ``method``: ``network`` is OR-Tools' min-cost flow, for pure networks in whole numbers (answered with status ``error`` where the
    program is none); ``ipm`` without ``crossover`` is fastest where no vertex is needed. ``presolve_rule_off`` as in
    ``optimizer.highs.Options``. ``share`` of the time that is left is what it may take. ``gap`` is for integer programs; ``start``,
    shape (columns,), holds NaN where unknown. ``keep`` names a linear program that stays loaded, for ``Again``. ``heard`` makes a plan
    of each better incumbent of an integer program, which is offered under the name ``phase``.
    """

    program: LinearProgram
    method: Method = "choose"
    crossover: bool = True
    presolve_rule_off: int = 0
    share: float = 1.0
    gap: float | None = None
    start: Floats | None = None
    keep: str | None = None
    heard: Callable[[Floats], Any] | None = None
    phase: str = "program"


@dataclass(frozen=True, slots=True, eq=False)
class NewRows:
    """Rows to append: row k has the entries ``starts[k]:starts[k + 1]`` of ``indices`` (columns) and ``values``."""

    lower: Floats
    upper: Floats
    starts: Ints
    indices: Ints
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class ColumnEdits:
    """New bounds, and where ``cost`` is given new costs, for some columns; each shape (edits,)."""

    columns: Ints
    lower: Floats | None = None
    upper: Floats | None = None
    cost: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """Edit a program that was kept and solve it again from its last basis. Edits are made in the order of the fields."""

    name: str
    new_columns: NewColumns | None = None
    new_rows: NewRows | None = None
    row_edits: RowEdits | None = None
    column_edits: ColumnEdits | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Generate:
    """Solve a program too wide to write down by column generation; ``goal`` names the goal that its bounds are of, None: of none."""

    source: ColumnSource
    goal: str | None = None
    method_text: str = ""
    tolerance: float = 1e-7
    share: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """What became of a ``Solve``, ``Again`` or ``Generate``.

    ``values`` (columns,) passed the feasibility check; ``bound`` was recomputed from ``row_duals`` for a linear program and is the
    solver's for an integer one; signs as in ``optimizer.backend.ProgramResult``. None where there is none. Of a ``Generate``, ``status`` is
    ``optimal`` when no column is missing, and ``values`` may be fewer than the columns that were priced.
    """

    status: Status
    values: Floats | None = None
    objective: float | None = None
    bound: float | None = None
    row_duals: Floats | None = None
    reduced_costs: Floats | None = None


@dataclass(frozen=True, slots=True)
class Offered:
    """A plan; answered with whether it is right and better than the best so far (or ``says_more`` and is no worse)."""

    plan: Any
    phase: str
    says_more: bool = False


@dataclass(frozen=True, slots=True)
class Proved:
    """A bound on a goal, valid for the whole problem, and the method that proves it.

    Answered with whether every goal is now closed to the gap that the user wants.
    """

    goal: str
    bound: float
    method: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """No plan exists, proved. The driver looks for the smallest conflict in the exact program, and the search ends."""


@dataclass(frozen=True, slots=True)
class Endless:
    """The goal improves without limit from the plan that was offered; ``direction`` says along what. The search ends."""

    goal: str
    direction: str


Step = Solve | Again | Generate | Offered | Proved | Impossible | Endless
Conversation = Generator[Step, Any, None]
