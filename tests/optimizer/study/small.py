"""A small program whose optimum is known in closed form, and scenarios of it."""

from __future__ import annotations

from models.linear.schema import Columns, Entries, Problem, Rows
from optimizer.limits import Limits
from optimizer.study.executors.engine import Asked, Held
from optimizer.study.rows import Change, Row, Scenario
from optimizer.study.schema import Study

UPPER = "/rows/upper/0"
LIMITS = Limits(time_limit_s=20.0, gap=1e-6)


def base() -> Problem:
    """Maximise x with x <= 50 by a row and x <= 100 by its bound."""
    return Problem.model_validate(
        {
            "sense": "maximise",
            "columns": Columns(names=("x",), cost=(1.0,), lower=(1.0,), upper=(100.0,)),
            "rows": Rows(names=("most",), upper=(50.0,)),
            "entries": Entries(rows=(0,), columns=(0,), values=(1.0,)),
        }
    )


def held(limits: Limits = LIMITS) -> Held:
    """What workers hold of it."""
    return Held.of(base(), limits)


def scenario(most: float, *, seed: int = 0) -> Scenario:
    """The row's side is ``most``, and so is the optimum."""
    return Scenario(f"most={most:g}", {"most": most}, {"most": most}, 0, seed, (Change("set", UPPER, most),))


def asked(most: float) -> Asked:
    """The same as a question; its key says which."""
    return Asked(f"{most:g}", (Change("set", UPPER, most),))


def odd(what: str, value: str = "") -> Asked:
    """A question over which a worker of ``rogue_worker`` goes astray: the column's name says how. The optimum stays 50."""
    return Asked(what, (Change("set", "/columns/names/0", f"{what} {value}"),))


def objective(row: Row | None) -> float | None:
    """Of the only goal."""
    return None if row is None or not row.goals else row.goals[0].objective


def study(most: int = 8, *, name: str = "small", limits: dict[str, float] | None = None) -> Study:
    """The row's side from 1 to ``most``, beside the problem as it is."""
    axis = {"name": "most", "values": [float(one) for one in range(1, most + 1)], "edits": [{"op": "set", "at": UPPER, "to": "$value"}]}
    return Study.model_validate(
        {"name": name, "kind": "program", "base": {"file": "base.json"}, "axes": [axis], "limits": limits or {"time_limit_s": 20.0}}
    )
