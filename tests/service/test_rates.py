"""Rates of requests: by a clock that does not jump, and spent before the database is asked."""

from pathlib import Path
from typing import Any

import pytest

from service.auth import Keys, Rates
from service.errors import TooMany, Unavailable
from service.moving_windows import MonotonicStorage
from service.runs.database import Database
from service.runs.migrate import migrate
from service.settings import Settings
from tests.service.test_auth import Clock, app_of, bearer, key_id, made_key


def test_a_jump_of_the_wall_clock_locks_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, wall = Clock(), Clock(1_000_000.0)
    monkeypatch.setattr("time.time", wall)
    rates = Rates(2, clock=clock)
    for _ in range(2):
        rates.take("x")
    wall.at -= 3_600.0
    with pytest.raises(TooMany) as refused:
        rates.take("x")
    assert refused.value.retry_after_s == 60
    clock.at += 60.5
    assert rates.take("x") is not None


def test_requests_count_for_a_minute_each() -> None:
    clock = Clock()
    rates = Rates(3, clock=clock)
    left: list[tuple[int, float]] = []
    for _ in range(3):
        rate = rates.take("x")
        assert rate is not None
        left.append((rate.remaining, rate.reset_s))
        clock.at += 20.0
    assert left == [(2, 60.0), (1, 40.0), (0, 20.0)]
    clock.at -= 0.5
    with pytest.raises(TooMany):
        rates.take("x")
    clock.at += 1.0
    again = rates.take("x")
    assert again is not None
    assert again.remaining == 0


def test_windows_that_nobody_uses_are_forgotten() -> None:
    clock = Clock()
    storage = MonotonicStorage(clock)
    for number in range(100):
        assert storage.acquire_entry(f"address {number}", 5, 60)
        clock.at += 1.0
    assert storage.windows <= 61
    clock.at += 100.0
    storage.acquire_entry("another", 5, 60)
    assert storage.windows == 1
    assert storage.get_moving_window("address 99", 5, 60) == (clock.at, 0)


class Counting:
    """A database that counts how often it is read."""

    def __init__(self, database: Database) -> None:
        self.database, self.reads = database, 0

    def read(self, operation: Any) -> Any:
        self.reads += 1
        return self.database.read(operation)


@pytest.fixture
def counting(tmp_path: Path) -> Any:
    made = Database(f"sqlite:///{tmp_path / 'runs.db'}", durability="crash")
    migrate(made)
    yield Counting(made)
    made.close()


def test_unknown_keys_do_not_reach_the_database_beyond_the_rate_of_their_address(counting: Any) -> None:
    """Each with another id, so that nothing is remembered of it."""
    client = app_of(counting.database, Settings(require_keys=True, rate_per_minute=3), Keys(counting))
    tried = [client.get("/read", headers=bearer(f"qm_{number:016x}_{'x' * 43}")).status_code for number in range(10)]
    assert tried == [401] * 3 + [429] * 7
    assert counting.reads == 3


def test_a_known_key_does_not_use_up_the_rate_of_its_address(counting: Any) -> None:
    clock = Clock()
    text = made_key(counting.database, "read")
    keys = Keys(counting, clock=clock)
    client = app_of(counting.database, Settings(require_keys=True, rate_per_minute=4), keys)
    for _ in range(3):
        assert client.get("/read", headers=bearer(text)).status_code == 200
        clock.at += 1.0  # it is read anew each time
    assert counting.reads == 3
    wrong = bearer(f"qm_{key_id(text)}_{'x' * 43}")
    assert [client.get("/read", headers=wrong).status_code for _ in range(4)] == [401, 401, 401, 429], "the first of all counted too"


def test_keys_are_not_waited_for_without_end(counting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    release = threading.Event()
    monkeypatch.setattr("service.keys.LOOK_S", 0.05)
    monkeypatch.setattr(counting, "read", lambda _: release.wait(30))
    client = app_of(counting.database, Settings(require_keys=True), Keys(counting))
    try:
        refused = client.get("/read", headers=bearer(f"qm_{'0' * 16}_{'x' * 43}"))
        assert (refused.status_code, refused.json()["code"]) == (Unavailable.status, "database_unavailable")
    finally:
        release.set()
