"""An API server for tests: real HTTP on loopback, real watch streams, and no kinder than the real one.

Lists have pages, watches have bookmarks and end; writes are checked, locked by version, and may be dry runs. Faults can be
switched on: delays, refusals, connections that break, history that is forgotten, events that come twice or late.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.plugins.kubernetes.stub_store import Happened, Manifest, StatusError, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIELDS = {"spec.nodeName": ("spec", "nodeName"), "status.phase": ("status", "phase"), "metadata.name": ("metadata", "name")}
Fault = "Callable[[str, str], StatusError | None]"


class ApiServer:
    """``store`` is its state. ``fault(method, path)`` may answer instead of it; ``lose(method, path)``: do it, and break off."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()
        self.fault: Callable[[str, str], StatusError | None] = lambda _method, _path: None
        self.lose: Callable[[str, str], bool] = lambda _method, _path: False
        self.delay_s = 0.0
        self.twice = False  # events come twice, and some old one again
        self.bookmark_s = 0.3
        self.gone_as_event = True  # 410 as an event of the watch, not as its status
        self.asked: list[tuple[str, str]] = []  # method and path of each request
        self.agents: set[str] = set()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.begin()

    def begin(self) -> None:
        """Listen: on the same port as before, if it listened before."""
        outer = self

        class Handler(_Handler):
            server_stub = outer

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128  # a watch for each kind comes at once

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def end(self) -> None:
        """Stop listening, and break every connection."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.drop()

    def drop(self) -> None:
        """Break every connection that is open."""
        with self._lock:
            for one in self._sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        with self.store.moved:
            self.store.moved.notify_all()

    def restart(self, *, away_s: float = 0.0, forget: bool = False) -> None:
        """End and begin again; ``forget`` the history that watches would go on from."""
        self.end()
        if forget:
            self.store.compact()
        time.sleep(away_s)
        self.begin()

    def kubeconfig(self, folder: Path) -> Path:
        """A file that leads clients here."""
        path = folder / "kubeconfig"
        text = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "stub",
            "clusters": [{"name": "stub", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "stub", "user": {"token": "not-a-secret"}}],
            "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub"}}],
        }
        path.write_text(json.dumps(text))
        return path

    def opened(self, one: socket.socket) -> None:
        with self._lock:
            self._sockets.add(one)

    def closed(self, one: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(one)

    @property
    def listening(self) -> bool:
        return self._server is not None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_stub: ApiServer

    def log_message(self, *_: Any) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server_stub.opened(self.connection)

    def finish(self) -> None:
        self.server_stub.closed(self.connection)
        with suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with suppress(OSError, ValueError):  # the other side is gone, or the test broke the connection
            super().handle()

    def do_GET(self) -> None:
        self._served("GET")

    def do_POST(self) -> None:
        self._served("POST")

    def do_PATCH(self) -> None:
        self._served("PATCH")

    def do_DELETE(self) -> None:
        self._served("DELETE")

    def _served(self, method: str) -> None:
        stub = self.server_stub
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        stub.asked.append((method, url.path))
        if stub.delay_s:
            time.sleep(stub.delay_s)
        try:
            fault = stub.fault(method, url.path)
            if fault is not None:
                raise fault
            answer = self._answer(method, url.path, dict(parse_qsl(url.query, keep_blank_values=True)), body)
            if stub.lose(method, url.path):
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif answer is not None:
                self._write(201 if method == "POST" else 200, answer)
        except StatusError as error:
            self._write(error.code, error.body, error.after_s)

    def _write(self, code: int, answer: Manifest, after_s: int | None = None) -> None:
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if after_s is not None:
            self.send_header("Retry-After", str(after_s))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Manifest | None:
        """The answer; None when it is a stream that has been written already."""
        if query.get("watch") == "true":
            namespace, resource, _, _ = routed(self.server_stub.store, path)
            self._watch(resource, namespace, query)
            return None
        return answered(self.server_stub.store, method, path, query, body, self.headers.get("Content-Type") or "")

    # ------------------------------------------------------------ watches

    def _watch(self, resource: str, namespace: str | None, query: dict[str, str]) -> None:
        stub, store = self.server_stub, self.server_stub.store
        since, ends = int(query.get("resourceVersion") or 0), time.monotonic() + float(query.get("timeoutSeconds") or 60)
        if since > store.version:
            raise StatusError(504, "Timeout", f"Too large resource version: {since}, current: {store.version}", 1)
        gone = StatusError(410, "Expired", f"too old resource version: {since} ({store.compacted})")
        if since < store.compacted and not stub.gone_as_event:
            raise gone
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        bookmark = time.monotonic() + stub.bookmark_s
        while time.monotonic() < ends and stub.listening:
            with store.moved:
                if since < store.compacted:
                    self._event("ERROR", gone.body)
                    break
                found = [one for one in store.history if one.version > since and one.resource == resource]
                reached = store.version
                if not found:
                    store.moved.wait(min(0.05, max(ends - time.monotonic(), 0.001)))
            for one in found:
                if namespace in {None, one.manifest["metadata"].get("namespace")}:
                    self._happened(one)
            since = max(since, reached) if found else since
            if query.get("allowWatchBookmarks") == "true" and time.monotonic() >= bookmark and not found:
                bookmark = time.monotonic() + stub.bookmark_s
                kind = {"kind": resource, "metadata": {"resourceVersion": str(max(since, reached))}}
                self._event("BOOKMARK", kind)
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def _happened(self, one: Happened) -> None:
        self._event(one.kind, one.manifest)
        if self.server_stub.twice:
            self._event(one.kind, one.manifest)
            with self.server_stub.store.moved:
                old = random.choice([past for past in self.server_stub.store.history if past.resource == one.resource])
            self._event(old.kind, old.manifest)

    def _event(self, kind: str, manifest: Manifest) -> None:
        data = json.dumps({"type": kind, "object": manifest}).encode() + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def answered(store: Store, method: str, path: str, query: dict[str, str], body: Any, kind: str) -> Manifest:
    """What the server answers to a request that is no watch."""
    namespace, resource, name, sub = routed(store, path)
    if method == "GET":
        return store.get(resource, namespace or "", name) if name else _listed(store, resource, namespace, query)
    if method == "POST" and sub == "binding":
        store.bind(namespace or "", name, body["target"]["name"])
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
    if method == "POST":
        return store.create(resource, body, namespace or "")
    if method == "PATCH":
        return store.patch(resource, namespace or "", name, kind, body, sub=sub, dry_run=query.get("dryRun") == "All")
    return store.delete(resource, namespace or "", name, body)


def routed(store: Store, path: str) -> tuple[str | None, str, str, str]:
    """Namespace, resource, name and subresource of a path."""
    steps = path.strip("/").split("/")
    steps = steps[2:] if steps[0] == "api" else steps[3:]
    namespace = None
    if steps and steps[0] == "namespaces" and len(steps) > 2:
        namespace, steps = steps[1], steps[2:]
    steps += [""] * 3
    if steps[0] not in store.resources:
        raise StatusError(404, "NotFound", "the server could not find the requested resource")
    return namespace, steps[0], steps[1], steps[2]


def _listed(store: Store, resource: str, namespace: str | None, query: dict[str, str]) -> Manifest:
    with store.moved:
        version = store.version
        found = store.all(resource, namespace)
    for one in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = one.partition("=")
        if path not in FIELDS:
            raise StatusError(400, "BadRequest", f'field label not supported: "{path}"')
        holder, name = FIELDS[path]
        found = [item for item in found if (item.get(holder, {}).get(name) or "") == value]
    start, limit = int(query.get("continue") or 0), int(query.get("limit") or 0) or len(found) + 1
    meta = {"resourceVersion": str(version)}
    if start + limit < len(found):
        meta["continue"] = str(start + limit)
    return {"kind": "List", "apiVersion": "v1", "metadata": meta, "items": found[start : start + limit]}
