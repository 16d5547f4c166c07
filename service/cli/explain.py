"""The command ``explain``: why a plan is as it is, and why something is not in it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import BadInputError, Exit
from service.cli.kinds import KindName, kind_called
from service.cli.output import complain, show_reasons, show_verdict
from service.cli.verify import PlanFile, ProblemFile, read_both

if TYPE_CHECKING:
    from collections.abc import Iterable

Subject = Annotated[str | None, typer.Option("--subject", metavar="ID", help="Explain only this job, node or tenant.", show_default=False)]


def explain(kind: KindName, file: ProblemFile, plan: PlanFile, subject: Subject = None) -> None:
    """Say why: what was left out and what would place it, what was moved, and which limits bind."""
    found = kind_called(kind)
    problem, asked = read_both(found, file, plan)
    verdict = found.verify(problem, asked)
    if not verdict.ok:
        complain(f"{plan}: this plan breaks rules, so there is nothing to explain; correct it first")
        show_verdict(verdict, found.goals(problem))
        raise typer.Exit(Exit.infeasible)
    if subject is not None:
        _refuse_unknown(subject, found.part("explain").subjects(problem, asked))

    from optimizer.solve import explain as explained

    show_reasons(explained(problem, asked, subject), subject)


def _refuse_unknown(subject: str, known: Iterable[str]) -> None:
    names = list(known)
    if subject not in names:
        near = difflib.get_close_matches(subject, names, n=3)
        cure = (
            f"did you mean {' or '.join(repr(name) for name in near)}?" if near else f"name one of the {len(names)} that can be explained"
        )
        raise BadInputError(f"--subject {subject}: there is nothing of that name to explain; {cure}")
