"""The commands ``keys create``, ``keys list`` and ``keys revoke``: who may use the service."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.operation import DatabaseUrl, opened_database, settings_with, told_as_bad_input

if TYPE_CHECKING:
    from service.keys import ApiKey

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose runs the key may see.", show_default=False)]
Scopes = Annotated[
    list[str],
    typer.Option("--scope", metavar="SCOPE", help="read, solve or admin; each includes those before it.", show_default=False),
]
Name = Annotated[str, typer.Option("--name", help="What the key is for, to recognise it by.", show_default=False)]
Days = Annotated[
    float | None, typer.Option("--expires-days", min=0.001, help="Days until it expires; left out: never.", show_default=False)
]


@app.command("create")
def create(tenant: Tenant, scope: Scopes, name: Name = "", expires_days: Days = None, database_url: DatabaseUrl = None) -> None:
    """Print a new key. It is stored only as a hash: this is the one time it is shown."""
    from service.keys import create_key

    settings = settings_with(database_url=database_url)
    with opened_database(settings) as database, told_as_bad_input():
        text = database.write(lambda connection: create_key(connection, tenant, scope, name=name, expires_days=expires_days))
    typer.echo(text)
    typer.echo("Keep it: only its hash is stored, so it cannot be shown again.", err=True)


@app.command("list")
def list_all(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False, database_url: DatabaseUrl = None
) -> None:
    """List the keys, without their secrets."""
    from service.keys import list_keys

    with opened_database(settings_with(database_url=database_url)) as database, told_as_bad_input():
        found = database.read(list_keys)
    if as_json:
        typer.echo(json.dumps({"keys": [_as_object(key) for key in found]}))
        return
    _show(found)


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The 16 digits after qm_, as in the list.", show_default=False)],
    database_url: DatabaseUrl = None,
) -> None:
    """End a key for good: within a second no process accepts it."""
    from service.keys import revoke_key

    public = key_id.removeprefix("qm_").partition("_")[0]  # a whole key names its id too
    with opened_database(settings_with(database_url=database_url)) as database, told_as_bad_input():
        database.write(lambda connection: revoke_key(connection, public))
    typer.echo(f"Key {public} is revoked.")


def _as_object(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "scopes": list(key.scopes),
        "name": key.name,
        "state": key.state(time.time()),
        "created_at": _at(key.created_at),
        "expires_at": _at(key.expires_at),
        "revoked_at": _at(key.revoked_at),
    }


def _at(when: float | None) -> str | None:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds") if when is not None else None


def _show(found: list[ApiKey]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from service.cli.output import console

    if not found:
        typer.echo("There are no keys; `quartermaster keys create --tenant NAME --scope solve` makes one.")
        return
    table = Table()
    for column in ("id", "tenant", "scopes", "name", "state", "created", "expires"):
        table.add_column(column)
    for key in found:
        expires = _at(key.expires_at) or "never"
        state = key.state(time.time())
        table.add_row(key.id, key.tenant, " ".join(key.scopes), escape(key.name), state, _at(key.created_at), expires)
    console().print(table)
