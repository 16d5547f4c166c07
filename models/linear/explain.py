"""Why a plan of a raw program is as it is: what binds it and, for a linear program, what each limit is worth.

A limit binds when the plan stands at it. The worth of a limit is its price in the plan; by weak duality no change of that
limit alone brings more than its price for each unit, and ``optimizer.sensitivity`` tells how far it brings exactly that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Reason
from models.linear.arrays import arrays_of, column_names, row_names
from models.linear.schema import GoalName, Rule
from models.linear.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.contract import Verdict
    from models.linear.arrays import Arrays
    from models.linear.schema import Plan, Problem
    from models.program import Bools, Floats

MOST_REASONS = 200  # binding limits told with the whole plan, the dearest first
NEAR = 10 * TOLERANCE  # relative: a plan this close to a limit stands at it
WORTHLESS = 1e-9  # a price below this is noise
CUT_COLUMNS: frozenset[str] = frozenset()  # no bound repeats a row
FIRM_RULES = frozenset({Rule.bound.value})  # a repair moves rows first: bounds mostly say what a column can be at all


def rule_units() -> dict[str, str]:
    """No unit: only the user knows what rows and columns are counted in."""
    return {rule.value: "" for rule in Rule}


def repair_text(rule: str, ids: Sequence[str], excess: float) -> str:
    """``row 'gpus': its limit is 12 too tight``."""
    return f"{_owner(rule, ids)}: its limit is {_rounded_up(excess)} too tight"


def repair_in(problem: Problem, rule: str, ids: Sequence[str], excess: float, *, too_few: bool) -> str:
    """The same in the problem's own numbers: ``row 'gpus': raise the upper limit from 10 by 12``."""
    arrays = arrays_of(problem)
    names, lower, upper = (
        (row_names(problem), arrays.row_lower, arrays.row_upper)
        if rule == Rule.row.value
        else (column_names(problem), arrays.column_lower, arrays.column_upper)
    )
    try:
        at = list(names).index(ids[0])
    except (ValueError, IndexError):
        return repair_text(rule, ids, excess)
    side = lower[at] if too_few else upper[at]
    which = "fixed value" if lower[at] == upper[at] else "lower limit" if too_few else "upper limit"
    return f"{_owner(rule, ids)}: {'lower' if too_few else 'raise'} the {which} from {side:.12g} by {_rounded_up(excess)}"


def explain(problem: Problem, plan: Plan, subject: str | None = None, seconds: float = math.inf) -> tuple[Reason, ...]:
    """The reasons for a plan, or all that can be told about one ``subject``: a row or a column by its name.

    Raises KeyError for a name that no row and no column has.
    """
    del seconds  # counts in closed form
    rows, columns = row_names(problem), column_names(problem)
    if subject is not None and subject not in rows and subject not in columns:
        raise KeyError(f"'{subject}' is no row and no column of this program")
    verdict = verify(problem, plan)
    if not verdict.ok:
        first = verdict.violations[0]
        text = f"The plan breaks rules ({verdict.violation_count:,} times), first of all: {first.message}. It is not explained further."
        return (Reason(subject or "", "summary", first.rule, first.ids, text, "proved"),)
    told = _Told(problem, plan)
    if subject is None:
        return (_summary(told, verdict), *told.binding())
    return (*(told.about(Rule.row, rows.index(subject)) if subject in rows else ()),
            *(told.about(Rule.bound, columns.index(subject)) if subject in columns else ()))  # fmt: skip


def subjects(problem: Problem, plan: Plan) -> tuple[str, ...]:
    """The names one may ask about: those of rows, then of columns."""
    del plan
    return tuple(dict.fromkeys((*row_names(problem), *column_names(problem))))


def _summary(told: _Told, verdict: Verdict) -> Reason:
    text = f"The objective is {verdict.objectives[GoalName.objective.value]:.12g}; "
    text += f"{verdict.metrics['nonzero_values']:,.0f} of {told.arrays.columns:,} columns are not 0, "
    text += f"and {verdict.metrics['binding_rows']:,.0f} of {told.arrays.rows:,} rows are at a limit."
    if "dual_objective" in verdict.metrics:
        text += f" Its prices prove that no plan has a better objective than {verdict.metrics['dual_objective']:.12g}."
    return Reason("", "summary", GoalName.objective.value, (), text, "proved")


@dataclass(frozen=True, slots=True)
class _Limit:
    """Rows or columns alike: their names, where the plan stands, the two sides, and the price of each where there are prices."""

    names: Sequence[str]
    at: Floats
    lower: Floats
    upper: Floats
    prices: Floats | None

    def near(self, side: Floats) -> Bools:
        """Which stand at ``side``, shape (items,)."""
        there = np.where(np.isfinite(side), side, 0.0)
        return np.asarray(np.isfinite(side) & (np.abs(self.at - there) <= NEAR * np.maximum(1.0, np.abs(there))))


class _Told:
    """The sentences about one right plan."""

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self.arrays: Arrays = arrays_of(problem)
        arrays, values = self.arrays, np.array(plan.values, dtype=np.float64)
        activity = arrays.row_sums(arrays.entry_value * values[arrays.entry_column])
        prices = [None if given is None else np.array(given, dtype=np.float64) for given in (plan.row_duals, plan.reduced_costs)]
        self._limits = {
            Rule.row: _Limit(row_names(problem), activity, arrays.row_lower, arrays.row_upper, prices[0]),
            Rule.bound: _Limit(column_names(problem), values, arrays.column_lower, arrays.column_upper, prices[1]),
        }

    def binding(self) -> Iterator[Reason]:
        """What the plan stands at: rows, and bounds that have a price; the dearest first, equally dear ones in the problem's order."""
        found: list[tuple[float, int, Rule, int]] = []
        for number, (rule, limit) in enumerate(self._limits.items()):
            there = limit.near(limit.lower) | limit.near(limit.upper)
            worth = np.zeros(len(there)) if limit.prices is None else np.abs(limit.prices)
            if rule is Rule.bound:
                there = there & (worth > WORTHLESS)
            found += [(-float(worth[place]), number, rule, place) for place in np.flatnonzero(there).tolist()]
        found.sort()
        for _, _, rule, place in found[:MOST_REASONS]:
            yield self._at_limit(rule, place, subject="")
        if len(found) > MOST_REASONS:
            text = f"{len(found) - MOST_REASONS:,} further limits bind, each worth no more; ask for a row or a column by its name."
            yield Reason("", "summary", Rule.row.value, (), text, "proved")

    def about(self, rule: Rule, place: int) -> Iterator[Reason]:
        """Where one row or column stands between its limits, and what its limit is worth."""
        limit = self._limits[rule]
        name = limit.names[place]
        what = "sum" if rule is Rule.row else "value"
        text = f"Its {what} is {limit.at[place]:.12g}, between {_side(limit.lower[place])} and {_side(limit.upper[place])}."
        yield Reason(name, "summary", rule.value, (name,), text, "proved")
        if limit.near(limit.lower)[place] or limit.near(limit.upper)[place]:
            yield self._at_limit(rule, place, subject=name)

    def _at_limit(self, rule: Rule, place: int, subject: str) -> Reason:
        limit = self._limits[rule]
        name, lower, upper = limit.names[place], limit.lower[place], limit.upper[place]
        at_lower = bool(limit.near(limit.lower)[place])
        which = "fixed value" if lower == upper else "lower limit" if at_lower else "upper limit"
        side = lower if at_lower else upper
        text = f"{_owner(rule.value, (name,))} is at its {which} {side:.12g}."
        price = None if limit.prices is None else float(limit.prices[place])
        if price is not None:
            text += (
                f" Its price is {price:.6g}: a unit by which it is moved is worth that at most."
                if abs(price) > WORTHLESS
                else " It costs nothing."
            )
        return Reason(subject, "binding", rule.value, (name,), text[:1].upper() + text[1:], "proved")


def _side(side: float) -> str:
    return f"{side:.12g}" if math.isfinite(side) else "no limit"


def _owner(rule: str, ids: Sequence[str]) -> str:
    return f"{'row' if rule == Rule.row.value else 'column'} '{ids[0]}'" if ids else rule


def _rounded_up(amount: float) -> str:
    """An amount with six digits at most, rounded up: a repair told too small would not do."""
    if amount <= 0 or not math.isfinite(amount):
        return f"{amount:g}"
    unit = 10.0 ** (math.floor(math.log10(amount)) - 5)
    return f"{math.ceil(amount / unit - 1e-3) * unit:.6g}"
