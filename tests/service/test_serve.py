"""The real server as a process: starting, refusing to start, stopping, and what is left of its runs."""

import json
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from models.catalogue import kinds
from tests.conformance.documents import ROOT
from tests.conformance.test_readme import shell_lines
from tests.service.served import Process, refused, started

PAGE = (ROOT / "service" / "README.md").read_text(encoding="utf-8")
SMALL = {"slots": 1, "spare_children": 0, "durability": "crash"}
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One server for the tests that do not stop it."""
    with started(tmp_path_factory.mktemp("served"), "serve", "--port", "0", **SMALL) as process:
        yield process


def request(time_limit_s: float = 2.0) -> dict[str, Any]:
    example = kinds()["placement"].part("schema").example()
    return {"kind": "placement", "problem": json.loads(example.model_dump_json()), "limits": {"time_limit_s": time_limit_s}}


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


def test_a_second_server_on_its_port_is_refused(served: Process, tmp_path: Path) -> None:
    port = served.url.rpartition(":")[2]
    code, told = refused(tmp_path, "serve", "--port", port)
    assert (code, told) == (
        2,
        f"quartermaster: port {port} of 127.0.0.1 is taken by another process; "
        "choose another with --port or QUARTERMASTER_PORT; 0 takes a free one",
    )
    assert not list(tmp_path.iterdir())  # not even a database was made


# ---------------------------------------------------------------- refusing to start


def test_beyond_loopback_without_a_key(tmp_path: Path) -> None:
    code, told = refused(tmp_path, "serve", "--port", "0", "--host", "0.0.0.0")  # noqa: S104  (it must refuse)
    assert code == 2
    assert "quartermaster keys create --tenant TENANT --scope solve" in told


@pytest.mark.parametrize("half", ["tls_certificate", "tls_key"])
def test_half_of_tls(tmp_path: Path, half: str) -> None:
    code, told = refused(tmp_path, "serve", "--port", "0", **{half: "x.pem"})
    assert code == 2
    assert "set QUARTERMASTER_TLS_" in told
    assert "or neither" in told


def test_files_that_are_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nothing", encoding="ascii")
    assert "no file that this process can read" in refused(tmp_path, "serve", tls_certificate="x.pem", tls_key="none.pem")[1]
    assert "are not a PEM certificate" in refused(tmp_path, "serve", tls_certificate="x.pem", tls_key="x.pem")[1]


def test_a_newer_database(tmp_path: Path) -> None:
    assert refused(tmp_path, "keys", "list")[0] == 0
    with closing(sqlite3.connect(tmp_path / "quartermaster.db", isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    code, told = refused(tmp_path, "serve", "--port", "0")
    assert code == 2
    assert "schema 9999" in told


@pytest.mark.parametrize("place", ["sqlite:////proc/quartermaster.db", "sqlite:///none/quartermaster.db", "sqlite:///text.db"])
def test_a_database_that_cannot_be_had(tmp_path: Path, place: str) -> None:
    (tmp_path / "text.db").write_text("not a database " * 100, encoding="ascii")
    code, told = refused(tmp_path, "serve", "--port", "0", database_url=place)
    assert code == 2
    assert len(told.splitlines()) == 1, told


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    assert "is not an address of this machine" in refused(tmp_path, "serve", "--host", "192.0.2.1", require_keys="false")[1]
    assert "is no address" in refused(tmp_path, "serve", "--host", "no such host", require_keys="false")[1]


# ---------------------------------------------------------------- keys and TLS on the wire


def test_keys_and_tls_together(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    made = subprocess.run(
        ["quartermaster", "keys", "create", "--tenant", "team-a", "--scope", "solve"],
        executable=shutil.which("quartermaster", path=str(ROOT / ".venv" / "bin")),
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    key = made.stdout.strip()
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
    """And taken up by the next server: no failed attempt, and none of its events lost."""
    with started(tmp_path, "serve", "--port", "0", drain_s=0.05, **SMALL) as process:
        run = httpx.post(f"{process.url}/v1/runs", json=request(time_limit_s=5.0)).json()
        until(lambda: httpx.get(f"{process.url}/v1/runs/{run['id']}").json()["state"] != "queued")
        process.signal()
        assert process.ended() == 0
    with closing(sqlite3.connect(tmp_path / "quartermaster.db")) as connection:
        [(state, losses)] = connection.execute("SELECT state, losses FROM runs").fetchall()
        assert state in {"queued", "succeeded"}
        assert losses == 0
    with started(tmp_path, "serve", "--port", "0", **SMALL) as process:
        assert ended_run(process.url, run["id"])["state"] == "succeeded"
        told = httpx.get(f"{process.url}/v1/runs/{run['id']}/events", headers={"Accept": "application/json"}).json()["events"]
        assert [event["number"] for event in told] == list(range(1, len(told) + 1))


def test_a_second_signal_ends_it_at_once_and_loses_nothing(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0", drain_s=300, **SMALL) as process:
        run = httpx.post(
            f"{process.url}/v1/runs", json=request(time_limit_s=120.0) | {"limits": {"time_limit_s": 120.0, "gap": 0.0}}
        ).json()
        children = until(process.children)
        process.signal()
        process.signal()
        until(lambda: process.process.poll() is not None or process.signal() or None)
        assert process.ended() in {143, 0}  # 0: the run was done, and so was the server
        until(lambda: not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE])
    with started(tmp_path, "serve", "--port", "0", **SMALL) as process:
        assert ended_run(process.url, run["id"])["state"] == "succeeded"


def test_an_open_request_is_answered_before_the_end(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0", **SMALL) as process, httpx.Client(base_url=process.url, timeout=PATIENCE_S) as client:
        with client.stream("POST", "/v1/runs", json=request(), headers={"Prefer": "wait=30"}) as sent:
            process.signal()
            sent.read()
        assert sent.status_code in {200, 202, 503}
        assert process.ended() == 0


# ---------------------------------------------------------------- API and worker apart


def test_an_api_and_a_worker_share_a_database(tmp_path: Path) -> None:
    with (
        started(tmp_path, "serve", "--port", "0", "--no-workers", **SMALL) as api,
        started(tmp_path, "worker", "--metrics-port", "0", **SMALL) as worker,
    ):
        run = httpx.post(f"{api.url}/v1/runs", json=request()).json()
        assert ended_run(api.url, run["id"])["state"] == "succeeded"
        assert httpx.get(f"{worker.url}/readyz").status_code == 200
        assert 'quartermaster_runs_ended_total{kind="placement"' in httpx.get(f"{worker.url}/metrics").text
        assert "quartermaster_worker_slots 0.0" in httpx.get(f"{api.url}/metrics").text
        for process in (worker, api):
            process.signal()
            assert process.ended() == 0


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
