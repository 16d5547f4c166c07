"""The commands ``import slurm`` and ``import kubernetes``: a placement problem from a saved snapshot of a cluster."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import BadInputError
from service.cli.files import Target
from service.cli.kinds import as_json
from service.cli.output import complain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.placement.schema import Problem
    from service.plugins.simulation.sources import Source

SHOWN_WARNINGS = 20


class Which(StrEnum):
    """Which waiting jobs are taken."""

    all = "all"
    opted_in = "opted-in"


Out = Annotated[str, typer.Option(metavar="FILE", help="Where the problem is written (JSON).")]
Jobs = Annotated[Which, typer.Option("--jobs", help="The waiting jobs that are taken: all, or those that opted in to the plugin.")]
TakenAt = Annotated[
    str | None,
    typer.Option("--taken-at", metavar="TIME", help="When the snapshot was taken (ISO 8601, or epoch seconds).", show_default=False),
]


def slurm(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Outputs of Slurm: squeue.json, sinfo.json, topology.txt.")],
    out: Out,
    jobs: Jobs = Which.all,
    taken_at: TakenAt = None,
) -> None:
    """Make a placement problem from what Slurm's commands printed (22.05 and later); `live` asks them now."""
    from service.plugins.simulation.sources import Source

    _made(Source(slurm=folder, taken_at=moment(taken_at)), out, jobs, (folder,))


def kubernetes(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="What `kubectl get nodes,pods -A -o json` (or yaml) printed.")],
    out: Out,
    jobs: Jobs = Which.all,
    taken_at: TakenAt = None,
) -> None:
    """Make a placement problem from the objects of a Kubernetes cluster; `live` asks the API server now."""
    from service.plugins.simulation.sources import Source

    _made(Source(kubernetes=tuple(files), taken_at=moment(taken_at)), out, jobs, files)


def moment(text: str | None) -> float | None:
    """Seconds since the epoch of a time that a user wrote; one without a zone is in UTC. Raises BadInputError."""
    from datetime import UTC, datetime

    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError(f"'{text}' is no time; write it as 2026-03-01T14:10:00Z, or as seconds since the epoch") from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def warn(warnings: Sequence[str]) -> None:
    """What was seen and could not be taken over, on standard error."""
    for warning in warnings[:SHOWN_WARNINGS]:
        complain(f"warning: {warning}")
    if len(warnings) > SHOWN_WARNINGS:
        complain(f"warning: and {len(warnings) - SHOWN_WARNINGS:,} more")


def _made(source: Source, out: str, jobs: Which, inputs: Sequence[str]) -> None:
    from service.plugins.simulation.sources import problem_of

    target = Target("--out", out, not_over=tuple(inputs))
    problem, warnings = problem_of(source, jobs.value)
    warn(warnings)
    target.write(as_json(problem) + "\n")
    typer.echo(f"{out}: {described(problem)}")


def described(problem: Problem) -> str:
    """``8 nodes with 64 GPUs, 30 of them free; 6 running and 4 waiting jobs``."""
    gpus = sum(node.gpus for node in problem.nodes)
    running = [job for job in problem.jobs if job.running is not None]
    held = sum(job.gpus_per_worker * job.workers for job in running)
    closed = sum(node.gpus for node in problem.nodes if node.state == "drained")
    free = f"{gpus - held:,g} of them not in use" + (f" ({closed:,} on drained nodes)" if closed else "")
    jobs = f"{len(running):,} running and {len(problem.jobs) - len(running):,} waiting jobs"
    return f"{len(problem.nodes):,} nodes with {gpus:,} GPUs, {free}; {jobs}"
