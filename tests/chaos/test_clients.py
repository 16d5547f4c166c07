"""Clients that are slow, that vanish, and that are many."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.service import problems
from benchmarks.service.load import Connection, drive
from benchmarks.service.measures import intake
from benchmarks.service.processes import House, Process, address
from tests.chaos.asking import ask, busy, ended, submit
from tests.chaos.conftest import check

if TYPE_CHECKING:
    from pathlib import Path

SLOW = 60
VANISHING = 40
RESET = struct.pack("ii", 1, 0)


def _socket(server: Process) -> socket.socket:
    made = socket.create_connection(address(server), timeout=30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _waiting(server: Process) -> float:
    """Open event streams and waiting requests."""
    text = ask(server, "GET", "/metrics")[1]
    lines = [line for line in text.splitlines() if line.startswith("quartermaster_waiting_requests")]
    return float(lines[0].rpartition(" ")[2])


def test_slow_clients_do_not_slow_the_others(house: House) -> None:
    server = house.serve()
    slow = [_socket(server) for _ in range(SLOW)]
    try:
        for number, client in enumerate(slow):
            body = json.dumps({"kind": "program", "problem": problems.tiny_lp(number)}).encode()
            head = f"POST /v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            sent = head.encode() + body
            client.sendall(sent[: 5 + number * len(sent) // (SLOW + 5)])  # from within the first line to within the body
        run = ended(server, submit(server, "program", problems.tiny_lp(0)))
        assert run["state"] == "succeeded"
        assert ask(server, "GET", "/readyz")[0] == 200
    finally:
        for client in slow:
            client.close()
    assert ask(server, "GET", "/v1/runs")[1]["runs"][0]["id"] == run["id"]  # of the half requests nothing became a run
    check(house, [run["id"]])


def test_streams_of_clients_that_vanish_are_let_go(house: House) -> None:
    server = house.serve()
    run_id = busy(server, seconds=8.0)
    vanishing = [_socket(server) for _ in range(VANISHING)]
    for client in vanishing:
        client.sendall(f"GET /v1/runs/{run_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
        assert b"200" in client.recv(100)
    assert _waiting(server) == VANISHING
    for client in vanishing:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)  # gone without a word
        client.close()
    give_up = time.monotonic() + 30
    while _waiting(server) > 0:
        assert time.monotonic() < give_up
        time.sleep(0.1)
    ask(server, "POST", f"/v1/runs/{run_id}:cancel")
    ended(server, run_id)
    check(house, [run_id])


def test_two_hundred_clients_at_once_are_all_answered(house: House) -> None:
    server = house.serve()
    accepted: list[str] = []

    async def work(mine: Connection, number: int) -> None:
        body = json.dumps({"kind": "program", "problem": problems.tiny_lp(number), "cache": False}).encode()
        response = await mine.post("/v1/runs", body, {"Prefer": "wait=50"})
        assert response.status == 200, response.body
        accepted.append(response.json()["id"])

    asyncio.run(drive(200, 400, address(server), work))
    assert len(set(accepted)) == 400
    check(house, accepted)


def test_a_queue_is_there_again_after_a_kill(tmp_path: Path) -> None:
    found = intake(tmp_path, 1_000)
    assert (found["wrong"], found["queued_at_restart"] >= 1_090) == (0, True)


@pytest.mark.long
def test_ten_thousand_queued_runs_are_there_again_after_a_kill(tmp_path: Path) -> None:
    found = intake(tmp_path, 9_100)
    assert (found["wrong"], found["queued_at_restart"] >= 9_900) == (0, True)
