"""The extender over HTTP: a thin ASGI application. What a body costs is reading it once; nothing is logged for a good one."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from service.plugins.kubernetes.extender import Answer
from service.plugins.kubernetes.extender_wire import error_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from service.plugins.kubernetes.extender import Extender

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Verb = Callable[[bytes], Answer]

MIB = 2**20
LARGEST_BODY_MIB = 64  # 5,000 whole nodes, where names are not sent, are some 50 MiB
BODY_S = 5.0  # for a body to arrive; kube-scheduler has given up long before
LOG_PAUSE_S = 1.0  # between two lines about bad bodies of one verb
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 1.0)
JSON = (b"content-type", b"application/json")
TEXT = (b"content-type", CONTENT_TYPE_LATEST.encode())
BAD_REQUEST, NOT_FOUND, NOT_ALLOWED, TIMEOUT, TOO_LARGE, FAILED = 400, 404, 405, 408, 413, 500
log = structlog.get_logger(__name__)


class ExtenderMetrics:
    """What the extender counts. One process, one registry."""

    def __init__(self, verbs: Mapping[str, Verb], registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        name = "quartermaster_extender"
        self._answers = Counter(f"{name}_answers", "Questions answered, by what was answered.", ["verb", "outcome"], registry=self.registry)
        seconds = Histogram(
            f"{name}_seconds", "Seconds from a whole body to its answer.", ["verb"], buckets=SECONDS, registry=self.registry
        )
        self._seconds = {verb: seconds.labels(verb) for verb in verbs}
        bad = Counter(f"{name}_malformed", "Questions that are not kube-scheduler's, or came too slowly.", ["verb"], registry=self.registry)
        self._bad = {verb: bad.labels(verb) for verb in verbs}
        self.version = Gauge(f"{name}_plan_version", "Version of the plan that is answered from; 0: none.", registry=self.registry)
        self.made_at = Gauge(f"{name}_plan_made_seconds", "When that plan was made, in seconds since the epoch.", registry=self.registry)

    def answered(self, verb: str, outcome: str, seconds: float) -> None:
        """Count one answer."""
        self._answers.labels(verb, outcome).inc()
        self._seconds[verb].observe(seconds)

    def malformed(self, verb: str) -> None:
        """Count one bad question."""
        self._bad[verb].inc()


class ExtenderApp:
    """``POST /filter``, ``/prioritize``, ``/preempt`` and ``/bind``; ``GET /healthz``, ``/readyz`` and ``/metrics``."""

    def __init__(self, extender: Extender, *, largest_body_mib: int = LARGEST_BODY_MIB, body_s: float = BODY_S) -> None:
        self._extender = extender
        self._largest = largest_body_mib * MIB
        self._body_s = body_s
        self._verbs: dict[str, Verb] = {
            "filter": extender.filter,
            "prioritize": extender.prioritize,
            "preempt": extender.preempt,
            "bind": extender.bind,
        }
        self.metrics = ExtenderMetrics(self._verbs)
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """One request, or the life of the process."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            verb = scope["path"][1:]
            if verb in self._verbs:
                await self._answer(verb, scope, receive, send)
            else:
                await self._operate(verb, scope["method"], send)

    async def _answer(self, verb: str, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await _send(send, NOT_ALLOWED, error_json(f"/{verb} is asked with POST"), (b"allow", b"POST"))
            return
        try:
            async with asyncio.timeout(self._body_s):
                body = await self._body(scope, receive)
        except TimeoutError:
            await self._refuse(verb, send, TIMEOUT, f"the body took longer than {self._body_s:g} s")
            return
        except OverflowError:
            await self._refuse(verb, send, TOO_LARGE, f"the body is larger than {self._largest // MIB} MiB")
            return
        if body is None:
            self._bad(verb, "the client went away before its body was whole")
            return
        begun = time.perf_counter()
        answer = await self._made(verb, body)
        self.metrics.answered(verb, answer.outcome, time.perf_counter() - begun)
        if answer.problem:
            self._bad(verb, answer.problem)
        await _send(send, answer.status, answer.body, JSON)

    async def _made(self, verb: str, body: bytes) -> Answer:
        try:
            if verb == "bind":  # it may ask the API server, which takes its time
                return await asyncio.to_thread(self._verbs[verb], body)
            return self._verbs[verb](body)
        except Exception as error:
            # kube-scheduler goes on without an extender that is ignorable: our fault must not become its.
            log.exception("the extender failed", verb=verb)
            return Answer(error_json(f"{verb}: our fault: {type(error).__name__}"), "failed", FAILED, f"our fault: {error}")

    async def _body(self, scope: MutableMapping[str, Any], receive: Receive) -> bytes | None:
        """The whole body; None where the client went away. Raises OverflowError."""
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(declared) > self._largest:
            raise OverflowError
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > self._largest:
                raise OverflowError
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts) if len(parts) > 1 else parts[0]

    async def _refuse(self, verb: str, send: Send, status: int, why: str) -> None:
        self._bad(verb, why)
        await _send(send, status, error_json(f"{verb}: {why}"), JSON, (b"connection", b"close"))

    def _bad(self, verb: str, why: str) -> None:
        """A metric for each, and a log line at most once a second: who sends rubbish does so often."""
        self.metrics.malformed(verb)
        now = time.monotonic()
        if now - self._told_at.get(verb, -LOG_PAUSE_S) < LOG_PAUSE_S:
            self._untold[verb] = self._untold.get(verb, 0) + 1
            return
        self._told_at[verb] = now
        log.warning("the extender was asked something it cannot answer", verb=verb, why=why, not_logged=self._untold.pop(verb, 0))

    async def _operate(self, path: str, method: str, send: Send) -> None:
        if path not in {"healthz", "readyz", "metrics"}:
            known = ", ".join(f"/{verb}" for verb in self._verbs)
            await _send(send, NOT_FOUND, error_json(f"there is no /{path}; kube-scheduler asks {known}"), JSON)
        elif method not in {"GET", "HEAD"}:
            await _send(send, NOT_ALLOWED, error_json(f"/{path} is read with GET"), JSON, (b"allow", b"GET, HEAD"))
        elif path == "metrics":
            seating = self._extender.seating
            self.metrics.version.set(seating.version if seating is not None else 0)
            self.metrics.made_at.set(seating.made_at if seating is not None else 0)
            page = await asyncio.get_running_loop().run_in_executor(None, partial(generate_latest, self.metrics.registry))
            await _send(send, 200, page, TEXT)
        else:
            # Ready even without a plan: then every node passes, which is the right answer.
            await _send(send, 200, b'{"status":"ok"}', JSON)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _send(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})
