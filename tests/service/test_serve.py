"""The real server as a process: starting, refusing to start, stopping, and what is left of its runs."""

import json
import random
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from models.catalogue import kinds
from service import serving
from service.cli import main
from service.keys import create_key
from service.runs.database import Database
from service.runs.migrate import migrate
from service.settings import Settings
from tests.conformance.documents import ROOT
from tests.conformance.test_readme import shell_lines
from tests.service.runs.databases import BACKENDS, fresh_url
from tests.service.served import Process, refused, started

PAGE = (ROOT / "service" / "README.md").read_text(encoding="utf-8")
SMALL = {"slots": 1, "spare_children": 0, "durability": "crash"}
PATIENCE_S = 60.0
MAKE_CERTIFICATE = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One server for the tests that do not stop it."""
    with started(tmp_path_factory.mktemp("served"), "serve", "--port", "0", **SMALL) as process:
        yield process


def request(time_limit_s: float = 2.0) -> dict[str, Any]:
    example = kinds()["placement"].part("schema").example()
    return {"kind": "placement", "problem": json.loads(example.model_dump_json()), "limits": {"time_limit_s": time_limit_s}}


def hard_request(time_limit_s: float = 120.0) -> dict[str, Any]:
    """A market split: no search ends soon on it."""
    numbers = random.Random(3)
    rows = [[numbers.randrange(100) for _ in range(40)] for _ in range(5)]
    lines = [" + ".join(f"{value} x{place}" for place, value in enumerate(row)) + f" = {sum(row) // 2}" for row in rows]
    text = "\n".join(["Minimize", " x0", "Subject To", *lines, "Binaries", " ".join(f"x{place}" for place in range(40)), "End", ""])
    return {"kind": "program", "problem": {"format": "lp", "text": text}, "limits": {"time_limit_s": time_limit_s, "gap": 0.0}}


def cannot_start(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence with which a command refuses to start; it does so before it starts anything, so this process can do it."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    told = capsys.readouterr()
    assert not told.out
    assert len(told.err.splitlines()) == 1, told.err
    return told.err


def state_of(url: str, run_id: str) -> str:
    return str(httpx.get(f"{url}/v1/runs/{run_id}").json()["state"])


def established(process: Process) -> list[Any]:
    """The connections that clients have to it."""
    found = psutil.Process(process.process.pid).net_connections("tcp")
    return [one for one in found if one.status == psutil.CONN_ESTABLISHED]


def until(found: Callable[[], Any]) -> Any:
    """What ``found`` returns once it is true."""
    end = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.05)
    return value


def ended_run(url: str, run_id: str, **headers: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        shown: dict[str, Any] = httpx.get(f"{url}/v1/runs/{run_id}", headers=headers).json()
        return shown if shown["state"] in {"succeeded", "failed", "cancelled"} else None

    found: dict[str, Any] = until(look)
    return found


# ---------------------------------------------------------------- serving


def test_it_says_where_and_answers_there(served: Process) -> None:
    assert served.out == [f"Quartermaster serves on {served.url}"]
    assert httpx.get(f"{served.url}/readyz").status_code == 200
    answer = httpx.post(f"{served.url}/v1/runs", json=request(), headers={"Prefer": "wait=30"}, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["verified"]) == ("succeeded", True)
    shown = httpx.get(f"{served.url}/metrics").text
    assert 'quartermaster_runs_ended_total{kind="placement"' in shown
    assert "quartermaster_database_up 1.0" in shown
    assert "quartermaster_worker_slots 1.0" in shown


def test_no_solver_is_loaded_where_requests_are_answered(served: Process) -> None:
    """Whatever a solver does, it does it in a child."""
    maps = Path(f"/proc/{served.process.pid}/maps")
    if not maps.exists():
        pytest.skip("there is no /proc to look into the process")
    httpx.post(f"{served.url}/v1/runs", json=request(), headers={"Prefer": "wait=30"}, timeout=PATIENCE_S)
    loaded = maps.read_text(encoding="utf-8")
    assert "pydantic_core" in loaded
    assert not [name for name in ("highs", "/ortools/", "/torch/", "/scipy/") if name in loaded.lower()]


def test_a_page_of_another_site_is_kept_out(served: Process) -> None:
    assert httpx.get(f"{served.url}/v1/runs", headers={"Host": "evil.example"}).status_code == 403
    assert httpx.get(f"{served.url}/v1/runs", headers={"Origin": "http://evil.example"}).status_code == 403


def test_the_requests_of_the_page_are_answered(served: Process) -> None:
    found = [words for words in shell_lines(PAGE) if words[0] == "curl"]
    assert len(found) >= 3
    for words in found:
        assert words[:2] == ["curl", "-s"]
        [url] = words[2:]
        answer = httpx.get(url.replace("http://127.0.0.1:8080", served.url))
        assert answer.status_code == 200, url


def test_a_backup_works_and_a_restore_waits_while_it_serves(served: Process, tmp_path: Path) -> None:
    httpx.post(f"{served.url}/v1/runs", json=request(), headers={"Prefer": "wait=30"}, timeout=PATIENCE_S)
    database = Path(psutil.Process(served.process.pid).cwd()) / "quartermaster.db"
    saved = tmp_path / "saved.db"
    assert refused(tmp_path, "backup", str(saved), database_url=f"sqlite:///{database}") == (0, "")
    with closing(sqlite3.connect(saved)) as connection:
        assert connection.execute("SELECT count(*) FROM runs WHERE state = 'succeeded'").fetchone()[0] >= 1
    code, told = refused(tmp_path, "restore", str(saved), database_url=f"sqlite:///{database}")
    assert code == 2
    assert "stop it first" in told
    assert httpx.get(f"{served.url}/readyz").status_code == 200


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and no settings but those of the test."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"QUARTERMASTER_{name.upper()}", raising=False)
    return tmp_path


def test_a_second_server_on_its_port_is_refused(served: Process, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = served.url.rpartition(":")[2]
    told = cannot_start(capsys, "serve", "--port", port)
    assert f"port {port} of 127.0.0.1 is taken by another process; choose another with --port" in told
    assert not list(folder.iterdir())  # not even a database was made


# ---------------------------------------------------------------- refusing to start


@pytest.mark.usefixtures("folder")
def test_beyond_loopback_without_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    told = cannot_start(capsys, "serve", "--port", "0", "--host", "0.0.0.0")  # noqa: S104  (it must refuse)
    assert "quartermaster keys create --tenant TENANT --scope solve" in told


@pytest.mark.usefixtures("folder")
def test_half_of_tls(capsys: pytest.CaptureFixture[str]) -> None:
    assert "set QUARTERMASTER_TLS_KEY too, or neither" in cannot_start(capsys, "serve", "--tls-certificate", "x.pem")
    assert "set QUARTERMASTER_TLS_CERTIFICATE too, or neither" in cannot_start(capsys, "serve", "--tls-key", "x.pem")


def test_files_that_are_no_certificate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "x.pem").write_text("nothing", encoding="ascii")
    certificate = ("serve", "--tls-certificate", "x.pem", "--tls-key")
    assert "no file that this process can read" in cannot_start(capsys, *certificate, "none.pem")
    assert "are not a PEM certificate" in cannot_start(capsys, *certificate, "x.pem")


def test_a_newer_database(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(Database(f"sqlite:///{folder / 'quartermaster.db'}", durability="crash")) as database:
        migrate(database)
    with closing(sqlite3.connect(folder / "quartermaster.db", isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "schema 9999" in cannot_start(capsys, "serve", "--port", "0")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("sqlite:////proc/quartermaster.db", "/proc/quartermaster.db: cannot be used"),
        ("sqlite:///none/quartermaster.db", "there is no folder"),
        ("sqlite:///text.db", "file is not a database"),
    ],
)
def test_a_database_that_cannot_be_had(folder: Path, capsys: pytest.CaptureFixture[str], place: str, reason: str) -> None:
    (folder / "text.db").write_text("not a database " * 100, encoding="ascii")
    assert reason in cannot_start(capsys, "serve", "--port", "0", "--database-url", place)


@pytest.mark.usefixtures("folder")
def test_an_address_of_another_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not an address of this machine" in cannot_start(capsys, "serve", "--host", "192.0.2.1")
    assert "is no address" in cannot_start(capsys, "serve", "--host", "no such host")


# ---------------------------------------------------------------- keys and TLS on the wire


def test_keys_and_tls_together(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    subprocess.run(
        [*MAKE_CERTIFICATE, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    with closing(Database(f"sqlite:///{tmp_path / 'quartermaster.db'}", durability="crash")) as database:
        migrate(database)
        key = database.write(lambda connection: create_key(connection, "team-a", ["solve"]))
    given = SMALL | {"tls_certificate": "cert.pem", "tls_key": "key.pem", "require_keys": "true"}
    with started(tmp_path, "serve", "--port", "0", "--no-workers", **given) as process:
        assert process.url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        with httpx.Client(base_url=process.url, verify=trusted) as client:
            assert client.get("/v1/runs").headers["WWW-Authenticate"].startswith("Bearer")
            client.headers["Authorization"] = f"Bearer {key}"
            assert client.get("/v1/runs").status_code == 200
            assert client.get("/metrics").status_code == 403
            assert refused(tmp_path, "keys", "revoke", key[3:19]) == (0, "")
            until(lambda: client.get("/v1/runs").status_code == 401)
        process.signal()
        assert process.ended() == 0
        assert key[20:] not in "\n".join(process.err)


# ---------------------------------------------------------------- stopping


def test_a_signal_ends_it_in_good_order(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0", **SMALL) as process:
        children = until(process.children)
        process.signal(signal.SIGINT)
        assert process.ended() == 0
        assert len(process.out) == 1
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        assert not [line for line in process.err if "Traceback" in line or "Warning" in line]
    with closing(sqlite3.connect(tmp_path / "quartermaster.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_run_that_is_not_done_in_time_is_handed_back(tmp_path: Path) -> None:
    """And taken up by the next server: that is no failed attempt, and its events go on."""
    with started(tmp_path, "serve", "--port", "0", drain_s=0.05, **SMALL) as process:
        run = httpx.post(f"{process.url}/v1/runs", json=hard_request()).json()
        until(lambda: state_of(process.url, run["id"]) != "queued")
        process.signal()
        assert process.ended() == 0
    with closing(sqlite3.connect(tmp_path / "quartermaster.db")) as connection:
        assert connection.execute("SELECT state, losses FROM runs").fetchall() == [("queued", 0)]
    with started(tmp_path, "serve", "--port", "0", **SMALL) as process:
        until(lambda: state_of(process.url, run["id"]) != "queued")
        httpx.post(f"{process.url}/v1/runs/{run['id']}:cancel", timeout=PATIENCE_S)
        ended = ended_run(process.url, run["id"])
        assert (ended["state"], ended["attempt"]) == ("cancelled", 2)
        told = httpx.get(f"{process.url}/v1/runs/{run['id']}/events", headers={"Accept": "application/json"}).json()["events"]
        assert [event["number"] for event in told] == list(range(1, len(told) + 1))


def test_a_second_signal_ends_it_at_once_and_loses_nothing(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0", drain_s=300, **SMALL) as process:
        run = httpx.post(f"{process.url}/v1/runs", json=hard_request()).json()
        until(lambda: state_of(process.url, run["id"]) != "queued")
        children = process.children()
        assert children

        def insisted() -> bool:
            process.signal()  # again and again: two signals in one moment are one
            return process.process.poll() is not None

        until(insisted)
        assert process.ended() == 128 + signal.SIGTERM
        until(lambda: not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE])
    with started(tmp_path, "serve", "--port", "0", **SMALL) as process:
        until(lambda: httpx.get(f"{process.url}/v1/runs/{run['id']}").json()["attempt"] == 2)
        httpx.post(f"{process.url}/v1/runs/{run['id']}:cancel", timeout=PATIENCE_S)
        assert ended_run(process.url, run["id"])["state"] == "cancelled"


def test_an_open_request_is_answered_before_the_end(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0", **SMALL) as process, httpx.Client(base_url=process.url, timeout=PATIENCE_S) as client:
        with client.stream("POST", "/v1/runs", json=request(), headers={"Prefer": "wait=30"}) as sent:
            process.signal()
            sent.read()
        assert sent.status_code in {200, 202, 503}
        assert process.ended() == 0


def test_those_who_wait_are_told_when_nobody_will_solve_their_run(tmp_path: Path) -> None:
    """A request that waits and a stream of events, on an API whose workers are elsewhere."""
    with (
        started(tmp_path, "serve", "--port", "0", "--no-workers", drain_s=0.2, **SMALL) as process,
        httpx.Client(base_url=process.url, timeout=PATIENCE_S) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        run = client.post("/v1/runs", json=request()).json()
        waits = pool.submit(client.get, f"/v1/runs/{run['id']}", headers={"Prefer": "wait=60"})
        streams = pool.submit(client.get, f"/v1/runs/{run['id']}/events", headers={"Accept": "text/event-stream"})
        until(lambda: len(established(process)) >= 2)
        process.signal()
        assert waits.result(PATIENCE_S).json()["state"] == "queued"
        assert '"state":"queued"' in streams.result(PATIENCE_S).text
        assert process.ended() == 0
        assert not [line for line in process.err if "Cancel" in line], "they were cut off"


# ---------------------------------------------------------------- API and worker apart


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_api_and_a_worker_share_a_database(tmp_path: Path, backend: str) -> None:
    with fresh_url(backend, tmp_path) as url:
        given = SMALL | {"database_url": url}
        with (
            started(tmp_path, "serve", "--port", "0", "--no-workers", **given) as api,
            started(tmp_path, "worker", "--metrics-port", "0", **given) as worker,
        ):
            run = httpx.post(f"{api.url}/v1/runs", json=request()).json()
            assert ended_run(api.url, run["id"])["state"] == "succeeded"
            assert httpx.get(f"{worker.url}/readyz").status_code == 200
            assert 'quartermaster_runs_ended_total{kind="placement"' in httpx.get(f"{worker.url}/metrics").text
            assert "quartermaster_worker_slots 0.0" in httpx.get(f"{api.url}/metrics").text
            for process in (worker, api):
                process.signal()
                assert process.ended() == 0


def test_a_signal_that_comes_before_the_wait_is_not_missed() -> None:
    heard: list[bool] = []
    with serving.signals(lambda: heard.append(True)), serving.woken() as wait:
        signal.raise_signal(signal.SIGTERM)
        wait()
    assert heard == [True]


def test_a_worker_without_a_metrics_port(tmp_path: Path) -> None:
    with started(tmp_path, "worker", **SMALL) as worker:
        assert worker.out == ["Quartermaster works: no metrics port"]
        assert not [one for one in psutil.Process(worker.process.pid).net_connections() if one.status == psutil.CONN_LISTEN]
        worker.signal()
        assert worker.ended() == 0


def test_the_port_is_free_again_at_once(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0", "--no-workers", **SMALL) as process:
        httpx.get(f"{process.url}/healthz")
        port = int(process.url.rpartition(":")[2])
        process.signal()
        assert process.ended() == 0
    with closing(socket.socket()) as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
