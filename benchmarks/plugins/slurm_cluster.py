"""A real Slurm on this machine: munged, slurmctld and a slurmd for each of a few nodes, in a folder of its own, on free ports of loopback.

GPUs are character devices that are made for it, so that Slurm deals them by index as it deals real ones. Nothing outside the folder
is touched. Every daemon runs under a time limit: should whoever started them be killed, they end by themselves.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.plugins.daemons import Cluster, Daemons, StartError, free_ports, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scontrol", "scancel")
NULL_DEVICE = os.makedev(1, 3)
STARTED_S = 30.0


@dataclass(frozen=True, slots=True)
class Size:
    """What the cluster is made of. Two nodes share a rack, two racks a row."""

    nodes: int = 8
    gpus: int = 8
    cpus: int = 64
    memory_mib: int = 512_000
    model: str = "h100"


def why_not() -> str | None:
    """Why no Slurm can be started here, or None when it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        return f"no {', '.join(missing)} on the PATH: install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
    if os.geteuid() != 0:
        return "a cluster of several nodes on one machine is started by root (slurmd, mknod)"
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.mknod(Path(folder) / "gpu0", stat.S_IFCHR | 0o666, NULL_DEVICE)
        except OSError as error:
            return f"character devices cannot be made here ({error.strerror}): there would be no GPUs"
    return None


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


@dataclass(slots=True)
class RealSlurm(Cluster):
    """One cluster. ``with RealSlurm() as slurm`` starts and stops it; ``environment`` is what Slurm's commands need to find it."""

    size: Size = field(default_factory=Size)
    life_s: int = 900
    job_submit: Path | None = None  # a job_submit.lua
    jwt: bool = False
    options: str = ""  # more lines of slurm.conf
    folder: Path = field(init=False)
    environment: dict[str, str] = field(init=False)
    _daemons: Daemons = field(init=False)
    _controller: subprocess.Popen[bytes] = field(init=False)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of its nodes."""
        return tuple(f"gpu{at + 1}" for at in range(self.size.nodes))

    # ------------------------------------------------------------ using

    def run(self, *command: str, check: bool = True) -> str:
        """One of Slurm's commands; what it printed."""
        done = subprocess.run(
            command, env=self.environment, cwd="/", capture_output=True, text=True, check=False, timeout=30, stdin=subprocess.DEVNULL
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def submit(self, *options: str, seconds: float = 120) -> str:
        """Sbatch a job that sleeps; its id."""
        return self.run(*submission(*options, seconds=seconds)).strip().partition(";")[0]

    def submit_all(self, wanted: Sequence[tuple[str, ...]], seconds: float = 120) -> list[str]:
        """As ``submit``, a few at a time; the ids in the same sequence."""
        ids: list[str] = []
        for start in range(0, len(wanted), 8):
            batch = [
                subprocess.Popen(
                    submission(*options, seconds=seconds),
                    env=self.environment,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
                for options in wanted[start : start + 8]
            ]
            for one in batch:
                printed, complaint = one.communicate(timeout=30)
                if one.returncode != 0:
                    raise RuntimeError(f"sbatch: {complaint.decode().strip()}")
                ids.append(printed.decode().strip())
        return ids

    def jobs(self) -> list[dict[str, Any]]:
        """The records of ``squeue --json``."""
        found: list[dict[str, Any]] = json.loads(self.run("squeue", "--json"))["jobs"]
        return found

    def job(self, name: str) -> dict[str, Any]:
        """The record of one job; empty when there is none."""
        return next((job for job in self.jobs() if str(job["job_id"]) == name), {})

    def clear(self) -> None:
        """Cancel every job, resume every node, and wait until all is free."""
        self.run("scancel", "--user", getpass.getuser(), check=False)
        self.run("scontrol", "update", f"nodename={','.join(self.nodes)}", "state=resume", check=False)
        self.until(lambda: not self.run("squeue", "-h", "-a").strip() and self._idle(), 60)

    @contextlib.contextmanager
    def controller_away(self) -> Iterator[None]:
        """Slurmctld is stopped; at the end another one takes up its state."""
        self._daemons.end(self._controller, limit_s=20)
        try:
            yield
        finally:
            self._controller = self.start("slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))
            self.until(lambda: "UP" in self.run("scontrol", "ping", check=False), STARTED_S)

    def until(self, true: Callable[[], object], seconds: float = 20.0) -> bool:
        """Wait for something to become true; whether it did."""
        return until(true, seconds)

    # ------------------------------------------------------------ starting and stopping

    def _start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qm-slurm-"))
        self.folder.chmod(0o755)  # munge and slurmrestd look through it
        self.environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(self.folder / "slurm.conf"), "LC_ALL": "C"}
        for name in ("spool", "state", "log", "dev", "munge"):
            (self.folder / name).mkdir()
        self._daemons = Daemons(self.folder / "log", self.life_s)
        self._write(*free_ports(self.size.nodes + 1))
        munge, conf = self.folder / "munge", str(self.folder / "slurm.conf")
        self.start(
            *("munged", "--foreground", "--force", f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid"),
            *(f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--num-threads=2"),
        )
        if not self.until((munge / "socket").exists, STARTED_S):
            raise StartError(f"munged did not come up\n{self._daemons.logs()}")
        self._controller = self.start("slurmctld", "-D", "-f", conf)
        for node in self.nodes:
            self.start("slurmd", "-D", "-N", node, "-f", conf)
        if not self.until(self._idle, STARTED_S):
            raise StartError(f"Slurm did not come up\n{self._daemons.logs()}")

    def start(self, *command: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """One more daemon, which ends with the cluster."""
        return self._daemons.start(*command, environment=environment or self.environment)

    def stop(self) -> None:
        """End the jobs, then the daemons, then whatever they left behind; remove the folder."""
        with contextlib.suppress(RuntimeError, subprocess.SubprocessError, OSError):
            self.run("scancel", "--user", getpass.getuser(), check=False)
            self.until(lambda: not self.run("squeue", "-h", "-a", check=False).strip(), 5)
        self._daemons.end_all()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]:
                    process.kill()  # a job's step, or the job itself
        shutil.rmtree(self.folder, ignore_errors=True)

    def _idle(self) -> bool:
        seen = set(self.run("sinfo", "-h", "-N", "-o", "%N=%T", check=False).split())
        return seen == {f"{node}=idle" for node in self.nodes}

    def _write(self, controller: int, *ports: int) -> None:
        """Key, devices and configuration."""
        folder, size = self.folder, self.size
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for at in range(size.gpus):
            os.mknod(folder / "dev" / f"gpu{at}", stat.S_IFCHR | 0o666, NULL_DEVICE)
        if self.jwt:
            (folder / "jwt_key").write_bytes(os.urandom(32))
            (folder / "jwt_key").chmod(0o400)
        if self.job_submit is not None:
            shutil.copy(self.job_submit, folder / "job_submit.lua")
        (folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu Type={size.model} File={folder}/dev/gpu[0-{size.gpus - 1}]\n")
        (folder / "topology.conf").write_text(_topology(self.nodes))
        (folder / "slurm.conf").write_text(self._slurm_conf(controller, ports))

    def _slurm_conf(self, controller: int, ports: tuple[int, ...]) -> str:
        folder, size = self.folder, self.size
        nodes = "\n".join(
            f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={size.cpus} RealMemory={size.memory_mib} "
            f"Gres=gpu:{size.model}:{size.gpus} Feature={size.model},r{at // 2 + 1} State=UNKNOWN"
            for at, (name, port) in enumerate(zip(self.nodes, ports, strict=True))
        )
        more = "JobSubmitPlugins=lua\n" if self.job_submit is not None else ""
        more += f"AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key={folder}/jwt_key\n" if self.jwt else ""
        return f"""
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
TopologyPlugin=topology/tree
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,bf_max_job_test=1000,default_queue_depth=1000,batch_sched_delay=0
KillWait=1
{more}{self.options}
{nodes}
PartitionName=gpu Nodes=gpu[1-{size.nodes}] Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=100
PartitionName=plan Nodes=gpu[1-{size.nodes}] MaxTime=INFINITE State=UP DefMemPerCPU=100
"""


def submission(*options: str, seconds: float) -> list[str]:
    """The command that submits a job that sleeps."""
    return ["sbatch", "--parsable", "--output=/dev/null", "--error=/dev/null", *options, f"--wrap=sleep {seconds:g}"]


def allocated(jobs: list[dict[str, Any]]) -> dict[tuple[str, int], list[int]]:
    """Who has each GPU of each node by Slurm's own books: job ids by node and index. More than one is an over-allocation."""
    from service.plugins.slurm.notation import gres, hosts

    found: dict[tuple[str, int], list[int]] = {}
    for job in jobs:
        if job["job_state"] in {"RUNNING", "COMPLETING", "SUSPENDED"}:
            for node, detail in zip(hosts(job["nodes"]), job["gres_detail"], strict=False):
                for part in gres(detail):
                    for index in part.at or ():
                        found.setdefault((node, index), []).append(job["job_id"])
    return found


def _topology(nodes: tuple[str, ...]) -> str:
    racks = [nodes[at : at + 2] for at in range(0, len(nodes), 2)]
    rows = [range(at + 1, min(at + 2, len(racks)) + 1) for at in range(0, len(racks), 2)]
    lines = [f"SwitchName=r{at + 1} Nodes={','.join(rack)}" for at, rack in enumerate(racks)]
    lines += [f"SwitchName=row{at + 1} Switches={','.join(f'r{rack}' for rack in row)}" for at, row in enumerate(rows)]
    return "\n".join([*lines, f"SwitchName=site Switches={','.join(f'row{at + 1}' for at in range(len(rows)))}"]) + "\n"
