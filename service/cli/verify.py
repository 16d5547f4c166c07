"""The command ``verify``: is a plan right, judged from the problem and the plan alone?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.documents import load_plan, load_problem
from service.cli.errors import BadInputError, Exit
from service.cli.files import STANDARD_INPUT
from service.cli.kinds import KindName, kind_called
from service.cli.output import show_verdict

if TYPE_CHECKING:
    from models.contract import Kind
    from models.vocabulary import Document

ProblemFile = Annotated[str, typer.Argument(metavar="FILE", help="The problem: JSON or YAML, - for standard input.", show_default=False)]
PlanFile = Annotated[str, typer.Argument(metavar="PLAN", help="The plan: JSON or YAML, - for standard input.", show_default=False)]


def read_both(kind: Kind, file: str, plan: str) -> tuple[Document, Document]:
    """The problem and the plan; raises BadInputError."""
    if file == plan == STANDARD_INPUT:
        raise BadInputError("standard input cannot be both FILE and PLAN; give one of them as a file")
    return load_problem(kind, file), load_plan(kind, plan)


def verify(kind: KindName, file: ProblemFile, plan: PlanFile) -> None:
    """Check a plan independently of how it was made. Exit code 0: it keeps every rule; 3: it is proved to break one."""
    found = kind_called(kind)
    problem, asked = read_both(found, file, plan)
    verdict = found.verify(problem, asked)
    show_verdict(verdict, found.goals(problem))
    if not verdict.ok:
        raise typer.Exit(Exit.infeasible)
