"""The command ``import gavel``: speeds and traces of GPU jobs as a fairshare problem."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.errors import BadInputError
from service.cli.files import Target
from service.cli.kinds import as_json

PolicyName = Literal["max_min_fair", "finish_time_fair", "makespan", "throughput", "least_cost", "proportional_fair", "hierarchical"]
MOST_GPUS = 10**9


def gavel(  # noqa: PLR0913, PLR0917  (each is an option of the command)
    throughputs: Annotated[str, typer.Option(metavar="FILE", help="Speeds in Gavel's format (JSON, also .gz).")],
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the problem is written (JSON).")],
    trace: Annotated[str | None, typer.Option(metavar="FILE", help="Jobs as a trace of Gavel, 7 or 10 fields between tabs.")] = None,
    instance: Annotated[
        str | None, typer.Option(metavar="FILE", help="In place of --trace: a job list of POP with its cluster (JSON).")
    ] = None,
    cluster: Annotated[str | None, typer.Option(metavar="TYPE=N,...", help="GPUs of each type, such as K80=24,P100=16,V100=8.")] = None,
    policy: Annotated[PolicyName, typer.Option(metavar="NAME", help="What the plan is to be best in.")] = "max_min_fair",
    pairs: Annotated[bool, typer.Option(help="Read the speeds of pairs that share a GPU.")] = True,
    fill_pairs: Annotated[
        Literal["p10", "p50"] | None,
        typer.Option(
            help="Predict the pairs that were not measured: p50 (to see which ones to measure) or p10 (careful, for a plan to run).",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(metavar="N", min=1, help="Take only the first N jobs.")] = None,
    at: Annotated[float | None, typer.Option(metavar="SECONDS", help="Now: only jobs that have arrived by then. Without: all.")] = None,
    skip_unknown: Annotated[bool, typer.Option("--skip-unknown", help="Leave out jobs whose speed is not known.")] = False,
) -> None:
    """Make a fairshare problem from speeds and a trace of Gavel, or a job list of POP."""
    from models.fairshare.schema import Policy
    from service.importers.failures import ImportFileError
    from service.importers.gavel import Choice, import_gavel, in_columns

    source = trace if trace is not None else instance
    if source is None or (trace is not None and instance is not None):
        raise BadInputError("give the jobs as one of --trace FILE and --instance FILE")
    if instance is not None and not instance.removesuffix(".gz").endswith(".json"):
        raise BadInputError(f"--instance: {instance}: a job list ends in .json or .json.gz; give it that ending, or use --trace")
    if at is not None and not 0 <= at < math.inf:
        raise BadInputError(f"--at: must be a number of seconds, 0 or more, not {at:g}")
    if fill_pairs is not None and not pairs:
        raise BadInputError("--fill-pairs and --no-pairs: pairs are predicted from those that are read; leave one of the two out")
    target = Target("--out", out, not_over=(throughputs, source))
    choice = Choice(policy=Policy(policy), pairs=pairs, most_jobs=jobs, at_s=at, skip_unknown=skip_unknown, fill_pairs=fill_pairs)
    try:
        found = import_gavel(Path(throughputs), Path(source), _cluster(cluster), choice)
    except ImportFileError as error:
        raise BadInputError(str(error)) from None
    target.write(as_json(in_columns(found.problem)) + "\n")
    problem = found.problem
    gpus = sum(accelerator.count for accelerator in problem.accelerators)
    left = [
        f"{number:,} jobs {why}" for number, why in ((found.later, "arrive later"), (found.unknown, "of unknown speed left out")) if number
    ]
    guessed = f" ({found.predicted:,} of them predicted)" if fill_pairs is not None else ""
    sizes = f"{len(problem.jobs):,} jobs of {len(problem.workloads):,} workloads, {gpus:,} GPUs, {len(problem.pairs):,} pairs{guessed}"
    typer.echo("; ".join([f"{out}: {sizes}", *left]))


def _cluster(text: str | None) -> dict[str, int] | None:
    """``K80=24,P100=16`` as a dictionary. Raises BadInputError."""
    if text is None:
        return None
    found: dict[str, int] = {}
    for part in text.split(","):
        name, equals, count = (piece.strip() for piece in part.partition("="))
        if not name or not equals or not (count.isascii() and count.isdigit()) or int(count) > MOST_GPUS:
            raise BadInputError(f"--cluster: '{part}' must read TYPE=NUMBER, such as V100=8; correct it")
        if name in found:
            raise BadInputError(f"--cluster: names '{name}' twice; give each type of GPU once")
        found[name] = int(count)
    return found
