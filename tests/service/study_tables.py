"""Small and large tables of studies made by hand, without a solve."""

from __future__ import annotations

import random
from itertools import product
from typing import TYPE_CHECKING, Any

from optimizer.result import GoalCertificate, relative_gap
from optimizer.study.rows import Change, Row, Scenario
from optimizer.study.run import Table
from optimizer.study.schema import Study

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NASTY = "</title><script>alert(1)</script>&\"'"


def goal(objective: float, bound: float | None = None, name: str = "objective", sense: str = "maximise", unit: str = "") -> GoalCertificate:
    """A goal's certificate; without a bound it is proved optimal."""
    proved = objective if bound is None else bound
    return GoalCertificate(name, sense, unit, objective, proved, relative_gap(objective, proved), "by hand")


def row(key: str, *goals: GoalCertificate, outcome: str = "optimal", metrics: Mapping[str, float] | None = None) -> Row:
    """A row with a plan."""
    return Row(key, outcome, "gap", tuple(goals), dict(metrics or {}), verified=True, seconds=0.25, strategy="by hand")


def infeasible(key: str) -> Row:
    """A row that proves that there is no plan."""
    return Row(key, "infeasible", "gap", (), {}, verified=False, seconds=0.1, refuted=("capacity: a",))


def planless(key: str) -> Row:
    """A row that says nothing."""
    return Row(key, "no_plan", "deadline", (), {}, verified=False, seconds=1.0)


def scenario(values: Mapping[str, Any], *, replicate: int = 0, baseline: bool = False, usd: float = 0.0) -> Scenario:
    """A scenario whose changes are its values."""
    numbers = {name: float(value) if isinstance(value, int | float) else None for name, value in values.items()}
    told = ",".join(f"{name}={value}" for name, value in values.items()) or "baseline"
    changes = () if baseline else tuple(Change("set", f"/{name}", value) for name, value in values.items())
    return Scenario(f"{told}@{replicate}" if replicate else told, values, numbers, replicate, replicate, changes, usd, baseline)


def study(**fields: Any) -> Study:
    """A study of a program; its axes are only told."""
    axes = [
        {"name": name, "values": list(values), "edits": [{"at": f"/{name}", "to": "$value"}]}
        for name, values in fields.pop("axes", {"a": (0, 1, 2)}).items()
    ]
    return Study.model_validate({"name": "by-hand", "kind": "program", "base": {"problem": {}}, "axes": axes} | fields)


def table(pairs: Sequence[tuple[Scenario, Row | None]], **fields: Any) -> Table:
    """The table of these."""
    rows = tuple(one for _, one in pairs)
    return Table(
        study(**fields), tuple(one for one, _ in pairs), tuple("" if one is None else one.key for one in rows), rows, 0, len(rows), 1.5
    )


def large(count: int, gap: float = 0.004, **fields: Any) -> Table:
    """A grid of about ``count`` scenarios with gaps: some infeasible, some failed, some without a plan."""
    rng = random.Random(3)
    side = round(count**0.5)
    axes = {"nodes": tuple(range(side)), "price": tuple(round(0.5 + 0.1 * place, 3) for place in range(side))}
    pairs: list[tuple[Scenario, Row | None]] = [(scenario({}, baseline=True), row("base", goal(1_000.0, 1_000.0 * (1 + gap), unit="GPUs")))]
    for number, (nodes, price) in enumerate(product(*axes.values())):
        key, one = f"key{number}", scenario({"nodes": nodes, "price": price}, usd=250_000.0 * nodes)
        found = 1_000 + 40 * nodes**0.7 - 30 * (price - 1) + rng.uniform(-4, 4)
        answer = row(key, goal(found, found * (1 + gap * rng.random()), unit="GPUs"), outcome="feasible")
        if number % 17 == 5:
            answer = infeasible(key)
        elif number % 53 == 7:
            answer = planless(key)
        elif number % 71 == 3:
            answer = Row.failed(key, f"scenario {number} broke the problem: a job names a node that is gone")
        pairs.append((one, answer))
    return table(pairs, axes=axes, **fields)
