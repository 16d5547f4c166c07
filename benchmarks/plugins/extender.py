"""How long kube-scheduler waits for the extender: ``python -m benchmarks.plugins.extender [--out FILE] [--nodes N] [--clients N]``.

A real extender (its own process, uvicorn, a plan of 5,000 pods) answers over loopback to clients in another process, which
keep their connections as kube-scheduler does. Time runs from the moment a question is due to the moment the last byte of its
answer is read, so it holds what the client's own process takes to come round to it. Two loads are measured, for each of:

    filter_all         every node passes (no plan, or advise): the longest answer, and the case of the target
    filter_all_long    the same with names of 42 letters
    filter_seat        the planned node passes (enforce)
    filter_denied      the pod waits, with a reason at each node (enforce)
    prioritize_planned the planned node is scored (advise)
    preempt_given      evictions on 100 nodes go ahead as they came (advise)

``closed``: each client asks again as soon as it is answered, so the extender is saturated and a client waits for the others too.
``open``: questions are due at random times (Poisson) at a given rate, whatever the answers take; kube-scheduler itself rarely
schedules more than 100 pods, so asks 200 questions, a second. The load of the machine is told beside the numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import psutil
import uvloop

from benchmarks import machine
from service.plugins.kubernetes.extender import OPT_IN
from service.plugins.kubernetes.extender_process import ExtenderOptions, ExtenderProcess
from service.plugins.kubernetes.extender_seats import Seating, Told
from service.plugins.modes import Mode
from service.serving import listening

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET_P99_MS = 5.0
PLANNED = 5_000  # pods in the plan
QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p99_9_ms": 0.999, "longest_ms": 1.0}
CASES = {
    "filter_all": (Mode.advise, "/filter"),
    "filter_all_long": (Mode.advise, "/filter"),
    "filter_seat": (Mode.enforce, "/filter"),
    "filter_denied": (Mode.enforce, "/filter"),
    "prioritize_planned": (Mode.advise, "/prioritize"),
    "preempt_given": (Mode.advise, "/preempt"),
}


# ---------------------------------------------------------------- what is asked


def node_names(count: int) -> list[str]:
    """Names as a data centre gives them: rack and slot."""
    return [f"gpu-r{i // 40:03d}-n{i % 40:02d}" for i in range(count)]


def long_names(count: int) -> list[str]:
    """Names as a cloud gives them: three times as long."""
    return [f"ip-10-{i // 65_536}-{i // 256 % 256}-{i % 256}.eu-west-1.compute.internal" for i in range(count)]


def pod(number: int) -> dict[str, Any]:
    """A training pod as kube-scheduler sends it: some 4 kB."""
    container = {
        "name": "train",
        "image": "registry.example/train:1",
        "command": ["torchrun", "--nnodes=8", "train.py"],
        "env": [{"name": f"SETTING_{i}", "value": "a value of a usual length"} for i in range(30)],
        "resources": {"limits": {"nvidia.com/gpu": "8", "cpu": "64", "memory": "512Gi"}, "requests": {"nvidia.com/gpu": "8"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "terminationMessagePath": "/dev/termination-log",
    }
    meta = {
        "name": f"train-{number}",
        "namespace": "team",
        "uid": f"00000000-0000-4000-8000-{number:012d}",
        "labels": {OPT_IN: "true"} | {f"team.example/label-{i}": f"value-{i}" for i in range(10)},
        "annotations": {f"team.example/note-{i}": "a note of a usual length" for i in range(10)},
        "creationTimestamp": "2026-01-31T12:00:00Z",
    }
    return {"metadata": meta, "spec": {"containers": [container], "schedulerName": "default-scheduler"}, "status": {"phase": "Pending"}}


def body(case: str, nodes: int) -> bytes:
    """One question of a case. The pod is number 1 of the plan: it has a node; number 2 waits."""
    number = 2 if case == "filter_denied" else 1
    if case == "preempt_given":
        victims = {name: {"Pods": [{"UID": f"victim-{i}"} for i in range(3)], "NumPDBViolations": 0} for name in node_names(100)}
        return orjson.dumps({"Pod": pod(number), "NodeNameToVictims": None, "NodeNameToMetaVictims": victims})
    names = long_names(nodes) if case == "filter_all_long" else node_names(nodes)
    random.Random(1).shuffle(names)  # kube-scheduler sends them in no particular order
    return orjson.dumps({"Pod": pod(number), "Nodes": None, "NodeNames": names})


def plan(nodes: int) -> Seating:
    """A plan of many pods; those with odd numbers have a node."""
    names = node_names(nodes)
    told = {}
    for number in range(PLANNED):
        meta = pod(number)["metadata"]
        node, why = (names[number % nodes], "") if number % 2 else (None, "waits for 8 GPUs on one rack: rack r2 frees at 14:10")
        key = f"team/{meta['name']}"
        told[key] = Told("team", meta["name"], meta["uid"], key, node, why)
    return Seating(1, time.time(), 3_600.0, told)


# ---------------------------------------------------------------- the clients, in a process of their own


@dataclass(slots=True)
class Load:
    """What the clients do: ``rate_per_s`` 0 is the closed loop."""

    port: int
    path: str
    body: bytes
    clients: int
    seconds: float
    rate_per_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    bytes_answered: int = 0
    wrong: int = 0


class Client(asyncio.BufferedProtocol):
    """One kept connection; one question at a time. The answer is read into one buffer, so that the client costs little itself."""

    def __init__(self, load: Load, done: asyncio.Queue[Client]) -> None:
        self._load, self._done = load, done
        head = f"POST {load.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(load.body)}\r\n\r\n"
        self._question = head.encode() + load.body
        self._answer = bytearray(2 * 2**20)
        self._view = memoryview(self._answer)
        self._read = self._whole = 0
        self._due = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = transport  # type: ignore[assignment]

    def ask(self, due: float) -> None:
        """Send the question; its time runs from ``due``."""
        self._due, self._read, self._whole = due, 0, 0
        assert self._transport is not None  # noqa: S101
        self._transport.write(self._question)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next part of the answer goes."""
        del sizehint
        return self._view[self._read :]

    def buffer_updated(self, nbytes: int) -> None:
        """Look whether the answer is whole."""
        self._read += nbytes
        if not self._whole:
            end = self._answer.find(b"\r\n\r\n", 0, self._read)
            if end < 0:
                return
            head = bytes(self._answer[:end]).lower()
            self._load.wrong += not head.startswith(b"http/1.1 200")
            self._whole = end + 4 + int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        if self._read >= self._whole:
            self._load.latencies_s.append(time.perf_counter() - self._due)
            self._load.bytes_answered = self._read
            self._done.put_nowait(self)


async def run(load: Load) -> None:
    """Ask for so many seconds."""
    loop = asyncio.get_running_loop()
    free: asyncio.Queue[Client] = asyncio.Queue()
    for _ in range(load.clients):
        _, client = await loop.create_connection(lambda: Client(load, free), "127.0.0.1", load.port)
        free.put_nowait(client)
    begun = time.perf_counter()
    if not load.rate_per_s:
        while time.perf_counter() - begun < load.seconds:
            client = await free.get()
            client.ask(time.perf_counter())
        return
    due: deque[float] = deque(_arrivals(load, begun))
    while due:
        if (pause := due[0] - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        client = await free.get()  # a question that finds no free client waits, and its time runs
        client.ask(due.popleft())
    for _ in range(load.clients):
        await free.get()  # until the last answer is there


def _arrivals(load: Load, begun: float) -> Iterator[float]:
    draw = random.Random(7)
    at = begun
    while (at := at + draw.expovariate(load.rate_per_s)) < begun + load.seconds:
        yield at


# ---------------------------------------------------------------- the table


def measure(case: str, rate_per_s: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    mode, path = CASES[case]
    listener = listening("127.0.0.1", 0)
    extender = ExtenderProcess(ExtenderOptions(mode), listener)
    extender.start()
    extender.publish(plan(arguments.nodes))
    try:
        port = listener.getsockname()[1]
        _wait_for_plan(port)
        command = [sys.executable, "-m", "benchmarks.plugins.extender", "--client", str(port), path, case, str(rate_per_s)]
        command += ["--nodes", str(arguments.nodes), "--clients", str(arguments.clients), "--seconds", str(arguments.seconds)]
        asked(port, path, body(case, arguments.nodes), 0.5, arguments.clients)  # what is made at a first question is made now
        server = psutil.Process(extender.pid)
        before = server.cpu_times()
        row: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        after = server.cpu_times()
    finally:
        extender.close()
        listener.close()
    cpu_s = after.user + after.system - before.user - before.system
    load = round(os.getloadavg()[0], 2)
    return {
        "case": case,
        "loop": "open" if rate_per_s else "closed",
        **row,
        "server_cpu_us": round(cpu_s / row["answers"] * 1e6),
        "machine_load": load,
    }


def asked(port: int, path: str, question: bytes, seconds: float, clients: int, rate_per_s: float = 0.0) -> Load:
    """The load, run in this process."""
    load = Load(port, path, question, clients, seconds, rate_per_s)
    uvloop.run(run(load))
    return load


def _wait_for_plan(port: int) -> None:
    import urllib.request

    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
                if b"quartermaster_extender_plan_version 1.0" in page.read():
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise TimeoutError("the extender did not take over its plan within 30 s")


def _client(arguments: argparse.Namespace) -> None:
    port, path, case, rate = arguments.client
    question = body(case, arguments.nodes)
    load = asked(int(port), path, question, arguments.seconds, arguments.clients, float(rate))
    ordered = sorted(load.latencies_s)
    row = {"rate_per_s": round(len(ordered) / arguments.seconds), "answers": len(ordered), "wrong": load.wrong}
    row |= {"question_bytes": len(question), "answer_bytes": load.bytes_answered}
    at = {name: ordered[min(int(part * len(ordered)), len(ordered) - 1)] for name, part in QUANTILES.items()}
    print(json.dumps(row | {name: round(seconds * 1e3, 3) for name, seconds in at.items()}))


def main() -> None:
    """Measure every case, print the rows, and keep them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file of the rows")
    parser.add_argument("--nodes", type=int, default=5_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rates", type=float, nargs="*", default=[0.0, 200.0, 1_000.0], help="questions a second; 0: the closed loop")
    parser.add_argument("--case", choices=sorted(CASES), nargs="*", default=list(CASES))
    parser.add_argument("--client", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        _client(arguments)
        return
    rows = []
    for case in arguments.case:
        for rate in arguments.rates:
            rows.append(measure(case, rate, arguments))
            print(json.dumps(rows[-1]), flush=True)
    table = {
        "machine": machine.facts(),
        "nodes": arguments.nodes,
        "clients": arguments.clients,
        "target_p99_ms": TARGET_P99_MS,
        "rows": rows,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
