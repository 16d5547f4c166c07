"""Brings a database to the newest schema; safe when several processes start at once."""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from service.runs.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_NUMBER = 0x514D5F4D49475241  # of the advisory lock that PostgreSQL holds during a migration


class NewerSchemaError(ServiceError):
    """The database was written by a newer Quartermaster."""

    code, title = "newer_schema", "Newer database"


def config() -> Config:
    """Alembic's configuration: no file, all from here."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS))
    return made


def migrate(database: Database) -> None:
    """Run the migrations that are missing. Raises NewerSchemaError for a database of a newer version."""
    head = ScriptDirectory.from_config(config()).get_current_head()
    with _alone(database), database.engine.connect() as connection:
        if not database.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK_NUMBER})"))
        current = MigrationContext.configure(connection).get_current_revision()
        if current != head:
            _refuse_newer(current)
            settings = config()
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")
        connection.commit()


def _refuse_newer(current: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    if current is not None and current not in known:
        raise NewerSchemaError(
            f"the database has schema {current}, which this version does not know; install the newer version that wrote it"
        )


@contextlib.contextmanager
def _alone(database: Database) -> Iterator[None]:
    """No other process of this machine migrates the same SQLite file meanwhile."""
    path = database.url.database
    if not database.is_sqlite or path in {None, "", ":memory:"}:
        yield
        return
    with Path(f"{path}.lock").open("w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def create(connection: Connection) -> None:
    """Every table at once: for tests that compare the migrations with ``tables``."""
    from service.runs.tables import metadata

    metadata.create_all(connection)
