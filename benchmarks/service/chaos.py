"""Kills at random: API, workers and children on one database, by SIGKILL, while clients go on asking.

On PostgreSQL its sessions are ended too, all at once, as by a database that restarts.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.engine import make_url

from benchmarks.service import problems
from benchmarks.service.load import Connection, connection
from benchmarks.service.measures import findings
from benchmarks.service.processes import House, address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.service.processes import Process

CLIENTS = 8
AGAIN_S = 0.1
GIVE_UP_S = 900.0
AWAY = (OSError, EOFError, TimeoutError)
# Far more than bad luck can reach: a run is hit by one of its worker's kills every few seconds at most, and lasts four. Yet a run
# that is lost whenever it is started comes to its end within the measurement, and is counted, where a hundred would hide it.
ATTEMPTS = 20
SHARES = {"child": 4, "worker": 3, "api": 1, "database": 1}
AT_WORK_WITHIN_S = 1.0  # so long a child at work is waited for, before one that waits is killed
LOOK_S = 0.1  # several times the tick in which the system counts CPU time
IMPORTED_S = 3.0  # a younger child may use its CPU time for imports


def kills(folder: Path, runs: int, wanted: int, seed: int = 0, *, every_s: float = 0.6, database_url: str | None = None) -> dict[str, Any]:
    """``runs`` requests while ``wanted`` processes are killed; what the audit finds afterwards."""
    settings = {"ATTEMPTS": str(ATTEMPTS), "LEASE_S": "3", "HEARTBEAT_S": "0.3", "SLOTS": "2"}
    if database_url is not None:
        settings["DATABASE_URL"] = database_url
    began = time.monotonic()
    with House(folder, settings) as house:
        api = house.serve("--no-workers")
        port = address(api)[1]
        workers = [house.worker() for _ in range(2)]
        killer = _Killer(api, port, workers, random.Random(seed), every_s, database_url)
        accepted = asyncio.run(_asked(("127.0.0.1", port), runs, lambda: killer.done >= wanted, killer))
        wrong = findings(house.database_url, list(accepted.values()))
        most_losses, given_up = _losses(house.database_url)
    sorted_out = classified(wrong)
    return {
        "runs": len(accepted),
        "kills": killer.done,
        "killed": killer.by_what,
        "children_killed_at_work": killer.at_work,
        "lost": len(sorted_out["lost"]) + given_up,
        "most_losses_of_a_run": most_losses,
        "doubled": len(accepted) - len(set(accepted.values())) + len(sorted_out["doubled"]),
        "unverified": len(sorted_out["unverified"]),
        "otherwise_wrong": sorted_out["otherwise"][:20],
        "seconds": round(time.monotonic() - began, 1),
    }


def classified(wrong: Iterable[str]) -> dict[str, list[str]]:
    """The audit's findings as lost (a run, its problem or its plan), doubled, unverified and otherwise wrong."""
    words = {"lost": ("is lost",), "doubled": ("more than once",), "unverified": ("not verified", "breaks a rule")}
    found: dict[str, list[str]] = {name: [] for name in (*words, "otherwise")}
    for told in wrong:
        found[next((name for name, any_of in words.items() if any(word in told for word in any_of)), "otherwise")].append(told)
    return found


def _losses(database_url: str) -> tuple[int, int]:
    """How often one run was lost at most, and how many runs were lost until the service gave them up without a plan."""
    from service.runs.database import Database
    from service.runs.tables import runs

    database = Database(database_url)
    try:
        most = database.read(lambda connection: connection.execute(select(func.max(runs.c.losses))).scalar_one())
        given_up = select(func.count()).where(runs.c.losses >= ATTEMPTS, runs.c.outcome == "no_plan")
        return int(most or 0), int(database.read(lambda connection: connection.execute(given_up).scalar_one()))
    finally:
        database.close()


class _Killer(threading.Thread):
    """Kills one process after another and starts it again; children are started again by their pool."""

    def __init__(
        self, api: Process, port: int, workers: list[Process], rng: random.Random, every_s: float, database_url: str | None = None
    ) -> None:
        super().__init__(name="killer", daemon=True)
        self._api, self._port, self._workers, self._rng, self._every_s = api, port, workers, rng, every_s
        self._postgres = database_url if database_url is not None and database_url.startswith("postgresql") else None
        self.stopped = threading.Event()
        self.done = 0
        self.at_work = 0  # of the children killed
        self.by_what = {what: 0 for what in SHARES if what != "database" or self._postgres is not None}
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Until it is stopped."""
        try:
            while not self.stopped.wait(self._rng.uniform(0.2, 1.8) * self._every_s):
                self._kill(self._rng.choices(list(self.by_what), [SHARES[what] for what in self.by_what])[0])
        except BaseException as error:  # noqa: BLE001  (told by the main thread)
            self.failure = error

    def _kill(self, what: str) -> None:
        if what == "api":
            self._api.kill()
            self._api.command = ("serve", "--port", str(self._port), "--no-workers")
            self._api.start()
        elif what == "worker":
            worker = self._rng.choice(self._workers)
            worker.kill()
            worker.start()
        elif what == "child":
            if not self._kill_child():
                return
        elif self._postgres is not None and not end_sessions(self._postgres):
            return
        self.done += 1
        self.by_what[what] += 1

    def _kill_child(self) -> bool:
        """Kill a child at work, where one is found soon, and else one that waits."""
        give_up = time.monotonic() + AT_WORK_WITHIN_S
        while True:
            found = [child for worker in self._workers for child in worker.children()]
            busy = at_work(found)
            if busy or time.monotonic() > give_up or self.stopped.is_set():
                break
        if not found:
            return False
        try:
            self._rng.choice(busy or found).kill()
        except psutil.NoSuchProcess:
            return False
        self.at_work += bool(busy)
        return True


def at_work(children: list[psutil.Process]) -> list[psutil.Process]:
    """Those that use CPU time now and have done with their imports: one that waits for a task uses none."""
    before = {child.pid: _cpu_s(child) for child in children}
    time.sleep(LOOK_S)
    return [child for child in children if _cpu_s(child) > before[child.pid] and time.time() - child.create_time() > IMPORTED_S]


def _cpu_s(child: psutil.Process) -> float:
    try:
        spent = child.cpu_times()
    except psutil.Error:
        return 0.0
    return float(spent.user + spent.system)


def end_sessions(database_url: str) -> int:
    """End every other session of a PostgreSQL database; how many there were."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    try:
        with engine.connect() as connection:
            return int(connection.execute(text(ended)).scalar_one())
    finally:
        engine.dispose()


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
