"""Requests that are wrong in every way a generator knows: each must be refused in good form, and nothing may be stored."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import string
from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.service import problems
from benchmarks.service.load import Connection, drive
from benchmarks.service.measures import CLIENTS
from benchmarks.service.processes import House, address

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE")


def bad_requests(folder: Path, requests: int) -> dict[str, Any]:
    """How many were answered how."""
    statuses: Counter[int] = Counter()
    faults: list[str] = []

    async def ask(mine: Connection, number: int) -> None:
        method, path, body, headers = made(number)
        try:
            response = await mine.request(method, path, body, headers)
        except (EOFError, ConnectionError) as error:
            faults.append(f"{method} {path}: {error}")
            return
        statuses[response.status] += 1
        is_problem = response.headers.get("content-type", "").startswith("application/problem+json")
        if not 400 <= response.status < 500 or not is_problem or not response.json().get("code"):
            faults.append(f"{method} {path} {body[:200] if body else b''!r}: {response.status} {response.body[:200]!r}")

    with House(folder) as house:
        server = house.serve()
        asyncio.run(drive(CLIENTS, requests, address(server), ask))
        stored, at_work = asyncio.run(_stored(address(server)))
    return {
        "requests": requests,
        "by_status": {str(status): count for status, count in sorted(statuses.items())},
        "not_4xx_problem_json": len(faults),
        "answered_5xx": sum(count for status, count in statuses.items() if status >= 500),
        "runs_stored": stored,
        "runs_worked_on": at_work,
        "faults": faults[:20],
    }


async def _stored(where: tuple[str, int]) -> tuple[int, int]:
    mine = Connection(*where)
    try:
        listed = len((await mine.get("/v1/runs?limit=200")).json()["runs"])
        text = (await mine.get("/metrics")).body.decode()
    finally:
        await mine.close()
    ended = [line for line in text.splitlines() if line.startswith("quartermaster_run_seconds_count")]
    return listed, sum(int(float(line.rpartition(" ")[2])) for line in ended)


def made(number: int) -> tuple[str, str, bytes | None, dict[str, str]]:
    """A request that is wrong: method, path, body, headers. The same number gives the same request."""
    rng = random.Random(number)
    ways = (_broken_json, _junk_in_the_problem, _junk_in_the_request, _wrong_place, _wrong_headers, _missing_part, _wrong_query, _deep)
    return ways[number % len(ways)](rng)


def _request(rng: random.Random) -> dict[str, Any]:
    kind, problem = rng.choice((("program", problems.tiny_lp(1)), ("placement", problems.small_placement(1))))
    return {"kind": kind, "problem": problem, "limits": {"time_limit_s": 1.0}}


def _posted(body: bytes, path: str = "/v1/runs", **headers: str) -> tuple[str, str, bytes | None, dict[str, str]]:
    return "POST", path, body, {"Content-Type": "application/json"} | headers


def _broken_json(rng: random.Random) -> tuple[str, str, bytes | None, dict[str, str]]:
    body = bytearray(json.dumps(_request(rng)).encode())
    match rng.randrange(4):
        case 0:
            body = body[: rng.randrange(len(body))]
        case 1:
            body[rng.randrange(len(body))] = rng.choice(b'\x00\xff{}[]"')
            if _reads(body):
                body = body[:-1]
        case 2:
            body = bytearray(rng.randbytes(rng.randrange(1, 500)))
        case _:
            body += b"}"
    return _posted(bytes(body))


def _reads(body: bytes | bytearray) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def _junk_in_the_problem(rng: random.Random) -> tuple[str, str, bytes | None, dict[str, str]]:
    """A value that the schema cannot take, somewhere in the problem."""
    request = copy.deepcopy(_request(rng))
    if request["kind"] == "program":
        part, name = rng.choice((("columns", "cost"), ("columns", "upper"), ("rows", "upper"), ("entries", "rows"), ("entries", "values")))
        junk = rng.choice(("x", {"a": 1}, [], True if part == "entries" and name == "rows" else "y", [1, 2]))
        request["problem"][part][name] = [junk] if rng.random() < 0.5 else junk
    else:
        where = rng.choice(("nodes", "jobs"))
        field = rng.choice(("id", "gpus", "cpu_cores") if where == "nodes" else ("id", "gpus_per_worker", "workers"))
        request["problem"][where][0][field] = rng.choice(([], {}, -5, "", 1e300))
    return _posted(json.dumps(request).encode())


_LIMITS = (
    5,
    "x",
    {"time_limit_s": -1},
    {"time_limit_s": 1e9},
    {"gap": 2},
    {"seed": -1},
    {"threads": 0},
    {"memory_gib": 0},
    {"speed": 1},
)
_JUNK: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("kind", (5, "nothing", "", [])),
    ("problem", (5, "x", [], True)),
    ("problem_id", (5, "prob_none", [], {})),
    ("limits", _LIMITS),
    ("priority", ("high", 1.5, 10**6, [], {})),
    ("warm_start_run", (5, "run_none", [], {})),
    ("cache", ("maybe", 5, [], {})),
    ("surprise", (1,)),
)


def _junk_in_the_request(rng: random.Random) -> tuple[str, str, bytes | None, dict[str, str]]:
    field, junk = rng.choice(_JUNK)
    return _posted(json.dumps(_request(rng) | {field: rng.choice(junk)}).encode())


def _wrong_place(rng: random.Random) -> tuple[str, str, bytes | None, dict[str, str]]:
    word = "".join(rng.choices(string.ascii_lowercase + "_-%2e", k=rng.randrange(1, 30)))
    path = rng.choice(
        (
            f"/v1/{word}",
            f"/v1/runs/run_{word}",
            f"/v1/runs/{word}/plan",
            f"/v1/runs/{word}/events",
            f"/v1/problems/{word}",
            f"/v1/kinds/{word}",
            f"/{word}",
            f"/v2/runs/{word}",
        )
    )
    return "GET", path, None, {}


def _wrong_headers(rng: random.Random) -> tuple[str, str, bytes | None, dict[str, str]]:
    body = json.dumps(_request(rng)).encode()
    match rng.randrange(4):
        case 0:
            return "POST", "/v1/runs", body, {"Content-Type": rng.choice(("text/plain", "application/xml", "image/png", "x"))}
        case 1:
            return _posted(body, **{"Content-Encoding": rng.choice(("gzip", "br", "zip"))})
        case 2:
            return _posted(body, **{"Idempotency-Key": rng.choice(("", "a b", "k" * 300))})
        case _:
            return "POST", "/v1/runs", body, {"Content-Type": "multipart/form-data; boundary=x"}


def _missing_part(rng: random.Random) -> tuple[str, str, bytes | None, dict[str, str]]:
    request = _request(rng)
    if rng.random() < 0.5:
        del request["problem"]
    elif request["kind"] == "placement":
        del request["problem"][rng.choice(("nodes", "jobs"))]
        request["problem"]["unknown"] = 1
    else:
        del request["problem"]["columns"]
    return _posted(json.dumps(request).encode(), rng.choice(("/v1/runs", "/v1/problems")))


def _wrong_query(rng: random.Random) -> tuple[str, str, bytes | None, dict[str, str]]:
    query = rng.choice(("limit=0", "limit=x", "limit=100000", "state=asleep", "cursor=@@", "cursor=x", "kind=nothing"))
    if rng.random() < 0.7:
        return "GET", f"/v1/runs?{query}", None, {}
    method = rng.choice(tuple(set(METHODS) - {"GET", "POST", "HEAD", "OPTIONS"}))
    return method, rng.choice(("/v1/runs", "/v1/kinds", "/healthz")), None, {}


def _deep(rng: random.Random) -> tuple[str, str, bytes | None, dict[str, str]]:
    depth = rng.choice((300, 5_000, 50_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    problem = opening * depth + "1" + closing * depth
    return _posted(f'{{"kind": "program", "problem": {problem}}}'.encode())
