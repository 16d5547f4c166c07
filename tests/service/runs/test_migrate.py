"""Migrations make the tables that the code knows, once, whoever starts first, and refuse what they do not know."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from service.runs.database import Database
from service.runs.migrate import NewerSchemaError, create, migrate
from tests.service.runs.databases import BACKENDS, fresh_url


def _described(database: Database) -> dict[str, object]:
    """Tables with their columns, keys and indexes."""
    inspector = inspect(database.engine)
    return {
        table: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)],
            inspector.get_pk_constraint(table)["constrained_columns"],
            sorted(str(key["constrained_columns"]) + str(key["options"]) for key in inspector.get_foreign_keys(table)),
        )
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def _indexes(database: Database) -> list[str]:
    query = (
        "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        if database.is_sqlite
        else "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
    )
    return database.read(
        lambda connection: sorted(" ".join(row[0].split()) for row in connection.execute(text(query)) if "alembic" not in row[0])
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_migrations_make_the_tables_of_the_code(tmp_path: Path, backend: str) -> None:
    (tmp_path / "other").mkdir()
    with fresh_url(backend, tmp_path) as one, fresh_url(backend, tmp_path / "other") as other:
        migrated, created = Database(one, durability="crash"), Database(other, durability="crash")
        try:
            migrate(migrated)
            with created.engine.begin() as connection:
                create(connection)
            assert _described(migrated) == _described(created)
            assert _indexes(migrated) == _indexes(created)
        finally:
            migrated.close()
            created.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_may_migrate_at_once(tmp_path: Path, backend: str) -> None:
    failures: list[BaseException] = []

    def start(url: str) -> None:
        database = Database(url, durability="crash")
        try:
            migrate(database)
            database.read(lambda connection: connection.execute(text("SELECT count(*) FROM runs")).scalar())
        except BaseException as error:  # noqa: BLE001  (told by the main thread)
            failures.append(error)
        finally:
            database.close()

    with fresh_url(backend, tmp_path) as url:
        threads = [threading.Thread(target=start, args=(url,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_newer_database_is_refused_and_left_alone(database: Database) -> None:
    database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")).rowcount)
    with pytest.raises(NewerSchemaError, match="9999"):
        migrate(database)
    found = database.read(lambda connection: connection.execute(text("SELECT version_num FROM alembic_version")).scalar())
    assert found == "9999"


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE runs (id TEXT)"))
    engine.dispose()
    database = Database(f"sqlite:///{tmp_path / 'other.db'}", durability="crash")
    try:
        with pytest.raises(Exception, match="already exists"):
            migrate(database)
    finally:
        database.close()
