"""An API over a database of its own, asked from a plain function; runs are ended by hand, or by a real worker."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import anyio.from_thread
import httpx
import uvicorn
from anyio.from_thread import BlockingPortal
from fastapi import FastAPI

from models.catalogue import kinds
from service.app import create_app
from service.children import ChildPool
from service.documents.problems import as_object
from service.runs import store
from service.runs.bulletin import Bulletin
from service.runs.database import Database
from service.runs.migrate import migrate
from service.runs.records import Answer, Lease, Note
from service.runs.states import State
from service.runs.worker import Worker
from service.settings import Settings
from service.telemetry import Telemetry
from tests.service.runs.requests import plan, small

HERE = "http://127.0.0.1:8080"
JSON = {"Content-Type": "application/json"}


class House:
    """One API process, without a server."""

    def __init__(self, url: str, pool: ChildPool, portal: BlockingPortal, **fields: Any) -> None:
        self.settings = Settings(**{"slots": 1, "heartbeat_s": 0.1, "poll_s": 0.05} | fields)
        self.database = Database(url, durability="crash")
        migrate(self.database)
        self.bulletin, self.pool, self.telemetry, self.portal = Bulletin(), pool, Telemetry(), portal
        self.worker = Worker(self.database, self.settings, self.bulletin, pool, self.telemetry)
        self.works = False
        self._apps: list[FastAPI] = []
        self.app = self.make_app()

    def make_app(self, *, worker: Worker | None = None) -> FastAPI:
        app = create_app(self.settings, self.database, self.pool, self.bulletin, worker, self.telemetry)
        self._apps.append(app)
        return app

    def work(self) -> None:
        """Have a real worker solve from now on."""
        self.works = True
        self.app.state.service.worker = self.worker
        self.worker.start()

    def close(self) -> None:
        for app in self._apps:
            self.portal.call(app.state.service.watch.close)
        if self.works:
            self.worker.stop()
        self.database.close()

    # ------------------------------------------------------------ asking

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=HERE, timeout=60) as client:
                return await client.request(method, path, **given)

        return self.portal.call(send)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        return self.ask("POST", path, content=content, headers=JSON | given)

    def run(self, **fields: Any) -> dict[str, Any]:
        """A new run of the small problem."""
        found = self.post("/v1/runs", {"kind": "placement", "problem": problem()} | fields)
        assert found.status_code in {200, 202}, found.text
        made: dict[str, Any] = found.json()
        return made

    # ------------------------------------------------------------ a worker by hand

    def claim(self) -> Lease:
        claimed = self.database.write(lambda connection: store.claim(connection, "hand", 3))
        assert claimed is not None
        self.bulletin.publish(claimed.lease.position)
        return claimed.lease

    def note(self, lease: Lease, *notes: Note) -> None:
        self.database.write(lambda connection: store.progress(connection, lease, notes))

    def end(self, answer: Answer | None = None, *, tell: bool = True) -> None:
        """Claim the next run and end it."""
        lease = self.claim()
        given = answer or solved()
        self.database.write(lambda connection: store.finish(connection, lease, given))
        if tell:
            self.bulletin.publish(lease.position)


def problem(**changes: Any) -> dict[str, Any]:
    """The small problem as a client sends it."""
    found: dict[str, Any] = json.loads(small().body)
    return {name: value for name, value in found.items() if value is not None} | changes


def example(kind: str) -> dict[str, Any]:
    return as_object(kinds()[kind].part("schema").example())


def solved() -> Answer:
    """What a worker writes of a run that is solved."""
    body, value = plan()
    goal = {"name": "placed_value", "sense": "maximise", "unit": "value", "objective": value, "bound": value, "gap": 0.0, "method": "proof"}
    proof = {"objective": value, "bound": value, "gap": 0.0, "largest_violation": 0.0, "verified": True, "strategy": "hand", "seed": 0}
    reason = {"subject": "", "code": "summary", "rule": "placed_value", "ids": [], "text": "all is placed", "status": "proved"}
    parts = {
        "plan": body,
        "certificate": json.dumps({"goals": [goal], **proof, "versions": {}}).encode(),
        "explanations": json.dumps({"explanations": [reason]}).encode(),
        "metrics": json.dumps({"metrics": {"placed_jobs": 1.0}, "seconds_by_phase": {"solve": 0.1}}).encode(),
        "trace": json.dumps({"trace": [{"seconds": 0.1, "phase": "solve", "incumbent": value, "bound": None, "gap": None}]}).encode(),
    }
    return Answer(State.succeeded, "optimal", "gap", objective=value, bound=value, gap=0.0, seconds=0.1, verified=True, parts=parts)


def infeasible() -> Answer:
    conflict = {"status": "proved", "rules": [{"rule": "node_gpus", "ids": ["n1"]}], "repairs": ["give node 'n1' one more GPU"]}
    return Answer(State.succeeded, "infeasible", "gap", seconds=0.1, parts={"conflict": json.dumps(conflict).encode()})


@contextlib.contextmanager
def portal() -> Iterator[BlockingPortal]:
    with anyio.from_thread.start_blocking_portal() as made:
        yield made


@contextlib.contextmanager
def served(house: House) -> Iterator[str]:
    """The app behind a real server on a free port of loopback; its URL."""
    config = uvicorn.Config(house.app, host="127.0.0.1", port=0, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    house.portal.call(_begin, server)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        house.portal.call(_finish, server)


async def _begin(server: uvicorn.Server) -> None:
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()


async def _finish(server: uvicorn.Server) -> None:
    await server.shutdown()
