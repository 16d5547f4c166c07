"""What ``simulate`` prints and writes: a table of questions and answers, and each plan beside the problem that it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from service.cli.files import Target
from service.cli.output import console
from service.plugins.simulation.answers import Question
from service.plugins.simulation.sentences import many, moment

if TYPE_CHECKING:
    from pathlib import Path

    from models.placement.schema import Job
    from service.plugins.simulation.answers import Answer, Answers

ASKED = {
    Question.now: "Is there room now?",
    Question.in_turn: "Does it start in its turn?",
    Question.delay: "Without delaying others?",
    Question.later: "When, if alone?",
    Question.later_in_turn: "When, with those ahead?",
    Question.moves: "With the fewest moves?",
    Question.evictions: "With the fewest evictions?",
}


def show_answers(answers: Answers, files: list[tuple[str, str]]) -> None:
    """The job in words, then each question with its answer and how it is known."""
    out = console()
    starts = answers.starts_now
    colour, told = ("green", "starts now") if starts else ("red", "does not start now")
    out.print(f"[bold {colour}]{escape(answers.job.id)} {told}[/]: {escape(in_words(answers.job))}.", soft_wrap=True)
    if answers.now is not None:
        out.print(f"Asked of the cluster as it is {moment(answers.now, None)}; {many(len(answers.ahead), 'waiting job')} ahead of it.")
    for assumed in answers.assumed:
        out.print(f"Assumed: {escape(assumed)}.")
    table = Table(show_lines=True)
    for name in ("question", "answer", "known by", "what, in words"):
        table.add_column(name, no_wrap=name in ("answer", "known by"))
    for answer in answers.answers:
        table.add_row(ASKED[answer.question], short(answer), known_by(answer), escape(answer.text))
    out.print(table)
    for what, path in files:
        out.print(f"{what}: {escape(path)}", soft_wrap=True)


def in_words(job: Job) -> str:
    """``8 workers of 8 GPUs each, on H100, all in one rack``."""
    each = f"{job.gpus_per_worker:g} GPU{'s' if job.gpus_per_worker != 1 else ''}"
    told = f"{job.workers} workers of {each} each" if job.workers > 1 else f"one worker of {each}"
    if job.model_speeds:
        told += f", on {' or '.join(job.model_speeds)}"
    if job.colocate is not None:
        told += f", {'all' if job.colocate.required else 'rather'} in one {job.colocate.level.value}"
    return told


def short(answer: Answer) -> str:
    """``yes``, ``no``, ``3``, ``14:10``."""
    if answer.possible is None:
        return "not known"
    if not answer.possible:
        return "no"
    if answer.starts_at is not None:
        return moment(answer.starts_at, None).removeprefix("at ")
    return "yes" if answer.amount is None else f"{answer.amount:,}"


def known_by(answer: Answer) -> str:
    """How sure it is."""
    if answer.status == "proved":
        return "proof"
    bound = "" if answer.bound is None else f", at least {answer.bound:,}"
    return f"search{bound}"


def written(answers: Answers, folder: Path) -> list[tuple[str, str]]:
    """Write each plan and the problem that it is verified against; what went where. Raises BadInputError."""
    found = []
    for answer in answers.answers:
        if answer.plan is None or answer.problem is None:
            continue
        for what, document in (("problem", answer.problem), ("plan", answer.plan)):
            target = Target("--out", str(folder / f"{answer.question.value}.{what}.json"))
            target.write(document.model_dump_json(indent=1) + "\n")
            found.append((f"{what}, {answer.question.value.replace('_', ' ')}", target.shown))
    return found
