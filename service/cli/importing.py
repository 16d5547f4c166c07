"""The command ``import``: problems from other people's formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.errors import BadInputError
from service.cli.files import Target
from service.cli.kinds import as_json

app = typer.Typer(help="Make a problem from another format.", no_args_is_help=True)


@app.callback()
def _formats() -> None:
    """Keeps each format a command of its own, also while there is only one."""


@app.command()
def openb(
    nodes: Annotated[str, typer.Option(metavar="FILE", help="Node list (CSV: sn, cpu_milli, memory_mib, gpu, model).")],
    pods: Annotated[str, typer.Option(metavar="FILE", help="Pod list (CSV: name, cpu_milli, memory_mib, num_gpu, gpu_milli, ...).")],
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the problem is written (JSON).")],
    arrivals: Annotated[
        str | None, typer.Option(metavar="FILE", help="Order of arrival (CSV: order, name; a name may repeat). Without: every pod once.")
    ] = None,
) -> None:
    """Make a placement problem from Alibaba's GPU cluster trace (cluster-trace-gpu-v2023, "openb")."""
    from service.importers.openb import ImportFileError, import_openb

    inputs = (nodes, pods) if arrivals is None else (nodes, pods, arrivals)
    target = Target("--out", out, not_over=inputs)
    try:
        problem = import_openb(Path(nodes), Path(pods), Path(arrivals) if arrivals is not None else None)
    except ImportFileError as error:
        raise BadInputError(str(error)) from None
    target.write(as_json(problem) + "\n")
    gpus = sum(node.gpus for node in problem.nodes)
    typer.echo(f"{out}: {len(problem.nodes):,} nodes with {gpus:,} GPUs, {len(problem.jobs):,} jobs")
