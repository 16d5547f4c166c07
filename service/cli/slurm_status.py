"""What ``slurm status`` says of a cluster."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from service.plugins.heartbeat import boot_id, read

if TYPE_CHECKING:
    from pathlib import Path

    from service.plugins.slurm.reading import Read

MOST_SHOWN = 50
OLD_S = 60.0  # of the last good round: by then the watchdog should have let everything go


def status_of(found: Read, stamp: Path, now: float) -> dict[str, Any]:
    """The cluster and the plugin as one JSON object."""
    snapshot, held = found.snapshot, dict[str, float]()
    for job in snapshot.jobs:
        for worker in job.running:
            held[worker.node] = held.get(worker.node, 0.0) + job.gpus_per_worker
    seen = read(stamp)
    ended = seen is not None and seen.ended
    return {
        "nodes": len(snapshot.nodes),
        "nodes_not_ready": [node.id for node in snapshot.nodes if node.state != "ready"],
        "gpus": sum(node.gpus for node in snapshot.nodes),
        "gpus_free": sum(max(node.gpus - held.get(node.id, 0.0), 0.0) for node in snapshot.nodes if node.state == "ready"),
        "running": sum(not job.waits for job in snapshot.jobs),
        "waiting": sum(job.waits for job in snapshot.jobs),
        "held": [
            {"job": job.id, "name": job.name, "why": found.comments.get(job.id, "").partition(": ")[2]} for job in snapshot.jobs if job.held
        ],
        "pinned": {job.id: list(job.pinned) for job in snapshot.jobs if job.pinned},
        "left_to_slurm": dict(found.left_to_slurm),
        "held_and_left_to_slurm": sorted(found.held),
        "warnings": [warning for warning in snapshot.warnings if not warning.startswith("left to Slurm:")],
        "last_good_round_s_ago": None if seen is None or ended else round(seen.age_s(time.monotonic(), boot_id(), now), 1),
        "follower": "has left no sign of life here (a shadow run leaves none)"
        if seen is None
        else "has ended"
        if ended
        else "runs or has died",
    }


def show(told: dict[str, Any]) -> None:
    """For people."""
    closed = told["nodes_not_ready"]
    typer.echo(
        f"{told['gpus_free']:g} of {told['gpus']} GPUs free on {told['nodes']} nodes"
        + (f"; not ready: {', '.join(closed)}" if closed else "")
    )
    typer.echo(f"{told['running']} jobs run, {told['waiting']} wait, {len(told['held'])} of them held for a plan")
    for job in told["held"][:MOST_SHOWN]:
        typer.echo(f"  {job['name']}: {job['why'] or 'held'}")
    for job, nodes in list(told["pinned"].items())[:MOST_SHOWN]:
        typer.echo(f"  {job}: released, about to start on {', '.join(nodes)}")
    for job, why in list(told["left_to_slurm"].items())[:MOST_SHOWN]:
        held = ", and held: a follower or the watchdog lets it go" if job in told["held_and_left_to_slurm"] else ""
        typer.echo(f"  {job}: left to Slurm{held}; {why}")
    for warning in told["warnings"][:MOST_SHOWN]:
        typer.echo(f"  note: {warning}")
    age = told["last_good_round_s_ago"]
    typer.echo(f"the follower {told['follower']}" + ("" if age is None else f"; last good round {age:g} s ago"))
    waiting = len(told["held"]) + len(told["held_and_left_to_slurm"])
    if waiting and (age is None or age > OLD_S):
        typer.echo(f"{waiting} held jobs wait for a follower that is not there: `quartermaster slurm release` lets them all go now")
