"""The commands that tell what can be decided: ``kinds``, ``schema`` and ``example``."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models import catalogue
from service.cli.errors import BadInputError
from service.cli.remote import Server, service_at
from service.documents.problems import as_object, examples_of

if TYPE_CHECKING:
    from models.contract import Kind
    from models.vocabulary import Document

KindName = Annotated[
    str, typer.Argument(metavar="KIND", help="The kind of decision; `quartermaster kinds` lists them.", show_default=False)
]


def kind_called(name: str) -> Kind:
    """The kind of that name; raises BadInputError that lists those there are."""
    try:
        return catalogue.kind(name)
    except catalogue.UnknownKindError as error:
        near = difflib.get_close_matches(name, catalogue.kinds(), n=1)
        raise BadInputError(f"{error}" + (f"; did you mean '{near[0]}'?" if near else "")) from None


def kinds(server: Server = None) -> None:
    """List the kinds of decision."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    with service_at(server) as service:
        told = [(kind.kind, kind.summary) for kind in service.client.kinds()] if service is not None else _known()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, summary in sorted(told):
        table.add_row(f"[bold]{escape(name)}[/bold]", escape(summary))
    Console(highlight=False).print(table)


def _known() -> list[tuple[str, str]]:
    return [(kind.name, kind.summary) for kind in catalogue.kinds().values()]


def schema(kind: KindName, server: Server = None) -> None:
    """Print the JSON Schema of a kind's problem and plan."""
    with service_at(server) as service:
        schemas = service.client.kind(kind).schemas.model_dump() if service is not None else _schemas(kind_called(kind))
    typer.echo(json.dumps(schemas, indent=2))


def _schemas(kind: Kind) -> dict[str, object]:
    return {"problem": kind.problem.model_json_schema(), "plan": kind.plan.model_json_schema(mode="serialization")}


ExampleName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which example; left out: the usual one.", show_default=False)]


def example(kind: KindName, name: ExampleName = None, server: Server = None) -> None:
    """Print a small problem of a kind to start from."""
    with service_at(server) as service:
        if service is not None:
            shown = service.client.kind(kind)
            usual, named = shown.example.problem, {title: one.problem for title, one in shown.examples.items()}
        else:
            found = kind_called(kind)
            usual, named = as_object(found.part("schema").example()), examples_of(found)
    if name is not None and name not in named:
        offered = f"its examples are: {', '.join(named)}" if named else "it has one example; leave the name out"
        raise BadInputError(f"{kind} has no example called '{name}'; {offered}")
    typer.echo(_text(named[name] if name is not None else usual))


def as_json(document: Document) -> str:
    """A problem as a person would write it: fields that say nothing beyond their default are left out."""
    return _text(as_object(document))


def _text(problem: dict[str, Any]) -> str:
    return json.dumps(problem, indent=1, ensure_ascii=False)
