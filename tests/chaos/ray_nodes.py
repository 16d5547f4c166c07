"""A Ray cluster of two nodes on one machine: each has its own loopback address, ports and process group."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Self

import psutil

RAY = Path(sys.executable).with_name("ray")
ROOT = Path(__file__).parents[2]
HEAD, SECOND = "127.0.0.2", "127.0.0.3"  # Linux answers on all of 127.0.0.0/8; Ray takes the first one for no node's address
STORE_BYTES = 80 << 20
PATIENCE_S = 60.0
# A node that is gone is noticed after two seconds here, not after twenty.
HEALTH = {"initial_delay_ms": 500, "period_ms": 500, "timeout_ms": 3_000, "failure_threshold": 3}


def free_port(host: str) -> int:
    """One that nobody listens at."""
    with socket.create_server((host, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Node:
    """One node: everything that ``ray start --block`` has started."""

    def __init__(self, host: str, environment: dict[str, str], *arguments: str) -> None:
        command = [
            *(str(RAY), "start", "--block", "--disable-usage-stats", f"--node-ip-address={host}", "--num-cpus=1", "--num-gpus=0"),
            *(f"--object-store-memory={STORE_BYTES}", "--min-worker-port=0", "--max-worker-port=0"),
            *(
                f"--{name}={free_port(host)}"
                for name in ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
            ),
            *arguments,
        ]
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def wait_until_up(self) -> None:
        """Returns when it has joined its cluster."""
        told = []
        while line := self._lines.get(timeout=PATIENCE_S):
            told.append(line)
            if "Ray runtime started" in line:
                return
        raise AssertionError("".join(told))

    @property
    def processes(self) -> list[psutil.Process]:
        """All that belong to it, the latest first."""
        try:
            first = psutil.Process(self._process.pid)
            return [*reversed(first.children(recursive=True)), first]
        except psutil.NoSuchProcess:
            return []

    @property
    def actors(self) -> list[psutil.Process]:
        """Those of our studies."""
        found = []
        for one in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                if " ".join(one.cmdline()).startswith("ray::Host"):
                    found.append(one)
        return found

    def kill(self) -> None:
        """SIGKILL to everything of it at once. May be called twice."""
        processes = self.processes
        for stop in (psutil.Process.suspend, psutil.Process.kill):  # else one might report the other's end
            for one in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    stop(one)
        _, alive = psutil.wait_procs(processes, timeout=10)
        assert not alive
        self._process.wait(10)
        self._reader.join(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


class Cluster:
    """A head and a second node. A context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="ray-")  # short, because a socket's path has at most 107 characters
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
        health = {f"RAY_health_check_{name}": f"{value}" for name, value in HEALTH.items()}
        self.environment = os.environ | token | health | {"PYTHONPATH": f"{ROOT}"}
        self.environment.pop("RAY_ADDRESS", None)
        self.address = f"{HEAD}:{free_port(HEAD)}"
        options = (f"--port={self.address.partition(':')[2]}", "--include-dashboard=false", f"--temp-dir={self._folder}")
        self.head = Node(HEAD, self.environment, "--head", *options)
        self.nodes = [self.head]
        self._join()

    def _join(self) -> None:
        try:
            self.head.wait_until_up()
            self.second = Node(SECOND, self.environment, f"--address={self.address}")
            self.nodes.append(self.second)
            self.second.wait_until_up()
        except BaseException:
            self.__exit__()
            raise

    @property
    def actors(self) -> list[psutil.Process]:
        """Of our studies, on all nodes."""
        return [one for node in self.nodes for one in node.actors]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
