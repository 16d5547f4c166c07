"""The command ``explain``: why a plan is as it is, and why something is not in it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import BadInputError, Exit
from service.cli.kinds import KindName, kind_called
from service.cli.output import complain, show_reasons, show_verdict
from service.cli.remote import Server, is_run, service_at
from service.cli.verify import PlanFile, ProblemFile, read_both

if TYPE_CHECKING:
    from models.contract import Kind, Reason
    from models.vocabulary import Document
    from service.cli.remote import Remote

Subject = Annotated[
    str | None,
    typer.Option(
        "--subject",
        metavar="ID",
        help="Explain only what has this id: a job, a node, a demand, a link, an object, a tier.",
        show_default=False,
    ),
]


def explain(kind: KindName, file: ProblemFile, plan: PlanFile, subject: Subject = None, server: Server = None) -> None:
    """Say why: what was left out and what would place it, what was moved, and which limits bind."""
    found = kind_called(kind)
    with service_at(server) as service:
        problem, asked = read_both(found, file, plan, service)
        _refuse_broken(found, problem, asked, plan)
        try:
            reasons = _reasons(problem, asked, plan, subject, service)
        except KeyError:
            raise BadInputError(_unknown(subject or "", problem)) from None
    show_reasons(reasons, subject)


def _refuse_broken(kind: Kind, problem: Document, asked: Document, plan: str) -> None:
    verdict = kind.verify(problem, asked)
    if not verdict.ok:
        complain(f"{plan}: this plan breaks rules, so there is nothing to explain; correct it first")
        show_verdict(verdict, kind.goals(problem))
        raise typer.Exit(Exit.infeasible)


def _reasons(problem: Document, asked: Document, plan: str, subject: str | None, service: Remote | None) -> tuple[Reason, ...]:
    """Of a run, what its service says; of a file, what is found here: a service explains the plans of its own runs."""
    if service is not None and is_run(plan) and not Path(plan).exists():
        return service.reasons(plan, subject)

    from optimizer.solve import explain as explained

    return explained(problem, asked, subject)


def _unknown(subject: str, problem: Document) -> str:
    """What to say of an id that cannot be explained, with the nearest ids of the problem."""
    parts = [part for _, value in problem if isinstance(value, tuple) for part in value]
    names = [part.id for part in parts if isinstance(getattr(part, "id", None), str)]
    near = difflib.get_close_matches(subject, names, n=3)
    cure = f"did you mean {' or '.join(repr(name) for name in near)}?" if near else "name one of the problem's own ids"
    return f"--subject {subject}: there is nothing of that name to explain; {cure}"
