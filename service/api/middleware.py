"""What surrounds every request: its id, its body's limits, headers that keep browsers careful, a log line, and no traceback."""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from typing import TYPE_CHECKING

import structlog
from starlette.requests import ClientDisconnect

from service.api.entropy import Entropy
from service.api.failures import BodyTimeoutError, problem
from service.api.gunzip import Gunzip, pieces
from service.errors import BadRequest, ServiceError, TooLarge, WrongMediaType
from service.tracing import parse_traceparent

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.telemetry import Telemetry

GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
BODY_S = 60.0  # a client gets so long for sending its body
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds: not worth a log line when all is well
FAILED = 500
LEFT = 499  # in logs and figures: the client closed the connection before it had sent its request
access = structlog.get_logger("access")


class Surroundings:
    """The outermost layer: pure ASGI, because it is on the path of every request."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, largest_body: int) -> None:
        self._app = app
        self._entropy = Entropy()
        self._telemetry = telemetry
        self._largest = largest_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Exchange(self._app, scope, receive, send, self._telemetry, self._entropy).serve(self._largest)


class _Exchange:
    """One request and its response."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, telemetry: Telemetry, entropy: Entropy) -> None:
        self._app, self._scope, self._receive, self._send, self._telemetry = app, scope, receive, send, telemetry
        self._began = time.perf_counter()
        self._status = FAILED
        self._started = False
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        self.request_id = given if GIVEN_ID.fullmatch(given) else entropy.hex(8)
        parent = parse_traceparent(headers.get(b"traceparent", b"").decode("latin-1") or None)
        self._headers = headers
        state = scope.setdefault("state", {})
        state["request_id"] = self.request_id
        state["trace_id"] = parent.trace_id if parent is not None else entropy.hex(16)
        self._parent = parent

    async def serve(self, largest: int) -> None:
        trace_id = self._scope["state"]["trace_id"]
        structlog.contextvars.bind_contextvars(request_id=self.request_id, trace_id=trace_id)
        try:
            receive = _Body(self._receive, self._headers, self._scope, largest)
            name = f"{self._scope['method']} request"
            with self._telemetry.tracing.span(name, parent=self._parent, trace_id=trace_id, attributes={"request_id": self.request_id}):
                await self._app(self._scope, receive, self._tell)
        except ClientDisconnect:
            self._status = LEFT  # nobody is there to be told
        except ServiceError as error:
            await self._fail(error)
        except Exception:
            access.exception("a request failed", method=self._scope["method"], path=self._scope["path"])
            if self._started:
                raise  # the connection is closed, which is all that can still be said
            await self._fail(ServiceError("this is our fault, not yours; it is logged under this request's id"))
        finally:
            self._end()
            structlog.contextvars.unbind_contextvars("request_id", "trace_id")

    async def _tell(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self._status = message["status"]
            headers = list(message.get("headers", ()))
            known = {name for name, _ in headers}
            headers += [pair for pair in SECURITY if pair[0] not in known]
            headers.append((b"x-request-id", self.request_id.encode()))
            state = self._scope["state"]
            if "rate" in state and state["rate"] is not None:
                rate = state["rate"]
                headers += [
                    (b"ratelimit-limit", str(rate.limit).encode()),
                    (b"ratelimit-remaining", str(rate.remaining).encode()),
                    (b"ratelimit-reset", str(round(rate.reset_s)).encode()),
                ]
            message = {**message, "headers": headers}
        await self._send(message)

    async def _fail(self, error: ServiceError) -> None:
        if not self._started:
            await problem(error, self.request_id)(self._scope, self._receive, self._tell)

    def _end(self) -> None:
        seconds = time.perf_counter() - self._began
        route = getattr(self._scope.get("route"), "path_format", None)
        method, path = self._scope["method"], self._scope["path"]
        self._telemetry.request_ended(route, method, self._status, seconds)
        if path not in QUIET or self._status >= FAILED:
            access.info("request", method=method, path=path[:200], status=self._status, seconds=round(seconds, 4))


class _Body:
    """``receive`` that counts what comes in, undoes gzip, and refuses more than the limit whatever the headers claim."""

    def __init__(self, receive: Receive, headers: dict[bytes, bytes], scope: Scope, largest: int) -> None:
        self._receive = receive
        self._left = largest
        self._largest = largest
        self._unzip: Gunzip | None = None
        self._until: float | None = None
        self._ended = False
        self._refused: ServiceError | None = None
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or length.strip(b"0"):
            self._until = asyncio.get_running_loop().time() + BODY_S  # also for one that is announced and never begins
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding in (b"gzip", b"x-gzip"):
            self._unzip = Gunzip()
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in (b"content-encoding", b"content-length")]
        elif encoding not in (b"identity", b""):
            self._refused = WrongMediaType("the body's Content-Encoding is not read here; send it plain or as gzip", code="wrong_encoding")
        if length.isdigit() and int(length) > largest:
            self._refused = self._too_large()

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._largest // 2**20} MiB, the most that is read; send less")

    async def __call__(self) -> Message:
        """The next part. Raises TooLarge, WrongMediaType, BadRequest, BodyTimeoutError."""
        if self._ended:
            return await self._receive()
        if self._refused is not None:
            raise self._refused
        message = await self._next()
        if message["type"] != "http.request":
            return message
        body = message.get("body", b"")
        more = message.get("more_body", False)
        if self._unzip is not None:
            body = await self._unzipped(body, last=not more)
        self._left -= len(body)
        if self._left < 0:
            self._refused = self._too_large()
            raise self._refused
        self._ended = not more
        if more and self._until is None:
            self._until = asyncio.get_running_loop().time() + BODY_S
        return {"type": "http.request", "body": body, "more_body": more}

    async def _next(self) -> Message:
        if self._until is None:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                return await self._receive()
        except TimeoutError:
            raise BodyTimeoutError(f"the body did not arrive within {BODY_S:g} s; send it again") from None

    async def _unzipped(self, body: bytes, *, last: bool) -> bytes:
        """The plain bytes, hardly more than the limit (a small body may unfold to gigabytes), and in steps between which others go on."""
        assert self._unzip is not None  # noqa: S101  (the caller looked)
        parts: list[bytes] = []
        size = 0
        try:
            for piece in pieces(body):
                left = piece
                while left and size <= self._left:
                    plain, left = self._unzip.step(left)
                    parts.append(plain)
                    size += len(plain)
                    await asyncio.sleep(0)
        except zlib.error:
            raise BadRequest("the body is not the gzip data that its Content-Encoding promises", code="bad_gzip") from None
        if last and size <= self._left and not self._unzip.complete:
            raise BadRequest("the gzip data of the body ends too soon", code="bad_gzip")
        return b"".join(parts)
