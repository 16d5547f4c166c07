"""One function for each row of the table. Each starts its own processes in a fresh folder and returns the row's figures."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.service import problems
from benchmarks.service.load import Connection, connection, drive, percentile
from benchmarks.service.processes import House, address

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENTS = 16
RESTARTED_S = 30.0
MOST_LOOKS = 3_000
LATE_S = 1.0  # beyond the limit: from there on the promise is missed


def _body(kind: str, problem: problems.Document, **fields: Any) -> bytes:  # noqa: ANN401  (fields of the request)
    return json.dumps({"kind": kind, "problem": problem, "cache": False} | fields).encode()


def _milliseconds(values: list[float]) -> dict[str, float]:
    return {f"{name}_ms": round(1e3 * percentile(values, share), 2) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}


# ---------------------------------------------------------------- latency


def added_latency(folder: Path, requests: int) -> dict[str, Any]:
    """What HTTP, the database and the child process add to a small solve: each request beside the same solve in this process."""
    from models.catalogue import kind
    from optimizer.limits import Limits
    from optimizer.solve import solve

    found: dict[str, Any] = {}
    with House(folder) as house:
        server = house.serve()
        for name, make in (("program", problems.tiny_lp), ("placement", problems.small_placement)):
            chosen = kind(name)

            def here(number: int, make: Callable[[int], Any] = make, chosen: Any = chosen) -> float:  # noqa: ANN401
                problem = chosen.problem.model_validate(make(number))
                began = time.perf_counter()
                solve(problem, Limits(time_limit_s=10.0), isolate=False)
                return time.perf_counter() - began

            pairs = asyncio.run(_in_turns(address(server), name, make, here, requests))
            found[name] = {"in_process_p50_ms": round(1e3 * statistics.median(inside for inside, _ in pairs), 2)}
            found[name] |= {f"added_{key}": value for key, value in _milliseconds([over - inside for inside, over in pairs]).items()}
    worst = {key: max(found[name][key] for name in found) for key in ("added_p50_ms", "added_p99_ms")}
    return worst | {"requests": requests, "by_kind": found}


async def _in_turns(
    where: tuple[str, int], kind: str, make: Callable[[int], Any], here: Callable[[int], float], requests: int
) -> list[tuple[float, float]]:
    """Seconds here and over HTTP, for each problem, in turns; the first tenth only warms up."""
    pairs = []
    async with connection(*where) as mine:
        for number in range(-(requests // 10) - 5, requests):
            inside = here(number + 10_000)
            limits = {"time_limit_s": 10.0}
            response = await mine.post("/v1/runs", _body(kind, make(number + 10_000), limits=limits), {"Prefer": "wait=30"})
            _expect(response.status == 200, f"status {response.status}: {response.body[:200]!r}")
            if number >= 0:
                pairs.append((inside, response.seconds))
    return pairs


def _expect(true: bool, otherwise: str) -> None:  # noqa: FBT001  (a condition)
    if not true:
        raise RuntimeError(otherwise)


# ---------------------------------------------------------------- throughput and intake


def throughput(folder: Path, solves: int) -> dict[str, Any]:
    """Tiny linear programs by 16 clients that wait for each answer."""
    states: list[str] = []

    async def solve(mine: Connection, number: int) -> None:
        response = await mine.post(
            "/v1/runs", _body("program", problems.tiny_lp(number), limits={"time_limit_s": 10.0}), {"Prefer": "wait=30"}
        )
        _expect(response.status == 200, f"status {response.status}: {response.body[:200]!r}")
        states.append(response.json()["state"])
        seconds.append(response.seconds)

    with House(folder) as house:
        server = house.serve()
        seconds: list[float] = []
        asyncio.run(drive(CLIENTS, solves // 10, address(server), solve))
        states.clear()
        seconds.clear()
        spent = asyncio.run(drive(CLIENTS, solves, address(server), solve))
        lost = audited(house)
    wrong = sum(state != "succeeded" for state in states)
    return {
        "solves_per_s": round(solves / spent, 1),
        "clients": CLIENTS,
        "solves": solves,
        "not_succeeded": wrong,
        "wrong": lost,
        **_milliseconds(seconds),
    }


def intake(folder: Path, requests: int) -> dict[str, Any]:
    """Requests stored in the queue, by 16 clients, with nobody to solve them; then the restart with that queue."""
    seconds: list[float] = []

    async def submit(mine: Connection, number: int) -> None:
        response = await mine.post("/v1/runs", _body("program", problems.tiny_lp(number)))
        _expect(response.status == 202, f"status {response.status}: {response.body[:200]!r}")
        seconds.append(response.seconds)

    with House(folder) as house:
        server = house.serve("--no-workers")
        asyncio.run(drive(CLIENTS, requests // 10, address(server), submit))
        seconds.clear()
        spent = asyncio.run(drive(CLIENTS, requests, address(server), submit))
        server.kill()
        began = time.perf_counter()
        again = house.serve()
        ready = asyncio.run(_ready(address(again), began))
        queued = asyncio.run(_queued(address(again)))
        again.kill()
        wrong = audited(house, quiet=False)
    return {
        "accepted_per_s": round(requests / spent, 1),
        "clients": CLIENTS,
        "requests": requests,
        **_milliseconds(seconds),
        "restart_s": round(ready, 2),
        "queued_at_restart": queued,
        "wrong": wrong,
    }


async def _ready(where: tuple[str, int], began: float) -> float:
    """Seconds until the server says that it is ready and answers a request for a run's list."""
    async with connection(*where) as mine:
        while (await mine.get("/readyz")).status != 200:
            _expect(time.perf_counter() - began < RESTARTED_S, "the server is not ready again")
            await asyncio.sleep(0.02)
        _expect((await mine.get("/v1/runs?limit=1")).status == 200, "the server does not list its runs")
    return time.perf_counter() - began


async def _queued(where: tuple[str, int]) -> int:
    async with connection(*where) as mine:
        text = (await mine.get("/metrics")).body.decode()
    lines = [line for line in text.splitlines() if line.startswith("quartermaster_runs{") and 'state="queued"' in line]
    return int(float(lines[0].rpartition(" ")[2])) if lines else -1


# ---------------------------------------------------------------- deadlines


def deadlines(folder: Path, runs: int) -> dict[str, Any]:
    """Runs with limits of 1 to 5 s: searches that use all their time, some stuck in presolve, some infeasible, some quick."""
    with House(folder) as house:
        server = house.serve(QUEUE_LIMIT="100000")
        ids = asyncio.run(_mixed(address(server), runs))
        ended = asyncio.run(_all_ended(address(server), ids, give_up_s=60.0 + 6.0 * runs))
        wrong = audited(house)
    by_outcome: dict[str, int] = {}
    for run in ended:
        key = f"{run['outcome']} by {run['stop_reason']}"
        by_outcome[key] = by_outcome.get(key, 0) + 1
    return {"runs": runs, **lateness(ended), "outcomes": by_outcome, "wrong": wrong}


def lateness(ended: list[dict[str, Any]]) -> dict[str, float | None]:
    """Seconds beyond the limit: for each run the larger of what the server says it took and of the time between its start and its end.

    A run that tells neither is a miss, and is counted in ``without_times``.
    """
    said: list[float] = []
    clocked: list[float] = []
    late: list[float] = []
    for run in ended:
        limit, by_server, by_clock = run["limits"]["time_limit_s"], run["seconds"], _clocked(run)
        beyond = [spent - limit for spent in (by_server, by_clock) if spent is not None]
        said += [by_server - limit] if by_server is not None else []
        clocked += [by_clock - limit] if by_clock is not None else []
        late += [max(beyond)] if beyond else []
    without = len(ended) - len(late)
    return {
        "late_p99_s": _rounded(late, 0.99),
        "late_max_s": _rounded(late, 1.0),
        "late_as_the_server_says_p99_s": _rounded(said, 0.99),
        "late_from_start_to_end_p99_s": _rounded(clocked, 0.99),
        "without_times": without,
        "misses": without + sum(seconds > LATE_S for seconds in late),
        "reached_their_limit": sum(seconds > -0.3 for seconds in late),
    }


def _clocked(run: dict[str, Any]) -> float | None:
    """Seconds from the start to the end of a run, by its own times (RFC 3339)."""
    if run["started_at"] is None or run["finished_at"] is None:
        return None
    return (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["started_at"])).total_seconds()


def _rounded(values: list[float], share: float) -> float | None:
    return round(percentile(values, share), 3) if values else None


def cancels(folder: Path, runs: int) -> dict[str, Any]:
    """Cancellations of searches that sit in presolve or at the root, where the solver does not listen."""
    seconds: list[float] = []
    states: list[str] = []

    async def cancel(mine: Connection, number: int) -> None:
        body = json.dumps({"problem_id": kept[0], "limits": {"time_limit_s": 60.0, "seed": number}, "cache": False}).encode()
        run_id = (await mine.post("/v1/runs", body)).json()["id"]
        for _ in range(MOST_LOOKS):
            if (await mine.get(f"/v1/runs/{run_id}")).json()["state"] not in {"queued", "starting"}:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2 + 0.1 * (number % 20))
        mode = "discard" if number % 2 else "keep_best"
        response = await mine.post(f"/v1/runs/{run_id}:cancel?mode={mode}", b"")
        _expect(response.status in (200, 202), f"status {response.status}: {response.body[:300]!r}")
        seconds.append(response.seconds)
        states.append(response.json()["state"])

    with House(folder) as house:
        server = house.serve()
        kept = asyncio.run(_kept(address(server), _stuck()))
        asyncio.run(drive(2, runs, address(server), cancel))
        wrong = audited(house)
    late = sum(state != "cancelled" for state in states)
    return {
        "cancels": runs,
        "answer_p50_s": round(percentile(seconds, 0.5), 3),
        "answer_max_s": round(max(seconds), 3),
        "not_over": late,
        "wrong": wrong,
    }


def _stuck() -> bytes:
    return json.dumps({"kind": "program", "problem": problems.knapsacks(50_000, 200, 8)}).encode()


async def _kept(where: tuple[str, int], *bodies: bytes) -> list[str]:
    """Ids of problems stored for many runs."""
    ids = []
    async with connection(*where) as mine:
        for body in bodies:
            response = await mine.post("/v1/problems", body)
            _expect(response.status in (200, 201), f"status {response.status}: {response.body[:300]!r}")
            ids.append(response.json()["id"])
    return ids


async def _mixed(where: tuple[str, int], runs: int) -> list[str]:
    busy = json.dumps({"kind": "placement", "problem": problems.gangs(200, 40, 3)}).encode()
    kept = await _kept(where, _stuck(), busy)
    ids = []
    async with connection(*where) as mine:
        for number in range(runs):
            limits = {"time_limit_s": 1.0 + number % 5, "gap": 0.0, "seed": number}
            match number % 10:
                case 0:
                    body = json.dumps({"problem_id": kept[0], "limits": limits, "cache": False}).encode()
                case 1 | 2 | 3:
                    body = json.dumps({"problem_id": kept[1], "limits": limits, "cache": False}).encode()
                case 4 | 5:
                    body = _body("program", problems.infeasible_lp(number), limits=limits)
                case 6 | 7:
                    body = _body("program", problems.knapsacks(300, 20, 5, seed=number), limits=limits)
                case _:
                    body = _body("placement", problems.small_placement(number), limits=limits)
            response = await mine.post("/v1/runs", body)
            _expect(response.status in (200, 202), f"status {response.status}: {response.body[:300]!r}")
            ids.append(response.json()["id"])
    return ids


async def _all_ended(where: tuple[str, int], ids: list[str], give_up_s: float) -> list[dict[str, Any]]:
    ended = []
    until = time.monotonic() + give_up_s
    async with connection(*where) as mine:
        for run_id in ids:
            while True:
                run = (await mine.request("GET", f"/v1/runs/{run_id}", headers={"Prefer": "wait=30"})).json()
                if run["finished_at"] is not None:
                    ended.append(run)
                    break
                _expect(time.monotonic() < until, f"run {run_id} is {run['state']} for too long")
    return ended


# ---------------------------------------------------------------- the audit


def audited(house: House, accepted: list[str] | None = None, *, quiet: bool = True) -> int:
    """How many things are wrong in the database: lost, doubled, unverified, out of order."""
    return len(findings(house.database_url, accepted or [], quiet=quiet))


def findings(database_url: str, accepted: list[str], *, quiet: bool = True) -> list[str]:
    """What is wrong in the database."""
    from benchmarks.service.auditor import findings as audit
    from service.runs.database import Database

    database = Database(database_url)
    try:
        return audit(database, accepted, quiet=quiet)
    finally:
        database.close()
