"""A disk that fills up, a database that dies, a clock that jumps."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.service import problems
from benchmarks.service.measures import findings
from benchmarks.service.processes import House
from tests.chaos.asking import ask, busy, ended, submit
from tests.chaos.conftest import SETTINGS, check
from tests.service.runs import rogue_tasks as rogue
from tests.service.runs.test_worker import House as InProcess
from tests.service.runs.test_worker import pool as pool  # noqa: PLC0414  (a fixture)

FULL = 256 * 1024  # bytes: no file may grow beyond


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_FSIZE"), reason="no limit of file sizes here")
def test_a_full_disk_refuses_and_loses_nothing(house: House) -> None:
    server = house.serve()
    before = submit(server, "program", problems.tiny_lp(1))
    ended(server, before)
    running = busy(server, seconds=1.5)
    process = psutil.Process(server.pid)
    soft, hard = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (FULL, hard))
    accepted, refused = [before, running], 0
    for number in range(40):
        status, body = ask(server, "POST", "/v1/runs", {"kind": "placement", "problem": problems.gangs(150, 30, number), "cache": False})
        assert status in (202, 503), body
        if status == 202:
            accepted.append(body["id"])
        else:
            refused += 1
            assert body["code"] == "database_unavailable"
            if refused > 3:
                break
    assert refused
    assert ask(server, "GET", "/healthz")[0] == 200
    process.rlimit(psutil.RLIMIT_FSIZE, (soft, hard))
    assert ended(server, running)["verified"]
    for run_id in accepted[2:]:
        ask(server, "POST", f"/v1/runs/{run_id}:cancel?mode=discard")
        ended(server, run_id)
    assert ended(server, submit(server, "program", problems.tiny_lp(2)))["state"] == "succeeded"
    check(house, accepted)


# ---------------------------------------------------------------- a database server of our own, to be killed

_BIN = next((path for path in sorted(Path("/usr/lib/postgresql").glob("*/bin")) if (path / "initdb").exists()), None)


def _user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    return {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}


@contextmanager
def postgres(folder: Path) -> Iterator[tuple[str, Any, Any]]:
    """URL of a server of our own, with functions that kill it and start it again."""
    assert _BIN is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, home = folder / "data", folder
    if _user():
        shutil.chown(home, "nobody", "nogroup")
    initdb = [str(_BIN / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=home, **_user())
    server: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        command = [str(_BIN / "postgres"), "-D", str(data), "-p", str(port), "-k", str(home), "-c", "listen_addresses=127.0.0.1"]
        server.append(subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **_user()))
        give_up = time.monotonic() + 30
        ready = [str(_BIN / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < give_up
            time.sleep(0.05)

    def kill() -> None:
        group = psutil.Process(server[-1].pid)
        everyone = [*group.children(recursive=True), group]
        for process in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):  # a server's helpers come and go
                process.kill()
        server[-1].wait(30)
        (data / "postmaster.pid").unlink(missing_ok=True)

    start()
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres", kill, start
    finally:
        server[-1].send_signal(signal.SIGQUIT)
        server[-1].wait(30)


@pytest.mark.skipif(_BIN is None, reason="no PostgreSQL is installed")
def test_a_database_that_is_killed_loses_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path("/tmp") / f"qm-{os.getpid()}-{time.monotonic_ns()}"  # noqa: S108  (short and readable by the server's own user)
    folder.mkdir(mode=0o755)
    try:
        with postgres(folder) as (url, kill, start), House(tmp_path_factory.mktemp("house"), SETTINGS | {"DATABASE_URL": url}) as house:
            server = house.serve()
            accepted = [busy(server, seconds=2.0, seed=number) for number in range(3)]
            kill()
            status, body = ask(server, "POST", "/v1/runs", {"kind": "program", "problem": problems.tiny_lp(1)})
            assert (status, body["code"]) == (503, "database_unavailable")
            assert ask(server, "GET", "/healthz")[0] == 200
            assert ask(server, "GET", "/readyz")[0] == 503
            start()
            give_up = time.monotonic() + 30
            while ask(server, "GET", "/readyz")[0] != 200:
                assert time.monotonic() < give_up
                time.sleep(0.1)
            accepted.append(submit(server, "program", problems.tiny_lp(2)))
            assert {ended(server, run_id)["state"] for run_id in accepted} == {"succeeded"}
            check(house, accepted)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- time


@pytest.mark.parametrize("jump_s", [400 * 86_400.0, -400 * 86_400.0])
def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, pool: Any, monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    monkeypatch.setattr("service.runs.assignment.TASKS", "tests.service.runs.rogue_tasks")
    made = InProcess(f"sqlite:///{tmp_path / 'runs.db'}", pool)
    try:
        made.worker.start()
        run = made.accept(rogue.DEAF_WITH_A_PLAN, time_limit_s=3.0)
        made.until(run, lambda found: found.objective is not None)
        real, jumped = time.time, threading.Event()
        monkeypatch.setattr(time, "time", lambda: real() + (jump_s if jumped.is_set() else 0.0))
        jumped.set()
        other = made.accept(rogue.FINE)
        found = [made.ended(each) for each in (run, other)]
        assert [(each.state, each.attempt, each.losses) for each in found] == [("succeeded", 1, 0)] * 2
        assert findings(f"sqlite:///{tmp_path / 'runs.db'}", [run.id, other.id]) == []
    finally:
        made.close()
