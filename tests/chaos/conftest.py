"""Real processes on loopback, in a folder of the test's own, and ended whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.service.measures import findings
from benchmarks.service.processes import House
from tests.service.runs.databases import BACKENDS, fresh_url

SETTINGS = {"ATTEMPTS": "20", "LEASE_S": "2", "HEARTBEAT_S": "0.2", "POLL_S": "0.05", "SLOTS": "2", "DRAIN_S": "5"}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path, dict(SETTINGS)) as made:
        yield made


@pytest.fixture(params=BACKENDS)
def any_house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """On SQLite, and on PostgreSQL where there is one."""
    with fresh_url(request.param, tmp_path) as url, House(tmp_path, SETTINGS | {"DATABASE_URL": url}) as made:
        yield made


def check(house: House, accepted: list[str], *, quiet: bool = True) -> None:
    """Nothing is lost, doubled, unverified or out of order."""
    assert findings(house.database_url, accepted, quiet=quiet) == []
