"""The command ``solve``: reads a problem, solves it, and hands out the plan, its certificate and a report."""

from __future__ import annotations

import importlib.util
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optimizer.limits import Limits
from optimizer.result import Outcome, Result, StopReason
from service.cli.documents import load_plan, load_problem
from service.cli.errors import INTERRUPTED, BadInputError, Exit
from service.cli.files import STANDARD_INPUT, Target
from service.cli.kinds import KindName, kind_called
from service.cli.output import as_object, complain, show_result
from service.cli.progress import shown_progress
from service.cli.remote import Remote, Server, is_run, no_service, service_at
from service.cli.stopping import soft_stop
from service.cli.verify import ProblemFile
from service.cli.view import check_view, view_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.contract import Kind
    from models.vocabulary import Document
    from optimizer.result import Progress

    OnProgress = Callable[[Progress], None]
    Engine = Callable[[Document, OnProgress | None, threading.Event], Result]

USUAL = Limits()
MOST_THREADS = 4  # beyond this the small programs of a search gain nothing
THREADS = min(MOST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
SHOWN_WARNINGS = 5

TimeLimit = Annotated[float, typer.Option("--time-limit", metavar="S", help="Wall seconds the search may take.")]
Gap = Annotated[float, typer.Option("--gap", metavar="G", help="Relative gap at which a plan counts as optimal (0.01 is 1%).")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of every random choice.")]
Threads = Annotated[int, typer.Option("--threads", metavar="N", help="CPU threads; left out: the CPUs there are, at most 4.")]
Memory = Annotated[
    float | None, typer.Option("--memory-gib", metavar="GIB", help="Most memory the search may take.", show_default="no limit")
]
WarmStart = Annotated[
    str | None,
    typer.Option(
        "--warm-start", metavar="PLAN", help="A plan to start from; with --server, the id of the run that has it.", show_default=False
    ),
]
Out = Annotated[str | None, typer.Option("--out", metavar="PLAN", help="Where the plan is written (JSON).", show_default=False)]
Report = Annotated[
    str | None, typer.Option("--report", metavar="FILE.html", help="Where a picture of the plan is written.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and no progress bar.")]


View = Annotated[
    str | None,
    typer.Option("--view", metavar="NAME", help="Print this view of the plan (JSON) in place of the summary.", show_default=False),
]

LIMITS = ("time_limit", "gap", "seed", "threads", "memory_gib")  # options


def solve(  # noqa: PLR0913, PLR0917  (the options of the command)
    context: typer.Context,
    kind: KindName,
    file: ProblemFile,
    time_limit: TimeLimit = USUAL.time_limit_s,
    gap: Gap = USUAL.gap,
    seed: Seed = USUAL.seed,
    threads: Threads = THREADS,
    memory_gib: Memory = USUAL.memory_gib,
    warm_start: WarmStart = None,
    out: Out = None,
    report: Report = None,
    as_json: AsJson = False,
    view: View = None,
    server: Server = None,
) -> None:
    """Solve a problem: a plan, proved how far from the best it can be and checked independently.

    Ctrl-C stops the search and keeps the best plan so far; a second Ctrl-C stops at once.
    """
    found = kind_called(kind)
    try:
        limits = Limits(time_limit_s=time_limit, gap=gap, seed=seed, threads=threads, memory_gib=memory_gib)
    except ValueError as error:
        raise BadInputError(_as_option(str(error))) from None
    if view is not None:
        if as_json:
            raise BadInputError("--json and --view both print a document; give one of them")
        check_view(found, view)
    with service_at(server) as service:
        problem, start = _read(found, file, warm_start, service)
        inputs = (file,) if warm_start is None or service is not None else (file, warm_start)
        plan_target = Target("--out", out, not_over=inputs) if out is not None else None
        report_target = Target("--report", report, not_over=(*inputs, *([out] if out is not None else []))) if report is not None else None

        engine = _here(limits, start) if service is None else _there(service, found, _asked(context, limits, warm_start))
        result = _solved(engine, problem, limits, bar=not as_json and view is None)
    written = _write(problem, result, start, plan_target, report_target)
    if as_json:
        typer.echo(as_object(result))
        if result.plan is None and result.message:
            complain(result.message)
    elif view is not None and result.plan is not None:
        typer.echo(view_text(found, problem, result.plan, view))
    else:
        show_result(result, written, found.alike(problem, result.plan) if result.plan is not None and result.reasons else ())
    if result.failure is not None:
        complain(f"a part of the solve failed by our fault; please report this:\n{result.failure}")
    raise typer.Exit(exit_code(result))


def _as_option(message: str) -> str:
    """A message about a limit with the option's name in place of the field's: ``--time-limit must be ...``."""
    field, _, rest = message.partition(" ")
    return f"--{field.removesuffix('_s').replace('_', '-')} {rest}"


def exit_code(result: Result) -> Exit:
    """0 a plan, 2 an unbounded goal, 3 proved infeasible, 4 no plan within the limits, 1 our fault."""
    if result.plan is not None:
        return Exit.plan
    if result.failure is not None or result.stop_reason is StopReason.crash:
        return Exit.our_fault
    return {Outcome.infeasible: Exit.infeasible, Outcome.unbounded: Exit.bad_input}.get(result.outcome, Exit.no_plan)


def _read(kind: Kind, file: str, warm_start: str | None, service: Remote | None) -> tuple[Document, Document | None]:
    if file == warm_start == STANDARD_INPUT:
        raise BadInputError("standard input cannot be both FILE and --warm-start; give one of them as a file")
    if service is not None and warm_start is not None and not is_run(warm_start):
        raise BadInputError(f"--warm-start {warm_start}: a service starts from the plan of one of its runs; give the run's id")
    problem = load_problem(kind, file)
    start = _start(kind, warm_start, service) if warm_start is not None else None
    _warn(kind, problem)
    return problem, start


def _start(kind: Kind, warm_start: str, service: Remote | None) -> Document:
    if service is not None:
        return service.plan(kind, warm_start)
    if is_run(warm_start) and not Path(warm_start).exists():
        raise no_service(warm_start)
    return load_plan(kind, warm_start)


def _warn(kind: Kind, problem: Document) -> None:
    """What is legal but suspicious, when the kind looks for it."""
    if importlib.util.find_spec(f"{kind.package}.checks") is None:
        return
    found = kind.part("checks").warnings(problem)
    for warning in found[:SHOWN_WARNINGS]:
        complain(f"warning: {warning.pointer}: {warning.detail}")
    if len(found) > SHOWN_WARNINGS:
        complain(f"warning: and {len(found) - SHOWN_WARNINGS} more")


def _here(limits: Limits, start: Document | None) -> Engine:
    """Solves in this process."""

    def run(problem: Document, on_progress: OnProgress | None, cancel: threading.Event) -> Result:
        from optimizer.solve import solve as solved

        return solved(problem, limits=limits, on_progress=on_progress, cancel=cancel, warm_start=start)

    return run


def _there(service: Remote, kind: Kind, asked: dict[str, Any]) -> Engine:
    """Has a service solve."""
    return lambda problem, on_progress, cancel: service.solve(kind, problem, asked, on_progress, cancel)


def _asked(context: typer.Context, limits: Limits, warm_start: str | None) -> dict[str, Any]:
    """What to ask of a service: the limits that the user named, for it chooses the others itself."""
    named = {name for name in LIMITS if (source := context.get_parameter_source(name)) is not None and source.name != "DEFAULT"}
    chosen = {
        field: getattr(limits, field)
        for field in ("time_limit_s", "gap", "seed", "threads", "memory_gib")
        if field.removesuffix("_s") in named
    }
    return {"limits": chosen} | ({"warm_start_run": warm_start} if warm_start is not None else {})


def _solved(engine: Engine, problem: Document, limits: Limits, *, bar: bool) -> Result:
    cancel = threading.Event()
    try:
        with soft_stop(cancel), shown_progress(limits.time_limit_s, wanted=bar) as on_progress:
            return engine(problem, on_progress, cancel)
    except KeyboardInterrupt:
        complain("stopped at once; nothing was written")
        raise typer.Exit(INTERRUPTED) from None


def _write(problem: Document, result: Result, before: Document | None, plan: Target | None, report: Target | None) -> list[tuple[str, str]]:
    """Writes what was asked for, the plan first; says what went where."""
    written = []
    if plan is not None and result.plan is not None:
        plan.write(result.plan.model_dump_json(indent=1) + "\n")
        written.append(("plan", plan.shown))
    if report is not None:
        from service.report import render

        report.write(render(problem, result, before))
        written.append(("report", report.shown))
    return written
