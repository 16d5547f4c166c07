"""The commands ``backup`` and ``restore`` of the embedded database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.operation import DatabaseUrl, database_file, settings_with, told_as_bad_input

MIB = 2**20
BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.", show_default=False)]


def backup(file: BackupFile, database_url: DatabaseUrl = None) -> None:
    """Copy the embedded database to FILE, while the server runs; the copy is checked, and written whole or not at all."""
    from service.backup import backup as copy

    path = database_file(settings_with(database_url=database_url))
    with told_as_bad_input():
        size = copy(path, file)
    typer.echo(f"Backup of {path}: {file}, {size / MIB:.1f} MiB, checked.")


def restore(file: BackupFile, database_url: DatabaseUrl = None) -> None:
    """Put a backup in the place of the embedded database, which is kept beside it; nothing may be using it."""
    from service.backup import restore as put_back

    path = database_file(settings_with(database_url=database_url))
    with told_as_bad_input():
        kept = put_back(file, path)
    typer.echo(f"{path} is now the backup {file}." + (f" What was there before: {kept}" if kept is not None else ""))
