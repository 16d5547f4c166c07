"""HTTP/1.1 as uvicorn speaks it, for bodies of some 100 kB that come all at once."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

WHOLE_BYTES = 4 * 2**20  # bodies up to here are handed over in one piece


class ExtenderProtocol(HttpToolsProtocol):
    """One connection.

    Uvicorn wakes the application for each part of a body, and stops reading from the socket in between. A question with
    5,000 node names comes in a few parts within microseconds: waiting for the last one saves as much time as the answer takes.
    """

    def on_body(self, body: bytes) -> None:
        """Take over one part of a body."""
        cycle = self.cycle
        if cycle.response_complete or len(cycle.body) + len(body) > WHOLE_BYTES:
            super().on_body(body)
        else:
            cycle.body += body
