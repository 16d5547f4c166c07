"""A database of each kind, with the newest schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.runs.database import Database
from service.runs.migrate import migrate
from tests.service.runs.databases import BACKENDS, fresh_url


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url, durability="crash")
    migrate(made)
    yield made
    made.close()
