"""The command ``curve``: what one quantity of a problem is worth at many values, each with a bound and a verified plan."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models import catalogue
from optimizer.limits import Limits
from service.cli.documents import load_problem
from service.cli.errors import BadInputError, Exit
from service.cli.files import Target
from service.cli.kinds import KindName, kind_called
from service.cli.output import complain, console
from service.cli.solve import THREADS
from service.cli.verify import ProblemFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.contract import Goal
    from models.vocabulary import Document
    from optimizer.curve import CurvePoint

MOST_POINTS = 1_000

Named = Annotated[
    str, typer.Argument(metavar="ID", help="Whose quantity varies: for tiering, a tier, whose capacity does.", show_default=False)
]
Values = Annotated[str | None, typer.Option("--values", metavar="V,V,...", help="The values.", show_default=False)]
From = Annotated[float | None, typer.Option("--from", metavar="V", help="The least value, of --points in equal steps.", show_default=False)]
To = Annotated[float | None, typer.Option("--to", metavar="V", help="The largest value.", show_default=False)]
Points = Annotated[int, typer.Option("--points", metavar="N", min=2, max=MOST_POINTS, help="How many values between --from and --to.")]
Gap = Annotated[float, typer.Option("--gap", metavar="G", help="Relative gap at which a point is close enough.")]
TimeLimit = Annotated[float, typer.Option("--time-limit", metavar="S", help="Wall seconds for all points together.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Out = Annotated[str | None, typer.Option("--out", metavar="FILE.csv", help="Where the table is written.", show_default=False)]


def curve(  # noqa: PLR0913, PLR0917  (the options of the command)
    kind: KindName,
    file: ProblemFile,
    name: Named,
    values: Values = None,
    least: From = None,
    most: To = None,
    points: Points = 11,
    gap: Gap = 1e-3,
    time_limit: TimeLimit = 60.0,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Solve a problem at many values of one quantity: of tiering, one tier's capacity in GiB."""
    found = kind_called(kind)
    if not found.has("curve"):
        able = ", ".join(sorted(one.name for one in catalogue.kinds().values() if one.has("curve")))
        raise BadInputError(f"{found.name} has no curve; the kinds that have one are: {able}")
    wanted = _values(values, least, most, points)
    try:
        limits = Limits(time_limit_s=time_limit, gap=gap, threads=THREADS)
    except ValueError as error:
        raise BadInputError(str(error)) from None
    target = Target("--out", out, not_over=(file,)) if out is not None else None
    problem = load_problem(found, file)
    answers = _answered(problem, name, wanted, limits)
    rows = [asdict(point) for point in answers]
    if target is not None:
        target.write(_csv(rows))
    goal = found.goals(problem)[0]
    if as_json:
        typer.echo(json.dumps({"id": name, "goal": goal.name, "unit": goal.unit, "points": rows}, allow_nan=False))
    else:
        _show(answers, goal)
    _leave(answers)


def _leave(points: Sequence[CurvePoint]) -> None:
    unknown = sum(point.objective is None and not point.no_plan for point in points)
    if unknown:
        complain(f"nothing was found in time at {unknown} of {len(points)} values; give a longer --time-limit")
    if all(point.no_plan for point in points):
        raise typer.Exit(Exit.infeasible)
    if all(point.objective is None for point in points):
        raise typer.Exit(Exit.no_plan)


def _values(values: str | None, least: float | None, most: float | None, points: int) -> list[float]:
    """What the options ask for; raises BadInputError."""
    if values is not None:
        if least is not None or most is not None:
            raise BadInputError("--values and --from/--to both say the values; give one of them")
        try:
            wanted = [float(part) for part in values.split(",")]
        except ValueError:
            raise BadInputError(f"--values {values}: these are not numbers with commas between them, such as 100,200.5,400") from None
        if len(wanted) > MOST_POINTS:
            raise BadInputError(f"--values: {len(wanted)} values are too many; give at most {MOST_POINTS}")
    elif least is None or most is None:
        raise BadInputError("the values are missing; give --values V,V,... or --from V --to V")
    elif not least < most:
        raise BadInputError(f"--from {least:g} is not below --to {most:g}")
    else:
        wanted = [least + (most - least) * step / (points - 1) for step in range(points)]
    if any(not (math.isfinite(one) and one >= 0) for one in wanted):
        raise BadInputError("a value is below 0 or no finite number; give values from 0 on")
    return wanted


def _answered(problem: Document, name: str, values: Sequence[float], limits: Limits) -> list[CurvePoint]:
    from optimizer.curve import curve as points_of

    try:
        return points_of(problem, name, values, limits)
    except KeyError:
        raise BadInputError(
            f"the problem has nothing called '{name}' whose quantity could vary; for tiering, give the id of a tier"
        ) from None


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _show(points: Sequence[CurvePoint], goal: Goal) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("value", escape(f"{goal.name} [{goal.unit}]"), "bound", "gap", "one more is worth"):
        table.add_column(head, justify="right")
    for point in points:
        if point.no_plan:
            cells = ("no plan: proved", "", "", "")
        else:
            cells = (_told(point.objective), _told(point.bound), "-" if point.gap is None else f"{point.gap:.3%}", _told(point.price))
        table.add_row(_told(point.value), *cells)
    console().print(table)


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:,.8g}"
