"""An API with a database of its own for each test; the children are shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from service.children import ChildPool
from tests.service.api.house import House, portal

MakeHouse = Callable[..., House]


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


@pytest.fixture
def make_house(tmp_path: Path, pool: ChildPool, loop: BlockingPortal) -> Iterator[MakeHouse]:
    made: list[House] = []

    def make(**fields: Any) -> House:
        made.append(House(tmp_path / "quartermaster.db", pool, loop, **fields))
        return made[-1]

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
