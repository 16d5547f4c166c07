"""The promises of the scheduler plugins: ``python -m benchmarks run plugins``.

What online placement reaches on the openb arrivals takes half an hour and has a table of its own: ``python -m benchmarks.replay``.
"""

from __future__ import annotations

import argparse
import signal
from typing import TYPE_CHECKING, Any

from benchmarks.lines import Line
from benchmarks.plugins import extender, kubernetes, kubernetes_cluster, kubernetes_extender, slurm
from benchmarks.plugins.slurm_cluster import RealSlurm, why_not
from benchmarks.suite import Target

if TYPE_CHECKING:
    from pathlib import Path

NODES, CLIENTS, SECONDS, RATE_PER_S = 5_000, 16, 5.0, 200.0
REPEAT = 5


def asked_extender(_folder: Path) -> dict[str, Any]:
    """The extender's answers at the rate of a busy kube-scheduler, and as fast as 16 clients can ask. The slowest case is the figure."""
    arguments = argparse.Namespace(nodes=NODES, clients=CLIENTS, seconds=SECONDS)
    rows = [extender.measure(case, rate, arguments) for case in extender.CASES for rate in (RATE_PER_S, 0.0)]
    by_loop = {loop: [row for row in rows if row["loop"] == loop] for loop in ("open", "closed")}
    return {
        "p99_ms": max(row["p99_ms"] for row in by_loop["open"]),
        "filter_saturated_p99_ms": next(row["p99_ms"] for row in by_loop["closed"] if row["case"] == "filter_all"),
        "wrong": sum(row["wrong"] for row in rows),
        "cases": rows,
    }


def hundred_jobs(_folder: Path) -> dict[str, Any]:
    """100 held jobs on a real Slurm, several times; the longest time is the figure."""
    reason = why_not()
    if reason is not None:
        return {"skipped": reason}
    with RealSlurm(job_submit=slurm.JOB_SUBMIT) as cluster:
        runs = []
        for _ in range(REPEAT):
            runs.append(slurm.hundred(cluster))
            cluster.clear()
        version = cluster.run("scontrol", "--version").strip()
    return {
        "slurm": version,
        "jobs": min(run["jobs"] for run in runs),
        "not_on_plan": sum(run["jobs"] - run["on_plan"] for run in runs),
        "gangs_split": sum(run["gangs_split"] for run in runs),
        "gpus_allocated_twice": sum(run["gpus_allocated_twice"] for run in runs),
        "submission_to_release_s": max(run["last_submission_to_last_release_s"] for run in runs),
        "first_submission_to_release_s": max(run["first_submission_to_last_release_s"] for run in runs),
        "runs": runs,
    }


def abandoned(_folder: Path) -> dict[str, Any]:
    """The follower of a real Slurm is killed, and frozen; how long after its limit everything held is released."""
    reason = why_not()
    if reason is not None:
        return {"skipped": reason}
    with RealSlurm(job_submit=slurm.JOB_SUBMIT) as cluster:
        runs = []
        for number in (signal.SIGKILL, signal.SIGSTOP):
            runs.append(slurm.abandoned(cluster, number))
            cluster.clear()
    return {
        "beyond_limit_s": max(run["released_after_last_sign_of_life_s"] - run["limit_s"] for run in runs),
        "not_started": sum(not run["all_started"] for run in runs),
        "gpus_allocated_twice": sum(run["gpus_allocated_twice"] for run in runs),
        "runs": runs,
    }


def hundred_gated_jobs(_folder: Path) -> dict[str, Any]:
    """100 gated jobs on a real Kubernetes, several times with either pin; the longest time is the figure."""
    reason = kubernetes_cluster.why_not()
    if reason is not None:
        return {"skipped": reason}
    with kubernetes_cluster.RealKubernetes() as cluster:
        runs = [kubernetes.hundred(cluster, hard=hard) for hard in (False, True) for _ in range(REPEAT)]
        version = cluster.version
    return {
        "kubernetes": version,
        "jobs": min(run["jobs"] for run in runs),
        "not_on_plan": sum(run["jobs"] - run["on_plan"] for run in runs),
        "gangs_split": sum(run["gangs_split"] for run in runs),
        "over_allocated": sum(run["over_allocated"] for run in runs),
        "submission_to_release_s": max(run["last_submission_to_last_release_s"] for run in runs),
        "submission_to_binding_s": max(run["last_submission_to_last_binding_s"] for run in runs),
        "runs": runs,
    }


def asked_by_kube_scheduler(_folder: Path) -> dict[str, Any]:
    """A real kube-scheduler places pods on 5,000 nodes, with the extender and without: what that adds to its own time for a pod."""
    reason = kubernetes_cluster.why_not()
    if reason is not None:
        return {"skipped": reason}
    with kubernetes_cluster.RealKubernetes() as cluster:
        return kubernetes_extender.measure(cluster)


def abandoned_gates(_folder: Path) -> dict[str, Any]:
    """The plugin of a real Kubernetes is killed, and frozen; how long after its limit every gate is gone."""
    reason = kubernetes_cluster.why_not()
    if reason is not None:
        return {"skipped": reason}
    with kubernetes_cluster.RealKubernetes() as cluster:
        runs = [kubernetes.abandoned(cluster, number) for number in (signal.SIGKILL, signal.SIGSTOP)]
    return {
        "beyond_limit_s": max(run["released_after_last_sign_of_life_s"] - run["limit_s"] for run in runs),
        "not_started": sum(not run["all_started"] for run in runs),
        "over_allocated": sum(run["over_allocated"] for run in runs),
        "runs": runs,
    }


LINES = (
    Line(
        "extender",
        "kube-scheduler's questions with 5,000 node names, 16 clients, 200 a second, the slowest of 6 cases; saturated: no pause",
        asked_extender,
        (Target("p99_ms", "at most", 5.0), Target("filter_saturated_p99_ms", "at most", 5.0), Target("wrong", "at most", 0)),
    ),
    Line(
        "slurm-100",
        "100 held jobs for all GPUs of a real Slurm, planned, pinned and released; the longest of 5 times",
        hundred_jobs,
        (
            Target("jobs", "at least", 100),
            Target("not_on_plan", "at most", 0),
            Target("gangs_split", "at most", 0),
            Target("gpus_allocated_twice", "at most", 0),
            Target("submission_to_release_s", "at most", 3.0),
            Target("first_submission_to_release_s", "at most", 3.0),
        ),
    ),
    Line(
        "slurm-watchdog",
        "the follower of a real Slurm killed and frozen while jobs are held: seconds beyond the limit until all are released",
        abandoned,
        (Target("beyond_limit_s", "at most", 1.0), Target("not_started", "at most", 0), Target("gpus_allocated_twice", "at most", 0)),
    ),
    Line(
        "kubernetes-100",
        "100 gated jobs on a real control plane, 16 nodes of 8 GPUs, planned, pinned, released and bound; the longest of 10 times",
        hundred_gated_jobs,
        (
            Target("jobs", "at least", 100),
            Target("not_on_plan", "at most", 0),
            Target("gangs_split", "at most", 0),
            Target("over_allocated", "at most", 0),
            Target("submission_to_release_s", "at most", 3.0),
        ),
    ),
    Line(
        "kubernetes-extender",
        "300 pods placed on 5,000 nodes by a real kube-scheduler that asks the extender as it is shipped: share of slow answers",
        asked_by_kube_scheduler,
        (Target("slower_than_5_ms_share", "at most", 0.01), Target("malformed", "at most", 0), Target("over_allocated", "at most", 0)),
    ),
    Line(
        "kubernetes-watchdog",
        "the plugin of a real control plane killed and frozen while pods are gated: seconds beyond the limit until no gate is left",
        abandoned_gates,
        (Target("beyond_limit_s", "at most", 1.0), Target("not_started", "at most", 0), Target("over_allocated", "at most", 0)),
    ),
)
