"""A Slurm in memory that tells and does what the real one does, as far as the adapter can see; with hooks between its steps.

It starts a job only as Slurm would: released, on the nodes of its pin where it has one, on nodes that take jobs and have room.
``wrong`` is what must never happen: a job of a pin of ours that starts elsewhere, or one that was not what was planned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from service.plugins.scheduler import SchedulerError
from service.plugins.slurm.changes import Change, Told
from service.plugins.slurm.files import SlurmFiles
from service.plugins.slurm.notation import hosts

GPUS = 4


class PretendedSlurm:
    """Fulfils ``adapter.Slurm``. ``before`` is called with read, pin, release or other before each step."""

    def __init__(self, nodes: int = 4) -> None:
        self.now = 1_000_000.0
        self.nodes: dict[str, dict[str, Any]] = {f"gpu{at + 1}": {"state": "idle", "flags": [], "gpus": GPUS} for at in range(nodes)}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.before: Callable[[str], None] = lambda _: None
        self.silent = 0  # so many of the next changes are carried out, and nobody says so
        self.down = False
        self.told: list[Change] = []
        self._next = 1

    # ------------------------------------------------------------ what people do

    def submit(self, nodes: int = 1, gpus: int = 1, *, held: bool = True, comment: str = "quartermaster") -> str:
        name, self._next = str(self._next), self._next + 1
        self.jobs[name] = {
            "job_id": int(name),
            "name": f"job{name}",
            "job_state": "PENDING",
            "comment": comment,
            "admin_comment": "quartermaster holds: until its plan is made" if held else "",
            "priority": 0 if held else 100,
            "state_reason": "JobHeldUser" if held else "Resources",
            "node_count": nodes,
            "max_nodes": nodes,
            "cpus": nodes,
            "tasks": nodes,
            "tres_per_node": f"gres:gpu:{gpus}",
            "tres_req_str": f"cpu={nodes},mem={nodes}M,node={nodes}",
            "partition": "gpu",
            "submit_time": int(self.now),
            "required_nodes": "",
            "nodes": "",
            "gres_detail": [],
        }
        return name

    def cancel(self, name: str) -> None:
        self.jobs[name] |= {"job_state": "CANCELLED", "nodes": "", "gres_detail": []}

    def resize(self, name: str, nodes: int) -> None:
        self.jobs[name] |= {"node_count": nodes, "max_nodes": nodes, "tasks": nodes, "cpus": nodes}

    def drain(self, node: str, *, back: bool = False) -> None:
        self.nodes[node]["flags"] = [] if back else ["DRAIN"]

    def schedule(self) -> None:
        """Start what can start, first come first served."""
        for job in self.jobs.values():
            if job["job_state"] != "PENDING" or job["priority"] == 0:
                continue
            pin = hosts(job["required_nodes"])
            open_nodes = [name for name, node in self.nodes.items() if not node["flags"] and self.free(name) >= self._gpus(job)]
            chosen = [*pin, *(name for name in open_nodes if name not in pin)][: job["node_count"]]
            if len(chosen) == job["node_count"] and set(pin) <= set(chosen) <= set(open_nodes):
                details = [f"gpu:h100:{self._gpus(job)}(IDX:{self._indices(name, self._gpus(job))})" for name in chosen]
                job |= {"job_state": "RUNNING", "nodes": ",".join(chosen), "gres_detail": details, "start_time": int(self.now)}

    def free(self, node: str) -> int:
        return int(self.nodes[node]["gpus"]) - len(self._used(node))

    # ------------------------------------------------------------ what the adapter does

    def read(self) -> SlurmFiles:
        self.before("read")
        if self.down:
            raise SchedulerError("slurmctld is away")
        nodes = [
            {
                "name": name,
                "state": node["state"],
                "state_flags": list(node["flags"]),
                "gres": f"gpu:h100:{node['gpus']}",
                "gres_used": f"gpu:h100:{len(self._used(name))}(IDX:{','.join(map(str, self._used(name))) or 'N/A'})",
                "cpus": 64,
                "real_memory": 64_000,
                "partitions": ["gpu"],
                "alloc_cpus": len(self._used(name)),
            }
            for name, node in self.nodes.items()
        ]
        return SlurmFiles({"jobs": copy.deepcopy(list(self.jobs.values()))}, {"nodes": nodes}, "", self.now)

    def glance(self) -> bytes:
        return repr((self.jobs, self.nodes)).encode()

    def tell(self, changes: Sequence[Change]) -> tuple[Told, ...]:
        if changes:
            self.before("release" if changes[0].hold is False else "pin" if changes[0].pin else "other")
        if self.down:
            raise SchedulerError("slurmctld is away")
        return tuple(self._one(change) for change in changes)

    def close(self) -> None:
        pass

    def _one(self, change: Change) -> Told:
        self.told.append(change)
        job = self.jobs.get(change.job) or self.jobs.get(change.job.partition("_")[0])  # a task that is not split off yet
        if job is None or job["job_state"] == "CANCELLED":
            found = Told(ok=False, detail="Invalid job id specified for job")
        elif change.pin is not None and job["job_state"] != "PENDING":
            found = Told(ok=False, detail="Job is no longer pending execution")
        else:
            found = Told(ok=True)
            self._done(job, change)
        if self.silent:
            self.silent -= 1
            return Told(ok=None, detail="scontrol went away before it answered")
        return found

    def _done(self, job: dict[str, Any], change: Change) -> None:
        if change.hold is not None:
            job |= {"priority": 0, "state_reason": "JobHeldUser"} if change.hold else {"priority": 100, "state_reason": "None"}
        if change.pin is not None:
            job["required_nodes"] = ",".join(change.pin)
        if change.comment is not None:
            job["admin_comment"] = f'"{change.comment}"'
        if change.priority is not None:
            job["priority"] = change.priority

    def _gpus(self, job: dict[str, Any]) -> int:
        return int(job["tres_per_node"].rpartition(":")[2])

    def _used(self, node: str) -> list[int]:
        used = []
        for job in self.jobs.values():
            for name, detail in zip(hosts(job["nodes"]), job["gres_detail"], strict=False):
                if name == node:
                    used += [int(at) for at in detail.partition("IDX:")[2].rstrip(")").split(",")]
        return sorted(used)

    def _indices(self, node: str, count: int) -> str:
        used = self._used(node)
        return ",".join(str(at) for at in [at for at in range(GPUS) if at not in used][:count])
