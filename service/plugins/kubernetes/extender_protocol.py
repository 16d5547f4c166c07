"""HTTP/1.1 as uvicorn speaks it, for bodies of some 100 kB that come all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

WHOLE_BYTES = 4 * 2**20  # bodies up to here are handed over in one piece
FIRST_S = 10.0  # for the head of a first question


class ExtenderProtocol(HttpToolsProtocol):
    """One connection.

    Uvicorn wakes the application for each part of a body, and stops reading from the socket in between. A question with
    5,000 node names comes in a few parts within microseconds: waiting for the last one saves as much time as the answer takes.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Send who asks nothing away: uvicorn itself lets a silent connection stay for ever, and files are limited."""
        super().connection_made(transport)
        self._first = self.loop.call_later(FIRST_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of it."""
        self._first.cancel()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """A question has begun."""
        self._first.cancel()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take over one part of a body."""
        cycle = self.cycle
        if cycle.response_complete or len(cycle.body) + len(body) > WHOLE_BYTES:
            super().on_body(body)
        else:
            cycle.body += body
