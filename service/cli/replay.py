"""The command ``replay``: traces of jobs through a simulated cluster, under several policies and seeds; or, filling it up."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.errors import BadInputError
from service.cli.output import complain

if TYPE_CHECKING:
    from service.replay.draws import Wish
    from service.replay.filling import Fill
    from service.replay.replays import Replay
    from service.replay.whole import Asked, Filling

USUAL_POLICIES = ("fifo", "best_fit", "fgd", "backfill", "quartermaster")
MOST_SEEDS = 1000
USUAL_MOVE_S = 30.0


def _option(name: str, metavar: str, told: str, least: int | None = None) -> Any:  # noqa: ANN401  (what Typer makes of it)
    return typer.Option(name, metavar=metavar, help=told, min=least, show_default=False)


Traces = Annotated[list[str], typer.Argument(metavar="TRACE...", help="Trace files; with --format synthetic numbers of jobs.")]
Nodes = Annotated[str, _option("--nodes", "NODES", "openb's node list (.csv), a placement problem (.json), or words: 36xV100:4,9xP100:2.")]
Form = Annotated[str, typer.Option("--format", metavar="NAME", help="openb, gavel, philly or synthetic.")]
Policies = Annotated[str | None, _option("--policies", "A,B", "The first is the one that the others are compared with.")]
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
AsFill = Annotated[bool, typer.Option("--fill", help="Nobody leaves: jobs come until they ask for all GPUs.")]
Orders = Annotated[list[str] | None, _option("--order", "FILE", "With --fill: the order of seed 0 (CSV: name), one for each trace.")]
HeldOut = Annotated[bool, typer.Option("--held-out", help="With --fill: policies know every second job, the others come.")]
WithBounds = Annotated[bool, typer.Option("--bounds", help="With --fill: also what no policy could exceed.")]
Out = Annotated[str | None, _option("--out", "DIR", "Folder for the tables and the report.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def replay(  # noqa: PLR0913, PLR0917  (the options of the command)
    traces: Traces,
    nodes: Nodes,
    form: Form = "openb",
    policies: Policies = None,
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
    move_s: Move = USUAL_MOVE_S,
    throughputs: Throughputs = None,
    skip_unknown: SkipUnknown = False,
    skip_never_fits: SkipNeverFits = False,
    fill: AsFill = False,
    order: Orders = None,
    held_out: HeldOut = False,
    bounds: WithBounds = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Replay traces of jobs through a simulated cluster under several policies, and compare these."""
    from service.replay.draws import Arrivals, Estimates, Wish, choice
    from service.replay.engine import Costs
    from service.replay.jobs import ReplayError
    from service.replay.whole import Asked, Filling

    names = () if policies is None else tuple(policies.split(","))
    asked = Asked(tuple(traces), form, nodes, every_node, names, seeds, throughputs, skip_unknown, skip_never_fits, outages)
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
        filling = Filling(tuple(order or ()), held_out, bounds)
        if fill:
            _fill(asked, wish, filling, out, as_json=as_json)
        else:
            _replay(asked, wish, filling, out, as_json=as_json)
    except ReplayError as refused:
        raise BadInputError(str(refused)) from None


def _replay(asked: Asked, wish: Wish, filling: Filling, out: str | None, *, as_json: bool) -> None:
    """Jobs come, run and leave."""
    from service.cli.replay_output import show_replays
    from service.replay.files import written
    from service.replay.jobs import ReplayError
    from service.replay.whole import Filling, compare

    if filling != Filling():
        raise ReplayError("--order, --held-out and --bounds go with --fill only; leave them out, or give it")
    folder = _folder(out)
    asked = replace(asked, policies=asked.policies or USUAL_POLICIES)
    whole = compare(asked, wish, _tell if sys.stderr.isatty() and not as_json else None)
    files = written(whole, folder) if folder is not None else []
    if as_json:
        typer.echo(json.dumps(whole.as_json(), allow_nan=False))
    else:
        show_replays(whole, files)


def _fill(asked: Asked, wish: Wish, filling: Filling, out: str | None, *, as_json: bool) -> None:
    """Jobs come and stay."""
    from service.cli.replay_output import show_fills
    from service.replay.draws import Wish
    from service.replay.engine import Costs
    from service.replay.fill_whole import compare_fills, written
    from service.replay.jobs import ReplayError

    if wish != Wish(costs=Costs(move_s=USUAL_MOVE_S)) or asked.outages is not None or asked.skip_never_fits:
        raise ReplayError(
            "--fill: jobs come one by one and stay, so that times, loads, estimates, failures, pauses and --skip-never-fits mean nothing; "
            "leave those options out"
        )
    folder = _folder(out)
    whole = compare_fills(asked, filling, _tell_fill if sys.stderr.isatty() and not as_json else None)
    files = written(whole, folder) if folder is not None else []
    if as_json:
        typer.echo(json.dumps(whole.as_json(), allow_nan=False))
    else:
        show_fills(whole, files)


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


def _tell_fill(one: Fill) -> None:
    complain(f"{one.trace}, {one.policy}, seed {one.seed}: {one.measures['allocated_percent']:.2f}% allocated in {one.cpu_s:.1f} CPU s")
