"""What the server says to bytes that never become a request."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import uvicorn

from service import protocol
from service.protocol import LARGEST_HEAD
from tests.service.served import Process, started

SMALL = {"slots": 1, "spare_children": 0, "durability": "crash"}
GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with started(tmp_path_factory.mktemp("served"), "serve", "--port", "0", "--no-workers", **SMALL) as process:
        yield process


def exchange(server: Process, *pieces: bytes) -> bytes:
    """Everything that is answered until the server closes or has nothing more to say."""
    host, _, port = server.url.rpartition("//")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as link:
        for piece in pieces:
            try:
                link.sendall(piece)
            except OSError:
                break
        found = b""
        try:
            while piece := link.recv(65_536):
                found += piece
                if b"\r\n\r\n" in found and b"connection: close" not in found.lower():
                    break
        except OSError:
            pass
        return found


def refusal(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    told = json.loads(body)
    assert int(head.split()[1]) == told["status"]
    return told["status"], told["code"]


@pytest.mark.parametrize(
    "nonsense", [b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /\x00 HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
)
def test_what_is_no_http_is_refused_in_good_form(server: Process, nonsense: bytes) -> None:
    assert refusal(exchange(server, nonsense)) == (400, "not_http")


@pytest.mark.parametrize(
    "pieces",
    [
        (GET + b"X-Long: " + b"x" * LARGEST_HEAD + b"\r\n\r\n",),
        (GET + b"".join(b"X-%d: x\r\n" % number for number in range(5_000)) + b"\r\n",),
        (b"GET /" + b"x" * LARGEST_HEAD + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",),
        (GET, *(b"X-Endless: " + b"x" * 1_000 + b"\r\n" for _ in range(200))),
    ],
)
def test_a_head_that_is_too_long_is_refused(server: Process, pieces: tuple[bytes, ...]) -> None:
    assert refusal(exchange(server, *pieces)) == (431, "head_too_large")


def test_a_long_body_and_many_requests_are_not_taken_for_a_head(server: Process) -> None:
    body = b'{"kind": "program", "problem": {"columns": {"cost": [1' + b", 1" * 20_000 + b"]}}}"
    head = b"POST /v1/kinds/program:validate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    assert exchange(server, head % len(body), body[:100], body[100:]).startswith(b"HTTP/1.1 200")
    host, _, port = server.url.rpartition("//")[2].rpartition(":")
    link = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        for _ in range(300):  # more bytes than one head may have
            link.request("GET", "/healthz", headers={"X-Some": "x" * 400})
            answer = link.getresponse()
            assert (answer.status, bool(answer.read())) == (200, True)
    finally:
        link.close()


def test_two_requests_at_once_are_both_answered(server: Process) -> None:
    host, _, port = server.url.rpartition("//")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as link:
        link.sendall((GET + b"\r\n") * 2)
        found = b""
        while found.count(b"HTTP/1.1 200") < 2:
            piece = link.recv(65_536)
            assert piece
            found += piece


@contextlib.asynccontextmanager
async def listening(**fields: Any) -> AsyncIterator[tuple[str, int]]:
    """Where the protocol listens in this process, before an application that is never to be asked."""

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError((scope, receive, send))

    config = uvicorn.Config(app, http=protocol.Protocol, lifespan="off", log_config=None, ws="none", **fields)
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()
    made = await loop.create_server(lambda: protocol.Protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0)
    try:
        host, port = made.sockets[0].getsockname()
        yield host, port
    finally:
        made.close()
        await made.wait_closed()


def test_a_head_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)

    async def silent() -> bytes:
        async with listening() as there:
            reader, writer = await asyncio.open_connection(*there)
            writer.write(b"GET / HTT")
            found = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            await writer.wait_closed()
            return found

    assert refusal(asyncio.run(silent())) == (408, "head_timeout")


def test_one_connection_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the place of one that is closed is free again."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.5)

    async def crowd() -> list[bytes]:
        async with listening(limit_concurrency=2) as there:
            links = [await asyncio.open_connection(*there) for _ in range(2)]
            found = []
            for _ in range(2):
                links.append(await asyncio.open_connection(*there))
                found.append(await asyncio.wait_for(links[-1][0].read(), 10))
            for reader, _ in links[:2]:
                await asyncio.wait_for(reader.read(), 10)  # they said nothing
            links.append(await asyncio.open_connection(*there))
            found.append(await asyncio.wait_for(links[-1][0].read(), 10))
            for _, writer in links:
                writer.close()
                await writer.wait_closed()
            return found

    *crowded, last = asyncio.run(crowd())
    for answer in crowded:
        assert refusal(answer) == (503, "too_many_connections")
        assert b"\r\nretry-after: 1\r\n" in answer
    assert refusal(last) == (408, "head_timeout")
