"""HTTP/1.1 as uvicorn speaks it, with limits on connections and heads of requests, and with refusals in the form of all others.

What an application never sees is decided here: one connection too many, a head that is too long or takes too long, and
bytes that are no HTTP.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import BadRequest, ServiceError, Unavailable

if TYPE_CHECKING:
    import asyncio

LARGEST_HEAD = 32 * 1024  # bytes of the request line and the headers; browsers and proxies stay far below
HEAD_S = 30.0  # for a head to arrive; the body has a limit of its own, in the application
BUSY_S = 1.0  # when who found too many connections may come again
REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large", 503: b"Service Unavailable"}


class HeadTooLarge(ServiceError):  # noqa: N818  (as in service.errors)
    """The request line and the headers are longer than is read."""

    status, code, title = 431, "head_too_large", "Request header fields too large"


class HeadTimeout(ServiceError):  # noqa: N818
    """The request line and the headers took too long."""

    status, code, title = 408, "head_timeout", "Request timeout"


class Protocol(HttpToolsProtocol):
    """One connection."""

    _head = 0
    _in_head = True
    _size = 0
    _refused = False
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  (as uvicorn makes it)
        super().__init__(*arguments, **named)
        # Uvicorn's own limit counts requests too, and refuses in plain text.
        self._most, self.limit_concurrency = self.limit_concurrency, None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  (as uvicorn types it)
        """Begin to wait for a head, unless there are as many connections as may be."""
        super().connection_made(transport)
        if self._most is not None and len(self.connections) > self._most:
            detail = f"{self._most:,} connections are open, the most that may be; use one for several requests, or come again later"
            self._refuse(Unavailable(detail, code="too_many_connections", retry_after_s=BUSY_S))
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._headed()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, as long as nothing was refused."""
        if self._refused:
            return
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if self._in_head and self._head > LARGEST_HEAD and not self._refused:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """A further request on the same connection begins."""
        super().on_message_begin()
        if self._timer is None:
            self._await_head()
        self._in_head = True
        self._size = 0

    def on_url(self, url: bytes) -> None:
        """Count."""
        self._size += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count."""
        self._size += len(name) + len(value) + 4
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request on, unless its head is too long."""
        self._headed()
        self._in_head, self._head = False, 0
        if self._size > LARGEST_HEAD:
            self._refuse_head()
        elif not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Of a refused request nothing is kept."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The next bytes are a head again."""
        if not self._refused:
            super().on_message_complete()
        self._in_head = True

    def send_400_response(self, msg: str) -> None:
        """Bytes that are no HTTP."""
        del msg
        if not self._refused:
            self._refuse(BadRequest("what was sent is not HTTP/1.1", code="not_http"))

    # ------------------------------------------------------------ inside

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_S, self._too_slow)

    def _headed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(HeadTimeout(f"the request's head did not arrive within {HEAD_S:g} s"))

    def _refuse_head(self) -> None:
        self._refuse(HeadTooLarge(f"the request line and the headers are longer than {LARGEST_HEAD} bytes; send what is long in the body"))

    def _refuse(self, error: ServiceError) -> None:
        """Answer and close."""
        self._refused = True
        self._headed()
        if self.transport.is_closing():
            return
        body = json.dumps(error.body()).encode()
        head = (
            b"HTTP/1.1 %d %s\r\n" % (error.status, REASONS[error.status]),
            b"content-type: application/problem+json\r\n",
            b"retry-after: %d\r\n" % error.retry_after_s if error.retry_after_s is not None else b"",
            b"content-length: %d\r\nconnection: close\r\nx-content-type-options: nosniff\r\n\r\n" % len(body),
        )
        self.transport.write(b"".join(head) + body)
        self.transport.close()
