"""The command ``view``: a plan as other people want to see it, as one JSON document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import BadInputError, Exit
from service.cli.files import Target
from service.cli.kinds import KindName, kind_called
from service.cli.output import complain, show_verdict
from service.cli.remote import Server, service_at
from service.cli.verify import PlanFile, ProblemFile, read_both

if TYPE_CHECKING:
    from models.contract import Kind
    from models.vocabulary import Document

ViewName = Annotated[
    str, typer.Argument(metavar="NAME", help="Which view, such as paths or loads of a flow; a wrong one lists them.", show_default=False)
]


def view(
    kind: KindName,
    file: ProblemFile,
    plan: PlanFile,
    name: ViewName,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Where it is written; left out: printed.", show_default=False)
    ] = None,
    server: Server = None,
) -> None:
    """Print another view of a plan as JSON: of a flow splits, loads and paths, of tiering moves."""
    found = kind_called(kind)
    check_view(found, name)
    target = Target("--out", out, not_over=(file, plan)) if out is not None else None
    with service_at(server) as service:
        problem, asked = read_both(found, file, plan, service)
    verdict = found.verify(problem, asked)
    if not verdict.ok:
        complain(f"{plan}: this plan breaks rules, so there is nothing to view; correct it first")
        show_verdict(verdict, found.goals(problem))
        raise typer.Exit(Exit.infeasible)
    text = view_text(found, problem, asked, name)
    if target is None:
        typer.echo(text)
    else:
        target.write(text + "\n")


def check_view(kind: Kind, name: str) -> None:
    """Raises BadInputError for a view that the kind does not have; it lists those there are."""
    if name not in kind.views:
        offered = f"its views are: {', '.join(kind.views)}" if kind.views else "it has none"
        raise BadInputError(f"{kind.name} has no view called '{name}'; {offered}")


def view_text(kind: Kind, problem: Document, plan: Document, name: str) -> str:
    """The view as JSON."""
    return json.dumps(kind.views[name](problem, plan), allow_nan=False, ensure_ascii=False)
