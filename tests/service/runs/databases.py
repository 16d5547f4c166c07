"""Databases for the tests: a fresh SQLite file, or a fresh schema on the PostgreSQL that the environment names."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

POSTGRES = os.environ.get("QUARTERMASTER_TEST_POSTGRES_URL")
NO_POSTGRES = "QUARTERMASTER_TEST_POSTGRES_URL names no PostgreSQL to test on"
BACKENDS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.skipif(POSTGRES is None, reason=NO_POSTGRES)))


@contextmanager
def fresh_url(backend: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database, dropped at the end."""
    if backend == "sqlite":
        yield f"sqlite:///{folder / 'runs.db'}"
        return
    assert POSTGRES is not None
    name = f"qm_{secrets.token_hex(6)}"
    server = create_engine(make_url(POSTGRES).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()
