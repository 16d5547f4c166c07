"""Outputs of 22.05 in the shape that 23.11 and 24.05 give the same facts: numbers as objects, states and features as lists."""

from __future__ import annotations

import copy
from typing import Any

from service.plugins.slurm.files import SlurmFiles

JOB_NUMBERS = (
    "array_job_id", "array_task_id", "array_max_tasks", "cpus", "node_count", "max_nodes", "tasks", "tasks_per_node", "memory_per_node",
    "memory_per_cpu", "minimum_cpus_per_node", "het_job_id", "het_job_offset", "priority", "start_time", "end_time", "submit_time",
)  # fmt: skip
NODE_NUMBERS = ("boot_time", "slurmd_start_time", "cpu_load", "free_memory")


def newer(files: SlurmFiles) -> SlurmFiles:
    """The same facts as a newer Slurm prints them."""
    jobs, nodes = copy.deepcopy(dict(files.jobs)), copy.deepcopy(dict(files.nodes))
    for job in jobs["jobs"]:
        for name in JOB_NUMBERS:
            job[name] = as_object(job[name])
        job["job_state"] = [job["job_state"]]
        job["shared"] = [job["shared"]] if job["shared"] else []
        job["hold"] = job["priority"] == as_object(0)
        for name in ("tres_per_job", "tres_per_node", "tres_per_task"):
            job[name] = job[name].replace("gres:", "gres/")
        if "job_resources" in job:
            job["job_resources"] = resources(job["job_resources"])
    for node in nodes["nodes"]:
        for name in NODE_NUMBERS:
            node[name] = as_object(node[name])
        node["state"] = [node["state"].upper(), *node.pop("state_flags")]
        for name in ("features", "active_features"):
            node[name] = [part for part in node[name].split(",") if part]
    return SlurmFiles(jobs, nodes, files.topology, files.taken_at)


def as_object(value: float | None) -> dict[str, Any]:
    """A number as 23.02 and later write it."""
    return {"set": value is not None, "infinite": False, "number": value or 0}


def resources(old: dict[str, Any]) -> dict[str, Any]:
    """What a job has, as 24.05 lists it."""
    allocation = [
        {
            "name": one["nodename"],
            "memory": {"used": 0, "allocated": one["memory_allocated"]},
            "sockets": [
                {"index": int(socket), "cores": [{"index": int(core), "status": ["ALLOCATED"]} for core in inside["cores"]]}
                for socket, inside in one["sockets"].items()
            ],
        }
        for one in old["allocated_nodes"]
    ]
    return {"cpus": old["allocated_cpus"], "nodes": {"count": old["allocated_hosts"], "list": old["nodes"], "allocation": allocation}}
