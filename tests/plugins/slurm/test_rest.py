"""The path by slurmrestd: a server that answers as versions from 23.02 on do. What 22.05's own answers is tested on the real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.plugins.scheduler import SchedulerError
from service.plugins.slurm.adapter import SlurmScheduler, Ways
from service.plugins.slurm.changes import Change
from service.plugins.slurm.files import load
from service.plugins.slurm.rest import Rest
from tests.plugins.slurm.newer import newer

MIXED = newer(load(Path(__file__).parent / "data" / "mixed"))
TOKEN = "a.b.c"  # noqa: S105  (of no one)


class Server(HTTPServer):
    """Serves one data format; keeps what it was told."""

    def __init__(self, version: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.version = version
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.answer: tuple[int, bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        pages: dict[str, Any] = {"ping": {"pings": []}, "jobs": dict(MIXED.jobs), "nodes": dict(MIXED.nodes)}
        self.reply(pages)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told.append((self.path.rpartition("/")[2], body))
        self.reply({self.path.rpartition("/")[2]: {"errors": []}})

    def reply(self, pages: dict[str, Any]) -> None:
        _, _, version, page, *_ = self.path.split("/")
        known = version == self.server.version and self.headers["X-SLURM-USER-TOKEN"] == TOKEN
        page = self.path.rpartition("/")[2] if page == "job" else page
        status, body = (200, json.dumps(pages[page] | {"errors": []}).encode()) if known else (404, b"Unable find requested URL")
        if self.server.answer is not None and page != "ping":
            status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Not a word."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server("v0.0.40") as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_the_newest_format_that_both_know_is_taken_and_read(server: Server) -> None:
    rest = Rest(server.url, f"SLURM_JWT={TOKEN}\n", wall=lambda: MIXED.taken_at)
    assert rest.version() == "v0.0.40"
    rest.must_pin()
    snapshot = SlurmScheduler(rest).snapshot()
    assert {node.id for node in snapshot.nodes} == {f"gpu{at}" for at in range(1, 7)}
    assert snapshot.job("1") is not None
    assert rest.glance() == rest.glance()


def test_changes_are_requests(server: Server) -> None:
    rest = Rest(server.url, TOKEN)
    told = rest.tell(
        [Change("7", pin=("gpu1", "gpu2"), comment='a "b"'), Change("7", hold=False), Change("7_2", priority=5), Change("8", pin=())]
    )
    assert all(one.ok for one in told)
    assert server.told == [
        ("7", {"required_nodes": ["gpu1", "gpu2"], "admin_comment": "a b"}),
        ("7", {"hold": False}),
        ("7_2", {"priority": {"set": True, "number": 5}}),
        ("8", {"required_nodes": []}),
    ]


def test_a_job_that_is_gone_is_told_so(server: Server) -> None:
    server.answer = 500, json.dumps({"errors": [{"error": "Invalid job id specified", "error_number": 2017}]}).encode()
    told = Rest(server.url, TOKEN).tell([Change("7", hold=False)])[0]
    assert told.ok is False
    assert told.gone


def test_errors_in_an_answer_of_200_are_errors(server: Server) -> None:
    server.answer = (
        200,
        json.dumps({"errors": [{"error": "Operation not permitted", "description": 'Disabled key: "required_nodes"'}]}).encode(),
    )
    told = Rest(server.url, TOKEN).tell([Change("7", pin=("gpu1",))])[0]
    assert told.ok is False
    assert "required_nodes" in told.detail


@pytest.mark.parametrize("answer", [(200, b"<html>"), (200, b"[]"), (500, b"oops")])
def test_rubbish_is_a_scheduler_error(server: Server, answer: tuple[int, bytes]) -> None:
    rest = Rest(server.url, TOKEN)
    rest.version()
    server.answer = answer
    with pytest.raises(SchedulerError):
        rest.read()


def test_a_server_that_is_away_leaves_changes_unknown(server: Server) -> None:
    rest = Rest(server.url, TOKEN, timeout_s=0.5)
    rest.version()
    server.shutdown()
    server.server_close()
    assert [one.ok for one in rest.tell([Change("7", hold=False)])] == [None]
    with pytest.raises(SchedulerError, match="does not answer"):
        rest.read()


def test_a_version_of_22_05_cannot_pin() -> None:
    with Server("v0.0.38") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            rest = Rest(server.url, TOKEN)
            with pytest.raises(SchedulerError, match="cannot pin"):
                rest.must_pin()
            told = SlurmScheduler(rest, Ways(enforce=True))
            assert told.free_all()
            assert not [body for _, body in server.told if "required_nodes" in body]
        finally:
            server.shutdown()
            thread.join()


def test_a_wrong_token_or_an_unknown_version_is_told(server: Server) -> None:
    with pytest.raises(SchedulerError, match="speaks none of"):
        Rest(server.url, "other").version()
    with pytest.raises(SchedulerError, match="SLURM_JWT"):
        Rest(server.url, " ")
    with pytest.raises(SchedulerError, match="no address"):
        Rest("localhost:6820", TOKEN)


def test_enforce_by_rest_pins_and_releases(server: Server) -> None:
    """Whole path of the adapter; this server never changes its mind, so that the second look stops the release."""
    scheduler = SlurmScheduler(Rest(server.url, TOKEN, wall=lambda: MIXED.taken_at), Ways(enforce=True, hold=False))
    snapshot = scheduler.snapshot()
    job = next(job for job in snapshot.jobs if job.held and job.workers == 2)
    from tests.plugins.slurm.test_adapter import order

    done = scheduler.commit([order(snapshot, job.id, "gpu3", "gpu4")])
    assert [one.outcome for one in done] == ["refused"]
    assert "did not take the pin" in done[0].detail
    pins = [body.get("required_nodes") for name, body in server.told if name == job.id]
    assert pins == [["gpu3", "gpu4"], []]
