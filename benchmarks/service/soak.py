"""Mixed load for a long time: memory, descriptors, processes and deadlines of a server that is never restarted."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.service import bad, problems
from benchmarks.service.load import Connection, connection
from benchmarks.service.measures import findings
from benchmarks.service.processes import House, address

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS = 4
SAMPLE_S = 1.0
SETTLED_SHARE = 0.25  # of the time, before the figures of a warm server are taken
MIB = 2**20


def soak(folder: Path, seconds: float) -> dict[str, Any]:
    """The growth of memory from the second quarter of the time to the last, and what is left over at the end.

    Descriptors: those at the end, without clients, beyond the most of the second quarter. Before that the pool of
    connections to the database may still grow to its size.
    """
    with House(folder, {"CHILD_TASKS": "200"}) as house:
        server = house.serve()
        tally = asyncio.run(_load(address(server), seconds, server.pid))
        wrong = findings(house.database_url, [])
        own = psutil.Process(server.pid)
        settled = tally.descriptors[int(SETTLED_SHARE * len(tally.descriptors)) : int(2 * SETTLED_SHARE * len(tally.descriptors))]
        left = own.num_fds() - max(settled)
        children = own.children(recursive=True)
        code = server.stop()
        survivors = sum(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    size = len(tally.memory)
    first = statistics.median(tally.memory[int(SETTLED_SHARE * size) : int(2 * SETTLED_SHARE * size)])
    last = statistics.median(tally.memory[-max(1, int(SETTLED_SHARE * size)) :])
    return {
        "seconds": round(seconds, 1),
        "runs": tally.runs,
        "requests": tally.requests,
        "deadline_misses": tally.misses,
        "memory_first_mib": round(first / MIB, 1),
        "memory_last_mib": round(last / MIB, 1),
        "memory_growth": round(last / first - 1.0, 4),
        "descriptors_left": max(0, left),
        "processes_left": survivors,
        "exit_code": code,
        "wrong": len(wrong),
    }


class _Tally:
    def __init__(self) -> None:
        self.runs = self.requests = self.misses = 0
        self.memory: list[int] = []
        self.descriptors: list[int] = []


async def _load(where: tuple[str, int], seconds: float, pid: int) -> _Tally:
    tally = _Tally()
    await _once(where, tally)  # whatever is opened once is open now
    until = time.monotonic() + seconds

    async def sample() -> None:
        while time.monotonic() < until:
            tally.memory.append(_memory(pid))
            tally.descriptors.append(psutil.Process(pid).num_fds())
            await asyncio.sleep(SAMPLE_S)

    async def client(name: int) -> None:
        number = name
        async with connection(*where) as mine:
            while time.monotonic() < until:
                await _ask(mine, number, tally)
                number += CLIENTS

    async with asyncio.TaskGroup() as group:
        group.create_task(sample())
        for name in range(CLIENTS):
            group.create_task(client(name))
    await asyncio.sleep(SAMPLE_S)
    return tally


async def _once(where: tuple[str, int], tally: _Tally) -> None:
    """Every kind of request, from as many clients as there will be."""
    connections = [Connection(*where) for _ in range(CLIENTS)]
    for number in range(10):
        await asyncio.gather(*(_ask(mine, CLIENTS * number + place, tally) for place, mine in enumerate(connections)))
    for mine in connections:
        await mine.close()


async def _ask(mine: Connection, number: int, tally: _Tally) -> None:
    limits: dict[str, Any] = {"time_limit_s": 1.0}
    kind, problem = (
        ("program", problems.tiny_lp(number)),
        ("placement", problems.small_placement(number)),
        ("program", problems.infeasible_lp(number)),
        ("placement", problems.gangs(60, 12, number % 5)),
        ("program", problems.knapsacks(200, 20, 5, seed=number)),
    )[number % 5]
    body = json.dumps({"kind": kind, "problem": problem, "limits": limits, "cache": number % 3 == 0}).encode()
    response = await mine.post("/v1/runs", body, {"Prefer": "wait=30"})
    run = response.json()
    tally.runs += 1
    tally.requests += 1
    if run.get("seconds") is not None and run["seconds"] > limits["time_limit_s"] + 1.0:
        tally.misses += 1
    for part in ("", "/events", "/explanations", "/certificate", "/plan"):
        await mine.request("GET", f"/v1/runs/{run['id']}{part}", headers={"Accept": "application/json"})
        tally.requests += 1
    if number % 7 == 0:
        method, path, wrong, headers = bad.made(number)
        try:
            await mine.request(method, path, wrong, headers)
        except EOFError:
            await mine.close()
        tally.requests += 1


def _memory(pid: int) -> int:
    """Resident bytes of the server and all its children."""
    total = 0
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total
