"""Pairs of problems whose optima are known by trying everything, compared by what certificates say: no claim may be false."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from models.contract import Sense
from models.linear.schema import Columns, Entries, Problem, Rows
from optimizer.limits import Limits
from optimizer.result import relative_gap
from optimizer.solve import solve
from optimizer.study.conclusions.differences import Finding, difference
from optimizer.study.rows import Answered, Change, Row, Scenario

if TYPE_CHECKING:
    from pathlib import Path

    from models.program import Floats
    from optimizer.study.conclusions.differences import Difference

SEED = 5
LIMITS = 3  # of each knapsack
GAPS = (0.0, 0.0, 1e-4, 0.01, 0.05, 0.3)


@dataclass(frozen=True, slots=True)
class Known:
    """A solved problem and its optimum."""

    answered: Answered
    optimum: Fraction


def certified(_folder: Path, pairs: int = 200) -> dict[str, Any]:
    """One line: each pair both ways."""
    rng = np.random.default_rng(SEED)
    findings: Counter[str] = Counter()
    false: list[str] = []
    for number in range(pairs):
        first_data = rng.integers(1, 40, (1 + LIMITS, int(rng.integers(4, 15)))).astype(float)
        second_data = first_data.copy()
        second_data[0, int(rng.integers(first_data.shape[1]))] += float(rng.integers(0, 3))
        one, other = (_known(data, f"{number}-{side}", rng) for side, data in (("a", first_data), ("b", second_data)))
        for a, b in ((one, other), (other, one)):
            found = difference(a.answered, b.answered, "objective")
            findings[found.finding.value] += 1
            false += [f"{found.text} The optima are {a.optimum} and {b.optimum}."] if is_false(found, a.optimum, b.optimum) else []
    certain = sum(count for name, count in findings.items() if Finding(name).certain)
    return {
        "pairs": pairs,
        "comparisons": 2 * pairs,
        "certain": certain,
        "findings": dict(findings),
        "false_claims": len(false),
        "examples_of_false": false[:5],
    }


def is_false(found: Difference, a: Fraction, b: Fraction) -> bool:
    """Whether a comparison of two problems that have plans says anything that is not so. ``a`` and ``b`` are the optima."""
    ahead = b - a if found.sense == "maximise" else a - b
    says = {
        Finding.better: ahead > 0,
        Finding.worse: ahead < 0,
        Finding.equal_within: abs(ahead) <= Fraction(found.tolerance) * max(Fraction(1), abs(a)),
        Finding.not_distinguishable: True,
        Finding.unknown: True,
    }
    truths = [says.get(found.finding, False)]  # whatever else it may say is false of two problems with plans
    if found.absolute is not None:
        truths.append(found.absolute.low <= b - a <= found.absolute.high)
    if found.relative is not None:
        truths.append(a != 0 and found.relative.low <= (b - a) / abs(a) <= found.relative.high)
    return not all(truths)


def _known(data: Floats, name: str, rng: np.random.Generator) -> Known:
    """A knapsack of whole things (values in the first row of ``data``, sizes in the others), solved under limits of any sort."""
    values, sizes = data[0], data[1:]
    room = np.floor(sizes.sum(axis=1) * rng.uniform(0.2, 0.7))
    limits = Limits(time_limit_s=float(rng.choice([1e-3, 20.0], p=[0.1, 0.9])), gap=float(rng.choice(GAPS)))
    row = Row.of(name, solve(knapsack(values, sizes, room), limits, isolate=False))
    # A change of its own, so that no two are taken for one problem.
    scenario = Scenario(name, {"x": name}, {"x": None}, 0, 0, (Change("set", "/x", name),))
    return Known(Answered(scenario, _worsened(row, rng)), optimum(values, sizes, room))


def knapsack(values: Floats, sizes: Floats, room: Floats) -> Problem:
    """Take what is worth most; each thing once."""
    rows, columns = np.nonzero(sizes)
    count = len(values)
    return Problem(
        sense=Sense.maximise,
        columns=Columns(cost=tuple(values.tolist()), upper=(1.0,) * count, integer=(True,) * count),
        rows=Rows(upper=tuple(room.tolist())),
        entries=Entries(rows=tuple(rows.tolist()), columns=tuple(columns.tolist()), values=tuple(sizes[rows, columns].tolist())),
    )


def optimum(values: Floats, sizes: Floats, room: Floats) -> Fraction:
    """The best of all choices."""
    count = len(values)
    choices = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    fits = (choices @ sizes.T <= room).all(axis=1)
    return Fraction(float((choices[fits] @ values).max()))


def _worsened(row: Row, rng: np.random.Generator) -> Row:
    """Every second row knows less: a looser bound."""
    if not row.goals or rng.random() < 0.5:
        return row
    last = row.goals[-1]
    bound = last.bound + float(rng.exponential()) * max(1.0, abs(last.objective)) * float(rng.choice([1e-6, 1e-3, 1.0]))
    return replace(row, goals=(*row.goals[:-1], replace(last, bound=bound, gap=relative_gap(last.objective, bound))))
