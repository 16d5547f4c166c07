"""The command ``verify``: is a plan right, judged from the problem and the plan alone?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.documents import load_plan, load_problem
from service.cli.errors import BadInputError, Exit
from service.cli.files import STANDARD_INPUT
from service.cli.kinds import KindName, kind_called
from service.cli.output import show_verdict
from service.cli.remote import Remote, Server, is_run, no_service, service_at

if TYPE_CHECKING:
    from models.contract import Kind
    from models.vocabulary import Document

ProblemFile = Annotated[str, typer.Argument(metavar="FILE", help="The problem: JSON or YAML, - for standard input.", show_default=False)]
PlanFile = Annotated[
    str,
    typer.Argument(
        metavar="PLAN", help="The plan: JSON or YAML, - for standard input; with --server also the id of a run.", show_default=False
    ),
]


def read_both(kind: Kind, file: str, plan: str, service: Remote | None) -> tuple[Document, Document]:
    """The problem and the plan, which a run of a service may have; raises BadInputError."""
    if file == plan == STANDARD_INPUT:
        raise BadInputError("standard input cannot be both FILE and PLAN; give one of them as a file")
    problem = load_problem(kind, file)
    if not is_run(plan) or Path(plan).exists():
        return problem, load_plan(kind, plan)
    if service is None:
        raise no_service(plan)
    service.check_is_of(kind, problem, plan)
    return problem, service.plan(kind, plan)


def verify(kind: KindName, file: ProblemFile, plan: PlanFile, server: Server = None) -> None:
    """Check a plan independently of how it was made. Exit code 0: it keeps every rule; 3: it is proved to break one."""
    found = kind_called(kind)
    with service_at(server) as service:
        problem, asked = read_both(found, file, plan, service)
    verdict = found.verify(problem, asked)
    show_verdict(verdict, found.goals(problem))
    if not verdict.ok:
        raise typer.Exit(Exit.infeasible)
