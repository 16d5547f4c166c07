"""Kills at random: API, workers and children on one database, by SIGKILL, while clients go on asking."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.service import problems
from benchmarks.service.load import Connection, connection
from benchmarks.service.measures import findings
from benchmarks.service.processes import House, address

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.service.processes import Process

CLIENTS = 8
AGAIN_S = 0.1
GIVE_UP_S = 900.0
AWAY = (OSError, EOFError, TimeoutError)


def kills(folder: Path, runs: int, wanted: int, seed: int = 0, *, every_s: float = 0.6, database_url: str | None = None) -> dict[str, Any]:
    """``runs`` requests while ``wanted`` processes are killed; what the audit finds afterwards."""
    settings = {"ATTEMPTS": "100", "LEASE_S": "3", "HEARTBEAT_S": "0.3", "SLOTS": "2"}
    if database_url is not None:
        settings["DATABASE_URL"] = database_url
    began = time.monotonic()
    with House(folder, settings) as house:
        api = house.serve("--no-workers")
        port = address(api)[1]
        workers = [house.worker() for _ in range(2)]
        killer = _Killer(api, port, workers, random.Random(seed), every_s)
        accepted = asyncio.run(_asked(("127.0.0.1", port), runs, lambda: killer.done >= wanted, killer))
        wrong = findings(house.database_url, list(accepted.values()))
        doubled = len(accepted) - len(set(accepted.values()))
    return {
        "runs": len(accepted),
        "kills": killer.done,
        "killed": killer.by_what,
        "lost": sum("is lost" in told for told in wrong),
        "doubled": doubled + sum("more than once" in told for told in wrong),
        "unverified": sum("verified" in told or "breaks a rule" in told for told in wrong),
        "otherwise_wrong": [told for told in wrong if "is lost" not in told and "more than once" not in told][:20],
        "seconds": round(time.monotonic() - began, 1),
    }


class _Killer(threading.Thread):
    """Kills one process after another and starts it again; children are started again by their pool."""

    def __init__(self, api: Process, port: int, workers: list[Process], rng: random.Random, every_s: float) -> None:
        super().__init__(name="killer", daemon=True)
        self._api, self._port, self._workers, self._rng, self._every_s = api, port, workers, rng, every_s
        self.stopped = threading.Event()
        self.done = 0
        self.by_what = {"child": 0, "worker": 0, "api": 0}
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Until it is stopped."""
        try:
            while not self.stopped.wait(self._rng.uniform(0.2, 1.8) * self._every_s):
                self._kill(self._rng.choices(("child", "worker", "api"), (4, 3, 1))[0])
        except BaseException as error:  # noqa: BLE001  (told by the main thread)
            self.failure = error

    def _kill(self, what: str) -> None:
        if what == "api":
            self._api.kill()
            self._api.command = ("serve", "--port", str(self._port), "--no-workers")
            self._api.start()
        else:
            worker = self._rng.choice(self._workers)
            if what == "worker":
                worker.kill()
                worker.start()
            else:
                found = worker.children()
                if not found:
                    return
                try:
                    self._rng.choice(found).kill()
                except psutil.NoSuchProcess:
                    return
        self.done += 1
        self.by_what[what] += 1


async def _asked(where: tuple[str, int], runs: int, enough: Callable[[], bool], killer: _Killer) -> dict[str, str]:
    """Submit and follow runs until all have ended and enough was killed; the run's id by idempotency key."""
    accepted: dict[str, str] = {}
    following = iter(range(1_000_000))
    until = time.monotonic() + GIVE_UP_S
    killer.start()

    async def client(name: int) -> None:
        async with connection(*where) as mine:
            while len(accepted) < runs or not enough():
                if killer.failure is not None:
                    raise killer.failure
                if time.monotonic() > until:
                    raise TimeoutError("the runs do not end")
                key = f"chaos-{name}-{next(following)}"
                accepted[key] = await _submitted(mine, key, until)
                await _ended(mine, accepted[key], until)

    try:
        async with asyncio.TaskGroup() as group:
            for name in range(CLIENTS):
                group.create_task(client(name))
    finally:
        killer.stopped.set()
        killer.join()
    return accepted


async def _submitted(mine: Connection, key: str, until: float) -> str:
    number = int(key.rpartition("-")[2])
    limits = {"time_limit_s": 4.0}
    choices = (
        ("program", problems.tiny_lp(number)),
        ("placement", problems.small_placement(number)),
        ("program", problems.knapsacks(60, 10, 4, seed=number)),
        ("placement", problems.gangs(60, 12, number % 7)),
    )
    kind, problem = choices[number % len(choices)]
    limits = limits if number % 4 != 3 else {"time_limit_s": 1.5}
    body = json.dumps({"kind": kind, "problem": problem, "limits": limits, "cache": False}).encode()
    while time.monotonic() < until:
        try:
            response = await mine.post("/v1/runs", body, {"Idempotency-Key": key})
        except AWAY:
            await asyncio.sleep(AGAIN_S)
            continue
        if response.status in {200, 202}:
            return str(response.json()["id"])
        if response.status not in {429, 503}:
            raise RuntimeError(f"status {response.status}: {response.body[:300]!r}")
        await asyncio.sleep(AGAIN_S)
    raise TimeoutError("the request is not accepted")


async def _ended(mine: Connection, run_id: str, until: float) -> None:
    while time.monotonic() < until:
        try:
            response = await mine.request("GET", f"/v1/runs/{run_id}", headers={"Prefer": "wait=5"})
        except AWAY:
            await asyncio.sleep(AGAIN_S)
            continue
        if response.status == 200 and response.json()["finished_at"] is not None:
            return
        if response.status not in {200, 503}:
            raise RuntimeError(f"run {run_id}: status {response.status}: {response.body[:300]!r}")
        if response.status == 503:
            await asyncio.sleep(AGAIN_S)
    raise TimeoutError(f"run {run_id} does not end")
