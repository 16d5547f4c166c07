"""The commands ``study``: many scenarios of one problem, their table, and what their differences prove."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import BadInputError
from service.cli.files import STANDARD_INPUT, read
from service.cli.output import complain
from service.cli.remote import Server, service_at
from service.cli.study_run import EngineName, at_once, chosen, solved

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.contract import Kind
    from models.vocabulary import Document
    from optimizer.study.schema import Study
    from service.documents.study import ReadStudy
    from service.studies.whole import Whole

app = typer.Typer(
    help="Answer many what-if scenarios of one problem and compare them.",
    epilog="Exit codes: 0 answered and no gate broken, 2 bad input, 4 something is not answered, 5 a gate failed, 6 a gate is undecided.",
    no_args_is_help=True,
)

StudyFile = Annotated[str, typer.Argument(metavar="FILE", help="The study: JSON or YAML, - for standard input.", show_default=False)]
Folder = Annotated[str, typer.Argument(metavar="DIR", help="The folder of a study that has run, or is running.", show_default=False)]
Side = typer.Argument(help="The folder of a study, or DIR::SCENARIO for one scenario, by its id or label.", show_default=False)


@app.command()
def run(  # noqa: PLR0913, PLR0917  (the options of the command)
    context: typer.Context,
    file: StudyFile,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Folder of the answers; left out: NAME.study here.", show_default=False)
    ] = None,
    engine: Annotated[
        EngineName,
        typer.Option("--engine", help="local: processes; ray: a cluster; batch: many linear programs at once; here: this process."),
    ] = EngineName.local,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, help="How many scenarios at a time; left out: the CPUs.", show_default=False),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="HOST:PORT", help="Of a Ray cluster; left out: one is started here.", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in a folder that holds another study of the same base problem.")] = False,
    again: Annotated[bool, typer.Option("--retry-failed", help="Solve scenarios again that failed or found no plan.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and no progress bar.")] = False,
    server: Server = None,
) -> None:
    """Solve every scenario of a study that is not answered yet, and write the table and the report."""
    here = [name for name in ("engine", "workers", "address") if _source(context, name) != "DEFAULT"]
    if server is not None and not (here and _source(context, "server") == "ENVIRONMENT"):  # who names an engine means to solve here
        if here:
            raise BadInputError(f"--{here[0]}: a service solves as it is set up; leave it out")
        raise typer.Exit(_run_there(server, file, out, resume=resume, again=again, as_json=as_json))
    if address is not None and engine is not EngineName.ray:
        raise BadInputError(f"--address is that of a Ray cluster; leave it out, or give --engine ray in place of {engine}")
    if workers is not None and engine in (EngineName.here, EngineName.batch):
        raise BadInputError(f"--workers: --engine {engine} has one process; leave it out, or take --engine local")
    found = load_study(file, out)
    _warn(found)
    folder = _folder(found.study, out)
    made = chosen(engine, workers, address)
    whole = solved(found, folder, made, workers=workers or at_once(engine), resume=resume, again=again, bar=not as_json)
    raise typer.Exit(finish(whole, folder, as_json=as_json))


@app.command()
def show(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print the table of a study from its folder, with gates, differences and the recommendation; write table and report anew."""
    from service.studies.shelf import ShelfError
    from service.studies.whole import load_whole

    try:
        whole = load_whole(Path(folder))
    except ShelfError as error:
        raise BadInputError(str(error)) from None
    raise typer.Exit(finish(whole, Path(folder), as_json=as_json))


@app.command()
def compare(
    a: Annotated[str, Side],
    b: Annotated[str, Side],
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="A goal or a metric; left out: the first goal.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell what is certain of B against A: two scenarios, or all that two studies have of the same name."""
    from service.cli.study_output import show_comparison
    from service.studies import comparison

    found = comparison.compared(comparison.chosen(a), comparison.chosen(b), metric)
    if as_json:
        typer.echo(json.dumps(found.as_json(), allow_nan=False))
    else:
        show_comparison(found)


@app.command()
def plan(
    folder: Folder,
    scenario: Annotated[str, typer.Argument(help="Its id or label.", show_default=False)],
) -> None:
    """Print the plan of one scenario as JSON."""
    from service.studies.comparison import BETWEEN
    from service.studies.comparison import chosen as side
    from service.studies.shelf import Shelf

    line = side(f"{folder}{BETWEEN}{scenario}").lines[0][1]
    found = Shelf.read(Path(folder)).plan(line.row.key)
    if found is None:
        raise BadInputError(f"{folder}: scenario '{scenario}' has no plan ({line.row.failure or line.row.outcome})")
    typer.echo(found.decode())


@app.command()
def schema() -> None:
    """Print the JSON Schema of a study file."""
    from optimizer.study.schema import Study

    typer.echo(json.dumps(Study.model_json_schema(), indent=2))


@app.command()
def example(
    name: Annotated[str | None, typer.Argument(help="Which; left out: all are listed.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, which a service takes.")] = False,
) -> None:
    """Print a shipped study, or list them."""
    from service.studies.shipped import as_json as json_of
    from service.studies.shipped import example as text_of
    from service.studies.shipped import examples

    if name is not None:
        typer.echo(json_of(name) if as_json else text_of(name), nl=as_json)
        return
    found = examples()
    if not found:
        typer.echo("This installation has no shipped studies.")
    for one, about in found.items():
        typer.echo(f"{one:<28} {about}".rstrip())


def _source(context: typer.Context, name: str) -> str:
    """Where the value of an option comes from: COMMANDLINE, ENVIRONMENT or DEFAULT."""
    source = context.get_parameter_source(name)
    return "DEFAULT" if source is None else source.name


def _run_there(server: str, file: str, out: str | None, *, resume: bool, again: bool, as_json: bool) -> int:
    """As ``run``, by a service; the exit code."""
    from service.cli.study_remote import problem_of, solved_there

    with service_at(server, limits_are_options=False) as service:
        assert service is not None  # noqa: S101  (there is an address)
        found = load_study(file, out, partial(problem_of, service))
        _warn(found)
        folder = _folder(found.study, out)
        whole = solved_there(service, found, folder, resume=resume, again=again, bar=not as_json)
    return finish(whole, folder, as_json=as_json)


def _warn(found: ReadStudy) -> None:
    for warning in found.warnings:
        complain(f"warning: {warning.pointer}: {warning.detail}")


def load_study(file: str, out: str | None = None, stored: Callable[[Kind, str], Document] | None = None) -> ReadStudy:
    """A study that can run, from a file or standard input, into the folder ``out`` or one of its name; raises BadInputError.

    ``stored`` finds problems by id, where there is a service that has them.
    """
    from service.documents.study import read_study
    from service.studies.frozen import frozen_in

    folder = Path() if file == STANDARD_INPUT else Path(file).parent
    return read_study(read(file), folder, read, stored, frozen=frozen_in(lambda study: _folder(study, out)))


def _folder(study: Study, out: str | None) -> Path:
    return Path(out if out is not None else f"{study.name}.study")


def finish(whole: Whole, folder: Path, *, as_json: bool) -> int:
    """Write table and report beside the answers, and print them; the exit code."""
    from service.cli.study_output import as_object, show_study
    from service.studies.conclusions import conclusions, with_asks
    from service.studies.files import written

    told = with_asks(conclusions(whole.table), whole.table.study, whole.asks)
    files = written(whole, told, folder)
    for complaint in whole.table.complaints:
        complain(f"warning: {complaint}")
    if as_json:
        typer.echo(json.dumps(as_object(whole, told), allow_nan=False))
    else:
        show_study(whole, told, files)
    return int(told.exit_code)
