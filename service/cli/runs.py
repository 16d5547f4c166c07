"""The commands ``runs ...``: the runs of a service, from anywhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from models import catalogue
from service.cli.errors import INTERRUPTED, BadInputError
from service.cli.files import Target
from service.cli.output import console, number, show_result
from service.cli.remote import Remote, Server, is_run, required_service
from service.runs.states import CancelMode, State

if TYPE_CHECKING:
    from datetime import datetime

    from service.client import EventView, RunView

app = typer.Typer(help="Look at the runs of a service, follow and cancel them.", no_args_is_help=True)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id; `quartermaster runs list` shows them.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FIGURES = ("outcome", "stop_reason", "objective", "bound", "gap", "phase", "seconds", "text", "cancel", "because")


@app.command("list")
def list_runs(
    state: Annotated[State | None, typer.Option("--state", help="Only runs in this state.", show_default=False)] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only runs of this kind.", show_default=False)] = None,
    most: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many runs, the newest first.")] = 20,
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """List the runs, the newest first."""
    found: list[RunView] = []
    with required_service(server) as service:
        for run in service.client.runs(state=state, kind=kind, page=min(most, 200)):
            found.append(run)
            if len(found) == most:
                break
    if as_json:
        typer.echo(json.dumps([run.model_dump(mode="json") for run in found], allow_nan=False))
        return
    _show_runs(found)


def _show_runs(found: list[RunView]) -> None:
    from rich.table import Table

    if not found:
        console().print("There are no such runs.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("run", "kind", "state", "outcome", "objective", "gap", "seconds", "created"):
        table.add_column(name, justify="right" if name in {"objective", "gap", "seconds"} else "left", no_wrap=True)
    for run in found:
        gap = f"{run.gap:.3%}" if run.gap is not None else ""
        seconds = f"{run.seconds:.2f}" if run.seconds is not None else ""
        objective = number(run.objective) if run.objective is not None else ""
        table.add_row(run.id, run.kind, run.state, run.outcome or "", objective, gap, seconds, _moment(run.created_at))
    console().print(table)


@app.command()
def show(run_id: RunId, as_json: AsJson = False, server: Server = None) -> None:
    """Show a run; of one that has ended, the same tables as those of `solve`."""
    with required_service(server) as service:
        run = service.client.run(_checked(run_id))
        if as_json:
            typer.echo(run.model_dump_json())
            return
        _show_run(run)
        if run.ended and run.kind in catalogue.kinds():
            _show_answer(service, run)


def _show_run(run: RunView) -> None:
    limits = ", ".join(f"{name} {value:g}" for name, value in run.limits if value is not None)
    told = [
        ("state", run.state.value),
        ("created", _moment(run.created_at)),
        ("started", _moment(run.started_at)),
        ("finished", _moment(run.finished_at)),
        ("limits", limits),
        ("problem", run.problem_id),
        ("warm start", run.warm_start_run or ""),
        ("attempts", str(run.attempt) if run.attempt > 1 else ""),
        ("cached", "yes: the same question was answered before" if run.cached else ""),
    ]
    if not run.ended:
        figures = (("objective", run.objective), ("bound", run.bound))
        told += [(name, number(value)) for name, value in figures if value is not None]
        told += [("gap", f"{run.gap:.3%}")] if run.gap is not None else []
    out = console()
    out.print(f"[bold]{run.id}[/] ({run.kind})")
    for name, text in told:
        if text:
            out.print(f"  {name:<11} {text}", soft_wrap=True, markup=False)


def _show_answer(service: Remote, run: RunView) -> None:
    kind = catalogue.kind(run.kind)
    content = service.client.problem(run.problem_id).problem
    try:
        problem = kind.problem.model_validate_json(json.dumps(content))
    except ValueError:
        raise BadInputError(
            f"{run.id} solved a problem that this version does not understand; use the version that the service has"
        ) from None
    result = service.result(kind, problem, run)
    show_result(result, [], kind.alike(problem, result.plan) if result.plan is not None and result.reasons else ())


@app.command()
def events(
    run_id: RunId,
    after: Annotated[int, typer.Option("--after", metavar="N", min=0, help="Only events after this number.")] = 0,
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """Follow a run to its end, a line for each event. Ctrl-C stops following; the run goes on."""
    try:
        with required_service(server) as service:
            for event in service.client.events(_checked(run_id), after):
                typer.echo(event.model_dump_json(exclude_none=True) if as_json else _line(event))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _line(event: EventView) -> str:
    told = event.model_dump(mode="json", exclude_none=True)
    figures = " ".join(f"{name}={_plain(told[name])}" for name in FIGURES if name in told)
    return f"{event.number:>4} {_moment(event.at)} {event.state or event.type:<10} {figures}".rstrip()


def _plain(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


@app.command()
def cancel(
    run_id: RunId,
    discard: Annotated[bool, typer.Option("--discard", help="Do not keep the best plan so far.")] = False,
    server: Server = None,
) -> None:
    """End a run and keep its best plan so far; one that has ended stays as it is."""
    with required_service(server) as service:
        run = service.client.cancel(_checked(run_id), CancelMode.discard if discard else CancelMode.keep_best)
    _show_runs([run])


@app.command()
def plan(
    run_id: RunId,
    out: Annotated[str | None, typer.Option("--out", metavar="PLAN", help="Where the plan is written (JSON).", show_default=False)] = None,
    server: Server = None,
) -> None:
    """Print the plan of a run, or write it to a file."""
    target = Target("--out", out) if out is not None else None
    with required_service(server) as service:
        text = json.dumps(service.client.plan(_checked(run_id)), indent=1, ensure_ascii=False, allow_nan=False)
    if target is None:
        typer.echo(text)
        return
    target.write(f"{text}\n")
    typer.echo(f"plan: {target.shown}")


def _checked(run_id: str) -> str:
    if not is_run(run_id):
        raise BadInputError(f"{run_id}: is not the id of a run, run_ and 24 of 0-9 and a-f; `quartermaster runs list` shows them")
    return run_id


def _moment(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%SZ") if moment is not None else ""
