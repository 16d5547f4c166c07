"""The command ``replay``: traces of jobs through a simulated cluster, under several policies and seeds."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.errors import BadInputError
from service.cli.output import complain

if TYPE_CHECKING:
    from service.replay.replays import Replay
    from service.replay.whole import Whole

USUAL_POLICIES = "fifo,best_fit,fgd,backfill,quartermaster"
MOST_SEEDS = 1000


def _option(name: str, metavar: str, told: str, least: int | None = None) -> Any:  # noqa: ANN401  (what Typer makes of it)
    return typer.Option(name, metavar=metavar, help=told, min=least, show_default=False)


Traces = Annotated[list[str], typer.Argument(metavar="TRACE...", help="Trace files; with --format synthetic numbers of jobs.")]
Nodes = Annotated[str, _option("--nodes", "NODES", "openb's node list (.csv), a placement problem (.json), or words: 36xV100:4,9xP100:2.")]
Form = Annotated[str, typer.Option("--format", metavar="NAME", help="openb, gavel, philly or synthetic.")]
Policies = Annotated[str, typer.Option("--policies", metavar="A,B", help="The first is the one that the others are compared with.")]
Seeds = Annotated[int, typer.Option("--seeds", metavar="N", min=1, max=MOST_SEEDS, help="How many cases are drawn.")]
Jobs = Annotated[int | None, _option("--jobs", "N", "How many jobs come; left out: as many as the trace has.", 1)]
Come = Annotated[str, typer.Option("--arrivals", metavar="HOW", help="recorded, or poisson: jobs are drawn with replacement.")]
Load = Annotated[float | None, _option("--load", "RHO", "Stretch the arrivals to this much work per GPU and second.")]
Guess = Annotated[str, typer.Option("--estimates", metavar="HOW", help="Estimates of durations: exact, noisy or limit.")]
Error = Annotated[float | None, _option("--estimate-error", "X", "Of noisy: the deviation (0.5); of limit: f (2).")]
Longest = Annotated[float | None, _option("--longest-h", "HOURS", "Cut longer durations.")]
EveryNode = Annotated[int, typer.Option("--every-node", metavar="K", min=1, help="Keep every K-th node.")]
MeanUp = Annotated[float | None, _option("--mean-up-h", "HOURS", "Mean time until a node fails; left out: none is drawn.")]
MeanDown = Annotated[float, typer.Option("--mean-down-h", metavar="HOURS", help="Mean time until it is back.")]
Outages = Annotated[str | None, _option("--outages", "FILE", "Given outages (CSV: node, down_s, up_s).")]
Checkpoint = Annotated[float | None, _option("--checkpoint-h", "HOURS", "Work is safe so often; left out: never before the end.")]
Restart = Annotated[float, typer.Option("--restart-s", metavar="S", help="Pause at the start of an evicted job.")]
Move = Annotated[float, typer.Option("--move-s", metavar="S", help="Pause of a job that moves.")]
Throughputs = Annotated[str | None, _option("--throughputs", "FILE", "Gavel's speeds (JSON).")]
SkipUnknown = Annotated[bool, typer.Option("--skip-unknown", help="Leave out jobs without speeds.")]
SkipNeverFits = Annotated[bool, typer.Option("--skip-never-fits", help="Leave out jobs that the empty cluster cannot hold.")]
Out = Annotated[str | None, _option("--out", "DIR", "Folder for the tables and the report.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def replay(  # noqa: PLR0913, PLR0917  (the options of the command)
    traces: Traces,
    nodes: Nodes,
    form: Form = "openb",
    policies: Policies = USUAL_POLICIES,
    seeds: Seeds = 10,
    jobs: Jobs = None,
    arrivals: Come = "recorded",
    load: Load = None,
    estimates: Guess = "exact",
    error: Error = None,
    longest_h: Longest = None,
    every_node: EveryNode = 1,
    mean_up_h: MeanUp = None,
    mean_down_h: MeanDown = 4.0,
    outages: Outages = None,
    checkpoint_h: Checkpoint = None,
    restart_s: Restart = 0.0,
    move_s: Move = 30.0,
    throughputs: Throughputs = None,
    skip_unknown: SkipUnknown = False,
    skip_never_fits: SkipNeverFits = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Replay traces of jobs through a simulated cluster under several policies, and compare these."""
    from service.replay.draws import Arrivals, Estimates, Wish, choice
    from service.replay.engine import Costs
    from service.replay.jobs import ReplayError
    from service.replay.whole import Asked, compare

    asked = Asked(
        tuple(traces), form, nodes, every_node, tuple(policies.split(",")), seeds, throughputs, skip_unknown, skip_never_fits, outages
    )
    try:
        wish = Wish(
            jobs=jobs,
            arrivals=choice(Arrivals, "--arrivals", arrivals),
            load=load,
            estimates=choice(Estimates, "--estimates", estimates),
            error=error,
            mean_up_h=mean_up_h,
            mean_down_h=mean_down_h,
            longest_s=None if longest_h is None else longest_h * 3600,
            costs=Costs(math.inf if checkpoint_h is None else checkpoint_h * 3600, restart_s, move_s),
        )
        folder = _folder(out)
        whole = compare(asked, wish, _tell if sys.stderr.isatty() and not as_json else None)
    except ReplayError as refused:
        raise BadInputError(str(refused)) from None
    _finish(whole, folder, as_json=as_json)


def _folder(out: str | None) -> Path | None:
    """The folder of the answers, made where it is missing; raises BadInputError before any work is done."""
    if out is None:
        return None
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"--out {out}: the folder cannot be made ({(error.strerror or str(error)).lower()}); give another") from None
    return folder


def _tell(one: Replay) -> None:
    complain(f"{one.trace}, {one.policy}, seed {one.seed}: {one.jobs:,} jobs in {one.cpu_s:.1f} CPU s")


def _finish(whole: Whole, folder: Path | None, *, as_json: bool) -> None:
    from service.cli.replay_output import show_replays
    from service.replay.files import written

    files = written(whole, folder) if folder is not None else []
    if as_json:
        typer.echo(json.dumps(whole.as_json(), allow_nan=False))
    else:
        show_replays(whole, files)
