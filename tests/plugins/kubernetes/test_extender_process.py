"""The extender in a process of its own: it comes back when it died or stands still, and ends with its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import Pipe, get_context
from pathlib import Path

import httpx
import pytest
import structlog

from service.plugins.kubernetes import extender_process
from service.plugins.kubernetes.extender import Extender
from service.plugins.kubernetes.extender_app import ExtenderApp
from service.plugins.kubernetes.extender_process import ExtenderOptions, ExtenderProcess
from service.plugins.kubernetes.extender_seats import Seating
from service.plugins.modes import Mode
from service.serving import listening
from tests.plugins.kubernetes.extender_calls import NODES, Read, by_names, plan, planned, pod
from tests.plugins.kubernetes.test_extender_http import served, until


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listening("127.0.0.1", 0) as made:
        yield made


def passed(listener: socket.socket) -> list[str]:
    """The nodes that pass for the planned pod; ``away`` where nobody answers."""
    try:
        answer = httpx.post(f"http://127.0.0.1:{listener.getsockname()[1]}/filter", content=by_names(pod(), NODES), timeout=2)
    except httpx.HTTPError:
        return ["away"]
    return Read(answer.content, NODES, cache_capable=True).passed


def seat(node: str) -> Seating:
    return plan(planned(node), made_at=time.time(), ttl_s=600)


def test_it_answers_from_the_latest_plan_and_comes_back_when_it_dies_or_stands_still(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extender_process, "STILL_LOOKS", 12)
    monkeypatch.setattr(extender_process, "STARTING_LOOKS", 200)
    monkeypatch.setattr(extender_process, "TAKEN_OVER_S", 20.0)
    monkeypatch.setattr(extender_process, "LEAST_RESTART_S", 0.1)
    process = ExtenderProcess(ExtenderOptions(Mode.enforce), listener, look_s=0.15)
    process.start()
    try:
        process.publish(seat("gpu-1"))
        for node in ("gpu-3", "gpu-2", "gpu-3"):
            assert process.put(seat(node))
            assert passed(listener) == [node]  # from the moment that put says so
        for number, how in enumerate((signal.SIGKILL, signal.SIGSTOP), start=1):
            ended = process.pid
            assert ended is not None
            os.kill(ended, how)
            until(lambda ended=ended: process.pid != ended and passed(listener) == ["gpu-3"])  # the new one was given the latest plan
            assert process.restarts >= number  # on a machine that is too busy a child may seem to stand still
    finally:
        process.close()
    assert process.pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_plan_is_not_waited_for_long_and_a_child_that_cannot_start_is_tried_again(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extender_process, "TAKEN_OVER_S", 0.01)
    process = ExtenderProcess(ExtenderOptions(), listener)
    assert not process.put(seat("gpu-1"))  # nobody is there
    tried: list[int] = []

    def failing() -> None:
        tried.append(1)
        process._process = None  # noqa: SLF001
        raise OSError("no memory")

    class Dead:
        exitcode = 1

        @staticmethod
        def is_alive() -> bool:
            return False

    process._process = Dead()  # type: ignore[assignment]  # noqa: SLF001
    monkeypatch.setattr(process, "_spawn", failing)
    with structlog.testing.capture_logs() as lines:
        process._revive()  # noqa: SLF001
    assert tried == [1]
    assert [line["log_level"] for line in lines] == ["error", "error"]
    process.close()


@pytest.mark.parametrize("killed", [False, True], ids=["a plan cannot be read", "the planning was killed"])
def test_a_child_that_gets_no_more_plans_refuses_nobody_and_ends(killed: bool) -> None:
    ours, theirs = Pipe()
    extender = Extender(Mode.enforce, time.time)
    extender.seating = plan(planned("gpu-1"), made_at=time.time(), ttl_s=600)
    if killed:
        ours.close()
    else:
        ours.send_bytes(b"rubbish")
    stopping = threading.Event()
    signs = extender_process._Signs(get_context("spawn"))  # noqa: SLF001
    with structlog.testing.capture_logs() as lines:
        extender_process._listen(extender, theirs, stopping, signs)  # noqa: SLF001
    assert stopping.is_set()
    assert [line["log_level"] for line in lines] == ([] if killed else ["error"])
    assert signs.taken.value == 0
    for one in (pod(), pod("unknown", "another")):  # nobody would touch them
        assert Read(extender.filter(by_names(one, NODES)).body, NODES, cache_capable=True).passed == NODES
    for end in (ours, theirs):
        end.close()


def test_who_connects_and_asks_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.plugins.kubernetes.extender_protocol.FIRST_S", 0.2)
    with served(ExtenderApp(Extender(Mode.enforce, time.time))) as port:
        silent, halting = (socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(2))
        halting.sendall(b"POST /filter HTTP/1.1\r\nHost: a\r\n")
        assert silent.recv(100) == b""
        assert halting.recv(100) == b""
        for connection in (silent, halting):
            connection.close()


PARENT = """
import sys, time
from service.plugins.kubernetes.extender_process import ExtenderOptions, ExtenderProcess
from service.serving import listening

if __name__ == "__main__":
    listener = listening("127.0.0.1", 0)
    process = ExtenderProcess(ExtenderOptions(), listener)
    process.start()
    print(listener.getsockname()[1], process.pid, flush=True)
    time.sleep(60)
"""


def test_the_extender_ends_with_the_planning_process(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(root)}) as parent:
        assert parent.stdout is not None
        port, child = map(int, parent.stdout.readline().split())
        until(lambda: answers(port))
        parent.kill()
        parent.wait()
    until(lambda: not Path(f"/proc/{child}").exists() or "(zombie)" in Path(f"/proc/{child}/status").read_text())
    assert not answers(port)  # refused at once, so that kube-scheduler need not wait for its time limit


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
