"""What every kind of decision promises.

A kind is a folder in ``models/`` whose ``__init__`` says ``KIND = Kind(...)``. Everything else about it is found by
file name, imported on first use: so listing kinds costs nothing, and reading a plan never loads a solver.

    schema.py       Problem, Plan, Rule (a StrEnum of constraint names), example() -> Problem; a Problem refuses what contradicts itself
                    with ContradictionError
    checks.py       warnings(problem) -> tuple[Warned, ...]      (optional: what is legal but suspicious)
    examples.py     examples() -> dict[name, Problem], the usual one first      (optional)
    verify.py       verify(problem, plan) -> Verdict;  goals(problem) -> tuple[Goal, ...];
                    prepare(problem)      (optional: works out, and keeps, what verify will need; called in a thread of its own)
    heuristic.py    heuristic(problem, seed, seconds) -> Plan | None;  simple_bounds(problem) -> dict[goal, bound]
    formulation.py  build, extract, start, size      (the exact program; LINKING and HASTENING name rows that are no rules);
                    priced(problem, plan, row_duals, reduced_costs)      (optional: the plan with the prices of its linear program)
    scale.py        METHOD (what proves its bounds);  applies(problem) -> bool;
                    relaxation(problem, goal, floors, known) -> ColumnSource | None;
                    guided(problem, source, values, seconds) -> Plan | None;  packing -> a Dive | None;
                    exchange(problem, plan);  filled(problem, plan, seconds);
                    neighbourhoods(problem, plan)      (optional; for large problems), or in place of all from ``relaxation`` on:
                    converse(problem, plan, seed, seconds, gap) -> Conversation      (see ``models.conversation``);
                    starts_from(problem) -> bool: whether it makes use of the plan      (optional: else it is taken to);
                    REMEMBERS = True: ``converse`` takes ``memory=`` too, a dict in which it may leave for the next problem what it has
                    learnt, and which it never takes on trust      (optional);
                    carried(problem, plan, seconds) -> Plan | None: a right plan of this problem made of one of a problem much like it
                    (optional);
                    part(problem, plan, rng) -> Neighbourhood | None: a large part of a plan that came along, for a relaxation and packing
                    of its own      (optional)
    explain.py      explain(problem, plan, subject, seconds) -> tuple[Reason, ...];  subjects(problem, plan);
                    rule_units, repair_text, FIRM_RULES, CUT_COLUMNS      (the words of optimizer.diagnose);
                    alike(problem, plan)      (optional: which ids share the reasons of the first of them);
                    LEFT_OUT      (optional: the heading above those that ``why_not`` is told of; "Not in the plan" where it is left out);
                    repair_in(problem, rule, ids, amount, *, too_few)      (optional: repair_text with the problem's own numbers)
    views.py        VIEWS: dict[name, Callable[[Problem, Plan], document]]      (optional: other ways to look at a plan, each a plain
                    document of dictionaries, lists, strings, finite numbers and None; the web process loads it: no solver in it)
    curve.py        varied(problem, id, value) -> Problem, with another value of one quantity of ``id``; quick(problem) -> bool: whether
                    converse_curve(problem, id, ascending values, *, gap, seed, seconds) can answer all of them: a conversation that asks
                    for solves only and returns a point for each, or for the first ones: ``bound`` (inf: no plan), ``value`` (None: no
                    plan found), ``price``; plan_at(problem, point, id) -> (problem, plan) | None      (optional: see ``optimizer.curve``)

A Problem also has ``ordered_goals()``, the goals as ``formulation.build`` takes them, in the order of ``verify.goals``. ``values`` that
``guided`` gets may have fewer columns than the source has priced: the last ones priced may never have entered the master.

``formulation.build`` returns a Pyomo model, or a ``LinearProgram`` where the problem's data is arrays already; each of its columns must
then belong to a block. ``extract`` gets the values by block (or variable) and id tuple, each family in the order of its columns.
``priced`` is called when ``build`` gave a program without integer columns and it was solved to its optimum; the arrays are those
of ``ProgramResult``. It returns a plan with the same goals' values, which takes the place of the one without prices.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from models.program import Floats, Ints, LinearProgram
    from models.vocabulary import Document

MAX_VIOLATIONS = 100  # a verdict lists at most this many: the rest is only counted
TOLERANCE = 1e-6  # absolute, in the unit of the quantity; sums of many fractions are exact to far better than this


class Sense(StrEnum):
    """Which way a goal is better."""

    maximise = "maximise"
    minimise = "minimise"


@dataclass(frozen=True, slots=True)
class Goal:
    """One objective: ``name`` as in the Problem, the direction, and the unit its value is told in."""

    name: str
    sense: Sense
    unit: str

    def better(self, first: float, second: float) -> bool:
        """Whether ``first`` is strictly better than ``second``, beyond rounding."""
        slack = 1e-9 * max(1.0, abs(first), abs(second))
        return first > second + slack if self.sense is Sense.maximise else first < second - slack


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: which, on whom, by how much, in words."""

    rule: str
    ids: tuple[str, ...]
    amount: float
    unit: str
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an independent check of a plan found: the broken rules, and every goal's value recomputed from the plan alone.

    ``objectives`` is ordered as the problem's goals; ``metrics`` are further plain facts (counts, shares) worth showing.
    ``violations`` holds at most MAX_VIOLATIONS entries, ``violation_count`` all of them.
    """

    objectives: dict[str, float]
    violations: tuple[Violation, ...] = ()
    violation_count: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no rule is broken."""
        return self.violation_count == 0

    @property
    def largest_violation(self) -> float:
        """The largest broken amount, 0.0 when none."""
        return max((violation.amount for violation in self.violations), default=0.0)


@dataclass(frozen=True, slots=True)
class Reason:
    """One sentence of explanation about ``subject`` (a user's id, or "" for the whole plan).

    ``rule`` is a declared rule or goal name and ``ids`` are the user's ids it is about. ``status`` says whether the
    sentence follows by proof (a count over all possibilities, or an optimality proof) or from what a search saw.
    ``code`` is stable for machines: why_not, would_place, displaces, binding, moved, evicted, summary.
    """

    subject: str
    code: str
    rule: str
    ids: tuple[str, ...]
    text: str
    status: Literal["proved", "heuristic"]


@dataclass(frozen=True, slots=True)
class Warned:
    """Something wrong with a problem, or legal but suspicious: a JSON pointer, a stable code, what is wrong and the cure."""

    pointer: str
    code: str
    detail: str


class ContradictionError(ValueError):
    """A problem that contradicts itself, in ways that no field can see alone; at least one mistake.

    A ValueError, so that Pydantic takes it for a mistake in the document, and keeps it: whoever tells of the mistake finds the
    places and the codes in it.
    """

    def __init__(self, *mistakes: Warned) -> None:
        super().__init__(*mistakes)
        self.mistakes = mistakes

    def __str__(self) -> str:
        return "\n".join(f"{mistake.pointer}: {mistake.detail}" for mistake in self.mistakes)

    @classmethod
    def refuse(cls, mistakes: Sequence[Warned]) -> None:
        """Raises it when there are any."""
        if mistakes:
            raise cls(*mistakes)


@dataclass(frozen=True, slots=True, eq=False)
class NewColumns:
    """Columns to append to a master program (by columns, as ``LinearProgram.with_columns``), and what they promise.

    ``excess`` is how much all columns that are not in the master yet, together, could raise the optimum beyond the
    dual bound at the duals they were priced with: 0.0 means that the master is complete.
    """

    cost: Floats
    lower: Floats
    upper: Floats
    starts: Ints
    indices: Ints
    values: Floats
    excess: float


class ColumnSource(Protocol):
    """A program too wide to write down: the columns that start it, and a price for the rest in closed form."""

    def master(self) -> LinearProgram:
        """The restricted master program, maximising or minimising, with every row."""
        ...

    def price(self, row_duals: Floats) -> NewColumns:
        """The best columns still missing at these row duals."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class RowEdits:
    """New sides for some rows of a program: positions and the two sides, each shape (edits,)."""

    rows: Ints
    lower: Floats
    upper: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Neighbourhood:
    """A small problem of the same kind cut out of a large one: its own part of the plan, and how an answer is put back."""

    problem: Document
    plan: Document
    merge: Callable[[Any], Any]


class Dive(Protocol):
    """A relaxation turned into a plan in rounds: each round asks small programs for parts and fixes some of them."""

    def programs(self, values: Floats, row_duals: Floats) -> Sequence[LinearProgram]:
        """The small programs of this round, at the relaxation's values and row duals; none when all is fixed."""
        ...

    def take(self, answers: Sequence[Floats | None]) -> RowEdits | None:
        """Fix parts by the answers (None where there is none); how the relaxation changes, or None to stop."""
        ...


@dataclass(frozen=True)
class Kind:
    """One kind of decision. ``package`` is the folder's dotted name; ``summary`` is one line for lists and help."""

    name: str
    package: str
    summary: str

    def part(self, name: str) -> ModuleType:
        """The module ``name`` of the kind (``schema``, ``verify``, ...), imported on first use."""
        return importlib.import_module(f"{self.package}.{name}")

    def has(self, name: str) -> bool:
        """Whether the kind has the optional module ``name``."""
        return importlib.util.find_spec(f"{self.package}.{name}") is not None

    @property
    def problem(self) -> type[Document]:
        """The Problem class."""
        return self.part("schema").Problem  # type: ignore[no-any-return]

    @property
    def plan(self) -> type[Document]:
        """The Plan class."""
        return self.part("schema").Plan  # type: ignore[no-any-return]

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of the kind's constraints."""
        return tuple(rule.value for rule in self.part("schema").Rule)

    def goals(self, problem: Any) -> tuple[Goal, ...]:  # noqa: ANN401  (each kind has its own Problem type)
        """The problem's goals, the most important first."""
        return self.part("verify").goals(problem)  # type: ignore[no-any-return]

    def verify(self, problem: Any, plan: Any) -> Verdict:  # noqa: ANN401
        """Feasibility and objectives recomputed from problem and plan alone."""
        return self.part("verify").verify(problem, plan)  # type: ignore[no-any-return]

    @property
    def views(self) -> dict[str, Callable[[Any, Any], Any]]:
        """Other ways to look at a plan, by name; none for a kind without ``views.py``."""
        return dict(self.part("views").VIEWS) if self.has("views") else {}

    @property
    def left_out(self) -> str:
        """What those have in common that ``why_not`` is told of."""
        return str(getattr(self.part("explain"), "LEFT_OUT", "Not in the plan"))

    def alike(self, problem: Any, plan: Any) -> tuple[tuple[str, ...], ...]:  # noqa: ANN401
        """Ids that the plan leaves out for the same reasons, in groups: ``explain`` gives those of the first of each.

        Nothing for a kind that explains every id by itself.
        """
        grouped = getattr(self.part("explain"), "alike", None)
        return grouped(problem, plan) if grouped is not None else ()
