"""An API with a database of its own for each test; the children are shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from service.children import ChildPool
from tests.service.api.house import House, portal
from tests.service.runs.databases import BACKENDS, fresh_url

MakeHouse = Callable[..., House]
ON_BOTH = {
    "test_runs",
    "test_studies",
    "test_studies_asks",
    "test_events",
    "test_problems",
    "test_quotas",
    "test_surroundings",
    "test_waiting",
}


@pytest.fixture(scope="package")
def pool() -> Iterator[ChildPool]:
    made = ChildPool(1)
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="package")
def loop() -> Iterator[BlockingPortal]:
    with portal() as made:
        yield made


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What the database has a part in is asked of both kinds of database."""
    if "backend" in metafunc.fixturenames:
        both = metafunc.module.__name__.rpartition(".")[2] in ON_BOTH
        metafunc.parametrize("backend", BACKENDS if both else ["sqlite"], scope="function")


@pytest.fixture
def make_house(backend: str, tmp_path: Path, pool: ChildPool, loop: BlockingPortal) -> Iterator[MakeHouse]:
    made: list[House] = []

    def make(**fields: Any) -> House:
        made.append(House(url, pool, loop, **fields))
        return made[-1]

    with fresh_url(backend, tmp_path) as url:
        yield make
        for house in made:
            house.close()


@pytest.fixture
def house(make_house: MakeHouse) -> House:
    return make_house()


@pytest.fixture
def working(house: House) -> House:
    """With a worker that really solves."""
    house.work()
    return house
