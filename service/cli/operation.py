"""What the operator's commands share: settings from environment and options, the database, and what to say when they are wrong."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import URL

    from service.runs.database import Database
    from service.settings import Settings

DatabaseUrl = Annotated[
    str | None, typer.Option("--database-url", metavar="URL", help="Where runs are kept; QUARTERMASTER_DATABASE_URL.", show_default=False)
]
LogFormat = Annotated[str | None, typer.Option("--log-format", help="json or text; QUARTERMASTER_LOG_FORMAT.", show_default=False)]
BACKENDS = {"sqlite", "postgresql"}


def settings_with(**given: Any) -> Settings:  # noqa: ANN401  (options of any type; Settings checks them)
    """The settings of the environment, with the options that were given before them. Raises BadInputError."""
    from pydantic import ValidationError

    from service.settings import Settings

    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        settings = Settings(**chosen)
    except ValidationError as error:
        raise BadInputError("; ".join(_complaint(str(found["loc"][0]), found["msg"], chosen) for found in error.errors())) from None
    database_url(settings)
    return settings


def _complaint(name: str, message: str, chosen: dict[str, Any]) -> str:
    told = f"--{name.replace('_', '-')}" if name in chosen else f"QUARTERMASTER_{name.upper()}"
    return f"{told}: {message[:1].lower()}{message[1:]}"


def database_url(settings: Settings) -> URL:
    """The database's address. Raises BadInputError when it is none."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(settings.database_url.get_secret_value())
    except ArgumentError:
        url = None
    if url is None or url.get_backend_name() not in BACKENDS or (url.get_backend_name() == "sqlite" and not url.database):
        raise BadInputError(
            "QUARTERMASTER_DATABASE_URL: must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME, "
            "such as sqlite:////var/lib/quartermaster/quartermaster.db (four slashes for a path from the root)"
        )
    return url


def database_file(settings: Settings) -> Path:
    """The file of the embedded database. Raises BadInputError when the database is a PostgreSQL."""
    url = database_url(settings)
    if url.get_backend_name() != "sqlite" or url.database is None:
        raise BadInputError("the database is a PostgreSQL: use its own pg_dump and pg_restore (or continuous archiving)")
    return Path(url.database)


@contextlib.contextmanager
def opened_database(settings: Settings) -> Iterator[Database]:
    """The database, held against a restore and brought to the newest schema. Raises BadInputError when it cannot be had."""
    from service.backup import held
    from service.runs.database import opened

    url = database_url(settings)
    with contextlib.ExitStack() as stack:
        with told_as_bad_input():
            if url.get_backend_name() == "sqlite" and url.database is not None:
                _prepare(Path(url.database))
                stack.enter_context(held(Path(url.database)))
            database = stack.enter_context(opened(settings))
        yield database


def _prepare(path: Path) -> None:
    """A place for the database, which only its owner may read. Raises BadInputError, OSError."""
    if not path.parent.is_dir():
        raise BadInputError(f"there is no folder {path.parent.resolve()} for the database; make it, or set QUARTERMASTER_DATABASE_URL")
    if path.is_dir():
        raise BadInputError(f"the database {path} is a folder; add a file name to QUARTERMASTER_DATABASE_URL")
    path.touch(mode=0o600)  # SQLite gives the files beside it the same mode
    if not os.access(path, os.W_OK):
        raise BadInputError(f"the database {path} is read-only; check its owner and permissions")


@contextlib.contextmanager
def told_as_bad_input() -> Iterator[None]:
    """What keeps a command from starting, as one sentence without secrets."""
    from sqlalchemy.exc import SQLAlchemyError

    from service.errors import ServiceError
    from service.logs import without_secrets

    try:
        yield
    except ServiceError as error:
        raise BadInputError(without_secrets(error.detail)) from None
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise BadInputError("PostgreSQL needs its driver; install it with: pip install 'quartermaster[postgres]'") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BadInputError(f"{error.filename or 'the database'}: cannot be used ({reason}); check the path and its permissions") from None
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        cure = "check QUARTERMASTER_DATABASE_URL, that it runs, and its permissions"
        raise BadInputError(f"the database cannot be opened ({without_secrets(reason)}); {cure}") from None
