"""Clients that cost little: HTTP/1.1 over kept connections on one event loop, so that the service is measured and not they."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httptools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ANSWER_S = 60.0


@dataclass
class Response:
    """Status, headers in lower case, and body."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0

    def json(self) -> Any:  # noqa: ANN401  (whatever the body says)
        """The body, parsed."""
        return json.loads(self.body)


class _Reader:
    """Puts one response together."""

    def __init__(self) -> None:
        self.response = Response()
        self.done = False
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.response.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, piece: bytes) -> None:
        self.response.body += piece

    def on_message_complete(self) -> None:
        self.response.status = self.parser.get_status_code()
        self.done = True


class Connection:
    """One kept connection. Raises OSError, EOFError or TimeoutError when the server goes away."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Response:
        """Send a request and read its whole response."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_S):
                response = await self._exchange(method, path, body, headers or {})
        except BaseException:
            await self.close()
            raise
        response.seconds = time.perf_counter() - began
        if response.headers.get("connection", "").lower() == "close":
            await self.close()
        return response

    async def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Response:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}", *(f"{name}: {value}" for name, value in headers.items())]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
        await writer.drain()
        parsed = _Reader()
        while not parsed.done:
            piece = await reader.read(1 << 16)
            if not piece:
                raise EOFError("the server closed the connection")
            parsed.parser.feed_data(piece)
        return parsed.response

    async def post(self, path: str, document: object, headers: dict[str, str] | None = None) -> Response:
        """POST JSON."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return await self.request("POST", path, body, {"Content-Type": "application/json"} | (headers or {}))

    async def get(self, path: str) -> Response:
        """GET."""
        return await self.request("GET", path)

    async def close(self) -> None:
        """Close; the next request opens again."""
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def connection(host: str, port: int) -> AsyncIterator[Connection]:
    """A connection that is closed at the end."""
    made = Connection(host, port)
    try:
        yield made
    finally:
        await made.close()


async def drive(clients: int, jobs: int, address: tuple[str, int], work: Callable[[Connection, int], Awaitable[None]]) -> float:
    """Have ``clients`` connections do ``jobs`` pieces of work, each the next as soon as it is free; the seconds it took."""
    following = iter(range(jobs))

    async def client() -> None:
        async with connection(*address) as mine:
            for number in following:
                await work(mine, number)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return time.perf_counter() - began


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
